"""Medians, quantiles and smoothing of one row, against NumPy and SciPy."""

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from scipy.ndimage import gaussian_filter1d

from imitation_refinement.xrd import signal
from imitation_refinement.xrd.grid import grid_q
from imitation_refinement.xrd.medians import median, quantile
from imitation_refinement.xrd.scans import Grid, _measured


def test_medians_by_hand():
    assert median(np.array([3.0])) == 3.0
    assert median(np.array([4.0, 1.0])) == 2.5
    assert median(np.array([9.0, -1.0, 2.0])) == 2.0
    assert quantile(np.array([10.0, 0.0]), 0.25) == 2.5
    assert quantile(np.array([5.0]), 0.8) == 5.0


@pytest.mark.parametrize("size", [*range(1, 12), 200, 2001, 3200])
def test_medians_and_quantiles_are_numpys_to_the_bit(size):
    rng = np.random.default_rng(size)
    for values in (rng.normal(size=size), rng.poisson(3.0, size).astype(float)):
        kept = values.copy()
        assert median(values) == np.median(values)
        for share in (0.0, 0.25, 0.5, 0.8, 0.97, 1.0):
            assert quantile(values, share) == np.quantile(values, share)
        np.testing.assert_array_equal(values, kept)


@pytest.mark.parametrize("sigma", [1.0, 2, 15, 40])
@pytest.mark.parametrize("size", [100, 2000])
def test_smoothing_is_scipys_but_for_rounding(sigma, size):
    values = np.random.default_rng(0).exponential(size=size)
    expected = gaussian_filter1d(values, sigma, mode="nearest")
    np.testing.assert_allclose(signal._gaussian(values, sigma), expected, rtol=1e-13)


def test_smoothing_leaves_nothing_where_nothing_is():
    values = np.zeros(500)
    values[:20] = 1.0
    assert not signal._gaussian(values, 2)[28:].any()  # tails below zero are counted


def test_fall_to_both_sides_is_that_of_the_lowest_of_fifteen_points():
    rng = np.random.default_rng(0)
    mean = rng.poisson(100.0, 300).astype(float)
    for top in (4, 90, 104, 220, 298):  # some at the ends, some close together
        mean += 900.0 * np.exp(-(((np.arange(300) - top) / 3.0) ** 2))
    narrow = signal._gaussian(mean, 2) - signal._gaussian(mean, 15)
    smooth, reach = signal._gaussian(mean, 1.0), 14
    low = sliding_window_view(np.pad(smooth, reach, mode="edge"), reach + 1).min(axis=1)
    left, right = smooth - low[:300], smooth - low[reach:]
    ratios = []
    for at in np.flatnonzero(signal._tops(narrow, 0.5 * narrow.max())).tolist():
        first = max(0, at - 3)
        best = first + int(np.argmax(smooth[first : at + 4]))
        sides = float(left[best]), float(right[best])
        ratios.append(min(sides) / max(*sides, 1e-12))
    assert len(ratios) >= 3
    assert signal._two_sided(mean, narrow) == np.median(ratios)


def test_scans_without_and_with_a_hole_are_measured_where_points_are():
    cells, q = grid_q(Grid()), np.linspace(1.0, 6.0, 3000)
    assert _measured(q, cells).all()
    holed = np.delete(q, slice(1000, 1012))
    inside = (cells > holed[999]) & (cells < holed[1000])
    np.testing.assert_array_equal(_measured(holed, cells), ~inside)
    narrower = np.delete(q, slice(1000, 1008))  # nine steps are no hole
    assert _measured(narrower, cells).all()
