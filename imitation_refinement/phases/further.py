"""Further phases: what a scan may hold beside its first phase.

Belongs here: which scans are asked again, and matching what the phases named before do not explain.
"""

from collections.abc import Callable, Sequence

import numpy as np

from imitation_refinement.phases.match import Match, match_residual
from imitation_refinement.phases.named import Identified, Named
from imitation_refinement.phases.posterior import Posterior
from imitation_refinement.phases.prototypes import Prototypes

MIXED = 0.2  # share of a scan that its first phase leaves, from which on a second is proposed
FURTHER = 2  # phases that are proposed beside the first


def is_mixed(one: Identified) -> bool:
    """Returns whether the first phase of a scan leaves so much of it that it may hold another."""
    return bool(one.candidates) and one.candidates[0].left_over >= MIXED


def further_phases(
    told: Sequence[Identified],
    patterns: np.ndarray,
    masks: np.ndarray,
    prototypes: Prototypes,
    posterior: Posterior,
    found: Match,
    allowed: np.ndarray | None,
    tell: Callable[[Match], list[Identified]],
) -> list[tuple[tuple[Named, ...], ...]]:
    """Returns `Identified.further` of some scans.

    Args:
        told: of n scans, each with a candidate.
        patterns: see `match.match_residual`, as the next four.
        masks: bool `[n, L]`.
        prototypes: N of them.
        posterior: see `match.match`.
        found: by which `told` was told.
        allowed: which prototypes may be, bool `[n, N]`; all without it.
        tell: puts a match of these scans into words.
    """
    left, free = patterns, np.ones((len(told), prototypes.size), bool)
    if allowed is not None:
        free &= allowed
    first = [one.candidates[0] for one in told]
    further: list[tuple[tuple[Named, ...], ...]] = [() for _ in told]
    for _ in range(FURTHER):
        for place, one in enumerate(first):
            free[place, list(one.candidate.members)] = False  # it is named already
        left, found = match_residual(left, masks, prototypes, posterior, found, allowed=free)
        for place, more in enumerate(tell(found)):
            if left[place].any() and more.candidates:
                first[place] = more.candidates[0]
                further[place] = (*further[place], more.candidates)
    return further
