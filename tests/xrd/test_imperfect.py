import dataclasses

import numpy as np
import pytest
from presets import preset

from imitation_refinement.errors import UserError
from imitation_refinement.xrd.crystals import random_prototype
from imitation_refinement.xrd.diffraction import merge_lines, reflections
from imitation_refinement.xrd.grid import Grid, grid_q
from imitation_refinement.xrd.imperfect import FIRST_PROTOTYPE, imperfect_set
from imitation_refinement.xrd.profiles import ideal_pattern
from imitation_refinement.xrd.unmix import lagged_correlation

SEED, COUNT, LENGTH = 4, 11, 500


def config_data(**changes):
    data = preset().data
    data.grid.length = LENGTH
    data.imperfect.count = COUNT
    data.imperfect.update(changes)
    return data


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("imperfect")


@pytest.fixture(scope="module")
def found(cache):
    return imperfect_set(config_data(), SEED, cache, workers=1)


def unstrained_lines(crystal):
    return reflections(
        crystal.lattice,
        crystal.positions,
        crystal.numbers,
        q_min=1.0,
        q_max=6.2,
        wavelength=1.54184,
        b_iso=0.5,
    )


def assert_same(first, second):
    for field in dataclasses.fields(first):
        a, b = getattr(first, field.name), getattr(second, field.name)
        assert a.dtype == b.dtype and a.tobytes() == b.tobytes(), field.name


def test_count_is_exact_and_layout_as_described(found):
    assert len(found) == COUNT
    for name, dtype in (
        ("pattern", np.float32),
        ("truth", np.float32),
        ("label", np.int32),
        ("library", np.int32),
        ("prototype_id", np.int32),
        ("match_ncc", np.float32),
        ("fraction", np.float32),
    ):
        array = getattr(found, name)
        assert array.dtype == dtype and len(array) == COUNT, name
    for patterns in (found.pattern, found.truth):
        assert patterns.shape == (COUNT, LENGTH)
        assert patterns.min() >= 0.0
        np.testing.assert_array_equal(patterns.max(axis=1), 1.0)
    assert np.all((found.fraction > 0) & (found.fraction < 1))


def test_groups_are_libraries_with_phases_of_their_own(found):
    assert np.all(np.diff(found.library) >= 0) and found.library[0] == 0
    assert np.max(np.bincount(found.library)) <= 6
    assert len(set(found.prototype_id.tolist())) == COUNT
    np.testing.assert_array_equal((found.prototype_id - FIRST_PROTOTYPE) // 64, found.library)
    assert found.prototype_id.min() >= FIRST_PROTOTYPE  # none of the ideal set's


def test_label_and_truth_are_those_of_the_prototype(found):
    grid = Grid(length=LENGTH)
    for i in range(COUNT):
        crystal = random_prototype(SEED, int(found.prototype_id[i]), int(found.label[i])).crystal
        assert crystal.system == found.label[i]
        lines = unstrained_lines(crystal)
        unstrained = ideal_pattern(*merge_lines(lines.q, lines.intensity), grid)
        # Strain of at most 1 % or so: three points.
        assert lagged_correlation(found.truth[[i]], unstrained[None], 4)[0, 0] > 0.9


def test_components_resemble_their_truth(found):
    assert found.match_ncc.min() >= 0.35
    similarity = np.diag(lagged_correlation(found.pattern, found.truth, 6))
    assert np.median(similarity) > 0.9
    assert np.any(np.abs(found.pattern - found.truth).max(axis=1) > 0.05)


def test_bytes_do_not_depend_on_the_number_of_workers(found, tmp_path):
    assert_same(found, imperfect_set(config_data(), SEED, tmp_path, workers=2))


def test_second_call_reads_the_cache(found, cache):
    folders = sorted(cache.iterdir())
    before = [path.stat().st_mtime_ns for path in sorted(folders[0].iterdir())]
    assert_same(found, imperfect_set(config_data(), SEED, cache, workers=1))
    assert sorted(cache.iterdir()) == folders
    assert [path.stat().st_mtime_ns for path in sorted(folders[0].iterdir())] == before


def test_larger_set_begins_with_the_smaller(found, tmp_path):
    larger = imperfect_set(config_data(count=COUNT + 4), SEED, tmp_path, workers=1)
    for field in dataclasses.fields(found):
        np.testing.assert_array_equal(
            getattr(larger, field.name)[:COUNT], getattr(found, field.name), err_msg=field.name
        )


@pytest.mark.parametrize(
    "changes",
    [{"profile": "clean"}, {"severity": 1.5}, {"k_alpha2": 1.0}, {"spikes": 1.0}],
    ids=str,
)
def test_every_choice_gives_a_set_of_its_own(found, cache, changes):
    other = imperfect_set(config_data(count=3, **changes), SEED, cache, workers=1)
    assert np.any(other.pattern != found.pattern[:3])


def test_severity_equals_its_profile(cache):
    named = imperfect_set(config_data(count=3, profile="mild"), SEED, cache, workers=1)
    scalar = imperfect_set(config_data(count=3, severity=1.0), SEED, cache, workers=1)
    np.testing.assert_allclose(named.pattern, scalar.pattern, atol=1e-5)


def test_grid_without_room_for_peaks_is_an_error_of_the_user(cache):
    data = config_data(count=2)
    data.grid.q_min, data.grid.q_max = 0.0100, 0.0101
    with pytest.raises(UserError, match="widen the range"):
        imperfect_set(data, SEED, cache, workers=1)


def test_axis_is_that_of_the_configuration(cache):
    data = config_data(count=3)
    data.grid.axis = "q"
    found = imperfect_set(data, SEED, cache, workers=1)
    crystal = random_prototype(SEED, int(found.prototype_id[0]), int(found.label[0])).crystal
    lines = unstrained_lines(crystal)
    strongest = grid_q(Grid(axis="q", length=LENGTH))[found.truth[0].argmax()]
    assert np.min(np.abs(lines.q / strongest - 1)) < 0.02
