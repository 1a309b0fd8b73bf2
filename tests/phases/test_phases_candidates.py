"""From evidence to probabilities, candidates and verdicts: sums and rules worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imitation_refinement.model.acceptance import NO_SIGNAL
from imitation_refinement.phases.candidates import (
    VERDICTS,
    Calibration,
    answers,
    class_probabilities,
    inside_probabilities,
    merged,
)
from imitation_refinement.phases.formulas import amounts, elements, reduced
from imitation_refinement.phases.match import Match
from imitation_refinement.phases.posterior import (
    BLIND,
    Posterior,
    _initial,
    _logits,
    fit_posterior,
    probabilities,
)
from imitation_refinement.phases.prototypes import build_prototypes
from imitation_refinement.xrd.grid import Grid

GRID = Grid(0.65, 5.65, 2000)


def some_posterior(figures=5, seed=0):
    rng = np.random.default_rng(seed)
    params = {name: np.asarray(value) for name, value in _initial(figures, seed).items()}
    params = {name: rng.normal(0.0, 0.3, value.shape) for name, value in params.items()}
    return Posterior(rng.normal(size=figures), 1.0 + rng.random(figures), **params)


def made_match(probability, entry=None, vote=None, shift=None):
    """A match of one scan with these probabilities; the rest is none's."""
    probability = np.atleast_2d(np.asarray(probability, float))
    entry = np.arange(probability.shape[1])[None] if entry is None else np.asarray([entry])
    none = 1.0 - probability.sum(axis=1)
    with np.errstate(divide="ignore"):
        logs = np.log(probability)
    zeros = np.zeros(probability.shape)
    vote = probability / probability.sum() if vote is None else np.asarray([vote], float)
    shift = zeros if shift is None else np.asarray([shift], float)
    return Match(entry, logs, zeros, shift, *(zeros,) * 5, logs, vote, none)


def structures(*line_lists):
    """Prototypes of given lines (q), all of the same height."""
    q = np.concatenate([np.asarray(lines, np.float32) for lines in line_lists])
    offsets = np.concatenate([[0], np.cumsum([len(lines) for lines in line_lists])])
    return build_prototypes(q, np.ones(len(q)), offsets, np.zeros(len(line_lists)), GRID)


# --- Posterior -----------------------------------------------------------------------------------


def test_probabilities_and_none_sum_to_one():
    features = np.random.default_rng(1).normal(size=(7, 9, 5))
    found = probabilities(features, some_posterior())
    np.testing.assert_allclose(np.exp(found.log).sum(axis=1) + found.none, 1.0, atol=1e-12)
    np.testing.assert_allclose(found.vote.sum(axis=1), 1.0, atol=1e-12)


def test_the_form_for_gradients_gives_the_same_numbers():
    posterior = some_posterior()
    features = np.random.default_rng(2).normal(size=(4, 6, 5))
    x = ((features - posterior.mean) / posterior.scale).astype(np.float32)
    names = [name for name in Posterior._fields if name not in ("mean", "scale")]
    params = {name: jnp.asarray(getattr(posterior, name), jnp.float32) for name in names}
    # Two more that are not there change nothing.
    padded = np.pad(x, ((0, 0), (0, 2), (0, 0)))
    present = np.arange(8) < 6 * np.ones((4, 1))
    logits, vote = _logits(params, jnp.asarray(padded), jnp.asarray(present), jnp)
    logits, vote = np.delete(logits, [6, 7], axis=1), vote[:, :6]
    found = probabilities(features, posterior)
    odds = np.exp(np.asarray(logits) - np.asarray(logits).max(axis=1, keepdims=True))
    np.testing.assert_allclose(found.none, odds[:, -1] / odds.sum(axis=1), rtol=1e-4)
    shares = np.exp(np.asarray(vote)) / np.exp(np.asarray(vote)).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found.vote, shares, rtol=1e-4)


