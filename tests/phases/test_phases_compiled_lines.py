"""Compiled loops over lines and peaks against what NumPy says in float64."""

import numpy as np

from imitation_refinement.phases.compiled_lines import (
    axis_sums,
    forgiving_fit,
    peak_sums,
    peaks_near,
    smooth_and_about,
)


def test_a_fit_that_forgives_is_least_squares_with_weights_of_the_last_round():
    rng = np.random.default_rng(0)
    design, truth = rng.normal(size=(40, 3)), np.array([0.5, -1.0, 2.0])
    spread, scale = rng.uniform(0.01, 0.03, 40), np.array([1.0, 2.0, 3.0])
    observed = design @ truth + spread * rng.normal(size=40)
    observed[:4] += 5.0  # what it forgives
    weight, expected = 1.0 / spread**2, np.zeros(3)
    for _ in range(4):
        normal = (design * weight[:, None]).T @ design + np.diag(1.0 / scale**2)
        expected = np.linalg.solve(normal, design.T @ (weight * observed))
        off = (observed - design @ expected) / spread
        weight = 1.0 / (1.0 + off**2) / spread**2
    found, last = forgiving_fit(design, observed, spread, scale, 4)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    np.testing.assert_allclose(last, normal, rtol=1e-9)
    plain = np.linalg.lstsq(design, observed)[0]
    assert np.abs(found - truth).max() < 0.1 * np.abs(plain - truth).max()


def test_peaks_are_summed_between_the_minima_of_what_is_predicted():
    rng, step = np.random.default_rng(1), 0.002
    q = np.exp(step * np.arange(400))
    place = np.arange(400.0)
    bumps = [(60, 4.0, 1.0), (75, 4.0, 0.6), (200, 5.0, 0.8), (399, 3.0, 0.5), (300, 4.0, 1e-4)]
    model = sum(h * np.exp(-0.5 * ((place - at) / w) ** 2) for at, w, h in bumps)
    excess, noise, mask = rng.normal(size=400), rng.uniform(0.1, 0.2, 400), place > 58
    root = np.sqrt(model).astype(np.float32)
    found, peak = peak_sums(root, excess, noise, mask, q, step, 0.03, 1e-3)
    model = np.square(root.astype(np.float64)) * mask
    wide = np.convolve(model, np.full(5, 0.2), "same")
    ends = [0, *(1 + np.flatnonzero((wide[1:-1] <= wide[:-2]) & (wide[1:-1] < wide[2:]))), 400]
    expected, number = [], np.full(400, -1)
    for begin, end in zip(ends[:-1], ends[1:], strict=True):
        own = np.arange(begin, end)
        on = own[mask[own] & (wide[own] > max(0.03 * wide[own].max(), 1e-3 * wide.max()))]
        width = q[on] * step
        total = (model[on] * width).sum()
        if total > 1e-3 * 0.05:
            number[own] = len(expected)
            center = (model[on] * width * q[on]).sum() / total
            variance = np.square(noise[on] * width).sum()
            expected.append((total, (excess[on] * width).sum(), variance, center))
    assert len(expected) == 4  # two that touch, one alone, one at the end; none that is too weak
    np.testing.assert_allclose(found, np.array(expected).T, rtol=1e-6)
    np.testing.assert_array_equal(peak, number)


def test_terms_of_lines_are_added_up_in_their_peaks():
    peak, height = np.array([1, -1, 0, 1]), np.array([1.0, 5.0, 2.0, 3.0])
    terms = np.array([[1.0, 9.0, 0.5, -1.0], [0.0, 9.0, 1.0, 2.0]])
    sums, heights = axis_sums(peak, height, terms, 3)
    np.testing.assert_allclose(heights, [2.0, 4.0, 0.0])
    np.testing.assert_allclose(sums, [[1.0, -2.0, 0.0], [2.0, 6.0, 0.0]])


def test_the_axis_that_explains_most_of_what_a_slope_leaves():
    rng = np.random.default_rng(2)
    weight = rng.dirichlet(np.ones(30))
    square, about = rng.random(30), rng.normal(size=(3, 30))
    values = 1.0 - 2.0 * square + 0.7 * about[1] + 0.05 * rng.normal(size=30)
    slope, left, best, least = smooth_and_about(values, weight, square, about, 1e-9)
    root = np.sqrt(weight)
    design = np.stack([np.ones(30), square], axis=1)

    def rest(y):
        fit = np.linalg.lstsq(root[:, None] * design, root * y)[0]
        return y - design @ fit, fit

    off, (_, expected) = rest(values)
    np.testing.assert_allclose([slope, left], [expected, weight @ off**2], rtol=1e-6)
    axis, _ = rest(about[1])
    by = (weight @ (off * axis)) / (weight @ axis**2)
    np.testing.assert_allclose([best, least], [by, weight @ (off - by * axis) ** 2], rtol=1e-6)
    assert abs(best - 0.7) < 0.05
    nothing = smooth_and_about(values, weight, square, np.zeros((0, 30)), 1e-9)
    np.testing.assert_allclose(nothing, (slope, left, 0.0, left))


def test_a_line_has_the_highest_point_near_it_if_no_other_line_is_near():
    points = np.arange(100.0)
    root = np.exp(-0.5 * ((points[:, None] - [20.3, 51.0, 80.0]) / 2.0) ** 2).sum(axis=1)
    # At a peak; two, of which one is too weak to disturb; far from any; two that disturb; an end.
    place = np.array([19.0, 50.0, 52.0, 65.0, 80.0, 82.0, 98.0])
    height = np.array([1.0, 1.0, 0.1, 1.0, 1.0, 0.9, 1.0])
    found, peak = peaks_near(place, height, root, 4, 5.0, 0.03)
    assert (found >= 0.0).tolist() == [True, True, False, False, False, False, False]
    top = np.array([20, 51])
    before, at, after = root[top - 1], root[top], root[top + 1]
    expected = top + 0.5 * (after - before) / (2.0 * at - before - after)
    np.testing.assert_allclose(found[:2], expected)
    np.testing.assert_allclose(peak[:2], at)
