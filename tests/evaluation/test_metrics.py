import numpy as np
import pytest

from imitation_refinement.evaluation import metrics

# One example of 4 points, worked by hand.
X = np.array([[1.0, 0.5, 0.0, 0.25]])
Y = np.array([[1.0, 0.0, 0.5, 0.5]])


def random_pair(count=6, length=80, seed=0):
    rng = np.random.default_rng(seed)
    return rng.random((count, length)) ** 4, rng.random((count, length)) ** 4


def test_hand_computed_four_point_example():
    assert metrics.l1(X, Y) == pytest.approx([0.0 + 0.5 + 0.5 + 0.25])
    assert metrics.l2(X, Y) == pytest.approx([0.25 + 0.25 + 0.0625])
    assert metrics.euclidean(X, Y) == pytest.approx([0.75])
    assert metrics.dot_product(X, Y) == pytest.approx([1.0 + 0.125])
    assert metrics.mean_change(X, Y) == pytest.approx([1.25 / 4])
    # 1 ln 1 - 1 + 1; 0 - 0 + 0.5; 0.5 ln(0.5 / eps) - 0.5; 0.5 ln 2 - 0.5 + 0.25
    expected = 0.5 + 0.5 * np.log(0.5 / 1e-6) - 0.5 + 0.5 * np.log(2) - 0.25
    assert metrics.kl(X, Y) == pytest.approx([expected], abs=1e-5)
    # Scaled to sum 1: x = (4, 2, 0, 1)/7, y = (2, 0, 1, 1)/4
    forward = 0.5 * np.log(7 / 8) + 0.25 * np.log(0.25 * 1.75 / 1e-8) + 0.25 * np.log(7 / 4)
    assert metrics.kl_normalized(X, Y) == pytest.approx([forward], abs=1e-6)
    reverse = 4 / 7 * np.log(8 / 7) + 2 / 7 * np.log(2 / 7 * 2 / 1e-8) + 1 / 7 * np.log(4 / 7)
    assert metrics.kl_reverse(X, Y) == pytest.approx([reverse], abs=1e-6)
    # Mean-free: a = (9, 1, -7, -3)/16, b = (1, -1, 0, 0)/2; lag 0: a.b = 8/32
    assert metrics.ncc(X, Y, max_lag=0) == pytest.approx([0.25 / np.sqrt(140 / 256 * 0.5)])


@pytest.mark.parametrize("name", metrics.METRICS)
def test_single_precision_and_whole_numbers_are_summed_in_double(name):
    function = metrics.METRICS[name].function
    whole = np.array([[1, 0, 2, 0]] * 2), np.array([[3, 1, 0, 1]] * 2)
    lags = {"max_lag": 1} if name == "ncc" else {}
    for kind in (np.float32, int):
        found = function(*(array.astype(kind) for array in whole), **lags)
        assert found.dtype == np.float64 and found.shape == (2,)
        np.testing.assert_array_equal(found, function(*(a.astype(float) for a in whole), **lags))


def test_identity_is_perfect():
    _, y = random_pair()
    for name in ("l1", "l2", "kl", "euclidean", "kl_normalized", "kl_reverse"):
        assert metrics.METRICS[name].function(y, y) == pytest.approx(np.zeros(len(y)), abs=1e-12)
    assert metrics.ncc(y, y) == pytest.approx(np.ones(len(y)))


def test_kl_forms_agree_with_slow_loops():
    x, y = random_pair(3, 20)
    x[0, :5] = 0
    y[1, 3:9] = 0
    for row in range(3):
        total = sum(
            b * np.log((b + 1e-6) / (a + 1e-6)) - b + a for a, b in zip(x[row], y[row], strict=True)
        )
        assert metrics.kl(x, y)[row] == pytest.approx(total)
        p, q = x[row] + 1e-8, y[row] + 1e-8
        p, q = p / p.sum(), q / q.sum()
        total = sum(b * np.log(b / a) for a, b in zip(p, q, strict=True))
        assert metrics.kl_normalized(x, y)[row] == pytest.approx(total)
    assert (metrics.kl_normalized(x, y) > 0).all()
    reverse = metrics.kl_reverse(x, y, eps=1e-3)
    assert reverse == pytest.approx(metrics.kl_normalized(y, x, eps=1e-3))
    assert (reverse < metrics.kl_reverse(x, y)).any()
    scaled = metrics.kl_normalized(7 * x, y, eps=1e-300)[2]
    assert scaled == pytest.approx(metrics.kl_normalized(x, y, eps=1e-300)[2])


