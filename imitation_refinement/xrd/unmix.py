"""Unmixing a library into components, and naming the phase of each.

Belongs here: non-negative matrix factorisation with the generalised Kullback-Leibler divergence
(the cost of AgileFD with one shift; Le Bras et al., AAAI 2014; Xue et al., IAAI 2017) and the
matching of components to known phases. Nothing here knows where patterns come from.
"""

import warnings
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.decomposition import non_negative_factorization
from sklearn.exceptions import ConvergenceWarning

ITERATIONS = 120
MAX_LAG_SHARE = 0.0125  # of the pattern's length: 25 of 2000 points
MIN_MATCH = 0.35
_FLOOR = 1e-4  # multiplicative updates never leave an exact zero


class Unmixed(NamedTuple):
    """patterns [p, L] ~ weights [p, K] @ components [K, L], all not negative."""

    weights: np.ndarray
    components: np.ndarray


def farthest_points(patterns: np.ndarray, count: int) -> np.ndarray:
    """Returns indices of mutually unlike patterns, int [count].

    The first is the strongest; each following one is least like, by cosine similarity, those
    chosen before. Single-phase points are the extremes of a mixture, so they are what is found.
    """
    norms = np.linalg.norm(patterns, axis=1, keepdims=True)
    unit = patterns / np.maximum(norms, 1e-12)
    chosen = [int(np.argmax(norms))]
    likeness = unit @ unit[chosen[0]]
    for _ in range(count - 1):
        chosen.append(int(np.argmin(likeness)))
        likeness = np.maximum(likeness, unit @ unit[chosen[-1]])
    return np.array(chosen)


def unmix(patterns: np.ndarray, count: int, *, iterations: int = ITERATIONS) -> Unmixed:
    """Factorises patterns by multiplicative updates of the generalised KL divergence.

    Deterministic (for a fixed number of BLAS threads): it starts from the farthest points.

    Args:
        patterns: float32 [p, L], not negative.
        count: number of components K.
        iterations: of the updates.

    Raises:
        ValueError: a pattern has a negative value.
    """
    patterns = np.ascontiguousarray(patterns, np.float32)
    top = float(patterns.max(initial=0.0)) or 1.0
    start = patterns[farthest_points(patterns, count)] + np.float32(_FLOOR * top)
    weights = np.full((len(patterns), count), 1.0 / count, np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a fixed number of updates is meant
        weights, components, _ = non_negative_factorization(
            patterns,
            W=weights,
            H=start,
            n_components=count,
            init="custom",
            solver="mu",
            beta_loss="kullback-leibler",
            max_iter=iterations,
            tol=0.0,
        )
    return Unmixed(weights, components)


def lagged_correlation(first: np.ndarray, second: np.ndarray, max_lag: int) -> np.ndarray:
    """Returns the largest correlation over shifts of -max_lag..max_lag points, [n, m].

    Each pattern less its mean, over its norm; what a shift brings in is 0. In -1..1.

    Args:
        first: [n, L].
        second: [m, L].
        max_lag: points.
    """

    def standard(patterns: np.ndarray) -> np.ndarray:
        centered = patterns - patterns.mean(axis=1, keepdims=True)
        return centered / np.maximum(np.linalg.norm(centered, axis=1, keepdims=True), 1e-12)

    first, second = standard(first), standard(second)
    padded = np.pad(second, ((0, 0), (max_lag, max_lag)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, first.shape[1], axis=1)
    return np.max(windows @ first.T, axis=1).T  # windows [m, lags, L]


def match(
    components: np.ndarray, truths: np.ndarray, *, min_match: float = MIN_MATCH
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Assigns components to phases one to one (Hungarian method), and drops poor matches.

    Similarity is the correlation of the square roots, in which weak peaks count, at the best shift
    within 1.25 % of the length (25 of 2000 points).

    Args:
        components: [K, L], not negative.
        truths: [k, L], not negative.
        min_match: smallest similarity that is kept.

    Returns:
        (component, phase, similarity) of the kept pairs, by component.
    """
    max_lag = max(1, round(MAX_LAG_SHARE * components.shape[1]))
    similarity = lagged_correlation(np.sqrt(components), np.sqrt(truths), max_lag)
    component, phase = linear_sum_assignment(similarity, maximize=True)
    found = similarity[component, phase]
    kept = found >= min_match
    return component[kept], phase[kept], found[kept]
