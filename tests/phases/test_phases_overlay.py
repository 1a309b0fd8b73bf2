"""A candidate laid over a scan: lines where the match found them, and marks made on purpose."""

import numpy as np
import pytest

from imitation_refinement.phases.candidates import Calibration, Candidate
from imitation_refinement.phases.evidence import DISPLACEMENTS, _displaced
from imitation_refinement.phases.identify import Phases
from imitation_refinement.phases.leftover import moved_lines
from imitation_refinement.phases.named import Named
from imitation_refinement.phases.overlay import overlays
from imitation_refinement.phases.prototypes import GRID, build_prototypes, log_axis
from imitation_refinement.xrd.grid import Grid, grid_q

Q = grid_q(GRID)
LINES = (1.5, 2.0, 2.5, 3.5)
HEIGHTS = np.array([100.0, 50.0, 80.0, 20.0])


def phases() -> Phases:
    """One structure with LINES; nothing else of a library is looked at."""
    prototypes = build_prototypes(
        np.array(LINES), np.ones(len(LINES)), np.array([0, len(LINES)]), np.zeros(1), GRID
    )
    prototypes = prototypes._replace(height=HEIGHTS.astype(np.float32))
    return Phases(None, prototypes, Calibration(None, None, None, None, np.full((2, 2), 0.9)))


def named(shift=0.0, displacement=0.0) -> Named:
    candidate = Candidate(0, (0,), (0,), 0, 225, 6, 0.8)
    return Named(candidate, "NaCl", "", 225, "Fm-3m", "cubic", "mine", "1", ("1",), 0.9, 0.9, 0.0,
                 0.0, shift, displacement)  # fmt: skip


def peaks_at(places, heights, axis=Q, width=0.012) -> np.ndarray:
    shape = np.exp(-0.5 * ((axis[:, None] - np.asarray(places)) / width) ** 2)
    return shape @ np.asarray(heights, float)


@pytest.mark.parametrize("h", [-8e-4, 4e-4, 8e-4])
def test_lines_of_a_displaced_sample_are_where_the_match_found_them(h):
    q, _ = moved_lines(phases().prototypes, named(displacement=h).moved)
    assert np.all(np.sign(q - LINES) == -np.sign(h))
    # The match takes a displacement out of the scan: there they are at their own places again.
    axis = log_axis(GRID, 1)
    scan = peaks_at(q, HEIGHTS, np.exp(axis)).astype(np.float32)
    read = _displaced(scan, np.ones(len(axis), bool), GRID, 1, 0)
    back = read[0, DISPLACEMENTS.index(h)]
    for line in LINES:
        near = np.abs(np.exp(axis) - line) < 0.05
        center = np.average(np.exp(axis)[near], weights=back[near])
        assert center == pytest.approx(line, rel=1e-4)


def test_a_longer_cell_has_its_lines_at_smaller_q():
    q, height = moved_lines(phases().prototypes, named(shift=0.02).moved)
    np.testing.assert_allclose(q, np.array(LINES) / 1.02, rtol=1e-6)
    np.testing.assert_allclose(height, HEIGHTS)


def test_what_agrees_is_drawn_over_the_scan_and_nothing_is_marked():
    scan = peaks_at(LINES, HEIGHTS)
    (laid,) = overlays([named()], phases(), GRID, scan, np.ones(len(Q), bool), np.array(LINES))
    assert not laid.unseen.any() and laid.explained.all()
    np.testing.assert_allclose(laid.q, LINES, rtol=1e-6)
    np.testing.assert_allclose(laid.height, HEIGHTS, rtol=1e-6)
    # Peaks as wide and as high as those of the scan, to a few per cent of the largest.
    assert np.abs(laid.pattern - scan).max() < 15.0
    # The scale is that of least squares: another one is worse.
    errors = [np.square(scan - scale * laid.pattern).sum() for scale in (0.97, 1.0, 1.03)]
    assert errors[1] < errors[0] and errors[1] < errors[2]


def test_missing_lines_and_foreign_peaks_are_marked():
    # The line at 2.5 has no peak, the peak at 3.0 no line, that at 4.0 is too small to count.
    scan = peaks_at((1.5, 2.0, 3.5, 3.0, 4.0), (100, 50, 20, 40, 1))
    peaks = np.array([1.5, 2.0, 3.0, 3.5, 4.0])
    (laid,) = overlays([named()], phases(), GRID, scan, np.ones(len(Q), bool), peaks)
    assert laid.unseen.tolist() == [False, False, True, False]
    assert laid.explained.tolist() == [True, True, False, True, True]


def test_nothing_is_missed_where_nothing_was_measured():
    scan = peaks_at(LINES, HEIGHTS)
    mask = Q < 2.2
    (laid,) = overlays([named()], phases(), GRID, scan, mask, np.array(LINES[:2]))
    assert not laid.unseen.any() and laid.explained.all() and not laid.pattern[~mask].any()
    # Nor where there is no pattern at all.
    (empty,) = overlays([named()], phases(), GRID, np.zeros(len(Q)), mask, np.zeros(0))
    assert not empty.unseen.any() and empty.explained.size == 0 and not empty.pattern.any()


@pytest.mark.parametrize("grid", [Grid(0.7, 4.0, 1500, axis="q"), Grid(0.65, 5.65, 1000)])
def test_the_model_may_have_a_grid_of_its_own(grid):
    axis = grid_q(grid)
    scan = peaks_at(LINES, HEIGHTS, axis)
    (laid,) = overlays([named()], phases(), grid, scan, np.ones(len(axis), bool), np.array(LINES))
    assert axis[laid.pattern.argmax()] == pytest.approx(1.5, abs=0.01)
    assert laid.pattern.max() == pytest.approx(100.0, rel=0.15)
    assert not laid.unseen.any() and laid.explained.all()


def test_all_candidates_have_peaks_of_one_width():
    scan = peaks_at(LINES, HEIGHTS)
    full = np.ones(len(Q), bool)
    (alone,) = overlays([named()], phases(), GRID, scan, full, np.array(LINES))
    first, second = overlays([named(), named(0.02)], phases(), GRID, scan, full, np.array(LINES))
    np.testing.assert_array_equal(first.pattern, alone.pattern)
    width = [np.count_nonzero(one.pattern > 0.5 * one.pattern.max()) for one in (first, second)]
    assert width[0] == pytest.approx(width[1], abs=2)
