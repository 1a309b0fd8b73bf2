"""Further phases: what is left of a made mixture, in which shares, and when a second is told."""

import numpy as np
import pytest
from made_phases import by_cosine
from test_phases_match import MEASURED_ALL, ideal, library

from imitation_refinement.model.acceptance import AMBIGUOUS
from imitation_refinement.phases.candidates import Answer, Candidate
from imitation_refinement.phases.further import LIKELY, MIXED, NOTICED, is_mixed, with_further
from imitation_refinement.phases.leftover import predicted, residual, shares
from imitation_refinement.phases.named import Identified, Moved, Named
from imitation_refinement.phases.prototypes import GRID
from imitation_refinement.xrd.grid import grid_q

AXIS = grid_q(GRID)


def told(entry, left_over=0.5, probability=0.9):
    """The words for a scan whose first and only candidate is an entry."""
    candidate = Candidate(entry, (entry,), (entry,), 0, 1, 0, probability)
    named = Named(
        candidate, f"X{entry}", "", 1, "P1", "triclinic", "made", str(entry), (), 0.9, 0.9, 0.0,
        left_over, 0.0, 0.0,
    )  # fmt: skip
    answer = Answer(AMBIGUOUS, "", np.full(7, 1 / 7), (), (candidate,), 0.0)
    return Identified(answer, (named,))


def first_of(found, left_over=0.5, probability=0.9):
    """Puts a match into words: its likeliest entry alone."""
    return [told(int(entry), left_over, probability) for entry in found.entry[:, 0]]


def mixture(prototypes, *weights):
    """The pattern of entries 11, 42, ... in these shares of the intensity."""
    entries = (11, 42, 7)[: len(weights)]
    parts = [ideal(prototypes, entry) for entry in entries]
    pattern = sum(w * part / part.sum() for w, part in zip(weights, parts, strict=True))
    return pattern / pattern.max()


def asked(prototypes, pattern, tell, first=11, **limits):
    posterior = by_cosine().posterior
    (one,) = with_further(
        [told(first, **limits)],
        pattern[None],
        MEASURED_ALL[None],
        prototypes,
        posterior,
        None,
        tell,
    )
    return one


def test_of_a_single_phase_nothing_is_left_even_where_lines_are_twice_as_strong():
    prototypes = library(4)
    pattern = ideal(prototypes, 2)
    assert residual(pattern, MEASURED_ALL, prototypes, Moved(2, 0.0, 0.0)).max() < 0.03
    own = slice(prototypes.offsets[2], prototypes.offsets[3])
    line = float(prototypes.q[own][np.argmax(prototypes.height[own])])
    textured = np.where(np.abs(AXIS - line) < 0.03, 2.0 * pattern, pattern)
    left = residual(textured, MEASURED_ALL, prototypes, Moved(2, 0.0, 0.0))
    assert left.max() < 0.03 * textured.max()


def test_peaks_are_drawn_where_the_cell_and_the_sample_have_them_and_as_high():
    prototypes = library(4)
    pattern = ideal(prototypes, 1, shift=0.01)
    fitted = predicted(pattern, MEASURED_ALL, prototypes, Moved(1, 0.01, 0.0))
    assert np.abs(fitted - pattern).max() < 0.25 * pattern.max()  # a root pattern is smoothed
    assert fitted.sum() == pytest.approx(pattern.sum(), rel=0.1)
    away = predicted(pattern, MEASURED_ALL, prototypes, Moved(1, 0.0, 0.0))
    assert away @ pattern < 0.5 * (fitted @ pattern)


def test_nothing_is_predicted_where_nothing_was_measured():
    prototypes = library(4)
    mask = AXIS < 3.0
    fitted = predicted(ideal(prototypes, 1) * mask, mask, prototypes, Moved(1, 0.0, 0.0))
    assert fitted[mask].max() > 0.0 and not fitted[~mask].any()


def test_shares_are_those_of_the_intensity():
    prototypes = library(60)
    pattern = mixture(prototypes, 0.6, 0.3, 0.1)
    moved = [Moved(entry, 0.0, 0.0) for entry in (11, 42, 7, 30)]
    found = shares(pattern, MEASURED_ALL, prototypes, moved)
    assert found.sum() == pytest.approx(1.0)
    np.testing.assert_allclose(found, [0.6, 0.3, 0.1, 0.0], atol=0.04)


def test_second_and_third_phase_of_a_mixture_are_found_in_what_is_left():
    prototypes = library(60)
    one = asked(prototypes, mixture(prototypes, 0.6, 0.3, 0.1), first_of)
    assert [phases[0].candidate.entry for phases in one.further] == [42, 7]
    np.testing.assert_allclose(one.shares, [0.6, 0.3, 0.1], atol=0.05)
    assert one.left is not None and one.left.size == 0
    assert one.answer.reason == (
        "no one phase of the library explains it: X11 leaves 50 %, in which X42 (0.90) and"
        " X7 (0.90) may be"
    )


def test_peaks_that_no_named_phase_explains_are_listed_strongest_first():
    prototypes = library(60)
    pattern = mixture(prototypes, 0.7, 0.3)
    strange = np.array([1.05, 5.2])
    free = [AXIS[np.argmax(np.where(np.abs(AXIS - q) < 0.1, -pattern, -9.0))] for q in strange]
    for q, height in zip(free, (0.1, 0.3), strict=True):
        pattern = pattern + height * np.exp(-0.5 * ((AXIS - q) / 0.008) ** 2)
    one = asked(prototypes, pattern / pattern.max(), lambda m: first_of(m, left_over=0.0))
    assert len(one.further) == 1  # the second leaves too little for a third
    np.testing.assert_allclose(one.left[:2], free[::-1], atol=0.01)


@pytest.mark.parametrize(
    ("left_over", "probability", "expected"),
    [
        (MIXED, 0.01, 1),
        (MIXED - 0.01, LIKELY, 1),
        (MIXED - 0.01, LIKELY - 0.01, 0),
        (NOTICED, LIKELY, 1),
    ],
)
def test_a_second_phase_is_told_where_much_is_left_or_it_is_likely(
    left_over, probability, expected
):
    prototypes = library(60)
    pattern = mixture(prototypes, 0.7, 0.3)
    one = asked(prototypes, pattern, lambda m: first_of(m, 0.0, probability), left_over=left_over)
    assert len(one.further) == expected
    assert len(one.shares) == (2 if expected else 0) and (one.left is None) == (not expected)
    assert bool(one.answer.reason) == bool(expected)


def test_a_scan_of_which_little_is_left_is_not_asked_again():
    assert is_mixed(told(1, left_over=NOTICED)) and not is_mixed(told(1, left_over=0.07))
    assert not is_mixed(told(1)._replace(candidates=()))


def test_what_may_not_be_and_what_is_named_already_is_not_proposed():
    prototypes = library(60)
    pattern = mixture(prototypes, 0.6, 0.4)
    allowed = np.ones((1, 60), bool)
    allowed[0, 42] = False
    (one,) = with_further(
        [told(11)], pattern[None], MEASURED_ALL[None], prototypes, by_cosine().posterior, allowed,
        first_of,
    )  # fmt: skip
    entries = [phases[0].candidate.entry for phases in one.further]
    assert len(set(entries)) == len(entries) == 2 and not {11, 42} & set(entries)
