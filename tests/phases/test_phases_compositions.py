"""Known elements: which entries may be, which are preferred, and whose neighbours vote."""

import numpy as np
import pytest
from made_phases import by_cosine

from imitation_refinement.phases.alike import Twins
from imitation_refinement.phases.compositions import (
    COMPLETE,
    Compositions,
    Elements,
    Known,
    match_known,
    preferred,
    preferring,
)
from imitation_refinement.phases.match import Match, match
from imitation_refinement.phases.prototypes import GRID, build_prototypes


class FakeLibrary:
    """What compositions are read from."""

    formula = ("TiO2", "FeO", "TiFeO3", "Ti")
    composition = ("", "", "TiFeMg0.1O3", "")

    def __len__(self):
        return len(self.formula)


def structures(*lists):
    q = [np.asarray(lines, np.float32) for lines in lists]
    return build_prototypes(
        np.concatenate(q), np.ones(sum(map(len, q))),
        np.concatenate([[0], np.cumsum([len(lines) for lines in q])]), np.zeros(len(q)), GRID,
    )  # fmt: skip


def scan_of(prototypes, entry):
    """A pattern whose root is the drawn prototype, and its mask."""
    pattern = np.repeat(prototypes.roots(np.array([entry]))[0].astype(np.float32) ** 2, 2)
    return pattern[None] / pattern.max(), np.ones((1, GRID.length), bool)


def test_what_elements_say_of_entries():
    have = Compositions(FakeLibrary())
    titanium, both = frozenset({"Ti", "O"}), frozenset({"Ti", "Fe", "O"})
    assert have.allowed(titanium).tolist() == [True, False, False, True]
    assert have.allowed(both | {"Mg"}, frozenset({"Fe"})).tolist() == [False, True, True, False]
    assert have.allowed(None, must_not=frozenset({"O"})).tolist() == [False, False, False, True]
    assert have.complete(titanium).tolist() == [True, False, True, False]
    assert have.complete(both | {"Mg"}).tolist() == [False, False, True, False]
    assert not have.complete(frozenset()).any()
    known = have.known([Elements(titanium, frozenset({"Fe"})), Elements(None, titanium)])
    assert known.allowed.tolist() == [[False, True, False, False], [True, False, True, False]]
    assert known.complete.tolist() == [[False, False, True, False], [False] * 4]
    assert known.of([1]).allowed.tolist() == [[True, False, True, False]]


def test_preferred_odds_by_hand():
    # 0.2, 0.3 and none 0.5; the second twice as likely: 0.2, 0.6, 0.5 over 1.3.
    logs, none = preferred(np.log([[0.2, 0.3]]), np.array([0.5]), np.log([[1.0, 2.0]]))
    np.testing.assert_allclose(np.exp(logs), [[0.2 / 1.3, 0.6 / 1.3]])
    np.testing.assert_allclose(none, [0.5 / 1.3])
    # Where nothing may be it stays none.
    logs, none = preferred(np.full((1, 2), -np.inf), np.ones(1), np.ones((1, 2)))
    assert np.isneginf(logs).all() and none == pytest.approx([1.0])


def test_a_complete_prototype_overtakes_and_takes_its_figures_along():
    logs = np.log([[0.5, 0.3]])
    rest = np.array([[7.0, 9.0]])
    found = Match(np.array([[4, 2]]), logs, *(rest,) * 7, logs, rest, np.array([0.2]))
    complete = np.arange(5)[None] == 2
    after = preferring(found, complete)
    assert after.entry.tolist() == [[2, 4]] and after.shift.tolist() == [[9.0, 7.0]]
    total = 0.5 + 0.3 * np.exp(COMPLETE) + 0.2
    shares = np.array([0.3 * np.exp(COMPLETE), 0.5, 0.2]) / total
    np.testing.assert_allclose(np.exp(after.log_probability[0]), shares[:2])
    np.testing.assert_allclose(after.not_in_library, shares[2:])
    np.testing.assert_allclose(np.diff(after.score), np.log(shares[1] / shares[0]))


def test_neighbours_of_other_elements_vote_and_are_no_candidates():
    lines = np.array([1.5, 2.0, 2.7, 3.3, 4.1])
    prototypes = structures(lines, [1.2, 2.2, 3.9], [1.0, 4.5], [1.7, 2.9])
    pattern, mask = scan_of(prototypes, 0)
    posterior = by_cosine(none=0.0).posterior
    allowed = np.array([[False, True, True, False]])
    known = Known(allowed, np.zeros((1, 4), bool))
    [found] = match_known([pattern], mask, prototypes, posterior, known=known)
    limited = match(pattern, mask, prototypes, posterior, allowed=allowed)
    probability = np.bincount(found.entry[0], np.exp(found.log_probability[0]), 4)
    assert probability[[0, 3]].tolist() == [0.0, 0.0] and (probability[[1, 2]] > 0.0).all()
    np.testing.assert_allclose(found.not_in_library, limited.not_in_library)
    vote = np.bincount(found.entry[0], found.vote[0], 4)
    assert vote.sum() == pytest.approx(1.0) and vote[0] > 0.45  # half of a vote that is all for it
    logs = found.log_probability[0]
    assert (logs[:-1] >= logs[1:]).all()  # likeliest first


def test_twins_have_the_same_heavier_elements_and_lines_at_some_scale():
    lines = np.array([1.5, 2.0, 2.7, 3.3, 4.1])
    prototypes = structures(lines, lines * 1.01, lines, [1.2, 2.2, 3.9], lines * 1.1)
    twins = Twins(["BeSiO3", "BeSiH2O4", "MgSiO3", "BeSiO3", "BeSiO3"], prototypes)
    # 2 has another element, 3 other lines, 4 a cell that is too small.
    assert sorted(twins.of(0)) == [0, 1] and sorted(twins.of(1)) == [0, 1]
    assert [twins.of(entry).tolist() for entry in (2, 3, 4)] == [[2], [3], [4]]
