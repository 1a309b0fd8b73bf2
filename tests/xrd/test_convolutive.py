import numpy as np
import pytest

from imitation_refinement.xrd.convolutive import (
    Convolutive,
    kl_divergence,
    phases,
    reconstruction,
    shifted_components,
    unlike_patterns,
    unmix_convolutive,
)
from imitation_refinement.xrd.unmix import match, unmix


def peaks(centers, length=240, sigma=2.0):
    x = np.arange(length)
    return sum(np.exp(-0.5 * ((x - c) / sigma) ** 2) for c in centers)


COMPONENTS = np.stack([peaks([40, 110, 180]), peaks([60, 150]), peaks([85, 132, 205])])


def alloyed(count=36, spread=8, seed=0):
    """Mixtures in which two components shift, by integers that grow along the library."""
    rng = np.random.default_rng(seed)
    shares = np.concatenate([np.eye(3), rng.dirichlet(np.full(3, 0.6), count - 3)])
    lags = np.round(np.linspace(-spread, spread, count)[:, None] * [1.0, -1.0, 0.0]).astype(int)
    patterns = np.zeros((count, COMPONENTS.shape[1]))
    for p in range(count):
        for k in range(3):
            patterns[p] += shares[p, k] * np.roll(COMPONENTS[k], lags[p, k])
    return shares, patterns


def brute_force(activations, components, lags):
    """The model, written as its formula."""
    p, count, _ = activations.shape
    length = components.shape[1]
    out = np.zeros((p, length))
    for i in range(p):
        for k in range(count):
            for m, lag in enumerate(lags):
                for place in range(length):
                    if 0 <= place - lag < length:
                        out[i, place] += activations[i, k, m] * components[k, place - lag]
    return out


def test_reconstruction_is_the_sum_in_the_formula():
    rng = np.random.default_rng(3)
    lags = np.array([-3, -1, 0, 2])
    found = Convolutive(rng.random((2, 3, 4)), rng.random((3, 9)), lags, np.zeros(1))
    expected = brute_force(found.activations, found.components, lags)
    np.testing.assert_allclose(reconstruction(found), expected, rtol=1e-12)


def test_a_shift_moves_and_fills_with_zeros():
    moved = shifted_components(np.array([[1.0, 2.0, 3.0, 4.0]]), np.array([-1, 0, 3]))
    np.testing.assert_array_equal(moved[0], [[2, 3, 4, 0], [1, 2, 3, 4], [0, 0, 0, 1]])


def positive_root(a, b, c):
    """The positive root of a x^2 + b x + c, c < 0."""
    roots = np.roots([a, b, c]) if a else np.array([-c / b])
    return roots[roots > 0][0]


@pytest.mark.parametrize("penalty", [0.0, 0.7])
def test_updates_are_those_of_the_formula(penalty):
    # One update of each kind by slow sums over the formula's indices.
    rng = np.random.default_rng(4)
    x, start = rng.random((4, 12)), rng.random((2, 12))
    mask = rng.random(x.shape) > 0.2
    found = unmix_convolutive(x, 2, 2, mask=mask, start=start, max_iterations=1, penalty=penalty)
    lags = np.arange(-2, 3)
    c = start / start.max(axis=1, keepdims=True) + 1e-4
    weight = np.exp(-2.0 * (lags / 2) ** 2)
    share = weight / weight.sum() / 2
    a = np.tile(share, (4, 2, 1)) * ((x * mask).max(axis=1) + 1e-4)[:, None, None]

    def moved(k, m, place):
        return c[k, place - lags[m]] if 0 <= place - lags[m] < 12 else 0.0

    def at(p, place):
        return sum(a[p, k, m] * moved(k, m, place) for k in range(2) for m in range(5))

    ratio = np.array([[x[p, i] / at(p, i) for i in range(12)] for p in range(4)])
    new = a.copy()
    for p, k, m in np.ndindex(*a.shape):
        above = sum(mask[p, i] * ratio[p, i] * moved(k, m, i) for i in range(12))
        below = sum(mask[p, i] * moved(k, m, i) for i in range(12))
        new[p, k, m] *= above / (below + penalty * np.linalg.norm(c[k]))
    a = new
    ratio = np.array([[x[p, i] / at(p, i) for i in range(12)] for p in range(4)])
    new_c = c.copy()
    for k, source in np.ndindex(*c.shape):
        above = below = 0.0
        for p, m in np.ndindex(4, 5):
            if 0 <= source + lags[m] < 12:
                above += mask[p, source + lags[m]] * a[p, k, m] * ratio[p, source + lags[m]]
                below += mask[p, source + lags[m]] * a[p, k, m]
        # c minimises  below c + curve c^2 / 2 - c_old above log c
        curve = penalty * a[:, k].sum() / np.linalg.norm(c[k])
        new_c[k, source] = positive_root(curve, below, -c[k, source] * above)
    c = new_c
    np.testing.assert_allclose(reconstruction(found), brute_force(a, c, lags), rtol=1e-8)
    expected = kl_divergence(x * mask, brute_force(a, c, lags) * mask)
    expected += penalty * sum(a[:, k].sum() * np.linalg.norm(c[k]) for k in range(2))
    assert found.objective[0] == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize(("max_lag", "penalty"), [(0, 0.0), (6, 0.0), (6, 1.0), (6, 30.0)])
