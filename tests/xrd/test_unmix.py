import numpy as np
import pytest
from reference_still import STILL

from imitation_refinement.xrd import library as libraries
from imitation_refinement.xrd.crystals import random_prototype
from imitation_refinement.xrd.grid import Grid
from imitation_refinement.xrd.unmix import farthest_points, lagged_correlation, match, unmix


def peaks(centers, length=300, sigma=2.0):
    x = np.arange(length)
    return sum(np.exp(-0.5 * ((x - c) / sigma) ** 2) for c in centers)


COMPONENTS = np.stack([peaks([20, 90, 200]), peaks([40, 130]), peaks([70, 160, 250])])


def mixtures(count=30, seed=0):
    """Mixtures that hold each component alone at least once."""
    rng = np.random.default_rng(seed)
    weights = np.concatenate([np.eye(3), rng.dirichlet(np.full(3, 0.5), count - 3)])
    return weights, (weights @ COMPONENTS).astype(np.float32)


def divergence(patterns, found, eps=1e-12):
    model = found.weights.astype(float) @ found.components.astype(float)
    patterns = patterns.astype(float)
    return np.sum(patterns * np.log((patterns + eps) / (model + eps)) - patterns + model)


def test_divergence_never_increases():
    rng = np.random.default_rng(1)
    patterns = rng.poisson(50 * mixtures()[1]).astype(np.float32)
    cost = [divergence(patterns, unmix(patterns, 3, iterations=i)) for i in range(1, 60, 3)]
    assert np.all(np.diff(cost) <= 1e-6 * cost[0])
    assert cost[-1] < 0.98 * cost[0]  # most of the rest is noise


def test_updates_are_those_of_lee_and_seung():
    # Two updates by the textbook formula, from the same start: first weights, then components.
    patterns = mixtures()[1] + np.float32(0.01)  # no exact zeros, by which one must not divide
    start = farthest_points(patterns, 3)
    v = patterns.astype(float)
    w, h = np.full((len(v), 3), 1 / 3), v[start] + 1e-4 * v.max()
    for _ in range(2):
        w *= (v / (w @ h)) @ h.T / h.sum(axis=1)
        h *= w.T @ (v / (w @ h)) / w.sum(axis=0)[:, None]
    found = unmix(patterns, 3, iterations=2)
    np.testing.assert_allclose(found.weights @ found.components, w @ h, rtol=1e-3, atol=1e-4)


def test_separable_mixture_is_recovered():
    weights, patterns = mixtures()
    found = unmix(patterns, 3)
    assert found.weights.min() >= 0.0 and found.components.min() >= 0.0
    component, phase, similarity = match(found.components, COMPONENTS)
    assert sorted(phase) == [0, 1, 2]
    assert similarity.min() > 0.98
    for c, p in zip(component, phase, strict=True):
        assert np.corrcoef(found.weights[:, c], weights[:, p])[0, 1] > 0.999


def test_farthest_points_finds_the_pure_ones():
    weights, patterns = mixtures()
    # A mixture is never as far from two corners as the third corner is.
    found = farthest_points(patterns, 3)
    assert sorted(weights[found].argmax(axis=1)) == [0, 1, 2]
    np.testing.assert_allclose(weights[found].max(axis=1), 1.0, atol=0.05)


def test_unmixing_is_deterministic_and_refuses_negative_values():
    patterns = mixtures()[1]
    first, second = unmix(patterns, 3), unmix(patterns, 3)
    np.testing.assert_array_equal(first.components, second.components)
    assert first.components.dtype == np.float32
    with pytest.raises(ValueError, match="[Nn]egative"):
        unmix(patterns - 0.5, 3)


def test_lagged_correlation_equals_the_loop():
    rng = np.random.default_rng(2)
    first, second = rng.random((3, 40)), rng.random((2, 40))
    found = lagged_correlation(first, second, 4)
    for i, a in enumerate(first):
        for j, b in enumerate(second):
            a0, b0 = a - a.mean(), b - b.mean()
            best = -1.0
            for lag in range(-4, 5):
                total = sum(a0[n] * b0[n + lag] for n in range(40) if 0 <= n + lag < 40)
                best = max(best, total / np.linalg.norm(a0) / np.linalg.norm(b0))
            assert found[i, j] == pytest.approx(best)


def test_lagged_correlation_forgives_a_shift_up_to_the_lag():
    a, b = peaks([100, 150])[None], peaks([110, 160])[None]
    assert lagged_correlation(a, b, 10)[0, 0] == pytest.approx(1.0, abs=5e-3)
    assert lagged_correlation(a, b, 3)[0, 0] < 0.2


def test_matching_is_one_to_one_and_best_in_total():
    # Component 0 resembles both phases, component 1 only phase 0: greedy matching would fail.
    truths = np.stack([peaks([50, 100]), peaks([150, 200])])
    components = np.stack([truths[0] + 0.8 * truths[1], truths[0]])
    component, phase, similarity = match(components, truths)
    assert list(component) == [0, 1] and list(phase) == [1, 0]
    assert similarity[1] == pytest.approx(1.0)


def test_poor_matches_and_surplus_components_are_dropped():
    components = np.stack([COMPONENTS[0], peaks([285]), COMPONENTS[2]])
    component, phase, _ = match(components, COMPONENTS[:2])
    assert list(component) == [0] and list(phase) == [0]


# The smallest correlation of a component with its phase was 0.987 when this was measured.
@pytest.mark.parametrize("phases", [3, 4, 5])
def test_noise_free_library_without_strain_is_recovered(phases):
    worst = []
    for seed in range(3):
        crystals = [random_prototype(seed, i, (i + seed) % 7).crystal for i in range(phases)]
        simulated = libraries.simulate_library(
            crystals, libraries.Diffraction(Grid()), np.random.default_rng(seed), STILL
        )
        component, phase, _ = match(unmix(simulated.pattern, phases).components, simulated.truth)
        found = unmix(simulated.pattern, phases).components[component]
        assert sorted(phase) == list(range(phases))
        worst.append(np.diag(lagged_correlation(found, simulated.truth[phase], 25)).min())
    assert min(worst) > 0.98