def test_the_order_of_candidates_does_not_matter():
    posterior, rng = some_posterior(), np.random.default_rng(3)
    features, order = rng.normal(size=(1, 8, 5)), rng.permutation(8)
    found, permuted = (probabilities(f, posterior) for f in (features, features[:, order]))
    np.testing.assert_allclose(permuted.log[0], found.log[0, order], atol=1e-12)
    assert permuted.none[0] == pytest.approx(found.none[0])


def test_a_fit_learns_what_tells_the_right_candidate_and_that_there_is_none():
    # Figure 0 is 2 for the right one and noise for the others; one scan in three has no right one.
    rng = np.random.default_rng(5)
    features = 0.3 * rng.normal(size=(900, 6, 3))
    right = np.zeros((900, 6), bool)
    right[np.arange(600), rng.integers(0, 6, 600)] = True
    features[right, 0] += 2.0
    order = rng.permutation(900)
    features, right = features[order], right[order]
    # Figure 1 tells the class: the vote must follow it, not figure 0.
    alike = features[:, :, 1] > 0.3
    with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
        posterior = fit_posterior(
            features[:700], right[:700], alike[:700], np.ones(700), steps=600,
            learning_rate=0.01, decay=1e-5,
        )  # fmt: skip
    found = probabilities(features[700:], posterior)
    known = right[700:].any(axis=1)
    first = found.log.argmax(axis=1)
    assert np.mean(right[700:][known, first[known]]) > 0.98
    assert found.none[~known].mean() > 0.9 > 0.1 > found.none[known].mean()
    voted = found.vote.argmax(axis=1)
    has = alike[700:].any(axis=1)
    assert np.mean(alike[700:][has, voted[has]]) > 0.9


# --- Sums over classes ---------------------------------------------------------------------------


def test_class_sums_by_hand():
    match = made_match([0.4, 0.2, 0.1], vote=[0.5, 0.0, 0.5])
    labels = np.array([1, 2, 1])
    of_each = labels[match.entry]
    inside = inside_probabilities(match, of_each, 3)
    np.testing.assert_allclose(inside, [[0.0, 0.5, 0.2]])
    # None has 0.3; its vote is all for class 1 but for 5 % over the two classes there are.
    vote = np.array([0.0, 0.95 + 0.025, 0.025])
    assert BLIND == 0.05
    found = class_probabilities(match, of_each, labels, 3)
    np.testing.assert_allclose(found[0], inside[0] + 0.3 * vote)


# --- Candidates ----------------------------------------------------------------------------------


def test_entries_of_a_phase_and_twins_are_one_candidate():
    lines = [1.5, 2.0, 2.7, 3.3, 4.1]
    prototypes = structures(lines, lines, [1.2, 2.2, 3.9], [1.0, 4.5], lines)
    match = made_match([0.3, 0.25, 0.2, 0.1, 0.05])
    found = merged(
        match, 0, prototypes, np.array([227, 216, 227, 12, 225]), np.array([6, 6, 6, 1, 6]),
        ["CuCo2S4", "Co5CuS8", "Co4Cu2S8", "SiO2", "NiMn2O4"],
    )  # fmt: skip
    # 1 is a twin of 0: the same elements and lines; 2 is the same phase with other lines; 4 has
    # the same lines and other elements.
    assert [candidate.members for candidate in found] == [(0, 1, 2), (3,), (4,)]
    assert found[0].probability == pytest.approx(0.75)
    assert (found[0].entry, found[0].space_group, found[0].system) == (0, 227, 6)


