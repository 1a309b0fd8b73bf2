"""Levels from answers of weights that have not seen the formula, on made-up examples."""

import jax
import numpy as np
import pytest
from made_phases import by_cosine

from imitation_refinement.phases.calibrating import (
    _one_answer,
    _Said,
    _stacked,
    confident_level,
    fit_calibration,
    roc_area,
)
from imitation_refinement.phases.candidates import Calibration
from imitation_refinement.phases.compositions import COMPLETE
from imitation_refinement.phases.evidence import FEATURES
from imitation_refinement.phases.fitting import ABSENT, KNOWN, OTHER, WHOLE, Examples
from imitation_refinement.phases.stacking import FIGURES, LEADERS

pytestmark = pytest.mark.usefixtures("quick_compilation")


def made_examples(count=200, seed=0):
    """Of four candidates the right one has a large first figure; two of five phases are absent."""
    rng = np.random.default_rng(seed)
    features = 0.3 * rng.normal(size=(count, 4, len(FEATURES))).astype(np.float32)
    absent = np.arange(count) % 5 < 2
    right = np.zeros((count, 4), bool)
    right[~absent, rng.integers(0, 4, np.count_nonzero(~absent))] = True
    features[right, 0] += 2.0
    system = rng.integers(0, 7, (count, 4))
    true_system = np.where(absent, 0, system[np.arange(count), right.argmax(axis=1)])
    return Examples(
        features, right, system, np.zeros((count, 4), bool), true_system,
        np.where(absent, ABSENT, OTHER), np.where(np.arange(count) % 2, KNOWN, WHOLE),
        5 * rng.integers(0, 20, count) + rng.integers(0, 2, count),  # two of the five folds
        np.full(count, 1000.0), np.arange(count), np.tile(np.arange(4), (count, 1)),
        np.tile(0.1 * np.arange(4), (count, 1)), np.zeros((count, 4)),
    )  # fmt: skip


def looked_at_twice(given, seed=1):
    """Each example again, with figures that are not the same."""
    given = Examples(*(np.repeat(column, 2, axis=0) for column in given))
    noise = np.random.default_rng(seed).normal(size=given.features[1::2].shape)
    given.features[1::2] += 0.5 * noise.astype(np.float32)
    return given


def nothing_deviates(look, leaders):
    return np.zeros((len(look), 2))


def fitted(given, deviating=nothing_deviates):
    with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
        return fit_calibration(given, deviating, steps=60, batch_size=16, learning_rate=0.02)


def test_answers_come_from_weights_that_have_not_seen_the_formula():
    once = made_examples(1000)
    given = looked_at_twice(once)
    calibration, (answered, together) = fitted(given)
    assert isinstance(calibration, Calibration)
    np.testing.assert_array_equal(answered.absent, once.situation == ABSENT)
    assert answered.first[~answered.absent].mean() > 0.9
    # The labels of one fold decide nothing about the answers to it, and something about others.
    own = given.formula % 5 == 1
    turned = np.where(own[:, None], np.roll(given.right, 1, axis=1), given.right)
    _, (again, _) = fitted(given._replace(right=turned))
    own = own[::2]
    np.testing.assert_array_equal(again.inside[own], answered.inside[own])
    assert np.abs(again.inside[~own] - answered.inside[~own]).max() > 1e-3
    assert roc_area(together.none[answered.absent], together.none[~answered.absent]) > 0.9


def test_both_looks_together_are_asked_of_trees_that_have_not_seen_the_formula():
    given, rng = made_examples(1000), np.random.default_rng(3)
    inside = rng.dirichlet(np.ones(8), (2, 1000))[:, :, :7]
    none, first = 1.0 - inside.sum(axis=2), rng.random((2, 1000)) < 0.5
    looks = [
        _Said(*one, rng.normal(size=(1000, 4))) for one in zip(inside, none, first, strict=True)
    ]
    deviating = rng.normal(size=(1000, 2))
    found, trees = _stacked(given, looks, deviating, 0)
    own = given.formula % 5 == 1
    turned = np.where(own, OTHER, given.situation)
    again, others = _stacked(given._replace(situation=turned), looks, deviating, 0)
    np.testing.assert_array_equal(again.none[own], found.none[own])
    assert np.abs(again.none[~own] - found.none[~own]).max() > 1e-3
    assert abs(trees[0].offset - others[0].offset) > 1e-3  # what ships saw all
    np.testing.assert_allclose(found.inside.sum(axis=1) + found.none, 1.0)
    ratio = found.inside / (inside[0] + inside[1])  # systems keep their shares
    np.testing.assert_allclose(ratio, np.tile(ratio[:, :1], (1, 7)))
    np.testing.assert_array_equal(found.first, first[0])


