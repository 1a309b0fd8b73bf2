import numpy as np
import pytest
from test_convolutive import COMPONENTS, alloyed, peaks

from imitation_refinement.commands.unmix_count import (
    BLOCK,
    HELD_OUT,
    chosen_count,
    divergence_over,
    fitted_blocks,
    least_needed,
    pooled,
    search,
)
from imitation_refinement.xrd.convolutive import (
    Convolutive,
    kl_divergence,
    phases,
    reconstruction,
    unmix_convolutive,
)
from imitation_refinement.xrd.unmix import lagged_correlation, unmix


def test_pooling_averages_and_keeps_the_end():
    found = pooled(np.array([[1.0, 3.0, 5.0, 7.0, 10.0, 20.0]]))
    np.testing.assert_allclose(found, [[4.0, 15.0]])


def test_blocks_are_whole_and_a_tenth_of_them_is_held_out():
    fitted = fitted_blocks((200, 40 * BLOCK), seed=1)
    blocks = fitted.reshape(200, 40, BLOCK)
    assert np.all(blocks.all(axis=2) == blocks.any(axis=2))
    assert np.mean(~fitted) == pytest.approx(HELD_OUT, abs=0.02)
    assert not np.array_equal(fitted, fitted_blocks((200, 40 * BLOCK), seed=2))


def test_one_standard_error_rule_by_hand():
    # Best mean is 1.0 with four components, its standard error sqrt(2/3 * ...) / sqrt(4) = 0.5.
    best = np.array([0.0, 2.0, 0.0, 2.0])
    error = best.std(ddof=1) / 2
    assert chosen_count({2: np.full(4, 1.01 + error), 3: np.full(4, 0.99 + error), 4: best}) == 3
    assert chosen_count({3: np.full(4, 1.01 + error), 4: best, 5: np.full(4, 1.2)}) == 4


def test_divergence_over_counts_only_the_chosen_points():
    x, r = np.array([[1.0, 0.5, 0.2]]), np.array([[0.5, 0.5, 9.0]])
    where = np.array([[True, True, False]])
    expected = (np.log(1.0001 / 0.5001) - 1.0 + 0.5) / 2
    assert divergence_over(x, r, where)[0] == pytest.approx(expected)
    assert divergence_over(x, r, ~where | where)[0] > expected


def test_a_copy_is_least_needed():
    # Components 0 and 2 are the same phase; without 1 a peak has nothing to stand for it.
    shares, patterns = alloyed(spread=0)
    components = np.stack([COMPONENTS[0], COMPONENTS[1], COMPONENTS[0], COMPONENTS[2]])
    weights = np.stack([0.7 * shares[:, 0], shares[:, 1], 0.3 * shares[:, 0], shares[:, 2]], axis=1)
    found = Convolutive(weights[:, :, None], components, np.array([0]), np.zeros(1))
    assert least_needed(patterns, np.ones(patterns.shape, bool), found) in (0, 2)


def library(seed=0, count=30, points=480):
    """Alloyed mixtures of three components with noise: (truth, shares, lags, patterns)."""
    rng = np.random.default_rng(seed)
    truth = np.stack([peaks(rng.uniform(40, points - 40, 6), points, 5.0) for _ in range(3)])
    shares = np.concatenate([np.eye(3), rng.dirichlet(np.full(3, 0.4), count - 3)])
    # Component 2 does not alloy.
    lags = np.linspace(-12, 12, count)[:, None] * [1, -1, 0]
    lags = np.round(lags).astype(int)
    patterns = np.stack([
        sum(s * np.roll(t, lag) for s, t, lag in zip(*row, strict=True))
        for row in zip(shares, [truth] * count, lags, strict=True)
    ])  # fmt: skip
    noisy = rng.poisson(400 * patterns) / 400
    return truth, shares, lags, (noisy / noisy.max(axis=1, keepdims=True)).astype(np.float32)


def widths(patterns):
    """Points over which a pattern is spread: (sum)^2 / sum of squares."""
    return patterns.sum(axis=1) ** 2 / (patterns**2).sum(axis=1)


def test_search_finds_what_plain_factorisation_does_not():
    truth, shares, lags, patterns = library()
    mask = np.ones(patterns.shape, bool)
    tried = search(patterns, mask, 5, 1, 16, hold_out=True)
    assert sorted(tried.components) == sorted(tried.held_out) == [1, 2, 3, 4, 5]
    assert chosen_count(tried.held_out) == 3
    assert tried.components[3].shape == (3, 480)

    found = unmix_convolutive(patterns, 3, 16, start=tried.components[3])
    told = phases(found)
    alike = lagged_correlation(told.components, truth, 16)
    component = alike.argmax(axis=0)
    assert sorted(component) == [0, 1, 2] and alike.max(axis=0).min() > 0.99
    plain = unmix(patterns, 3, iterations=300)
    smeared = lagged_correlation(plain.components, truth, 16).max(axis=0)
    assert smeared.min() < 0.9  # one of the alloying phases is broken up
    model = plain.weights @ plain.components
    assert kl_divergence(patterns, reconstruction(found)) < 0.3 * kl_divergence(patterns, model)

    # Without the penalty components are sharper than the phases' peaks.
    sharp = phases(unmix_convolutive(patterns, 3, 16, start=tried.components[3], penalty=0.0))
    blur = lagged_correlation(sharp.components, truth, 16).max(axis=0)
    assert np.all(alike.max(axis=0) > blur)
    assert widths(told.components[component]) == pytest.approx(widths(truth), rel=0.06)

    for t, k in enumerate(component):
        assert np.corrcoef(told.shares[:, k], shares[:, t])[0, 1] > 0.97
        strong = shares[:, t] > 0.3
        moved = told.shifts[strong, k] - told.shifts[strong, k].mean()
        np.testing.assert_allclose(moved, lags[strong, t] - lags[strong, t].mean(), atol=1.0)


def test_search_for_a_given_number_holds_nothing_out():
    patterns = library(count=12)[3]
    found = search(patterns, np.ones(patterns.shape, bool), 4, 3, 16, hold_out=False)
    assert found.held_out == {} and sorted(found.components) == [3, 4]
