"""Pairs of simulated scans: their truth, their rivals, and what is kept on disk."""

import numpy as np
import pytest
from made_salts import CUBIC, EDGES, rock_salt, salt_prototypes

from imitation_refinement.phases import pairs as module
from imitation_refinement.phases.fitting import simulated_measurement
from imitation_refinement.phases.library import COMPUTED, MEASURED
from imitation_refinement.phases.pairs import (
    RIVALS,
    Pairs,
    held_out,
    load_pairs,
    planned,
    simulated_pair,
    with_rivals,
)
from imitation_refinement.phases.simulated import Laboratory

LONG = Laboratory(
    counts=(1e6, 1.001e6), background=(0.001, 0.002), impure=0.0, smoothed=0.0, subtracted=0.0
)


@pytest.fixture(scope="module")
def prototypes():
    return salt_prototypes()


class Made:
    """What a plan and pairs need of a library."""

    formula = np.array([f"{a}{b}{n}" for a in "BCFHIKNOPSUVWY" for b in "ClBr" for n in (1, 2)])
    space_group = np.full(len(formula), 225)
    computed = np.where(np.arange(len(formula)) % 3 == 0, COMPUTED, MEASURED)
    crystal_system = np.full(len(formula), CUBIC)


def make_pair(atoms, entry, prototypes):
    scan = simulated_pair(atoms, CUBIC, MEASURED, prototypes, 0, 0)
    return Pairs(*(rows[0] for rows in with_rivals([scan], [entry], prototypes)))


def test_expected_peaks_are_the_scan_without_noise_and_background(prototypes):
    measured = simulated_measurement(
        rock_salt(), CUBIC, MEASURED, prototypes, 3, 0, LONG._replace(background=(1e-5, 1.1e-5))
    )
    assert measured.raw
    apart = measured.scan.counts - measured.expected
    # What differs are counting errors, and a background of at most 3e-5 of the strongest peak.
    assert np.abs(apart).max() < 6.0 * np.sqrt(measured.expected.max()) + 35.0
    assert measured.expected.max() == pytest.approx(1e6, rel=2e-3)


def test_the_truth_of_a_long_scan_is_its_pattern_and_that_of_a_short_one_has_no_noise(
    prototypes, monkeypatch
):
    monkeypatch.setattr(module, "QUICK", (LONG,))
    pair = make_pair(rock_salt(), 20, prototypes)
    apart = np.abs(pair.pattern.astype(float) - pair.truth.astype(float)).sum()
    assert apart < 0.06 * pair.truth.astype(float).sum()
    monkeypatch.setattr(module, "QUICK", (LONG._replace(counts=(40.0, 40.1)),))
    quick = make_pair(rock_salt(), 20, prototypes)
    # The same sample in another unit: that of the scan, whose largest value noise has raised.
    truth, short = pair.truth.astype(float), quick.truth.astype(float)
    cosine = (truth * short).sum() / np.sqrt((truth**2).sum() * (short**2).sum())
    assert cosine > 0.999
    assert 0.4 < short.max() < 1.3
    assert not quick.truth[~quick.mask].any()


def test_the_own_structure_comes_first_and_the_rivals_are_its_neighbours(prototypes, monkeypatch):
    monkeypatch.setattr(module, "QUICK", (LONG,))
    pair = make_pair(rock_salt(EDGES[12]), 12, prototypes)
    assert pair.entry[0] == 12
    assert len(set(pair.entry.tolist())) == RIVALS + 1
    assert {11, 13} <= set(pair.entry.tolist())
    assert abs(pair.shift[0]) < 0.01
    # Edges differ by 1.6 %: the smaller neighbour's lines lie at larger q than the scan's.
    assert pair.shift[pair.entry.tolist().index(11)] < pair.shift[0]


def test_rivals_of_many_scans_are_those_of_each(prototypes):
    scans = [simulated_pair(rock_salt(EDGES[i]), CUBIC, MEASURED, prototypes, i, 0) for i in (3, 9)]
    both = with_rivals(scans, [3, 9], prototypes)
    for i, entry in enumerate((3, 9)):
        alone = with_rivals(scans[i : i + 1], [entry], prototypes)
        for one, of_both in zip(alone, both, strict=True):
            np.testing.assert_array_equal(one[0], of_both[i])


def test_formulas_that_are_held_out_are_in_no_pair_for_training():
    library = Made()
    held = held_out(library)
    assert 0 < held.sum() < len(held) / 2
    for own in (True, False):
        plan = planned(library, 60, 0, own)
        assert np.all(held[plan] == own)
        np.testing.assert_array_equal(plan, planned(library, 60, 0, own))
    computed = library.computed[planned(library, 60, 0, False)] == COMPUTED
    assert computed.mean() == 0.25


def test_pairs_on_disk_are_made_once(prototypes, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PART", 4)
    monkeypatch.setattr(module, "atoms_of", lambda library, entry: rock_salt(EDGES[entry % 24]))
    monkeypatch.setattr(module, "planned", lambda *_: np.arange(8))
    whole = load_pairs(tmp_path, Made(), prototypes, 8, seed=0, held=False)
    files = sorted(tmp_path.iterdir())
    assert len(files) == 2 and len(whole.mask) <= 8
    files[1].unlink()  # as if it was stopped
    begun = files[0].stat().st_mtime_ns
    again = load_pairs(tmp_path, Made(), prototypes, 8, seed=0, held=False)
    for one, other in zip(whole, again, strict=True):
        np.testing.assert_array_equal(one, other)
    assert files[0].stat().st_mtime_ns == begun
