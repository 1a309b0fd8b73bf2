import numpy as np
import pytest
from reference_still import STILL

from imitation_refinement.xrd import imperfections as effects
from imitation_refinement.xrd.grid import Grid, grid_q, q_from_two_theta, two_theta_from_q
from imitation_refinement.xrd.profiles import ideal_pattern
from imitation_refinement.xrd.ranges import PROFILES, Options, profile

GRID = Grid()


def rng(seed=0):
    return np.random.default_rng(seed)


def lines(count=60, seed=0):
    source = rng(seed)
    intensity = source.random(count) ** 3
    return np.sort(source.uniform(1.0, 6.2, count)), intensity / intensity.max()


def test_spread_stays_within_one_deviation():
    source = rng()
    factors = [effects.spread_factor(source, 0.8) for _ in range(500)]
    assert max(factors) == pytest.approx(np.exp(0.8))
    assert min(factors) == pytest.approx(np.exp(-0.8))
    assert np.mean(np.log(factors)) == pytest.approx(0.0, abs=0.1)


def test_log_uniform_has_a_uniform_logarithm():
    source = rng()
    drawn = np.log10([effects.log_uniform(source, (1e-3, 1e1)) for _ in range(4000)])
    counts, _ = np.histogram(drawn, bins=4, range=(-3, 1))
    assert counts.sum() == 4000
    assert np.all(np.abs(counts - 1000) < 5 * np.sqrt(1000))


# --- Lines ---------------------------------------------------------------------------------------


def test_march_dollase_is_one_without_texture():
    np.testing.assert_allclose(effects.march_dollase(1.0, np.linspace(-1, 1, 9)), 1.0)


@pytest.mark.parametrize("r", [0.41, 0.8, 1.5, 2.01])
def test_march_dollase_averages_to_one_over_the_sphere(r):
    # The area element of the sphere is uniform in cos(alpha).
    nodes, weights = np.polynomial.legendre.leggauss(200)
    assert np.sum(weights * effects.march_dollase(r, nodes)) / 2 == pytest.approx(1.0, abs=1e-6)


def test_march_dollase_at_its_extremes():
    assert effects.march_dollase(0.5, np.array(1.0)) == pytest.approx(8.0)  # r^-3
    assert effects.march_dollase(0.5, np.array(0.0)) == pytest.approx(0.5**1.5)  # r^(3/2)


def test_first_order_of_texture_that_corrupt_relies_on():
    cosines = np.linspace(-1, 1, 200_001)
    logs = np.log(effects.march_dollase(np.exp(0.001), cosines)) / 0.001
    assert np.std(logs) == pytest.approx(1.34, abs=0.005)


def test_doublet_lies_at_the_two_bragg_angles_with_two_to_one():
    d = 3.1355
    q, height = effects.k_alpha_doublet(np.array([2 * np.pi / d]), np.array([6.0]))
    angles = [2 * np.degrees(np.arcsin(w / (2 * d))) for w in (1.54056, 1.54439)]
    mean = (2 * 1.54056 + 1.54439) / 3
    np.testing.assert_allclose(two_theta_from_q(q, mean), angles, atol=1e-9)
    np.testing.assert_allclose(height, [4.0, 2.0])
    assert mean == pytest.approx(1.54184, abs=5e-6)  # what configurations use


def test_displacement_follows_its_formula():
    q = np.array([1.2, 3.0, 5.5])
    before = two_theta_from_q(q, 1.54184)
    after = two_theta_from_q(effects.displaced(q, 0.002, 1.54184), 1.54184)
    expected = -2 * 0.002 * np.cos(np.radians(before / 2))
    np.testing.assert_allclose(np.radians(after - before), expected, rtol=1e-9)
    np.testing.assert_array_equal(effects.displaced(np.array([9.0]), 0.1, 1.54184), [9.0])