def test_the_symmetry_that_is_told_is_the_highest_that_twins_support():
    lines = [1.5, 2.0, 2.7, 3.3, 4.1]
    prototypes = structures(lines, lines, [1.2, 2.2, 3.9], lines)
    groups, systems = np.array([9, 15, 62, 227]), np.array([1, 1, 2, 6])
    formulas = ["CuO", "Cu2O2", "CuO", "CuO"]
    # 227 has the same lines and is a twentieth as probable: its symmetry is not supported.
    found = merged(made_match([0.4, 0.2, 0.1, 0.02]), 0, prototypes, groups, systems, formulas)
    assert [one.twins for one in found] == [(0, 1, 3), (2,)]
    assert [(one.entry, one.space_group, one.system) for one in found] == [(0, 15, 1), (2, 62, 2)]
    match = made_match([0.4, 0.2, 0.1, 0.02])
    calibration = Calibration(None, None, None, None, levels(0.6))
    told = answers(match, prototypes, groups, systems, formulas, calibration)[0]
    assert told.space_groups[0][0] == 15
    assert dict(told.space_groups)[9] < 0.005  # what is spread over all that there are
    assert told.verdict == "confident"  # 0.62, of which 0.02 stands under another system


def test_twins_are_compared_each_at_its_own_shift():
    lines = np.array([1.5, 2.0, 2.7, 3.3, 4.1])
    prototypes = structures(lines, lines * np.exp(0.02))
    groups, systems, formulas = np.array([1, 2]), np.zeros(2, int), ["Fe2O3", "Fe2O3"]
    apart = merged(made_match([0.5, 0.3]), 0, prototypes, groups, systems, formulas)
    match = made_match([0.5, 0.3], shift=[0.02, 0.0])
    together = merged(match, 0, prototypes, groups, systems, formulas)
    assert (len(apart), len(together)) == (2, 1)


def test_candidates_are_ordered_by_the_sum_of_their_members():
    prototypes = structures([1.0, 2.0], [1.5, 3.0], [2.5, 4.0])
    match = made_match([0.4, 0.3, 0.2])
    found = merged(match, 0, prototypes, np.array([1, 2, 2]), np.zeros(3, int), ["A", "Si", "Si"])
    assert [candidate.members for candidate in found] == [(1, 2), (0,)]


def test_what_is_impossible_is_no_candidate():
    prototypes = structures([1.0, 2.0], [1.5, 3.0])
    found = merged(made_match([0.4, 0.0]), 0, prototypes, np.ones(2), np.zeros(2), ["Si", "Ge"])
    assert [candidate.members for candidate in found] == [(0,)]


@pytest.mark.parametrize(
    ("probability", "signal", "verdict", "reason"),
    [
        ([0.95, 0.01, 0.0], True, "confident", ""),
        ([0.5, 0.45, 0.0], True, "confident", ""),  # both are of one system
        ([0.5, 0.0, 0.4], True, "ambiguous", "cubic (0.40) is nearly as likely as monoclinic"),
        (
            [0.7, 0.0, 0.1],
            True,
            "ambiguous",
            "together have probability 0.700, below 0.900; none of",
        ),
        ([0.3, 0.1, 0.0], True, "not in the library", "with probability 0.60"),
        ([0.95, 0.01, 0.0], False, "not recognised", NO_SIGNAL),
    ],
)
def test_the_rule_of_the_verdict(probability, signal, verdict, reason):
    prototypes = structures([1.0, 2.0], [1.5, 3.0], [2.5, 4.0])
    calibration = Calibration(some_posterior(), None, None, None, levels(0.9))
    [answer] = answers(
        made_match(probability), prototypes, np.array([14, 12, 225]), np.array([1, 1, 6]),
        ["Si", "Ge", "C"], calibration, signal=np.array([signal]),
    )  # fmt: skip
    assert answer.verdict == verdict
    assert answer.verdict in VERDICTS
    assert reason in answer.reason and bool(reason) == bool(answer.reason)
    assert answer.systems.sum() == pytest.approx(1.0)
    assert sum(share for _, share in answer.space_groups) == pytest.approx(1.0)
    assert answer.not_in_library == pytest.approx(1.0 - sum(probability))


def levels(blind):
    """The level of samples of unknown elements, whose refined pattern was not asked."""
    return np.array([[blind, 1.1], [1.2, 1.3]])


