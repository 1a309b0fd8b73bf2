import numpy as np
import pytest
from reference_patterns import render_exact

from imitation_refinement.xrd.grid import Grid, grid_q
from imitation_refinement.xrd.profiles import (
    IdealViews,
    covered,
    ideal_pattern,
    ideal_view,
    normalize_max,
    render,
    scherrer_fwhm,
)

FINE = Grid(length=40_000)


def full_width(x, y):
    """Between the two crossings of half the maximum, by linear interpolation."""
    half, top = y.max() / 2, int(y.argmax())
    left = np.interp(half, y[: top + 1], x[: top + 1])
    right = np.interp(-half, -y[top:], x[top:])
    return right - left


def lines(count=200, seed=0):
    rng = np.random.default_rng(seed)
    return rng.uniform(0.95, 6.2, count), rng.random(count) ** 3


@pytest.mark.parametrize("size_nm", [10.0, 20.0, 40.0])
@pytest.mark.parametrize("line", [1.5, 5.0])
def test_scherrer_width_is_constant_in_q(size_nm, line):
    pattern = render(np.array([line]), np.array([1.0]), FINE, size_nm=size_nm)
    expected = 2 * np.pi * 0.9 / (10 * size_nm)
    assert scherrer_fwhm(size_nm) == pytest.approx(expected)
    assert full_width(grid_q(FINE), pattern) == pytest.approx(expected, rel=0.005)


def test_scherrer_width_in_two_theta():
    # K lambda / (L cos theta), with L = 20 nm at 2 theta = 60 degrees.
    grid = Grid(axis="two_theta", length=40_000)
    line = 4 * np.pi / 1.54184 * np.sin(np.radians(30))
    pattern = render(np.array([line]), np.array([1.0]), grid, size_nm=20.0)
    two_theta = 2 * np.arcsin(grid_q(grid) * 1.54184 / (4 * np.pi))
    expected = 0.9 * 1.54184 / (200.0 * np.cos(np.radians(30)))
    assert full_width(two_theta, pattern) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("microstrain", [0.002, 0.008])
@pytest.mark.parametrize("line", [1.5, 5.0])
def test_microstrain_width_is_constant_in_log_q(microstrain, line):
    # Crystallites so large that the strain alone is seen.
    pattern = render(
        np.array([line]), np.array([1.0]), FINE, size_nm=200.0, microstrain=microstrain
    )
    size = scherrer_fwhm(200.0) / line
    expected = np.hypot(2 * microstrain, size)
    assert size < microstrain
    assert full_width(np.log(grid_q(FINE)), pattern) == pytest.approx(expected, rel=0.02)


def test_widths_of_size_and_instrument_add_in_quadrature():
    pattern = render(np.array([3.0]), np.array([1.0]), FINE, size_nm=30.0, instrument_fwhm=0.02)
    expected = np.hypot(scherrer_fwhm(30.0), 0.02)
    assert full_width(grid_q(FINE), pattern) == pytest.approx(expected, rel=0.005)


@pytest.mark.parametrize(
    "broadening",
    [{"size_nm": 10.0}, {"size_nm": 40.0}, {"size_nm": 30.0, "microstrain": 0.005}],
    ids=str,
)
def test_broadening_conserves_the_area(broadening):
    q, intensity = np.array([2.0, 3.5, 4.0001]), np.array([1.0, 0.25, 3.0])
    pattern = render(q, intensity, FINE, **broadening)
    assert np.trapezoid(pattern, grid_q(FINE)) == pytest.approx(4.25, rel=1e-3)


@pytest.mark.parametrize("axis", ["geometric_q", "q", "two_theta"])
@pytest.mark.parametrize(
    ("broadening", "tolerance"),
    [
        ({"size_nm": 18.0}, 5e-4),
        ({"size_nm": 45.0}, 5e-4),
        ({"size_nm": 42.0, "microstrain": 1e-3}, 2e-3),
        ({"size_nm": 16.0, "microstrain": 2e-3, "instrument_fwhm": 0.006}, 2e-3),
        ({"size_nm": 20.0, "eta": 0.5}, 5e-3),
        ({"size_nm": 20.0, "eta": 0.5, "microstrain": 2e-3}, 5e-3),
    ],
    ids=str,
)
def test_agrees_with_the_sum_over_peaks(axis, broadening, tolerance):
    grid = Grid(axis=axis)
    exact = render_exact(*lines(), grid, **broadening)
    assert np.abs(render(*lines(), grid, **broadening) - exact).max() < tolerance * exact.max()