def test_displacement_of_nothing_moves_nothing():
    q = q_from_two_theta(np.array([20.0, 60.0]), 1.54184)
    np.testing.assert_allclose(effects.displaced(q, 0.0, 1.54184), q, rtol=1e-14)


def test_impurity_lines_are_on_the_grid_and_at_most_as_high_as_asked():
    source = rng()
    drawn = [effects.impurity_lines(source, GRID, 0.3) for _ in range(300)]
    assert {len(q) for q, _ in drawn} == {1, 2, 3, 4}
    q, height = (np.concatenate(part) for part in zip(*drawn, strict=True))
    assert q.min() >= 1.1 and q.max() <= 5.9
    assert 0.25 < height.max() <= 0.3


# --- Patterns ------------------------------------------------------------------------------------


def test_glass_background_by_hand():
    found = effects.glass_background(GRID, 2.0, 0.5, np.array([0.1, 0.2]))
    q = grid_q(GRID)
    expected = 0.5 * np.exp(-(q - 1.1) / 2.0)
    for (center, width), hump in zip(effects.GLASS_HUMPS, (0.1, 0.2), strict=True):
        expected += hump * np.exp(-((q - center) ** 2) / (2 * width**2))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_chebyshev_background_by_hand_and_lifted():
    x = np.linspace(-1, 1, 50)
    by_hand = 2.0 + 0.5 * x + 0.25 * (2 * x**2 - 1)
    np.testing.assert_allclose(effects.chebyshev_background(np.array([2, 0.5, 0.25]), 50), by_hand)
    lifted = effects.chebyshev_background(np.array([0.0, 1.0]), 50)
    np.testing.assert_allclose(lifted, x + 1.0)


def test_chebyshev_option_adds_to_the_background_only_when_on():
    ranges = profile("clean")
    plain = effects.draw_background(rng(3), GRID, ranges, 1.0, Options())
    more = effects.draw_background(rng(3), GRID, ranges, 1.0, Options(chebyshev=0.5))
    added = more - plain
    assert added.min() > -1e-6 and 0.0 < added.max() <= 0.5


def test_counts_have_poisson_mean_and_variance():
    drawn = effects.poisson_counts(rng(), np.full(100_000, 9.0))
    assert drawn.dtype == np.float32
    assert np.mean(drawn) == pytest.approx(9.0, abs=5 * 3 / np.sqrt(100_000))
    assert np.var(drawn) == pytest.approx(9.0, rel=0.03)
    assert np.all(drawn == np.rint(drawn))


def test_spikes_come_in_the_expected_number():
    found = effects.spikes(rng(), (500, 2000), 3.0)
    hot = found[found > 0]
    assert len(hot) / 500 == pytest.approx(3.0, abs=5 * np.sqrt(3 / 500))
    assert hot.min() >= 0.2 and hot.max() <= 1.0


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.9])
def test_missing_regions_cover_the_share_in_at_most_three_gaps(share):
    for seed in range(50):
        present = effects.missing_regions(rng(seed), 1000, share)
        assert np.sum(~present) == round(1000 * share)
        starts = np.sum(np.diff(np.concatenate([[True], present]).astype(int)) == -1)
        assert starts <= 3


def test_sigma_floor_keeps_what_is_above():
    pattern, sigma = np.array([0.5, 3.1, -4.0, 10.0]), np.array([1.0, 1.0, 1.0, 4.0])
    np.testing.assert_array_equal(effects.sigma_floor(pattern, sigma, 3.0), [0, 3.1, 0, 0])


# --- A single pattern ----------------------------------------------------------------------------


def test_without_imperfections_a_pattern_is_its_truth():
    q, intensity = np.array([1.5, 2.5, 4.0]), np.array([0.3, 1.0, 0.5])
    imperfect, truth = effects.corrupt(q, intensity, np.zeros(0), np.zeros(0), GRID, rng(), STILL)
    np.testing.assert_allclose(truth, ideal_pattern(q, intensity, GRID), atol=1e-5)
    # What is left is the instrument's width, at most 0.006 beside 0.0188.
    assert np.abs(imperfect - truth).max() < 0.06
    assert np.corrcoef(imperfect, truth)[0, 1] > 0.999


