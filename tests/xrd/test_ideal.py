import dataclasses

import numpy as np
import pytest
from ml_collections import ConfigDict

from imitation_refinement.errors import UserError
from imitation_refinement.tasks import SEEN, TRAIN, UNSEEN
from imitation_refinement.xrd.crystals import prototype_member, random_prototype
from imitation_refinement.xrd.diffraction import merge_lines, reflections
from imitation_refinement.xrd.ideal import (
    ideal_lines,
    split_known,
    split_members,
    strained_member,
    structure_lines,
)
from imitation_refinement.xrd.structures.collection import Structures
from imitation_refinement.xrd.symmetry import lattice_vectors

SEED, PROTOTYPES, MEMBERS = 5, 40, 3


def config_data():
    return ConfigDict(
        {
            "ideal": {
                "prototypes": PROTOTYPES,
                "members": MEMBERS,
                "unseen_fraction": 0.2,
                "seen_fraction": 0.1,
            },
            "grid": {"q_min": 1.1, "q_max": 5.9},
            "wavelength": 1.54184,
            "b_iso": 0.5,
        }
    )


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("ideal")


@pytest.fixture(scope="module")
def ideal(cache):
    return ideal_lines(config_data(), SEED, cache, workers=1)


def test_layout(ideal):
    assert len(ideal) == len(ideal.label) == PROTOTYPES * MEMBERS
    assert ideal.offsets[0] == 0
    assert ideal.offsets[-1] == len(ideal.q) == len(ideal.root_intensity)
    assert [getattr(ideal, f.name).dtype.name for f in dataclasses.fields(ideal)] == [
        "float32", "float16", "int64", "int32", "int32", "int8",
    ]  # fmt: skip
    np.testing.assert_array_equal(ideal.prototype_id, np.repeat(np.arange(PROTOTYPES), MEMBERS))


def test_stored_lines_are_those_of_the_member(ideal):
    for prototype_id, member_id in ((0, 0), (7, 2), (39, 1)):
        crystal = prototype_member(random_prototype(SEED, prototype_id), SEED, member_id)
        found = reflections(
            crystal.lattice, crystal.positions, crystal.numbers,
            q_min=0.9 * 1.1, q_max=1.06 * 5.9, wavelength=1.54184, b_iso=0.5,
        )  # fmt: skip
        expected_q, expected = merge_lines(found.q, found.intensity)
        index = prototype_id * MEMBERS + member_id
        q, intensity = ideal.lines(index)
        assert q.dtype == intensity.dtype == np.float64
        np.testing.assert_allclose(q, expected_q, rtol=1e-7)
        # float16 keeps 11 bits of the root: twice its relative error in the intensity
        np.testing.assert_allclose(intensity, expected / expected.max(), rtol=1.01e-3)
        assert ideal.label[index] == crystal.system


def test_every_pattern_is_normalised_sorted_and_in_range(ideal):
    for i in range(len(ideal)):
        q, intensity = ideal.lines(i)
        assert intensity.max() == 1.0
        assert intensity.min() >= 0.999e-4
        assert np.all(np.diff(q) >= 0.0)
        assert q[0] >= 0.99 * (1 - 1e-6)
        assert q[-1] <= 6.254 * (1 + 1e-6)


def test_two_workers_give_the_bytes_of_one(ideal, tmp_path):
    other = ideal_lines(config_data(), SEED, tmp_path, workers=2)
    for field in dataclasses.fields(ideal):
        left, right = getattr(ideal, field.name), getattr(other, field.name)
        assert left.tobytes() == right.tobytes()


def test_a_second_call_opens_the_cache_and_may_split_otherwise(ideal, cache):
    config = config_data()
    config.ideal.unseen_fraction = 0.5
    before = sorted(path.name for path in cache.iterdir())
    other = ideal_lines(config, SEED, cache, workers=1)
    assert sorted(path.name for path in cache.iterdir()) == before
    np.testing.assert_array_equal(other.q, ideal.q)
    assert np.sum(other.split == UNSEEN) == PROTOTYPES // 2 * MEMBERS


def test_no_prototype_is_both_known_and_unseen(ideal):
    unseen = set(ideal.prototype_id[ideal.split == UNSEEN].tolist())
    known = set(ideal.prototype_id[ideal.split != UNSEEN].tolist())
    assert unseen.isdisjoint(known)
    assert len(unseen) == 8


def test_splits_have_the_asked_sizes_in_every_class():
    prototypes, members = 700, 12
    rng = np.random.default_rng(0)
    system = rng.integers(0, 7, prototypes)
    label = np.repeat(system, members)
    prototype_id = np.repeat(np.arange(prototypes), members)
    split = split_members(label, prototype_id, 1, unseen_fraction=0.1, seen_fraction=0.25)
    assert np.sum(split == UNSEEN) == 70 * members
    assert np.sum(split == SEEN) == 630 * members // 4
    for k in range(7):
        count = np.sum(system == k)
        held_out = len(set(prototype_id[(split == UNSEEN) & (label == k)].tolist()))
        assert abs(held_out - 0.1 * count) <= 1
        known = np.sum((split != UNSEEN) & (label == k))
        assert abs(np.sum((split == SEEN) & (label == k)) - 0.25 * known) <= 1
    # A held-out member's prototype is otherwise in training.
    training = set(prototype_id[split == TRAIN].tolist())
    assert set(prototype_id[split == SEEN].tolist()) <= training


def test_no_held_out_share_leaves_everything_to_training():
    split = split_members(
        np.zeros(30, int), np.repeat(np.arange(10), 3), 1, unseen_fraction=0.0, seen_fraction=0.0
    )
    np.testing.assert_array_equal(split, np.full(30, TRAIN))


