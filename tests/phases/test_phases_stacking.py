"""Known or unknown by two looks: what is read of each, worked out by hand, and a fit."""

import numpy as np
import pytest
from scipy.special import expit
from sklearn.ensemble import HistGradientBoostingClassifier

from imitation_refinement.phases.match import Match, pooled
from imitation_refinement.phases.stacking import (
    _GROWN,
    FIGURES,
    LEADERS,
    Trees,
    absent,
    fit_trees,
    look,
    together,
    trees_of,
)

LOOK = LEADERS * len(FIGURES) + LEADERS + 2
NOTHING = np.zeros((1, 0))


def made_match(probability, cosine, none):
    """Matches of scans of which only these figures matter."""
    probability, cosine = np.atleast_2d(probability), np.atleast_2d(cosine)
    zeros = np.zeros(probability.shape)
    with np.errstate(divide="ignore"):
        logs = np.log(probability)
    entry = np.tile(np.arange(probability.shape[1]), (len(probability), 1))
    vote = np.full(probability.shape, 1.0 / probability.shape[1])
    return Match(
        entry, logs, cosine, zeros, zeros, zeros + 0.7, *(zeros,) * 3, logs, vote,
        np.atleast_1d(np.asarray(none, float)),
    )  # fmt: skip


def by_one(figure, threshold, values, offset):
    """One tree that asks one figure: its values up to the threshold and above."""
    return Trees(
        np.array(offset), np.array([[figure, 0, 0]]), np.array([[threshold, 0.0, 0.0]]),
        np.array([[1, 1, 2]]), np.array([[2, 1, 2]]), np.array([[0.0, *values]]),
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
    # The cosine of the second look's likeliest prototype decides, 0.8 and 0.9; then a deviation.
    trees = by_one(LOOK, 0.85, [-1.0, 2.0], offset=0.5)
    none = expit([-0.5, 2.5])
    deviating = np.array([[0.0, 3.0], [0.0, 4.0]])
    found, mean = together(first, second, deviating, trees), pooled(first, second)
    np.testing.assert_allclose(found.not_in_library, none)
    last = together(first, second, deviating, by_one(2 * LOOK + 1, 3.5, [-1.0, 2.0], offset=0.5))
    np.testing.assert_allclose(last.not_in_library, none)
    probability = np.exp(found.log_probability)
    np.testing.assert_allclose(probability.sum(axis=1) + found.not_in_library, 1.0, atol=1e-9)
    factor = probability / np.exp(mean.log_probability)
    np.testing.assert_allclose(factor, np.tile(factor[:, :1], (1, 4)))
    np.testing.assert_array_equal(found.entry, mean.entry)
    np.testing.assert_array_equal(found.vote, mean.vote)


def test_where_nothing_may_be_it_is_none():
    nothing = made_match([[0.0, 0.0]], [[0.0, 0.0]], [1.0])
    found = together(nothing, nothing, NOTHING, by_one(0, 0.0, [0.0, 0.0], offset=-3.0))
    assert found.not_in_library == pytest.approx([1.0])
    assert (found.log_probability == -np.inf).all()


def test_trees_by_hand():
    # One that asks figure 1 and then, above 0.5, figure 0; one that is a leaf.
    trees = Trees(
        np.array(0.1), np.array([[1, 0, 0, 0, 0], [0] * 5]),
        np.array([[0.5, 0.0, 2.0, 0.0, 0.0], [0.0] * 5]), np.array([[1, 1, 3, 3, 4], range(5)]),
        np.array([[2, 1, 4, 3, 4], range(5)]), np.array([[0.0, 10.0, 0.0, 20.0, 30.0], [1.0] * 5]),
    )  # fmt: skip
    x = np.array([[9.0, 0.5], [2.0, 0.6], [2.1, 0.6]])  # on a threshold the way is below
    np.testing.assert_allclose(absent(x, trees), expit(np.array([11.1, 21.1, 31.1])))


def test_trees_answer_as_scikit_learn_does():
    rng = np.random.default_rng(0)
    x, weight = rng.normal(size=(1500, 6)), rng.random(1500)
    x[:, 5] = np.round(x[:, 5])  # some figures have few values
    unknown = x[:, 0] * x[:, 1] + x[:, 5] + rng.normal(size=1500) > 0.3
    grown = HistGradientBoostingClassifier(
        max_iter=40, max_leaf_nodes=40, min_samples_leaf=40, early_stopping=False, random_state=0
    )
    grown.fit(x, unknown, sample_weight=weight)
    trees = trees_of(grown)
    assert len({len(tree.nodes) for (tree,) in grown._predictors}) > 1  # some are padded
    fresh = np.concatenate([x, rng.normal(size=(500, 6)), [[-1e9] * 6, [1e9] * 6]])
    np.testing.assert_allclose(absent(fresh, trees), grown.predict_proba(fresh)[:, 1], rtol=1e-9)


@pytest.mark.parametrize("count", [200, 3000])  # fewer values than bins, and more
def test_bins_are_those_of_scikit_learn(count):
    rng = np.random.default_rng(0)
    x, weight = rng.normal(size=(count, 5)), rng.choice([1.0, 0.8, 0.4], count)
    x[:, 3], x[:, 4] = np.round(x[:, 3]), 0.0
    unknown = x[:, 0] * x[:, 1] + x[:, 3] + rng.normal(size=count) > 0.3
    grown = HistGradientBoostingClassifier(early_stopping=False, random_state=7, **_GROWN)
    expected = trees_of(grown.fit(x, unknown, sample_weight=weight))
    found = fit_trees(x, unknown, weight, seed=7)
    for name in ("figure", "below", "above", "value"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    np.testing.assert_allclose(found.threshold, expected.threshold, atol=1e-3)
    np.testing.assert_allclose(absent(x, found), grown.predict_proba(x)[:, 1], rtol=1e-9)


def test_a_fit_learns_what_each_look_alone_does_not_tell():
    # A phase is unknown where exactly one of the looks doubts.
    rng = np.random.default_rng(0)
    doubts = rng.normal(size=(4000, 4))
    unknown = (doubts[:, 1] > 0.0) != (doubts[:, 3] > 0.0)
    trees = fit_trees(doubts[:3000], unknown[:3000], np.ones(3000))
    found = absent(doubts[3000:], trees)
    assert ((found > 0.5) == unknown[3000:]).mean() > 0.9
    # Weights of examples: those of next to no weight teach nothing.
    trees = fit_trees(doubts, unknown, np.where(unknown, 1e-6, 1.0))
    assert absent(doubts, trees).max() < 0.3
