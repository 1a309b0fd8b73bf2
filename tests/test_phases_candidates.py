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
from imitation_refinement.phases.fitting import confident_level
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
    return Match(entry, logs, zeros, shift, zeros, zeros, zeros, zeros, logs, vote, none)


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
    told = answers(match, prototypes, groups, systems, formulas, Calibration(None, 0.6))[0]
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
    calibration = Calibration(some_posterior(), level=0.9)
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
    # Of 50 in each of two scopes none may: (1 - p)^50 = 0.05 at 5.8 %.
    assert confident_level(confidence, correct, absent, two) > 1.0
    assert confident_level(confidence, ~correct, absent, one) > 1.0


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