def test_squared_l2_is_at_most_l1_on_the_unit_interval():
    x, y = random_pair(50, 30, seed=1)
    assert (metrics.l2(x, y) <= metrics.l1(x, y)).all()


@pytest.mark.parametrize("max_lag", [0, 3, 25])
def test_ncc_agrees_with_brute_force_over_lags(max_lag):
    x, y = random_pair(5, 60, seed=2)
    for row, value in enumerate(metrics.ncc(x, y, max_lag)):
        a, b = x[row] - x[row].mean(), y[row] - y[row].mean()
        best = -np.inf
        for lag in range(-max_lag, max_lag + 1):
            pairs = [(i, i + lag) for i in range(60) if 0 <= i + lag < 60]
            best = max(best, sum(a[i] * b[j] for i, j in pairs))
        assert value == pytest.approx(best / np.sqrt((a**2).sum() * (b**2).sum()))


def test_ncc_forgives_a_shift_up_to_its_lag_and_any_scale():
    grid = np.arange(400)
    y = np.exp(-0.5 * ((grid - 200) / 3) ** 2)[None]
    shifted = 0.3 * np.exp(-0.5 * ((grid - 220) / 3) ** 2)[None]
    assert metrics.ncc(shifted, y, max_lag=25)[0] > 0.995
    assert metrics.ncc(shifted, y, max_lag=10)[0] < 0.5
    flat = np.full((1, 400), 0.1)
    assert metrics.ncc(flat, y) == metrics.ncc(y, flat) == metrics.ncc(flat, flat) == [0.0]


def test_ncc_of_a_constant_pattern_among_others_and_of_itself():
    x, _ = random_pair(300, 40)
    some = np.concatenate([np.full((1, 40), 0.1), x[:1]])
    assert metrics.ncc(some, x[:2]).tolist()[0] == metrics.ncc(x[:2], some).tolist()[0] == 0.0
    assert metrics.ncc(some, x[:2])[1] != 0 != metrics.ncc(x[:2], some)[1]
    # The mean of three tenths is not a tenth in double precision: what is left is no shape.
    assert metrics.ncc(np.full((1, 3), 0.1), [[1.0, 0.0, 0.0]], max_lag=1).tolist() == [0.0]
    # Rounding never leads beyond the ends.
    assert metrics.ncc(x, x).max() == 1.0 and metrics.ncc(x, -x, max_lag=0).min() == -1.0


def test_ncc_of_opposite_patterns_and_the_largest_lag():
    # Mean-free (-1, 1)/2 and (1, -1)/2: -1/2 over 1/2 at lag 0, 1/4 over 1/2 at lag 1.
    assert metrics.ncc([[0.0, 1.0]], [[1.0, 0.0]], max_lag=0) == pytest.approx([-1])
    assert metrics.ncc([[0.0, 1.0]], [[1.0, 0.0]], max_lag=1) == pytest.approx([0.5])
    # Lag 25 is the last that is looked at.
    x, y = np.zeros((2, 1, 100))
    x[0, 40], y[0, 65] = 1, 1
    assert metrics.ncc(x, y)[0] > 0.9 > 0.1 > metrics.ncc(x, np.roll(y, 1, axis=1))[0]


