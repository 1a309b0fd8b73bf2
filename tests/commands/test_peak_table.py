"""Peaks of a pattern on the grid in degrees and angstrom."""

import numpy as np
import pytest

from imitation_refinement.commands.peak_table import peak_table
from imitation_refinement.xrd.grid import Grid, grid_q, q_from_two_theta, two_theta_from_q

GRID = Grid()
Q = grid_q(GRID)
EVERYWHERE = np.ones(GRID.length, bool)


def gaussians(positions, heights, sigma=0.01) -> np.ndarray:
    return sum(
        h * np.exp(-0.5 * ((Q - p) / sigma) ** 2) for p, h in zip(positions, heights, strict=True)
    )


@pytest.mark.parametrize("wavelength", [1.54184, 0.71073, 2.291])
def test_position_height_and_width(wavelength):
    q = np.array([1.7, 2.5, 3.4137])
    pattern = gaussians(q, [1.0, 0.5, 0.25])
    limit = 4 * np.pi / wavelength
    reachable = limit > Q
    peaks = peak_table(pattern, pattern, reachable, GRID, wavelength)
    angle = two_theta_from_q(q, wavelength)
    # Finer than the grid, whose step is 0.084 % of q.
    assert peaks.d_spacing == pytest.approx(2 * np.pi / q, rel=2e-5)
    assert peaks.two_theta == pytest.approx(angle, rel=4e-5)
    # Per degree: dq = 2 pi / wavelength cos(theta) d(2 theta).
    per_degree = np.array([1.0, 0.5, 0.25]) * np.cos(np.radians(angle / 2))
    assert peaks.intensity == pytest.approx(100 * per_degree / per_degree.max(), rel=5e-3)
    half = 0.5 * 2.35482 * 0.01
    widths = two_theta_from_q(q + half, wavelength) - two_theta_from_q(q - half, wavelength)
    assert peaks.fwhm == pytest.approx(widths, rel=5e-3)
    assert peaks.in_raw.all()


def test_peaks_that_the_raw_pattern_lacks_are_told():
    refined = gaussians([1.7, 2.5], [1.0, 0.5])
    raw = gaussians([1.7, 3.0], [1.0, 0.4])
    peaks = peak_table(refined, raw, EVERYWHERE, GRID, 1.54184)
    assert peaks.in_raw.tolist() == [True, False]


def test_a_maximum_at_the_edge_of_the_measured_range_is_no_peak():
    pattern = gaussians([1.7, 2.5], [1.0, 0.5], sigma=0.05)
    edge = int(np.argmin(abs(Q - 2.47)))  # the scan ends on the rising side of the second peak
    mask = np.arange(GRID.length) < edge
    peaks = peak_table(pattern, pattern, mask, GRID, 1.54184)
    assert peaks.d_spacing == pytest.approx([2 * np.pi / 1.7], rel=1e-4)


def test_flat_tops_and_nothing_at_all():
    pattern = np.zeros(GRID.length)
    pattern[500:505] = 1.0
    peaks = peak_table(pattern, pattern, EVERYWHERE, GRID, 1.54184)
    assert peaks.d_spacing == pytest.approx([2 * np.pi / Q[502]])
    empty = peak_table(np.zeros(GRID.length), pattern, EVERYWHERE, GRID, 1.54184)
    assert [len(part) for part in empty] == [0, 0, 0, 0, 0]


def test_a_wavelength_whose_limit_lies_inside_the_grid():
    wavelength = 4.0  # q up to 3.14
    pattern = gaussians([2.0], [1.0])
    mask = Q < 3.0
    peaks = peak_table(pattern, pattern, mask, GRID, wavelength)
    assert q_from_two_theta(peaks.two_theta, wavelength) == pytest.approx([2.0], rel=1e-5)
