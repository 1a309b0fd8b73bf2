"""Candidates: what a scan may be, in words of crystallography, and how far that can be believed.

Belongs here: sums of the probabilities of prototypes over phases, space groups and crystal
systems, merging of twins that no powder pattern tells apart, and the verdict. A scan is, in this
order,

1. `not recognised` if its pattern has nothing in it;
2. `confident` if the prototypes of one crystal system together are at least as probable as the
   level that was fitted to simulated scans;
3. `not in the library` if that is more probable than not;
4. `ambiguous` otherwise.
"""

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np

from imitation_refinement.model.acceptance import AMBIGUOUS, CONFIDENT, NO_SIGNAL, NOT_RECOGNISED
from imitation_refinement.phases.formulas import heavier_elements, reduced
from imitation_refinement.phases.match import Match
from imitation_refinement.phases.posterior import BLIND, Posterior
from imitation_refinement.phases.prototypes import Prototypes, draw_shifted
from imitation_refinement.phases.side_by_side import side_by_side
from imitation_refinement.phases.stacking import Trees
from imitation_refinement.xrd.crystals import CRYSTAL_SYSTEMS

NOT_IN_LIBRARY = "not in the library"
VERDICTS = (CONFIDENT, AMBIGUOUS, NOT_IN_LIBRARY, NOT_RECOGNISED)
TWIN = 0.97  # cosine of root patterns from which on two structures of the same elements are one
MERGED = 40  # likeliest prototypes that candidates are made of
SUPPORTED = 0.1  # of the likeliest twin's probability, from which on another's symmetry counts
_GROUPS = 231  # space group numbers and 0


class Calibration(NamedTuple):
    """What turns evidence into probabilities and these into verdicts.

    Attributes:
        posterior: see there; where nothing is known of the elements of a sample.
        known: the same where something is.
        stack: see `stacking`; where nothing is known of the elements.
        known_stack: the same where something is.
        levels: probability of a crystal system's prototypes from which on an answer is confident,
            `[2, 2]`: whether the elements of the sample are known, and whether the refined pattern
            was asked too.
        absent: probability from which on the phase is said not to be in the library.
    """

    posterior: Posterior
    known: Posterior
    stack: Trees
    known_stack: Trees
    levels: np.ndarray
    absent: float = 0.5


class Candidate(NamedTuple):
    """One phase that a scan may be; several structures where no powder pattern tells them apart.

    Attributes:
        entry: the likeliest of its structures.
        members: all of them, likeliest first.
        twins: those of the same formula that no powder pattern tells from `entry`, itself first.
        place: of `entry` in the match, for shift, cosine and the rest.
        space_group, system: the highest symmetry that the data support: that of the twin with the
            largest space group number that is at least a tenth as probable as `entry`. What has
            less symmetry has lines that were not seen. `system` is an index into CRYSTAL_SYSTEMS.
        probability: of all members together.
    """

    entry: int
    members: tuple[int, ...]
    twins: tuple[int, ...]
    place: int
    space_group: int
    system: int
    probability: float


class Answer(NamedTuple):
    """What is said of one scan.

    Attributes:
        verdict: one of VERDICTS.
        reason: of any verdict but `confident`, in words.
        systems: probability of each crystal system, float64 `[7]`.
        space_groups: (number, probability), likeliest first.
        candidates: likeliest first.
        not_in_library: probability that the phase is none of the library's.
    """

    verdict: str
    reason: str
    systems: np.ndarray
    space_groups: tuple[tuple[int, float], ...]
    candidates: tuple[Candidate, ...]
    not_in_library: float