def told(*matches, level=0.9, absent=0.5, signal=None, groups=(14, 12, 225)):
    """The answers to scans of three structures, two monoclinic and one cubic."""
    prototypes = structures([1.0, 2.0], [1.5, 3.0], [2.5, 4.0])
    stacked = Match(*(np.concatenate(each) for each in zip(*matches, strict=True)))
    return answers(
        stacked, prototypes, list(groups), [1, 1, 6], ["Si", "Ge", "C"],
        Calibration(None, None, None, None, levels(level), absent), signal,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("probability", "verdict", "reason"),
    [
        (
            [0.5, 0.0, 0.4], "ambiguous",
            "cubic (0.40) is nearly as likely as monoclinic (0.50)",
        ),
        (
            [0.7, 0.0, 0.1], "ambiguous",
            "the library's monoclinic phases together have probability 0.700, below 0.900; none of "
            "the library's 0.20",
        ),
        (
            [0.3, 0.1, 0.0], "not in the library",
            "with probability 0.60 its phase is none of the library's",
        ),
        # Half as likely is not nearly as likely; one half is enough for none of the library's.
        (
            [0.5, 0.0, 0.25], "ambiguous",
            "the library's monoclinic phases together have probability 0.500, below 0.900; none of "
            "the library's 0.25",
        ),
        (
            [0.5, 0.0, 0.0], "not in the library",
            "with probability 0.50 its phase is none of the library's",
        ),
    ],
)  # fmt: skip
def test_reasons_in_full(probability, verdict, reason):
    [answer] = told(made_match(probability))
    assert (answer.verdict, answer.reason) == (verdict, reason)


def test_levels_are_reached_by_what_equals_them():
    half = made_match([0.5, 0.0, 0.0])
    assert told(half, level=0.5)[0].verdict == "confident"
    assert told(half, absent=0.5)[0].verdict == "not in the library"
    assert told(half, absent=0.51)[0].verdict == "ambiguous"
    assert told(made_match([0.2, 0.0, 0.0]), level=0.2)[0].verdict == "confident"  # goes first


def test_each_scan_has_its_own_answer():
    matches = [made_match([0.95, 0.0, 0.0]), made_match([0.0, 0.1, 0.8]), made_match([0.1, 0, 0])]
    first, second, third = told(*matches, signal=[True, True, False])
    assert [one.verdict for one in (first, second, third)] == [
        "confident", "ambiguous", "not recognised",
    ]  # fmt: skip
    assert [len(one.candidates) for one in (first, second, third)] == [1, 2, 1]
    np.testing.assert_allclose([one.not_in_library for one in (first, second)], [0.05, 0.1])
    # None's part goes by the vote, a twentieth of it evenly over the two systems and three groups.
    np.testing.assert_allclose(first.systems[[1, 6]], [0.95 + 0.05 * 0.975, 0.05 * 0.025])
    assert [number for number, _ in first.space_groups] == [14, 12, 225]
    blind = 0.05 * 0.05 / 3
    np.testing.assert_allclose(
        [share for _, share in first.space_groups], [0.95 + 0.05 * 0.95 + blind, blind, blind]
    )
    assert [number for number, _ in second.space_groups] == [225, 12, 14]
    assert [one.verdict for one in told(*matches)] == [
        "confident", "ambiguous", "not in the library",
    ]  # fmt: skip
    assert told(made_match([1.0, 0.0, 0.0]))[0].space_groups == ((14, 1.0),)  # none has nothing
    groups = (1, 230, 0)  # the first, the last, and none stated
    found = told(made_match([0.3, 0.3, 0.3]), groups=groups)[0]
    assert {number for number, _ in found.space_groups} == set(groups)


