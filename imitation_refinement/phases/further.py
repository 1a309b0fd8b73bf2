"""Further phases: what a scan may hold beside its first phase.

Belongs here: which scans are asked again, matching what the phases named before do not explain, and
which of the proposals are told. A further phase is proposed where the one before leaves

1. so much (MIXED) that it cannot be the only one; or
2. less, but still something (NOTICED), and a phase of the library explains that with a probability
   (LIKELY) that what one phase leaves hardly ever reaches by chance.
"""

from collections.abc import Callable, Sequence

import numpy as np
import scipy.signal

from imitation_refinement.phases.leftover import residual, shares
from imitation_refinement.phases.match import Match, match
from imitation_refinement.phases.named import Identified, Named
from imitation_refinement.phases.posterior import Posterior
from imitation_refinement.phases.prototypes import Prototypes
from imitation_refinement.phases.side_by_side import side_by_side
from imitation_refinement.xrd.grid import grid_q

MIXED = 0.2  # share of a scan that a phase leaves, from which on a further one is proposed
NOTICED = 0.08  # the same where the further one is likely
LIKELY = 0.2  # its probability then
FURTHER = 2  # phases that are proposed beside the first
LEFT = 0.02  # of the largest value, from which on a peak of what is left is told


def is_mixed(one: Identified) -> bool:
    """Returns whether the first phase of a scan leaves so much of it that it may hold another."""
    return bool(one.candidates) and one.candidates[0].left_over >= NOTICED


def with_further(
    told: Sequence[Identified],
    patterns: np.ndarray,
    masks: np.ndarray,
    prototypes: Prototypes,
    posterior: Posterior,
    allowed: np.ndarray | None,
    tell: Callable[[Match], list[Identified]],
) -> list[Identified]:
    """Returns what is told of some scans with their further phases.

    Args:
        told: of n scans that `is_mixed`.
        patterns: see `match.match`, as the next three.
        masks: bool `[n, L]`.
        prototypes: N of them.
        posterior: what turns evidence into probabilities.
        allowed: which prototypes may be, bool `[n, N]`; all without it.
        tell: puts a match into words.
    """
    free = np.ones((len(told), prototypes.size), bool)
    if allowed is not None:
        free &= allowed
    named = [[one.candidates[0]] for one in told]
    further: list[list[tuple[Named, ...]]] = [[] for _ in told]
    left = np.array(patterns, np.float32)

    def take_off(row: int) -> None:
        left[row] = residual(left[row], masks[row], prototypes, named[row][-1].moved)
        free[row, list(named[row][-1].candidate.members)] = False  # it is named already

    rows = list(range(len(told)))
    side_by_side(take_off, rows)
    for _ in range(FURTHER):
        rows = [row for row in rows if left[row].any()]
        if not rows:
            break
        rest = left[rows] / left[rows].max(axis=1, keepdims=True)
        found = tell(match(rest, masks[rows], prototypes, posterior, allowed=free[rows]))
        believed = []
        for row, one in zip(rows, found, strict=True):
            if one.candidates and _believed(named[row][-1], one.candidates[0]):
                named[row].append(one.candidates[0])
                further[row].append(one.candidates)
                believed.append(row)
        rows = believed
        side_by_side(take_off, rows)

    def told_with(row: int) -> Identified:
        if not further[row]:
            return told[row]
        moved = [one.moved for one in named[row]]
        share = shares(patterns[row], masks[row], prototypes, moved)
        answer = told[row].answer
        reason = "; ".join(filter(None, (_in_words(named[row]), answer.reason)))
        return told[row]._replace(
            answer=answer._replace(reason=reason),
            further=tuple(further[row]),
            shares=tuple(share.tolist()),
            left=_peaks(left[row], prototypes),
        )

    return side_by_side(told_with, range(len(told)))


def _believed(before: Named, further: Named) -> bool:
    """The rule at the head of this module."""
    return before.left_over >= MIXED or (
        before.left_over >= NOTICED and further.candidate.probability >= LIKELY
    )


def _in_words(named: Sequence[Named]) -> str:
    """That the first phase is not all of the scan, and what may be in the rest."""
    first, *others = named
    rest = " and ".join(f"{one.formula} ({one.candidate.probability:.2f})" for one in others)
    return (
        f"no one phase of the library explains it: {first.formula} leaves"
        f" {100.0 * first.left_over:.0f} %, in which {rest} may be"
    )


def _peaks(left: np.ndarray, prototypes: Prototypes) -> np.ndarray:
    """The q of the peaks of what is left of a pattern, strongest first, float64 `[p]`."""
    index, found = scipy.signal.find_peaks(left, height=LEFT, prominence=LEFT)
    strongest = np.argsort(-found["peak_heights"], kind="stable")
    return np.asarray(grid_q(prototypes.grid)[index[strongest]])
