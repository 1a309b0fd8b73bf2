import numpy as np
import pytest

from imitation_refinement.xrd.background import opening, snip


def peaks(x, centers, sigma, height):
    return height * sum(np.exp(-0.5 * ((x - c) / sigma) ** 2) for c in centers)


X = np.arange(2000.0)
BACKGROUND = 400.0 * np.exp(-X / 900.0) + 50.0


def snip_by_loop(pattern, iterations):
    v = np.log(np.log(np.sqrt(pattern + 1) + 1) + 1)
    for m in range(iterations, 0, -1):
        new = v.copy()
        for i in range(m, len(v) - m):
            new[i] = min(v[i], (v[i - m] + v[i + m]) / 2)
        v = new
    return (np.exp(np.exp(v) - 1) - 1) ** 2 - 1


def test_snip_equals_its_definition_point_by_point():
    pattern = np.random.default_rng(0).poisson(50.0, 70).astype(float)
    np.testing.assert_allclose(snip(pattern, 9), snip_by_loop(pattern, 9), rtol=1e-12)


def test_snip_finds_a_smooth_background_under_peaks():
    pattern = BACKGROUND + peaks(X, [300, 700, 720, 1500], 5.0, 3000.0)
    # A convex slope is a little clipped; a peak leaves nothing near it.
    np.testing.assert_allclose(snip(pattern, 50), BACKGROUND, rtol=0.03)


def test_snip_never_exceeds_the_pattern_and_is_done_at_a_constant():
    pattern = np.random.default_rng(1).poisson(BACKGROUND)
    assert np.all(snip(pattern) <= pattern + 1e-9)
    np.testing.assert_allclose(snip(np.full(300, 7.0)), 7.0, rtol=1e-10)


def test_snip_of_a_stack_is_that_of_each_row():
    stack = np.random.default_rng(2).poisson(30.0, (3, 400))
    np.testing.assert_array_equal(snip(stack), np.stack([snip(row) for row in stack]))


def test_snip_leaves_its_input_alone_and_refuses_negative_counts():
    pattern = np.random.default_rng(3).poisson(30.0, 400).astype(float)
    before = pattern.copy()
    snip(pattern)
    np.testing.assert_array_equal(pattern, before)
    with pytest.raises(ValueError, match="negative value -1"):
        snip(np.array([3.0, -1.0, 2.0]))


def test_opening_keeps_narrow_peaks_and_takes_the_level_between_them():
    pattern = (5.0 + peaks(X, [300, 700, 1500], 5.0, 100.0)).astype(np.float32)
    estimate = opening(pattern, 181)
    assert estimate.dtype == np.float32
    np.testing.assert_allclose(estimate, 5.0, rtol=1e-5)
    assert np.all(opening(np.sin(X / 40) + 1, 51) <= np.sin(X / 40) + 1)