def answers(
    match: Match,
    prototypes: Prototypes,
    space_group: np.ndarray,
    system: np.ndarray,
    formula: Sequence[str],
    calibration: Calibration,
    signal: np.ndarray | None = None,
    known: np.ndarray | None = None,
    refined: bool = False,
) -> list[Answer]:
    """Returns what is said of each of n scans.

    Args:
        match: of these scans with these prototypes and this calibration's posterior.
        prototypes: N of them.
        space_group: number of each, int `[N]`.
        system: index into CRYSTAL_SYSTEMS of each, int `[N]`.
        formula: of each, N.
        calibration: see there.
        signal: whether a scan has peaks, bool `[n]`; all have without it.
        known: whether the elements of a sample are known, bool `[n]`; of none without it.
        refined: whether the match is `together` with that of refined patterns.
    """
    with_elements = np.zeros(len(match.entry), bool) if known is None else np.asarray(known, bool)
    level = np.asarray(calibration.levels)[with_elements.astype(int), int(refined)]
    present = np.ones(len(match.entry), bool) if signal is None else np.asarray(signal, bool)
    system, space_group = np.asarray(system), np.asarray(space_group)
    of_each = side_by_side(
        lambda row: merged(match, row, prototypes, space_group, system, formula),
        range(len(match.entry)),
    )
    group_of, system_of = space_group[match.entry], system[match.entry]
    for row, candidates in enumerate(of_each):
        places: dict[int, list[int]] = {}
        for place, entry in enumerate(match.entry[row].tolist()):
            places.setdefault(entry, []).append(place)
        for candidate in candidates:
            twins_of = [place for entry in candidate.twins for place in places[entry]]
            group_of[row, twins_of] = candidate.space_group
            system_of[row, twins_of] = candidate.system
    systems = class_probabilities(match, system_of, system, len(CRYSTAL_SYSTEMS))
    groups = class_probabilities(match, group_of, space_group, _GROUPS)
    inside = inside_probabilities(match, system_of, len(CRYSTAL_SYSTEMS))
    found = []
    for row, candidates in enumerate(of_each):
        verdict, reason = _verdict(
            bool(present[row]), inside[row], float(match.not_in_library[row]), float(level[row]),
            calibration.absent,
        )  # fmt: skip
        ranking = np.argsort(-groups[row], kind="stable")
        ranking = ranking[groups[row, ranking] > 0.0]
        ranked = zip(ranking.tolist(), groups[row, ranking].tolist(), strict=True)
        found.append(
            Answer(
                verdict,
                reason,
                systems[row],
                tuple(ranked),
                candidates,
                float(match.not_in_library[row]),
            )
        )
    return found


def inside_probabilities(match: Match, labels: np.ndarray, classes: int) -> np.ndarray:
    """Returns the probability of each class's prototypes together, float64 `[n, classes]`.

    Rows sum to 1 less the probability that the phase is not in the library.

    Args:
        match: of n scans.
        labels: class of each of their prototypes, int `[n, k]`.
        classes: how many there are.
    """
    return _sums(np.exp(match.log_probability), labels, classes)


def class_probabilities(
    match: Match, labels: np.ndarray, every: np.ndarray, classes: int
) -> np.ndarray:
    """Returns the probability of each class, float64 `[n, classes]`, rows sum to 1.

    Where the phase is not in the library, its neighbours there vote; a small share of that is
    spread over all classes that the prototypes have.

    Args:
        match: see `inside_probabilities`, as the others.
        labels: int `[n, k]`.
        every: class of each prototype of the library, int `[N]`.
        classes: how many there are.
    """
    vote = _sums(match.vote, labels, classes)
    any_of = np.zeros(classes)
    any_of[np.unique(every)] = 1.0
    vote = (1.0 - BLIND) * vote + BLIND * any_of / any_of.sum()
    inside = inside_probabilities(match, labels, classes)
    return inside + match.not_in_library[:, None] * vote


