"""How close a candidate pattern is to the truth, and how sure we are of a mean.

Belongs here: per-example quality metrics in NumPy float64 and the bootstrap over groups. No JAX, no
files, no peaks (see peaks.py), no classifier outputs (see evaluation.py).

Every metric takes x, the candidate (raw or refined), and y, the truth, both [n, L], non-negative
and scaled to a maximum of 1 per pattern (`max_normalized`), and returns float64 [n]. Patterns are
dimensionless, so the metrics are too; sums over the L grid points grow with L (2000 by default).

The paper's Table 4 names l1, l2, KL and NCC without defining them. The *paper forms* below are an
inference from the magnitudes in that table (l2 squared, KL generalised and unnormalised, NCC a
plain dot product); the *clean forms* are the ones to judge by. Never compare a number with Table 4
without naming its formula.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, stdtrit  # scipy.stats takes a second to import

Array = NDArray[np.float64]
Estimate = dict[str, float | None]  # value, low, high: 95 % bootstrap over groups

PAPER_EPS = 1e-6  # of the generalised KL; 1e-3 instead would move its mean by 10-40 %
CLEAN_EPS = 1e-8  # of the sum-normalised KL
MIN_GROUPS = 5  # with fewer groups there is no interval worth printing
MAX_LAG = 25  # grid points; the shift that ncc forgives


def max_normalized(patterns: ArrayLike) -> Array:
    """Patterns [n, L] divided by their own maximum, float64 [n, L]; all-zero ones stay zero."""
    patterns = np.asarray(patterns, np.float64)
    top = patterns.max(axis=1, keepdims=True)
    return patterns / np.where(top > 0, top, 1.0)


def l1(x: ArrayLike, y: ArrayLike) -> Array:
    """Sum of absolute differences, sum |x - y|, [n] (paper, Table 4)."""
    x, y = _pair(x, y)
    return np.abs(x - y).sum(axis=1)


def l2(x: ArrayLike, y: ArrayLike) -> Array:
    """Sum of squared differences, sum (x - y)^2, [n] (paper form; at most l1 on [0, 1])."""
    x, y = _pair(x, y)
    return np.square(x - y).sum(axis=1)


def kl(x: ArrayLike, y: ArrayLike, eps: float = PAPER_EPS) -> Array:
    """Generalised KL divergence, sum [y ln((y + eps)/(x + eps)) - y + x], [n] (paper form).

    The form that AgileFD minimises. Raises ValueError on negative intensities.
    """
    x, y = _pair(x, y, non_negative=True)
    return (y * (np.log(y + eps) - np.log(x + eps)) - y + x).sum(axis=1)


def dot_product(x: ArrayLike, y: ArrayLike) -> Array:
    """Inner product sum x y, [n]: the paper's "NCC" (about 24 in Table 4, so not normalised).

    Not a quality score: it grows with width and intensity. For comparison with Table 4 only.
    """
    x, y = _pair(x, y)
    return np.einsum("nl,nl->n", x, y)


def euclidean(x: ArrayLike, y: ArrayLike) -> Array:
    """Euclidean distance sqrt(sum (x - y)^2), [n] (clean form of l2)."""
    return np.sqrt(l2(x, y))


def kl_normalized(x: ArrayLike, y: ArrayLike, eps: float = CLEAN_EPS) -> Array:
    """KL(y || x) of the patterns scaled to sum 1, sum y' ln(y'/x'), nats, [n] (clean form).

    x' = (x + eps) / sum (x + eps), y' likewise; >= 0, and 0 only where x' = y'. Swap the
    arguments for the other direction. Raises ValueError on negative intensities.
    """
    x, y = _pair(x, y, non_negative=True)
    x, y = x + eps, y + eps
    x /= x.sum(axis=1, keepdims=True)
    y /= y.sum(axis=1, keepdims=True)
    return (y * (np.log(y) - np.log(x))).sum(axis=1)


def kl_reverse(x: ArrayLike, y: ArrayLike, eps: float = CLEAN_EPS) -> Array:
    """KL(x || y) of the patterns scaled to sum 1, [n]: kl_normalized the other way round."""
    return kl_normalized(y, x, eps)


def ncc(x: ArrayLike, y: ArrayLike, max_lag: int = MAX_LAG) -> Array:
    """Normalised cross-correlation, best over |lag| <= max_lag, in [-1, 1], [n] (clean form).

    max_k sum_i a_i b_(i+k) / (|a| |b|), with a, b the mean-free patterns and zeros beyond the
    ends, so lag 0 is Pearson's correlation. Constant patterns have no shape: 0.
    """
    x, y = _pair(x, y)
    length = x.shape[1]
    if not 0 <= max_lag < length:
        raise ValueError(f"max_lag must lie in [0, {length}), got {max_lag}")
    shapeless = (np.ptp(x, axis=1) == 0) | (np.ptp(y, axis=1) == 0)
    a = x - x.mean(axis=1, keepdims=True)
    b = y - y.mean(axis=1, keepdims=True)
    best = np.full(len(x), -np.inf)
    for lag in range(max_lag + 1):
        stop = length - lag
        best = np.maximum(best, np.einsum("nl,nl->n", a[:, :stop], b[:, lag:]))
        best = np.maximum(best, np.einsum("nl,nl->n", a[:, lag:], b[:, :stop]))
    norm = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    result = np.where(shapeless, 0.0, best / np.where(shapeless, 1.0, norm))
    return np.clip(result, -1.0, 1.0)


def mean_change(x: ArrayLike, raw: ArrayLike) -> Array:
    """Mean absolute change per grid point, mean |x - raw|, [n]: 0 means the refiner did nothing."""
    x, raw = _pair(x, raw)
    return np.abs(x - raw).mean(axis=1)


class Metric(NamedTuple):
    """A metric with what a reader needs to judge it."""

    function: Callable[[ArrayLike, ArrayLike], Array]
    label: str
    formula: str
    better: str  # 'lower', 'higher', or '' where neither is better


METRICS: dict[str, Metric] = {
    "l1": Metric(l1, "ℓ1", "Σ|x−y|", "lower"),
    "l2": Metric(l2, "ℓ2 squared", "Σ(x−y)²", "lower"),
    "kl": Metric(kl, "KL generalised", "Σ[y ln((y+ε)/(x+ε)) − y + x], ε = 1e−6", "lower"),
    "dot_product": Metric(dot_product, "dot product (paper's NCC)", "Σxy", ""),
    "euclidean": Metric(euclidean, "ℓ2 norm", "√Σ(x−y)²", "lower"),
    "kl_normalized": Metric(
        kl_normalized, "KL(truth‖pattern), sum 1", "Σ y′ ln(y′/x′), ε = 1e−8", "lower"
    ),
    "kl_reverse": Metric(
        kl_reverse, "KL(pattern‖truth), sum 1", "Σ x′ ln(x′/y′), ε = 1e−8", "lower"
    ),
    "ncc": Metric(ncc, "NCC in [−1, 1]", "best Pearson correlation over |lag| ≤ 25", "higher"),
}


# ---- Bootstrap over groups ----


class GroupResamples(NamedTuple):
    """Bootstrap draws of whole groups, so that patterns of one library stay together."""

    times: Array  # [R, G]: how often each group is in each resample
    group: NDArray[np.intp]  # [n]: the group of each example


def resample_groups(groups: ArrayLike, *, seed: int = 0, resamples: int = 2000) -> GroupResamples:
    """Draw `resamples` bootstrap samples of the distinct values in groups [n]."""
    names, index = np.unique(np.asarray(groups), return_inverse=True)
    rng = np.random.default_rng(np.random.SeedSequence((seed, len(names))))
    probability = np.full(len(names), 1.0 / len(names))
    counts = rng.multinomial(len(names), probability, size=resamples)
    return GroupResamples(counts.astype(np.float64), index)


def resampled_mean(draws: GroupResamples, values: ArrayLike) -> Array:
    """Mean of values [n] over the examples of each resample, [R]."""
    return resampled_ratio(draws, values, np.ones(len(draws.group)))


def resampled_ratio(draws: GroupResamples, numerator: ArrayLike, denominator: ArrayLike) -> Array:
    """Sum of numerator [n] over sum of denominator [n] in each resample, [R]; 0/0 is NaN."""
    size = draws.times.shape[1]
    above = draws.times @ np.bincount(draws.group, np.asarray(numerator, np.float64), size)
    below = draws.times @ np.bincount(draws.group, np.asarray(denominator, np.float64), size)
    return np.divide(above, below, out=np.full_like(above, np.nan), where=below != 0)


def resampled_median(draws: GroupResamples, values: ArrayLike) -> Array:
    """Median of values [n] over the examples of each resample, [R] (lower and upper averaged)."""
    values = np.asarray(values, np.float64)
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    result = np.empty(len(draws.times))
    for start in range(0, len(result), 100):  # in blocks: [R, n] at once can be 100 MB
        heap = np.cumsum(draws.times[start : start + 100][:, draws.group[order]], axis=1)
        total = heap[:, -1:]
        lower = (heap < np.ceil(total / 2)).sum(axis=1)
        upper = (heap < np.floor(total / 2) + 1).sum(axis=1)
        result[start : start + 100] = (ordered[lower] + ordered[upper]) / 2
    return result


def percentile_interval(
    samples: ArrayLike, group_count: int, confidence: float = 0.95
) -> tuple[float, float]:
    """Bootstrap interval from samples [R], NaN ones left out, widened for few groups.

    Expanded percentiles (Hesterberg 2015, doi:10.1080/00031305.2015.1089789): the normal quantile
    is replaced by sqrt(G/(G-1)) times Student's, because a plain percentile interval over few
    groups is too narrow. Raises ValueError for fewer than 2 groups or no finite sample.
    """
    if group_count < 2:
        raise ValueError(f"an interval needs at least 2 groups, got {group_count}")
    finite = np.asarray(samples, np.float64)
    finite = finite[np.isfinite(finite)]
    if not finite.size:
        raise ValueError("no finite bootstrap sample: the statistic is undefined")
    quantile = stdtrit(group_count - 1, (1 + confidence) / 2)
    tail = ndtr(-quantile * np.sqrt(group_count / (group_count - 1)))
    low, high = np.quantile(finite, [tail, 1 - tail])
    return float(low), float(high)


def bootstrap_interval(
    values: ArrayLike,
    groups: ArrayLike,
    *,
    seed: int = 0,
    confidence: float = 0.95,
    resamples: int = 2000,
    statistic: Callable[[GroupResamples, ArrayLike], Array] = resampled_mean,
) -> tuple[float, float]:
    """Interval (low, high) of the mean of values [n] when whole groups [n] are drawn anew.

    groups are the libraries: patterns of one library share phases and flaws, so single patterns
    are not independent. It covers the choice of libraries, not the luck of a training seed.
    """
    draws = resample_groups(groups, seed=seed, resamples=resamples)
    return percentile_interval(statistic(draws, values), draws.times.shape[1], confidence)


def _pair(x: ArrayLike, y: ArrayLike, non_negative: bool = False) -> tuple[Array, Array]:
    """Both as float64 [n, L]; ValueError with expected and got otherwise."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if x.ndim != 2 or x.shape != y.shape:
        raise ValueError(f"expected two arrays of the same [n, L], got {x.shape} and {y.shape}")
    if non_negative and (x.min(initial=0.0) < 0 or y.min(initial=0.0) < 0):
        raise ValueError("expected non-negative intensities, got a negative one")
    return x, y


def mean_estimate(draws: GroupResamples, values: NDArray) -> Estimate:
    """Returns the mean of values `[n]`, one per example, with its interval."""
    return estimate(draws, float(np.mean(values)), resampled_mean(draws, values))


def ratio_estimate(
    draws: GroupResamples, above: NDArray, below: NDArray, offset: float = 0.0
) -> Estimate:
    """Returns sum(above) / sum(below) + offset of values `[n]`; None where below sums to 0."""
    total = float(np.sum(below))
    value = float(np.sum(above)) / total + offset if total != 0 else None
    return estimate(draws, value, resampled_ratio(draws, above, below) + offset)


def estimate(draws: GroupResamples, value: float | None, samples: NDArray) -> Estimate:
    """Returns a value with the interval of its resamples; none with fewer than MIN_GROUPS."""
    groups = draws.times.shape[1]
    if value is None or groups < MIN_GROUPS or not np.isfinite(samples).any():
        return {"value": value, "low": None, "high": None}
    low, high = percentile_interval(samples, groups)
    return {"value": value, "low": low, "high": high}
