"""From scores of structures to probabilities of crystal systems, with one temperature.

Belongs here: what the prototypical classifier by structure and the match alone have in common. Each
scores the few hundred structures that it takes for likeliest; a softmax over these, summed into
systems, is its answer.
"""

from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import softmax

from imitation_refinement.method.classifier import Distance
from imitation_refinement.phases.prototypes import Prototypes, log_axis, scan_roots
from imitation_refinement.phases.scores import (
    CHOSEN,
    PRIOR,
    PRIOR_WEIGHT,
    SHIFTS,
    coarse_choice,
    exact_cosines,
)
from imitation_refinement.xrd.crystals import CRYSTAL_SYSTEMS

TEMPERATURES = (1e-3, 1e3)
BLIND = 1e-3  # of the probability, spread over all systems: none is impossible
_SCANS = 16  # scored at once


class Scores(NamedTuple):
    """How likely each of C classes is, before a temperature, of n scans.

    Attributes:
        value: larger is likelier, float `[n, C]`.
        system: crystal system of each, int `[n, C]`.
    """

    value: np.ndarray
    system: np.ndarray


def nearest_structures(
    z: np.ndarray,
    prototypes: np.ndarray,
    system: np.ndarray,
    distance: Distance,
    left_out: np.ndarray | None = None,
    count: int = CHOSEN,
) -> Scores:
    """Returns -d of the nearest prototypes of each scan, the exponents of Eq. 2.

    Args:
        z: embeddings of scans, of norm 1, `[n, D]`.
        prototypes: of all structures, of norm 1, `[N, D]`.
        system: of each structure, int `[N]`.
        distance: d.
        left_out: one structure for each scan that is not in its library, -1 for none, int `[n]`.
        count: of structures, at most N.
    """
    values, systems = [], []
    for first in range(0, len(z), _SCANS):
        own = z[first : first + _SCANS]
        cosine = own @ prototypes.T
        if left_out is not None:
            gone = left_out[first : first + _SCANS]
            cosine[gone >= 0, gone[gone >= 0]] = -np.inf
        chosen = np.argpartition(-cosine, min(count, len(system)) - 1, axis=1)[:, :count]
        near = np.take_along_axis(cosine, chosen, axis=1)
        squared = np.maximum(2.0 - 2.0 * near, 0.0)  # of embeddings of norm 1
        apart = squared if distance.name == "sqeuclidean" else np.sqrt(squared)
        values.append(-(distance.scale or 1.0) * apart)
        systems.append(system[chosen])
    return Scores(np.concatenate(values), np.concatenate(systems))


def matched_structures(
    patterns: np.ndarray,
    masks: np.ndarray,
    prototypes: Prototypes,
    system: np.ndarray,
    left_out: np.ndarray | None = None,
) -> Scores:
    """Returns cosines of root patterns with what the coarse match chooses: nothing is learned.

    The best over shifts of ln q less the penalty of the prior on the cell's scale, as in
    `scores.best_of`.

    Args:
        patterns: of `on_grid`, `[n, L]`.
        masks: bool `[n, L]`.
        prototypes: N of them.
        system: of each, int `[N]`.
        left_out: see `nearest_structures`.
    """
    axis = log_axis(prototypes.grid)
    penalty = PRIOR_WEIGHT * PRIOR.log(
        (axis[1] - axis[0]) * np.asarray(SHIFTS)[None], np.arange(3)[:, None]
    )
    values, systems = [], []
    for first in range(0, len(patterns), _SCANS):
        part = slice(first, first + _SCANS)
        roots, measured = scan_roots(patterns[part], masks[part])
        allowed = None
        if left_out is not None:
            allowed = np.ones((len(roots), prototypes.size), bool)
            gone = left_out[part]
            allowed[gone >= 0, gone[gone >= 0]] = False
        chosen = coarse_choice(roots, measured, prototypes, allowed=allowed)
        for row, entries in enumerate(chosen):
            cosines = exact_cosines(roots[row], measured[row], prototypes.roots(entries))
            found = (cosines + penalty[prototypes.kind[entries]]).max(axis=1)
            if allowed is not None:
                found = np.where(allowed[row, entries], found, -np.inf)
            values.append(found)
            systems.append(system[entries])
    return Scores(np.stack(values), np.stack(systems))


def system_probabilities(scores: Scores, temperature: float) -> np.ndarray:
    """Returns the softmax of values over a temperature, summed into systems, float64 `[n, 7]`."""
    each = softmax(np.asarray(scores.value, np.float64) / temperature, axis=1)
    number = range(len(CRYSTAL_SYSTEMS))
    sums = np.stack([np.where(scores.system == k, each, 0.0).sum(axis=1) for k in number], axis=1)
    return (1.0 - BLIND) * sums + BLIND / len(CRYSTAL_SYSTEMS)


def fit_temperature(scores: Scores, system: np.ndarray) -> float:
    """Returns the temperature that makes the true systems likeliest, within `TEMPERATURES`.

    Args:
        scores: of scans that nothing was trained on.
        system: true ones, int `[n]`.
    """

    def misfit(log_temperature: float) -> float:
        found = system_probabilities(scores, float(np.exp(log_temperature)))
        return -float(np.log(found[np.arange(len(system)), system]).mean())

    found = minimize_scalar(misfit, bounds=tuple(np.log(TEMPERATURES)), options={"xatol": 1e-3})
    return float(np.exp(found.x))
