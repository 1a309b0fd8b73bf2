"""How many components a library has, and where to start looking for them.

Belongs here: factorisations of falling size on a coarse axis and the choice among them. Too many
components are found first and the least needed one is taken away again and again: what is left
depends far less on the start than a factorisation that begins with few. Arrays only.
"""

from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from imitation_refinement.xrd.convolutive import (
    Convolutive,
    kl_divergence,
    reconstruction,
    shifted_components,
    unmix_convolutive,
)

POOL = 4  # grid points that are averaged for the search
HELD_OUT = 0.1  # share of the blocks of a pattern that no fit sees
BLOCK = 10  # pooled points; neighbours are alike, so single points would tell nothing
EXTRA = 3  # components that are found beyond those asked for and taken away again
_REFITS = 8  # updates of the activations after which the loss of a component is judged
_ITERATIONS = 100  # updates after each removal
_EPS = 1e-4  # of the maximum: nothing is known of intensities below it
_NEGLIGIBLE = 0.02  # share of the gain that is not worth a component
_TINY = 1e-12


class Search(NamedTuple):
    """Factorisations of several sizes.

    Attributes:
        components: by their number K, `[K, L]`, on the axis of the patterns that came in.
        held_out: by K, mean divergence over the points of each pattern that no fit saw, `[p]`;
            empty if nothing was held out.
    """

    components: dict[int, np.ndarray]
    held_out: dict[int, np.ndarray]


def search(
    patterns: np.ndarray,
    mask: np.ndarray,
    most: int,
    fewest: int,
    max_lag: int,
    *,
    hold_out: bool,
    seed: int = 0,
) -> Search:
    """Factorises patterns into `most` components and takes away one after the other.

    Args:
        patterns: float `[p, L]`, maximum about 1.
        mask: bool `[p, L]`, true where measured.
        most: number of components to begin with, at most p.
        fewest: number to end with.
        max_lag: largest shift, in grid points.
        hold_out: keep a tenth of the blocks out of the fits and measure the divergence on them.
        seed: of the choice of blocks.
    """
    coarse, measured = pooled(patterns), pooled(mask.astype(patterns.dtype)) > 0.5
    seen = measured & fitted_blocks(coarse.shape, seed) if hold_out else measured
    lag = round(max_lag / POOL)
    found = unmix_convolutive(coarse, most, lag, mask=seen)
    components, held_out = {}, {}
    for count in range(most, fewest - 1, -1):
        if count < most:
            left = np.delete(found.components, least_needed(coarse, seen, found), axis=0)
            found = unmix_convolutive(
                coarse, count, lag, mask=seen, start=left, max_iterations=_ITERATIONS
            )
        components[count] = np.repeat(found.components, POOL, axis=1)[:, : patterns.shape[1]]
        if hold_out:
            held_out[count] = divergence_over(coarse, reconstruction(found), measured & ~seen)
    return Search(components, held_out)


def chosen_count(held_out: dict[int, np.ndarray]) -> int:
    """Returns the smallest number that predicts what no fit saw about as well as the best.

    About as well: the mean divergence is within one standard error (over patterns) of the best one,
    the usual rule (Hastie, Tibshirani, Friedman: Elements of Statistical Learning, 7.10), or the
    number gains all but 2 % of what the best gains over the smallest number tried.
    """
    mean = {count: float(values.mean()) for count, values in held_out.items()}
    best = min(mean, key=lambda count: mean[count])
    error = float(held_out[best].std(ddof=1) / np.sqrt(len(held_out[best])))
    slack = max(error, _NEGLIGIBLE * (mean[min(mean)] - mean[best]))
    return min(count for count, value in mean.items() if value <= mean[best] + slack)


def pooled(patterns: np.ndarray) -> np.ndarray:
    """Means over POOL neighbouring points `[p, ceil(L / POOL)]`; the last may be of fewer."""
    starts = np.arange(0, patterns.shape[1], POOL)
    size = np.diff(np.append(starts, patterns.shape[1])).astype(patterns.dtype)
    return np.add.reduceat(patterns, starts, axis=1) / size


def fitted_blocks(shape: tuple[int, int], seed: int) -> np.ndarray:
    """Returns which points are fitted, bool `[p, L]`: all but a tenth of the blocks."""
    count, length = shape
    rng = np.random.default_rng(np.random.SeedSequence((seed, count, length)))
    blocks = rng.random((count, -(-length // BLOCK))) >= HELD_OUT
    return np.repeat(blocks, BLOCK, axis=1)[:, :length]


def divergence_over(patterns: np.ndarray, model: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Mean generalised KL divergence of each pattern over some of its points, `[p]`."""
    terms = patterns * np.log((patterns + _EPS) / (model + _EPS)) - patterns + model
    return (terms * where).sum(axis=1) / np.maximum(where.sum(axis=1), 1)


def least_needed(patterns: np.ndarray, mask: np.ndarray, found: Convolutive) -> int:
    """Returns the component without which the others describe the patterns best.

    The others stay as they are; how much of each there is, is fitted anew.
    """
    ones = mask.astype(patterns.dtype)
    costs = []
    with threadpool_limits(1, "blas"):  # as in unmix_convolutive
        for index in range(len(found.components)):
            left = np.delete(found.components, index, axis=0)
            moved = shifted_components(left, found.lags).reshape(-1, patterns.shape[1])
            amount = np.delete(found.activations, index, axis=1).reshape(len(patterns), -1)
            amount = amount + np.asarray(_EPS, patterns.dtype)
            for _ in range(_REFITS):
                ratio = patterns * ones / (amount @ moved + _TINY)
                amount = amount * (ratio @ moved.T) / (ones @ moved.T + _TINY)
            costs.append(kl_divergence(patterns * ones, (amount @ moved) * ones))
    return int(np.argmin(costs))