def test_other_formulas_of_the_same_space_group_are_other_candidates():
    prototypes = structures([1.0, 2.0], [1.5, 3.0])
    match = made_match([0.5, 0.3])
    found = merged(match, 0, prototypes, np.array([14, 14]), np.zeros(2, int), ["CuO", "Cu2O"])
    assert [one.members for one in found] == [(0,), (1,)]
    # Where every prototype is impossible there is no candidate.
    match = made_match([0.0, 0.0], vote=[0.5, 0.5])
    assert merged(match, 0, prototypes, np.array([14, 14]), np.zeros(2, int), ["CuO"] * 2) == ()


def test_forty_prototypes_are_merged_and_no_more():
    count = 42
    prototypes = structures(*([1.0 + 0.1 * i, 5.6 - 0.02 * i] for i in range(count)))
    match = made_match(np.arange(count, 0.0, -1.0) / 1000)
    groups, systems = np.arange(1, count + 1), np.zeros(count, int)
    found = merged(match, 0, prototypes, groups, systems, ["Si"] * count)
    assert [one.entry for one in found] == list(range(40))


def test_a_candidate_knows_its_place_and_what_supports_its_symmetry():
    lines = [1.5, 2.0, 2.7, 3.3, 4.1]
    prototypes = structures(lines, lines, lines)
    groups, systems = np.array([9, 15, 227]), np.array([1, 1, 6])
    match = made_match([0.5, 0.05, 0.0499], entry=[2, 0, 1])
    [found] = merged(match, 0, prototypes, groups, systems, ["CuO"] * 3)
    assert found == (2, (2, 0, 1), (2, 0, 1), 0, 227, 6, pytest.approx(0.5999))
    # A tenth as probable supports its symmetry, less does not.
    match = made_match([0.0, 0.5, 0.0625, 0.04], entry=[0, 0, 1, 2])
    [found] = merged(match, 0, prototypes, groups, systems, ["CuO"] * 3)
    assert (found.entry, found.place, found.space_group, found.system) == (0, 1, 15, 1)
    # Twins of other formulas are members, and no more.
    match = made_match([0.5, 0.3, 0.1])
    [found] = merged(match, 0, prototypes, groups, systems, ["CuO", "Cu2O", "Cu2O2"])
    assert (found.members, found.twins, found.space_group) == ((0, 1, 2), (0, 2), 227)


def test_each_kind_of_answer_is_held_against_its_level():
    prototypes = structures([1.0, 2.0], [1.5, 3.0], [2.5, 4.0])
    calibration = Calibration(None, None, None, None, np.array([[0.8, 0.6], [0.9, 0.7]]))
    found = made_match([0.75, 0.0, 0.0])
    for known, refined, verdict in (
        (False, False, "ambiguous"), (False, True, "confident"),
        (True, False, "ambiguous"), (True, True, "confident"),
    ):  # fmt: skip
        [answer] = answers(
            found, prototypes, np.array([14, 12, 225]), np.array([1, 1, 6]), ["Si", "Ge", "C"],
            calibration, known=np.array([known]), refined=refined,
        )  # fmt: skip
        assert answer.verdict == verdict
        level = calibration.levels[int(known), int(refined)]
        assert verdict == "confident" or f"below {level:.3f}" in answer.reason


# --- Formulas ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("Ca3Al2(SiO4)3", "Al2Ca3O12Si3"),
        ("Co4Cu2S8", "Co2Cu1S4"),
        ("Ca(OD)2", "Ca1H2O2"),
        ("Mg0.5Fe0.5O", "Fe1Mg1O2"),
        ("Al2 Ca3 Si2.001 O12", "Al2Ca3O12Si2"),
        ("Fe0.947O", "Fe19O20"),
        ("Fe4(Fe(CN)6)3", "C18Fe7N18"),
    ],
)
def test_formulas_are_reduced(formula, expected):
    assert reduced(formula) == expected


def test_elements_and_amounts_of_a_formula():
    assert elements("KAl(SO4)2(H2O)12") == {"K", "Al", "S", "O", "H"}
    assert dict(amounts("KAl(SO4)2(H2O)12"))["O"] == 20.0