def test_the_objective_never_increases(max_lag, penalty):
    patterns = np.random.default_rng(1).poisson(30 * alloyed()[1]).astype(float)
    found = unmix_convolutive(
        patterns, 3, max_lag, max_iterations=60, tolerance=0.0, penalty=penalty
    )
    costs = found.objective
    assert len(costs) == 60
    assert np.all(np.diff(costs) <= 1e-9 * costs[0])
    assert costs[-1] < 0.9 * costs[0]


def test_without_shifts_it_is_plain_factorisation():
    # scikit-learn updates weights first too, from the same start.
    patterns = (alloyed(spread=0)[1] + 0.01).astype(np.float32)
    plain = unmix(patterns, 3, iterations=200)
    found = unmix_convolutive(patterns, 3, 0, max_iterations=200, tolerance=0.0, penalty=0.0)
    _, _, similarity = match(found.components, plain.components)
    assert similarity.shape == (3,) and similarity.min() > 0.995
    model = plain.weights @ plain.components
    assert found.objective[-1] < 1.1 * kl_divergence(patterns, model) + 1.0


def test_what_is_not_measured_does_not_count():
    _, patterns = alloyed(count=20)
    mask = np.ones(patterns.shape, bool)
    mask[::2, 100:140] = False
    spoilt = np.where(mask, patterns, 50.0)
    first = unmix_convolutive(spoilt, 3, 8, mask=mask, max_iterations=40)
    second = unmix_convolutive(np.where(mask, patterns, 7.0), 3, 8, mask=mask, max_iterations=40)
    np.testing.assert_array_equal(first.components, second.components)
    assert first.objective[-1] < 0.5 * first.objective[0]


def test_a_shifted_copy_is_not_unlike():
    patterns = np.stack([2 * peaks([50, 90]), peaks([56, 96]), peaks([120, 200])])
    np.testing.assert_array_equal(unlike_patterns(patterns, 2, 8), [0, 2])
    assert len(set(unlike_patterns(np.tile(patterns[:1], (3, 1)), 3, 0))) == 3


def test_phases_of_a_hand_made_factorisation():
    # Component 0 lies at +2 in the first pattern and at +4 in the second, which has more of it.
    activations = np.zeros((2, 2, 5))
    activations[0, 0, 3], activations[1, 0, 4] = 1.0, 1.0
    activations[0, 1, 2] = 3.0
    components = np.zeros((2, 12))
    components[0, 4], components[1, 6] = 1.0, 1.0
    found = phases(Convolutive(activations, components, 2 * np.arange(-2, 3), np.zeros(1)))
    np.testing.assert_allclose(found.shares, [[0.25, 0.75], [1.0, 0.0]])
    assert found.components[0].argmax() == 7  # moved by the mean of 2 and 4
    np.testing.assert_allclose(found.shifts, [[-1.0, 0.0], [1.0, np.nan]])


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="negative"):
        unmix_convolutive(-np.ones((3, 5)), 1, 1)
    with pytest.raises(ValueError, match="4 components of 3"):
        unmix_convolutive(np.ones((3, 5)), 4, 1)
