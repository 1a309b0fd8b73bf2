"""Known or unknown by two looks: what is read of each, worked out by hand, and a fit."""

import jax
import numpy as np
import pytest

from imitation_refinement.phases.match import Match, pooled
from imitation_refinement.phases.stacking import Stack, absent, fit_stack, look, together

pytestmark = pytest.mark.usefixtures("quick_compilation")


def made_match(probability, cosine, none):
    """Matches of scans of which only these figures matter."""
    probability, cosine = np.atleast_2d(probability), np.atleast_2d(cosine)
    zeros = np.zeros(probability.shape)
    with np.errstate(divide="ignore"):
        logs = np.log(probability)
    entry = np.tile(np.arange(probability.shape[1]), (len(probability), 1))
    vote = np.full(probability.shape, 1.0 / probability.shape[1])
    return Match(
        entry, logs, cosine, zeros, zeros, zeros + 0.7, zeros, zeros, logs, vote,
        np.atleast_1d(np.asarray(none, float)),
    )  # fmt: skip


def by_one(place, weight, offset, size=34):
    """A stack of one network that reads one figure, small enough for tanh x = x."""
    hidden = np.zeros((1, size, 1))
    hidden[0, place] = 1e-4
    return Stack(
        np.zeros(size), np.ones(size), hidden, np.zeros((1, 1)), np.full((1, 1), 1e4 * weight),
        np.array([offset]),
    )  # fmt: skip


def test_a_look_by_hand():
    figures = np.array([[[0.8], [0.9], [0.3], [0.5]]])
    with np.errstate(divide="ignore"):
        logs = np.log([[0.2, 0.4, 0.0, 0.1]])
    found = look(logs, np.array([0.3]), figures)
    # The figures of the three likeliest, ln of the odds of none, gaps, ln (0.7 / 0.4), ln 3.
    expected = [0.9, 0.8, 0.5, np.log(3 / 7), np.log(2), np.log(4), np.log(7 / 4), np.log(3)]
    np.testing.assert_allclose(found, [expected])
    # Where only one may be, the others have no figures and lie far behind.
    with np.errstate(divide="ignore"):
        alone = look(np.log([[0.7, 0.0]]), np.array([0.3]), figures[:, :2])
    expected = [0.8, 0.0, 0.0, np.log(3 / 7), 12.0, 12.0, 0.0, 0.0]
    np.testing.assert_allclose(alone, [expected], atol=1e-12)


def test_together_is_pooled_but_for_none():
    first = made_match([[0.6, 0.3]] * 2, [[0.9, 0.5]] * 2, [0.1] * 2)
    second = made_match([[0.2, 0.4], [0.6, 0.1]], [[0.9, 0.8]] * 2, [0.4, 0.3])
    # The second look's likeliest prototype decides: the first half is 17 figures of the first.
    stack = by_one(17, weight=2.0, offset=-1.0)
    none = 1.0 / (1.0 + np.exp(1.0 - 2.0 * np.array([0.8, 0.9])))
    found, mean = together(first, second, stack), pooled(first, second)
    np.testing.assert_allclose(found.not_in_library, none, rtol=1e-4)
    probability = np.exp(found.log_probability)
    np.testing.assert_allclose(probability.sum(axis=1) + found.not_in_library, 1.0, atol=1e-9)
    factor = probability / np.exp(mean.log_probability)
    np.testing.assert_allclose(factor, np.tile(factor[:, :1], (1, 4)))
    np.testing.assert_array_equal(found.entry, mean.entry)
    np.testing.assert_array_equal(found.vote, mean.vote)


def test_where_nothing_may_be_it_is_none():
    nothing = made_match([[0.0, 0.0]], [[0.0, 0.0]], [1.0])
    found = together(nothing, nothing, by_one(0, weight=0.0, offset=-3.0))
    assert found.not_in_library == pytest.approx([1.0])
    assert (found.log_probability == -np.inf).all()


def test_a_fit_learns_what_each_look_alone_does_not_tell():
    # A phase is unknown where exactly one of the looks doubts.
    rng = np.random.default_rng(0)
    first, second = (rng.normal(size=(1000, 2)) for _ in range(2))
    unknown = (first[:, 1] > 0.0) != (second[:, 1] > 0.0)
    with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
        stack = fit_stack(
            first[:700], second[:700], unknown[:700], np.ones(700), steps=150, batch_size=128,
            learning_rate=0.05, decay=1e-5,
        )  # fmt: skip
    found = absent(first[700:], second[700:], stack)
    assert ((found > 0.5) == unknown[700:]).mean() > 0.9
    # Weights of examples: those of weight 0 teach nothing.
    weight = np.where(unknown, 0.0, 1.0)
    with jax.numpy_dtype_promotion("standard"):
        stack = fit_stack(first, second, unknown, weight, steps=40, learning_rate=0.02)
    assert absent(first, second, stack).max() < 0.3