def test_max_normalized_keeps_empty_patterns():
    rows = [[0, 2, 4], [0, 0, 0], [1, 2, 0]]
    assert metrics.max_normalized(rows).tolist() == [[0, 0.5, 1], [0, 0, 0], [0.5, 1, 0]]
    weak = metrics.max_normalized(np.array([[0.25, 0.5]], np.float32))
    assert weak.tolist() == [[0.5, 1]] and weak.dtype == np.float64


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"got \(1, 4\) and \(1, 3\)"):
        metrics.l1(X, Y[:, :3])
    with pytest.raises(ValueError, match=r"^expected two .* \[n, L\], got \(4,\) and \(4,\)$"):
        metrics.l1(X[0], Y[0])
    for function in (metrics.kl, metrics.kl_normalized, metrics.kl_reverse):
        for pair in ((-X, Y), (X, -Y), (-X, -Y)):
            with pytest.raises(ValueError, match="^expected non-negative intensities, got a"):
                function(*pair)
    assert metrics.kl(X[:0], Y[:0]).shape == (0,)
    for lag in (-1, 4):
        with pytest.raises(ValueError, match=rf"^max_lag must lie in \[0, 4\), got {lag}$"):
            metrics.ncc(X, Y, max_lag=lag)
    assert metrics.ncc(X, X, max_lag=3) == pytest.approx([1.0])
    with pytest.raises(ValueError, match="^an interval needs at least 2 groups, got 1$"):
        metrics.bootstrap_interval([1.0, 2.0], [0, 0])
    with pytest.raises(ValueError, match="^no finite bootstrap sample: the statistic is undefined"):
        metrics.percentile_interval([np.nan, np.inf], 9)


def test_percentile_interval_by_hand():
    samples = [np.nan, *np.arange(1001.0)[::-1], np.inf]
    many = 10**9  # groups: Student's quantile is the normal one, the factor 1
    assert metrics.percentile_interval(samples, many) == pytest.approx((25, 975), abs=1e-4)
    assert metrics.percentile_interval(samples, many, 0.5) == pytest.approx((250, 750), abs=1e-4)
    # Of 5 groups: t(0.975, 4) = 2.77645, times sqrt(5/4) = 3.10416, of which 0.09541 % is beyond.
    assert metrics.percentile_interval(samples, 5) == pytest.approx((0.9541, 999.0459), abs=1e-3)
    # Of 2: t = 12.7062, times sqrt(2): nothing is beyond.
    assert metrics.percentile_interval(samples, 2) == pytest.approx((0, 1000))


def test_bootstrap_takes_singles_as_doubles():
    singles = np.array([0.1, 0.2, 0.7], np.float32)
    doubles = singles.astype(np.float64)
    assert metrics.percentile_interval(singles, 9) == metrics.percentile_interval(doubles, 9)
    draws = metrics.GroupResamples(np.array([[1.0, 1.0, 0.0]]), np.arange(3))
    assert metrics.resampled_median(draws, singles) == [(doubles[0] + doubles[1]) / 2]


def test_a_ratio_without_denominator_is_not_a_number():
    draws = metrics.GroupResamples(np.array([[2.0, 0.0], [0.0, 2.0], [1.0, 1.0]]), np.array([0, 1]))
    found = metrics.resampled_ratio(draws, [3, 5], [0, 2])
    np.testing.assert_array_equal(found, [np.nan, 2.5, 4.0])
    assert metrics.ratio_estimate(draws, np.ones(2), np.zeros(2))["value"] is None
    more = metrics.GroupResamples(
        np.array([[1.0, 1.0, 1.0]]), draws.group
    )  # the last has no example
    assert metrics.resampled_ratio(more, [3, 5], [0, 2]) == [4.0]


def test_estimates_by_hand():
    # Five groups of one example; each resample takes one of them five times.
    draws = metrics.GroupResamples(5.0 * np.eye(5), np.arange(5))
    values, weights = np.array([1.0, 2.0, 3.0, 4.0, 10.0]), np.array([1.0, 2.0, 1.0, 2.0, 2.0])
    found = metrics.mean_estimate(draws, values)
    # Beyond 0.09541 % of the samples 1, 2, 3, 4, 10: 4 times that between the outermost two.
    assert found == pytest.approx({"value": 4.0, "low": 1.0038, "high": 9.9771}, abs=1e-4)
    assert metrics.ratio_estimate(draws, values, weights)["value"] == 2.5
    found = metrics.ratio_estimate(draws, values, weights, offset=-1.0)  # 1, 1, 3, 2, 5 of each
    assert found == pytest.approx({"value": 1.5, "low": 0.0, "high": 3.9924}, abs=1e-4)
    four = metrics.GroupResamples(4.0 * np.eye(4), np.arange(4))
    wanted = {"value": 2.5, "low": None, "high": None}  # too few groups for an interval
    assert metrics.mean_estimate(four, values[:4]) == wanted
    nothing = metrics.estimate(draws, 7.0, np.full(5, np.nan))
    assert nothing == {"value": 7.0, "low": None, "high": None}
    assert metrics.estimate(draws, None, values) == {"value": None, "low": None, "high": None}


