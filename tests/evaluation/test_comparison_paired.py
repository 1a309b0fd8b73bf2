"""Paired differences agree with numbers worked out by hand, and their intervals cover."""

import json

import numpy as np
import pytest

from imitation_refinement.evaluation.metrics import bootstrap_interval
from imitation_refinement.evaluation.paired import mcnemar, over_seeds, paired_difference

GROUPS = np.arange(40) // 4


def test_values_by_hand():
    a = [np.array([1.0, 2.0, 3.0]), np.array([4.0, 6.0])]
    b = [np.array([0.0, 2.0, 0.0]), np.array([3.0, 3.0])]
    found = paired_difference(a, b, [np.arange(3), np.arange(2)])
    # Differences (1, 0, 3) and (1, 3): means 4/3 and 2, each seed counts the same.
    assert found.per_seed == pytest.approx((4 / 3, 2.0))
    assert found.value == pytest.approx(5 / 3)
    assert found.sd == pytest.approx((2 / 3) / np.sqrt(2))
    # Student's t with one degree of freedom: 12.706204736; standard error (2/3) / 2.
    assert found.seeds_high - found.value == pytest.approx(12.706204736 / 3)
    assert found.value - found.seeds_low == pytest.approx(12.706204736 / 3)
    assert (found.low, found.high, found.mcnemar) == (None, None, None)  # too few groups
    json.dumps(found._asdict())


def test_over_seeds_by_hand():
    # t(4 degrees of freedom) = 2.7764451052; sd of 1..5 = sqrt(2.5)
    found = over_seeds([1.0, 2.0, 3.0, 4.0, 5.0])
    assert found.mean == 3.0 and found.sd == pytest.approx(np.sqrt(2.5))
    half = 2.7764451052 * np.sqrt(2.5 / 5)
    assert (found.low, found.high) == pytest.approx((3 - half, 3 + half))
    assert over_seeds([0.5]) == (0.5, None, None, None)


@pytest.mark.parametrize(
    ("only_a", "only_b", "p"),
    [(0, 0, 1.0), (5, 0, 2 / 32), (1, 8, 2 * (1 + 9) / 512), (3, 3, 1.0)],
)
def test_mcnemar_is_the_binomial_test_of_the_discordant(only_a, only_b, p):
    a = np.array([True] * only_a + [False] * only_b + [True, False])
    b = np.array([False] * only_a + [True] * only_b + [True, False])
    assert mcnemar(a, b) == pytest.approx(p)
    assert mcnemar(b, a) == pytest.approx(p)
    found = paired_difference([a], [b], [np.arange(len(a))])
    assert found.mcnemar == pytest.approx(p)
    assert found.value == pytest.approx((only_a - only_b) / len(a))


def test_mcnemar_is_for_hits_of_one_seed_alone():
    hits = np.array([True, False, True])
    assert paired_difference([hits * 1.0], [hits], [np.arange(3)]).mcnemar is None
    assert paired_difference([hits] * 2, [hits] * 2, [np.arange(3)]).mcnemar is None


def test_one_seed_has_the_interval_of_its_differences():
    rng = np.random.default_rng(0)
    a, b = rng.random(40), rng.random(40)
    found = paired_difference([a], [b], [GROUPS], seed=3, resamples=500)
    expected = bootstrap_interval(a - b, GROUPS, seed=3, resamples=500)
    assert (found.low, found.high) == pytest.approx(expected)
    assert found.sd is None and found.seeds_low is None


def test_examples_that_all_seeds_share_do_not_count_as_new_ones():
    """The same hits in four seeds are no more evidence than in one; other samples are."""
    rng = np.random.default_rng(1)
    a, b = rng.random(40), rng.random(40)
    once = paired_difference([a], [b], [GROUPS])
    shared = paired_difference([a] * 4, [b] * 4, [GROUPS])
    own = paired_difference([a] * 4, [b] * 4, [GROUPS] * 4)
    assert (shared.low, shared.high) == pytest.approx((once.low, once.high))
    assert (own.high - own.low) / (once.high - once.low) == pytest.approx(0.5, rel=0.1)


def test_pairing_takes_out_what_both_methods_share():
    rng = np.random.default_rng(2)
    hard = rng.normal(0, 10, 40)  # how hard an example is, for both
    found = paired_difference([hard + 1 + rng.normal(0, 0.1, 40)], [hard], [GROUPS])
    assert 0.8 < found.low < found.high < 1.2
    reversed_ = paired_difference([hard], [hard + 1], [GROUPS])
    assert (reversed_.value, reversed_.low, reversed_.high) == pytest.approx((-1, -1, -1))


def test_intervals_cover_a_known_difference():
    """Three seeds of 12 groups of 5: group effects are drawn anew, the mean difference is 0.3."""
    rng = np.random.default_rng(4)
    trials, covered = 200, 0
    groups = np.repeat(np.arange(12), 5)
    for trial in range(trials):
        effects = [rng.normal(0.3, 1, 12)[groups] + rng.normal(0, 0.5, 60) for _ in range(3)]
        found = paired_difference(
            effects, [np.zeros(60)] * 3, [groups] * 3, seed=10 * trial, resamples=300
        )
        covered += found.low < 0.3 < found.high
    assert 0.90 <= covered / trials <= 0.99


def test_stacked_arrays_are_taken_too():
    rng = np.random.default_rng(5)
    a, b = rng.random((3, 40)), rng.random((3, 40))
    stacked = paired_difference(a, b, [GROUPS])
    assert stacked == paired_difference(list(a), list(b), [GROUPS])
    assert stacked.value == pytest.approx((a - b).mean())


@pytest.mark.parametrize(
    ("a", "b", "groups"),
    [
        ([np.zeros(3)], [np.zeros(4)], [np.arange(3)]),
        ([np.zeros(3)], [np.zeros(3)], [np.arange(4)]),
        ([np.zeros(3)] * 2, [np.zeros(3)] * 2, [np.arange(3)] * 3),
        ([np.zeros(3), np.zeros(4)], [np.zeros(3), np.zeros(4)], [np.arange(3)]),
        ([np.zeros(3)], [np.zeros(3)] * 2, [np.arange(3)]),
    ],
)
def test_what_does_not_fit_is_named(a, b, groups):
    with pytest.raises(ValueError, match="do not fit"):
        paired_difference(a, b, groups)


def test_nothing_and_nan_are_refused():
    with pytest.raises(ValueError, match="n > 0"):
        paired_difference([], [], [])
    with pytest.raises(ValueError, match="n > 0"):
        paired_difference([np.zeros(0)], [np.zeros(0)], [np.zeros(0)])
    with pytest.raises(ValueError, match="not finite"):
        paired_difference([np.array([np.nan, 1.0])], [np.zeros(2)], [np.arange(2)])