def test_truth_follows_the_strained_lattice():
    q, intensity = np.array([2.5]), np.array([1.0])
    ranges = STILL._replace(strain=(0.02, 0.02))
    tops = []
    for seed in range(20):
        imperfect, truth = effects.corrupt(
            q, intensity, np.zeros(0), np.zeros(0), GRID, rng(seed), ranges
        )
        shift = grid_q(GRID)[truth.argmax()] / 2.5 - 1.0
        assert abs(shift) < 0.021
        assert abs(np.log(grid_q(GRID)[imperfect.argmax()] / grid_q(GRID)[truth.argmax()])) < 0.03
        tops.append(shift)
    assert np.std(tops) > 0.005


@pytest.mark.parametrize("name", list(PROFILES))
@pytest.mark.parametrize(
    "options",
    [
        Options(),
        Options(
            k_alpha2=1.0,
            spikes=2.0,
            missing=0.1,
            displacement=1e-3,
            impurity=0.2,
            chebyshev=0.2,
            lorentzian=0.8,
            coverage=(0.1, 0.1),
        ),
    ],
    ids=["plain", "all options"],
)
def test_pairs_are_normalised_and_a_function_of_the_generator(name, options):
    ranges = profile(name)
    for seed in range(5):
        arguments = (*lines(), *lines(seed=1), GRID)
        imperfect, truth = effects.corrupt(*arguments, rng(seed), ranges, options)
        for pattern in (imperfect, truth):
            assert pattern.dtype == np.float32 and pattern.shape == (2000,)
            assert pattern.min() >= 0.0 and pattern.max() == 1.0
        again, _ = effects.corrupt(*arguments, rng(seed), ranges, options)
        np.testing.assert_array_equal(imperfect, again)


def test_harder_profiles_are_farther_from_the_truth():
    def distance(name):
        pairs = [
            effects.corrupt(*lines(seed=i), *lines(seed=i + 99), GRID, rng(i), profile(name))
            for i in range(40)
        ]
        return np.mean([np.abs(a - b).sum() for a, b in pairs])

    distances = [distance(name) for name in ("clean", "mild", "paper_like", "hard")]
    assert distances == sorted(distances)
    assert distances[3] > 2 * distances[0]


def test_missing_option_blanks_the_pattern_and_not_the_truth():
    dense = np.linspace(1.0, 6.2, 400), np.ones(400)
    imperfect, truth = effects.corrupt(
        *dense, np.zeros(0), np.zeros(0), GRID, rng(), STILL, Options(missing=0.25)
    )
    assert np.sum(imperfect == 0.0) >= 500
    assert np.all(truth > 0.0)


def test_truth_and_pattern_are_zero_beyond_the_measured_range():
    options = Options(coverage=(0.3, 0.3))
    starts, stops = [], []
    for i in range(20):
        one = effects.corrupt(
            *lines(seed=i), *lines(seed=i + 99), GRID, rng(i), profile("hard"), options
        )
        covered = np.flatnonzero(one[0] + one[1])
        starts.append(covered[0] / GRID.length)
        stops.append(1.0 - (covered[-1] + 1) / GRID.length)
        assert one[0].max() == 1.0 and one[1].max() == 1.0
        np.testing.assert_array_equal(one[1][: covered[0]], 0.0)
    assert max(starts) > 0.15 and max(stops) > 0.15


def test_lorentzian_peaks_have_wider_feet():
    def foot(share):
        options = Options(lorentzian=share)
        imperfect, _ = effects.corrupt(
            np.array([3.0]), np.ones(1), np.zeros(0), np.zeros(0), GRID, rng(2), STILL, options
        )
        return np.count_nonzero(imperfect > 0.01)

    assert foot(1.0) > 1.2 * foot(0.0)