def test_the_seed_chooses_the_split():
    label, prototype_id = np.zeros(300, int), np.repeat(np.arange(100), 3)
    fractions = {"unseen_fraction": 0.2, "seen_fraction": 0.2}
    first = split_members(label, prototype_id, 1, **fractions)
    np.testing.assert_array_equal(first, split_members(label, prototype_id, 1, **fractions))
    assert np.any(first != split_members(label, prototype_id, 2, **fractions))


# --- Given structures ----------------------------------------------------------------------------


def given_structures(systems=(6, 3, 2, 1, 0, 5, 4), cells=None) -> Structures:
    """One generated crystal of each system, as if it had been read from files."""
    crystals = [random_prototype(3, 50 + i, system).crystal for i, system in enumerate(systems)]
    counts = [len(crystal.numbers) for crystal in crystals]
    names = np.array([f"F{i}" for i in range(len(crystals))])
    return Structures(
        name=names, formula=names, symbol=names, prototype=names,
        space_group=np.array([c.space_group for c in crystals], np.int32),
        cell=np.array([c.cell for c in crystals]) if cells is None else cells,
        primitive=np.array([c.primitive for c in crystals]),
        numbers=np.concatenate([c.numbers for c in crystals]),
        positions=np.concatenate([c.positions for c in crystals]),
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        mended=np.array([], np.str_),
        skipped=np.array([], np.str_),
    )  # fmt: skip


def structure_config(members=3, strain=0.01):
    config = config_data()
    config.ideal.members, config.ideal.strain = members, strain
    return config


def test_structures_become_members_with_the_label_and_split_given(tmp_path):
    structures = given_structures()
    label = np.array([3, 2, 1, 0, -1, 0, 2], np.int32)
    held = np.array([False, False, False, True, False, False, True])
    arguments = structures, label, held
    found = structure_lines(structure_config(), SEED, *arguments, tmp_path / "one", workers=1)
    used = [0, 1, 2, 3, 5, 6]
    np.testing.assert_array_equal(found.prototype_id, np.repeat(used, 3))
    np.testing.assert_array_equal(found.label, label[found.prototype_id])
    np.testing.assert_array_equal(found.split == UNSEEN, held[found.prototype_id])
    crystal = structures.crystal(2)
    for member in range(3):
        moved = strained_member(crystal, SEED, member, 0.01)
        lines = reflections(
            moved.lattice, moved.positions, moved.numbers,
            q_min=0.9 * 1.1, q_max=1.06 * 5.9, wavelength=1.54184, b_iso=0.5,
        )  # fmt: skip
        expected, _ = merge_lines(lines.q, lines.intensity)
        q, _ = found.lines(2 * 3 + member)
        np.testing.assert_allclose(q, expected, rtol=1e-7)
    other = structure_lines(structure_config(), SEED, *arguments, tmp_path / "two", workers=2)
    for field in dataclasses.fields(found):
        assert getattr(found, field.name).tobytes() == getattr(other, field.name).tobytes()


def test_strained_members_keep_what_their_system_asks():
    structures = given_structures()
    for i in range(len(structures)):
        crystal = structures.crystal(i)
        assert strained_member(crystal, SEED, 0, 0.01) is crystal
        moved = [strained_member(crystal, SEED, member, 0.01) for member in range(1, 40)]
        cells = np.array([m.cell for m in moved])
        ratio = cells[:, :3] / crystal.cell[:3]
        assert np.all(np.abs(ratio - 1.0) < 0.08) and np.std(ratio[:, 0]) > 0.005
        a, b, c = ratio.T
        if crystal.system == 6:
            np.testing.assert_allclose(b, a, rtol=1e-12)
        if crystal.system >= 3:  # tetragonal, trigonal, hexagonal, cubic: a = b
            np.testing.assert_allclose(cells[:, 0], cells[:, 1], rtol=1e-12)
        if crystal.system < 6:
            assert np.std(c / a) > 0.003
        free = {0: [0, 1, 2], 1: [1]}.get(crystal.system, [])
        for angle in range(3):
            moving = np.std(cells[:, 3 + angle]) > 0.1
            assert moving == (angle in free)
        for m in moved:
            np.testing.assert_array_equal(m.positions, crystal.positions)
            assert np.linalg.det(lattice_vectors(m.cell)) > 0.0


def test_a_structure_without_lines_on_the_grid_is_left_out(tmp_path):
    structures = given_structures((6, 6, 3))
    cells = structures.cell.copy()
    cells[1, :3] *= 0.8 / cells[1, 0]  # a cubic cell of 0.8 angstrom: its first line is at q = 7.8
    tiny = dataclasses.replace(structures, cell=cells)
    held = np.zeros(3, bool)
    config = structure_config()
    found = structure_lines(config, SEED, tiny, np.array([1, 1, 0]), held, tmp_path, workers=1)
    assert set(found.prototype_id.tolist()) == {0, 2}
    assert found.offsets[-1] == len(found.q)
    with pytest.raises(UserError, match=r"1 classes .* widen the range"):
        structure_lines(config, SEED, tiny, np.array([0, 1, 2]), held, tmp_path, workers=1)


def test_a_class_always_keeps_a_pattern_for_training():
    label = np.array([0, 0, 0, 0, 1])
    unseen = np.array([False, False, True, False, False])
    for seed in range(6):
        split = split_known(label, unseen, seed, 0.9)
        assert split[2] == UNSEEN
        assert split[4] == TRAIN and TRAIN in split[:4]
        assert np.sum(split == SEEN) == 2
