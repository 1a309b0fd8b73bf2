"""Shorter measurements made from longer ones: the numbers are those of the binomial law."""

import numpy as np
import pytest

from imitation_refinement.errors import UserError
from imitation_refinement.xrd.counts import dispersion, thinned

POINTS = 40_000


def test_thinned_counts_have_mean_and_variance_of_the_binomial_law():
    counts = np.full(POINTS, 200.0)
    found = thinned(counts, 50.0, np.random.default_rng(0))
    # p = 1/4: mean 200 / 4 = 50, variance 200 * 1/4 * 3/4 = 37.5; 5 standard errors of each.
    assert abs(found.mean() - 50.0) < 5 * np.sqrt(37.5 / POINTS)
    assert abs(found.var() - 37.5) < 5 * 37.5 * np.sqrt(2 / POINTS)
    assert np.array_equal(found, np.round(found))
    assert found.dtype == np.float64


def test_thinned_poisson_counts_are_poisson():
    rng = np.random.default_rng(1)
    counts = rng.poisson(80.0, POINTS).astype(float)
    counts[0] = 160.0  # the strongest point: p = 1/8
    found = thinned(counts, 20.0, rng)[1:]
    # A shorter measurement: mean and variance 80 / 8 = 10.
    assert abs(found.mean() - 10.0) < 5 * np.sqrt(10 / POINTS)
    assert abs(found.var() - 10.0) < 5 * 10 * np.sqrt(2.1 / POINTS)


def test_weak_points_thin_as_strong_ones_do():
    counts = np.concatenate([[1000.0], np.full(POINTS, 4.0)])
    found = thinned(counts, 250.0, np.random.default_rng(2))[1:]
    # Binomial(4, 1/4): none of four photons (3/4)^4 = 0.3164, all four (1/4)^4 = 0.0039.
    assert abs(np.mean(found == 0) - 0.3164) < 0.012
    assert abs(np.mean(found == 4) - 0.0039) < 0.002
    assert np.all(found <= 4)


@pytest.mark.parametrize("strongest", [7.0, 8.0, 1e9])
def test_a_measurement_that_is_short_enough_stays_as_it_is(strongest):
    counts = np.array([0.0, 7.0, 3.0])
    found = thinned(counts, strongest, np.random.default_rng(0))
    assert np.array_equal(found, counts)
    assert not np.shares_memory(found, counts)


def test_empty_detectors_stay_empty():
    assert not thinned(np.zeros(5), 10.0, np.random.default_rng(0)).any()


def test_same_draws_give_the_same_counts():
    counts = np.arange(100.0)
    first, again = (thinned(counts, 30, np.random.default_rng(4)) for _ in range(2))
    assert np.array_equal(first, again)


def test_dispersion_tells_raw_counts_from_smoothed_ones():
    rng = np.random.default_rng(5)
    counts = rng.poisson(50.0, POINTS).astype(float)
    assert dispersion(counts) == pytest.approx(1.0, abs=0.05)
    assert dispersion(3.0 * counts) == pytest.approx(3.0, abs=0.15)  # scaled by 3
    # Running mean of 3: d = (c0 - c1 - c2 + c3) / 3 but for an order, variance 4 / 9 of one
    # point's, over 6; a straight line has none at all.
    smooth = np.convolve(counts, np.ones(3) / 3, "valid")
    assert dispersion(smooth) == pytest.approx(4 / 9 / 6, abs=0.01)
    assert dispersion(np.arange(1.0, 100.0)) == 0.0


@pytest.mark.parametrize("value", [2.5, -1.0, np.nan, np.inf])
def test_what_is_no_count_is_refused_with_its_place(value):
    counts = np.array([4.0, 0.0, value, 2.0])
    with pytest.raises(UserError, match=r"^a\.xy: point 2 has .* raw counts"):
        thinned(counts, 1.0, np.random.default_rng(0), source="a.xy")


def test_a_measurement_without_photons_cannot_be_asked_for():
    with pytest.raises(ValueError, match="above 0, got 0"):
        thinned(np.array([4.0]), 0, np.random.default_rng(0))