def test_exact_peak_is_the_gaussian_of_hand():
    sigma = scherrer_fwhm(30.0) / 2.354820
    exact = render_exact(np.array([3.0]), np.array([2.0]), FINE, size_nm=30.0)
    offset = grid_q(FINE) - 3.0
    by_hand = 2.0 * np.exp(-0.5 * (offset / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi))
    np.testing.assert_allclose(exact, by_hand, rtol=1e-5, atol=1e-9)


def test_rendering_is_linear_and_ignores_what_is_far_outside():
    (q, first), second = lines(), lines(seed=1)[1]
    grid = Grid()
    both = render(q, first + second, grid, size_nm=25.0)
    apart = render(q, first, grid, size_nm=25.0) + render(q, second, grid, size_nm=25.0)
    np.testing.assert_allclose(both, apart, rtol=1e-4, atol=1e-4 * both.max())
    outside = render(np.array([0.1, 9.0]), np.array([1.0, 1.0]), grid, size_nm=25.0)
    assert not outside.any()


def test_patterns_are_float32_not_negative_and_at_most_one():
    pattern = ideal_pattern(*lines(), Grid())
    assert pattern.dtype == np.float32 and pattern.shape == (2000,)
    assert pattern.min() >= 0.0 and pattern.max() == 1.0
    assert not normalize_max(np.zeros(5, np.float32)).any()


@pytest.mark.parametrize("augment", [False, True])
def test_training_view_is_drawn_from_the_generator_alone(augment):
    first, again, other = (
        ideal_view(*lines(), Grid(), np.random.default_rng(seed), IdealViews(augment=augment))
        for seed in (1, 1, 2)
    )
    assert first.dtype == np.float32
    assert first.min() >= 0.0 and first.max() == 1.0
    np.testing.assert_array_equal(first, again)
    assert np.any(first != other)


def test_plain_view_changes_the_width_only():
    q, intensity = np.array([3.0]), np.array([1.0])
    widths = [
        full_width(
            grid_q(FINE), ideal_view(q, intensity, FINE, np.random.default_rng(i), IdealViews())
        )
        for i in range(40)
    ]
    assert min(widths) > 0.99 * scherrer_fwhm(45.0)
    assert max(widths) < 1.01 * scherrer_fwhm(20.0)
    assert max(widths) > 1.5 * min(widths)


def test_coverage_cuts_uniformly_up_to_its_shares():
    cuts = []
    for seed in range(400):
        window = covered(np.random.default_rng(seed), 100, (0.2, 0.4))
        inside = np.flatnonzero(window)
        assert np.all(window[inside[0] : inside[-1] + 1])
        cuts.append((inside[0], 99 - inside[-1]))
    low, high = np.array(cuts).T
    assert low.min() == 0 and 18 <= low.max() <= 20 and abs(low.mean() - 10) < 1.2
    assert high.min() == 0 and 37 <= high.max() <= 40 and abs(high.mean() - 20) < 2.4


def test_full_coverage_draws_nothing():
    generator = np.random.default_rng(0)
    assert covered(generator, 100, (0.0, 0.0)) is None
    assert generator.random() == np.random.default_rng(0).random()


def test_view_is_zero_beyond_its_coverage_and_keeps_maximum_one():
    views = IdealViews(augment=True, coverage=(0.5, 0.0))
    starts = []
    for seed in range(20):
        view = ideal_view(*lines(), Grid(), np.random.default_rng(seed), views)
        assert view.max() == 1.0
        starts.append(np.flatnonzero(view)[0])
    assert max(starts) > 500