def test_resamples_agree_with_drawing_whole_groups_by_hand():
    rng = np.random.default_rng(3)
    values, other = rng.normal(5, 1, 23), rng.random(23)
    groups = rng.integers(0, 6, 23)
    draws = metrics.resample_groups(groups, seed=4, resamples=250)
    means = metrics.resampled_mean(draws, values)
    medians = metrics.resampled_median(draws, values)
    ratios = metrics.resampled_ratio(draws, values, other)
    names = np.unique(groups)
    assert draws.times.sum(axis=1) == pytest.approx(np.full(250, len(names)))
    # Every group is drawn once in the mean, sometimes not at all, sometimes often.
    np.testing.assert_allclose(draws.times.mean(axis=0), 1.0, atol=0.2)
    assert draws.times.min() == 0 and draws.times.max() >= 4
    for row, counts in enumerate(draws.times.astype(int)):
        members = [np.flatnonzero(groups == name) for name in np.repeat(names, counts)]
        drawn = np.concatenate(members)
        assert means[row] == pytest.approx(values[drawn].mean())
        assert medians[row] == pytest.approx(np.median(values[drawn]))
        assert ratios[row] == pytest.approx(values[drawn].sum() / other[drawn].sum())


def test_bootstrap_covers_the_true_mean_of_dependent_patterns():
    """15 libraries of 6 patterns that share a library effect: a known case with mean 0."""
    rng = np.random.default_rng(5)
    groups = np.repeat(np.arange(15), 6)
    trials, by_library, by_pattern = 300, 0, 0
    for trial in range(trials):
        values = rng.normal(0, 1, 15)[groups] + rng.normal(0, 0.5, 90)
        low, high = metrics.bootstrap_interval(values, groups, seed=trial, resamples=400)
        by_library += low < 0 < high
        low, high = metrics.bootstrap_interval(values, np.arange(90), seed=trial, resamples=400)
        by_pattern += low < 0 < high
    assert 0.91 <= by_library / trials <= 0.985
    assert by_pattern / trials < 0.75  # what ignoring libraries would claim


def test_bootstrap_depends_on_the_seed_alone():
    values, groups = np.arange(20.0), np.arange(20) // 2
    first = metrics.bootstrap_interval(values, groups, seed=1)
    assert first == metrics.bootstrap_interval(values, groups, seed=1)
    assert first != metrics.bootstrap_interval(values, groups, seed=2)
    assert first[0] < values.mean() < first[1]
    uneven = np.random.default_rng(0).normal(
        size=20
    )  # of others, one resample more may change nothing
    assert metrics.bootstrap_interval(uneven, groups) == metrics.bootstrap_interval(
        uneven, groups, seed=0, confidence=0.95, resamples=2000, statistic=metrics.resampled_mean
    )
    narrow = metrics.bootstrap_interval(values, groups, seed=1, confidence=0.5)
    assert first[0] < narrow[0] < narrow[1] < first[1]
    draws = metrics.resample_groups(groups, seed=1, resamples=50)
    assert metrics.bootstrap_interval(
        values, groups, seed=1, resamples=50, statistic=metrics.resampled_median
    ) == metrics.percentile_interval(metrics.resampled_median(draws, values), 10)
    default = metrics.resample_groups(groups)
    assert default.times.shape == (2000, 10) and default.group.tolist() == groups.tolist()
    np.testing.assert_array_equal(
        default.times, metrics.resample_groups(groups, seed=0, resamples=2000).times
    )
