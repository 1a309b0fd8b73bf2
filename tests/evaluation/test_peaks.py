import numpy as np
import pytest

from imitation_refinement.evaluation.peaks import (
    PeakCounts,
    find_peaks,
    has_counterpart,
    invented_and_lost,
)

GRID = np.arange(600)


def pattern(lines, width=3.0):
    """Sum of Gaussians at {position: height}."""
    return sum(h * np.exp(-0.5 * ((GRID - p) / width) ** 2) for p, h in lines.items())


def count(raw, refined, truth, **options):
    return invented_and_lost(
        pattern(raw)[None], pattern(refined)[None], pattern(truth)[None], **options
    )


def only(found, **expected):
    """Whether every count but the numbers of peaks is as expected, others zero."""
    kinds = [name for name in PeakCounts._fields if name not in ("raw", "refined", "truth")]
    return {name: int(getattr(found, name)[0]) for name in kinds} == dict.fromkeys(
        kinds, 0
    ) | expected


def test_peaks_are_found_where_they_are():
    assert find_peaks(pattern({100: 1.0, 300: 0.5, 450: 0.03})).tolist() == [100, 300, 450]


def test_threshold_is_relative_to_the_maximum_and_to_the_neighbourhood():
    weak = pattern({100: 1.0, 300: 0.015})
    assert find_peaks(weak).tolist() == [100]
    assert find_peaks(40 * weak, threshold=0.01).tolist() == [100, 300]
    assert find_peaks([0, 1, 0.5, 0.51, 0.5, 0]).tolist() == [1]  # the second is not prominent
    assert find_peaks([0, 1, 0.5, 0.52, 0.5, 0]).tolist() == [1, 3]
    assert find_peaks([-1, 0.01, -1, 1, -1]).tolist() == [3]  # the first is not high


def test_flat_and_empty_patterns():
    assert find_peaks(np.zeros(50)).size == 0 and find_peaks(np.zeros(50)).dtype == np.intp
    assert find_peaks(np.ones(50)).size == 0
    assert find_peaks(np.array([0, 1, 1, 1, 0.0])).tolist() == [2]


def test_a_pattern_of_small_numbers_and_none_at_all():
    assert find_peaks([0, 0.5, 0, 0.015, 0]).tolist() == [1, 3]  # 2 % of a half
    assert find_peaks([]).size == 0
    assert find_peaks([-1, 0, -1]).size == 0  # nothing is there
    with pytest.raises(ValueError, match=r"^expected one pattern \[L\], got shape \(2, 3\)$"):
        find_peaks(np.zeros((2, 3)))


def test_counterpart_agrees_with_brute_force():
    rng = np.random.default_rng(0)
    for _ in range(20):
        ours = rng.integers(0, 200, 12)
        others = rng.integers(0, 200, rng.integers(1, 15))
        slow = [any(abs(p - o) <= 5 for o in others) for p in ours]
        assert has_counterpart(ours, others, 5).tolist() == slow
    assert has_counterpart([3, 4], [], 5).tolist() == [False, False]


def test_perfect_refinement_has_no_complaint():
    lines = {100: 1.0, 200: 0.4, 300: 0.05}
    found = count(lines, lines, lines)
    assert (found.raw[0], found.refined[0], found.truth[0]) == (3, 3, 3)
    assert only(found)


def test_invented_is_neither_in_truth_nor_in_raw():
    found = count({100: 1.0}, {100: 1.0, 400: 0.1}, {100: 1.0})
    assert only(found, invented=1, spurious_refined=1)


def test_an_artefact_kept_from_raw_is_spurious_but_not_invented():
    found = count({100: 1.0, 400: 0.1}, {100: 1.0, 400: 0.1}, {100: 1.0})
    assert only(found, spurious_raw=1, spurious_refined=1)
    assert only(count({100: 1.0, 400: 0.1}, {100: 1.0}, {100: 1.0}), spurious_raw=1)


def test_lost_recovered_and_missed():
    both = {100: 1.0, 250: 0.2}
    assert only(count(both, {100: 1.0}, both), lost=1, missed_refined=1)
    assert only(count({100: 1.0}, both, both), recovered=1, missed_raw=1)
    assert only(count({100: 1.0}, {100: 1.0}, both), missed_raw=1, missed_refined=1)


def test_tolerance_is_in_grid_points():
    assert only(count({100: 1.0}, {105: 1.0}, {100: 1.0}))
    moved = count({100: 1.0}, {106: 1.0}, {100: 1.0})
    assert only(moved, invented=1, spurious_refined=1, lost=1, missed_refined=1)
    assert only(count({100: 1.0}, {106: 1.0}, {100: 1.0}, tolerance=6))
    assert only(count({106: 1.0}, {100: 1.0}, {100: 1.0}, tolerance=6))
    assert only(count({100: 1.0}, {100: 1.0}, {106: 1.0}, tolerance=6))
    # Six points from raw and far from the truth: brought along, not invented.
    apart = {"raw": {100: 1.0}, "refined": {106: 1.0}, "truth": {300: 1.0}}
    missed = {"spurious_raw": 1, "spurious_refined": 1, "missed_raw": 1, "missed_refined": 1}
    assert only(count(**apart, tolerance=6), **missed)
    assert only(count(**apart, tolerance=5), **missed, invented=1)


def test_the_threshold_is_that_of_all_three_patterns():
    lines = {100: 1.0, 300: 0.1}
    found = count(lines, lines, lines, threshold=0.2)
    assert (found.raw[0], found.refined[0], found.truth[0]) == (1, 1, 1)
    assert only(count({100: 1.0}, lines, {100: 1.0}, threshold=0.2))


def test_a_line_near_the_threshold_is_not_lost():
    truth = {100: 1.0, 300: 0.022}
    assert only(count(truth, {100: 1.0, 300: 0.015}, truth))
    assert only(count(truth, {100: 1.0, 300: 0.008}, truth), lost=1, missed_refined=1)


def test_each_row_is_counted_alone():
    rows = [{100: 1.0}, {100: 1.0, 200: 0.5}, {}]
    stack = np.array([pattern(lines) if lines else np.zeros(600) for lines in rows])
    found = invented_and_lost(stack, stack[::-1], stack)
    assert found.truth.tolist() == [1, 2, 0]
    assert found.refined.tolist() == [0, 2, 1]
    assert found.lost.tolist() == [1, 0, 0]
    assert found.invented.tolist() == [0, 0, 1]
    for counts in invented_and_lost(stack[:0], stack[:0], stack[:0]):
        assert counts.shape == (0,) and counts.dtype == np.int64
    message = (
        r"^expected three arrays of the same \[n, L\], got \(3, 600\), \(2, 600\) and \(3, 600\)$"
    )
    with pytest.raises(ValueError, match=message):
        invented_and_lost(stack, stack[:2], stack)
    with pytest.raises(ValueError, match="^expected three arrays of the same"):
        invented_and_lost(stack, stack, stack[:2])
    with pytest.raises(ValueError, match="^expected three arrays of the same"):
        invented_and_lost(stack[0], stack[0], stack[0])