def test_each_kind_of_answer_has_its_own_level():
    calibration, answered = fitted(looked_at_twice(made_examples(2000)))
    assert len(answered[0].none) == len(answered[1].none) == 2000
    assert np.abs(answered[0].inside - answered[1].inside).max() > 1e-3
    for known, refined in np.ndindex(2, 2):
        one = answered[refined]
        rows = (one.scope == KNOWN) == known
        of = (one.confidence, one.correct, one.absent, one.scope)
        level = confident_level(*(column[rows] for column in of))
        assert calibration.levels[known, refined] == level


def test_an_answer_by_hand():
    # Cosines 0.9 and 0.85 of systems 6 and 2, odds exp(40 cosine) against exp(35) for none.
    features = np.full((1, 3, len(FEATURES)), np.nan, np.float32)
    features[0, :2] = 0.0
    features[0, :2, FEATURES.index("cosine")] = 0.9, 0.85
    of = Examples(
        features, np.array([[False, True, False]]), np.array([[6, 2, -1]]),
        np.array([[False, True, False]]), np.array([2]), np.array([OTHER]), np.array([WHOLE]),
        np.zeros(1, int), np.ones(1), np.zeros(1, int), np.array([[7, 9, -1]]), np.zeros((1, 3)),
        np.zeros((1, 3)),
    )  # fmt: skip
    posterior = by_cosine(none=-1.0).posterior  # its logit is added to the best's
    for scope, factor in ((WHOLE, 1.0), (KNOWN, np.exp(COMPLETE))):
        of_scope = of._replace(scope=np.array([scope]))
        (inside, none, first, figures), logs = _one_answer(of_scope, 0, posterior)
        odds = np.array([1.0, factor * np.exp(-2.0), np.exp(-1.0)])
        np.testing.assert_allclose([inside[6], inside[2], none], odds / odds.sum(), rtol=1e-5)
        np.testing.assert_allclose(np.exp(logs), odds[:2] / odds.sum(), rtol=1e-5)
        assert not first
        cosines = figures[: LEADERS * len(FIGURES) : len(FIGURES)]
        np.testing.assert_allclose(cosines, [0.9, 0.85, 0.0])


def test_scans_deviate_from_those_that_lead_by_both_looks():
    given, asked = looked_at_twice(made_examples(1000)), []

    def deviating(look, leaders):
        asked.append((look, leaders))
        # Unknown phases deviate from what leads, and nothing else tells them.
        return np.column_stack([given.situation[::2] == ABSENT, leaders.entry[:, 0]])

    given.features[:] *= 0.0
    _, (_, together) = fitted(given, deviating)
    [(look, leaders)] = asked
    np.testing.assert_array_equal(look, given.look[::2])
    assert leaders.entry.shape == (1000, 2) and set(leaders.entry.ravel().tolist()) <= set(range(4))
    np.testing.assert_allclose(leaders.shift, 0.1 * leaders.entry)
    np.testing.assert_allclose(leaders.size_nm, 1.0)  # e^0
    assert roc_area(together.none[together.absent], together.none[~together.absent]) == 1.0


def test_the_confident_level_by_hand():
    confidence = np.linspace(1.0, 0.005, 200)
    correct, absent = np.ones(200, bool), np.zeros(200, bool)
    one, two = np.zeros(200, int), np.arange(200) % 2
    correct[[40, 70, 140, 141, 142, 143]] = False
    # 6 errors are 3 % of all 200; one more is too many until there are 234.
    assert confident_level(confidence, correct, absent, one) == pytest.approx(confidence[199])
    correct[144] = False
    assert confident_level(confidence, correct, absent, one) == pytest.approx(confidence[141])
    # Of 100 unknown ones 1 may be confident: the bound p of (1 - p)^100 + 100 p (1 - p)^99 = 0.05
    # is 4.7 %; for two it is 6.2 %.
    correct[:] = True
    absent[[20, 50, *range(102, 200)]] = True
    assert confident_level(confidence, correct, absent, one) == pytest.approx(confidence[49])
    correct[absent] = False  # what is unknown is counted there alone
    assert confident_level(confidence, correct, absent, one) == pytest.approx(confidence[49])
    # Of 50 in each of two scopes none may: (1 - p)^50 = 0.05 at 5.8 %.
    assert confident_level(confidence, correct, absent, two) > 1.0
    assert confident_level(confidence, ~correct, absent, one) > 1.0


def test_the_area_under_the_curve_by_hand():
    # Of six pairs four are in order and one is a tie.
    assert roc_area(np.array([0.9, 0.4]), np.array([0.1, 0.4, 0.5])) == pytest.approx(4.5 / 6)