def _sums(weights: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    rows = np.arange(len(weights))[:, None]
    flat = np.bincount((rows * classes + labels).ravel(), weights.ravel(), len(weights) * classes)
    return flat.reshape(len(weights), classes)


def merged(
    match: Match,
    row: int,
    prototypes: Prototypes,
    space_group: np.ndarray,
    system: np.ndarray,
    formula: Sequence[str],
) -> tuple[Candidate, ...]:
    """Returns the candidates of one scan, likeliest first.

    One candidate are structures of the same reduced formula and space group, and twins: structures
    of the same elements, hydrogen aside, whose root patterns, each at its own shift, have a cosine
    of 0.97 or more with the likeliest of them. Prototypes that may not be are no candidates.

    Args:
        match: of the scans.
        row: which scan.
        prototypes: N of them.
        space_group: int `[N]`.
        system: int `[N]`.
        formula: N.
    """
    probability = np.exp(match.log_probability[row])
    kept = np.flatnonzero(probability > 0.0)[:MERGED]  # likeliest first
    if not kept.size:
        return ()
    entry, shift, probability = match.entry[row, kept], match.shift[row, kept], probability[kept]
    same_name = _equal([reduced(str(formula[i])) for i in entry])
    same_elements = _equal([heavier_elements(str(formula[i])) for i in entry])
    # An entry of both looks is one; most others share their elements with none.
    near = np.flatnonzero((same_elements & (entry != entry[:, None])).any(axis=1))
    alike = np.eye(len(kept), dtype=bool)
    alike[np.ix_(near, near)] |= twins(prototypes, entry[near], shift[near]) >= TWIN
    group = space_group[entry]
    joined = (same_name & (group == group[:, None]) | same_elements & alike).tolist()
    twin = (same_name & alike).tolist()
    entries, groups, likely = entry.tolist(), group.tolist(), probability.tolist()
    left, found = list(range(len(kept))), []
    while left:
        first = left[0]
        own = [place for place in left if place == first or joined[first][place]]
        left = [place for place in left if place not in own]
        same = [place for place in own if twin[first][place]]
        supported = [p for p in same if likely[p] >= SUPPORTED * likely[first]]
        highest = max([first, *supported], key=lambda place: groups[place])
        found.append(
            Candidate(
                entries[first],
                tuple(entries[place] for place in own),
                tuple(entries[place] for place in dict.fromkeys([first, *same])),
                int(kept[first]),
                groups[highest],
                int(system[entries[highest]]),
                float(probability[own].sum()),
            )
        )
    return tuple(sorted(found, key=lambda candidate: -candidate.probability))


def _equal(values: Sequence[Hashable]) -> np.ndarray:
    """Which of k values are equal, bool `[k, k]`."""
    numbers: dict[Hashable, int] = {}
    number = np.array([numbers.setdefault(value, len(numbers)) for value in values], int)
    return number == number[:, None]


def twins(prototypes: Prototypes, entry: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Returns the cosines of the root patterns of some prototypes, float32 `[k, k]`.

    Args:
        prototypes: N of them.
        entry: which, int `[k]`.
        shift: of the lines of each in ln q, `[k]`.
    """
    roots = draw_shifted(prototypes, entry, shift)
    return roots @ roots.T


def _verdict(
    present: bool, inside: np.ndarray, absent: float, level: float, absent_level: float
) -> tuple[str, str]:
    """The rule at the head of this module."""
    if not present:
        return NOT_RECOGNISED, NO_SIGNAL
    first, second = np.argsort(-inside, kind="stable")[:2]
    if inside[first] >= level:
        return CONFIDENT, ""
    if absent >= absent_level:
        return NOT_IN_LIBRARY, f"with probability {absent:.2f} its phase is none of the library's"
    if inside[second] > 0.5 * inside[first]:
        return AMBIGUOUS, (
            f"{CRYSTAL_SYSTEMS[second]} ({inside[second]:.2f}) is nearly as likely as"
            f" {CRYSTAL_SYSTEMS[first]} ({inside[first]:.2f})"
        )
    return AMBIGUOUS, (
        f"the library's {CRYSTAL_SYSTEMS[first]} phases together have probability"
        f" {inside[first]:.3f}, below {level:.3f}; none of the library's {absent:.2f}"
    )
