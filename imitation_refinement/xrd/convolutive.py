"""Shift-tolerant unmixing of a library: convolutive non-negative matrix factorisation.

Belongs here: the factorisation of AgileFD (Xue et al., IAAI 2017; Suram et al., ACS Comb. Sci. 19,
37, 2017) in our own words. On an axis that is uniform in ln q a uniform change of the cell shifts a
whole pattern, so a phase whose cell changes over the library (alloying) stays one component, which
plain factorisation (`unmix`) must break into several:

    patterns[p, l] ~ sum_k sum_m activations[p, k, m] components[k, l - lags[m]]

What is minimised is the generalised KL divergence plus `penalty` times

    sum_k |components[k]|_2 sum_pm activations[p, k, m],

AgileFD's sparsity of activations of components of norm 1. Without it a component may be sharper
than the phase's peaks, with activations smeared over shifts in exchange (there is a case in
`tests/commands/test_unmix_count.py`). Unlike there, shifts go both ways, and the update of
components is exact, so that the sum never increases.

Arrays only: nothing here knows where patterns come from.
"""

from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from imitation_refinement.xrd.unmix import lagged_correlation

MAX_ITERATIONS = 300
PENALTY = 1.0  # for patterns of maximum 1
TOLERANCE = 1e-4  # relative fall of the objective per update below which it stops
MIN_SHARE = 0.1  # of a pattern, below which the place of a component says little
_TINY = 1e-12
_FLOOR = 1e-4  # of the maximum, in the start: multiplicative updates never leave an exact zero


class Convolutive(NamedTuple):
    """A factorisation into components that may shift.

    Attributes:
        activations: `[p, K, M]`, not negative: how much of component k, moved by lags[m].
        components: `[K, L]`, not negative, maximum 1.
        lags: int `[M]`, increasing, in grid points; positive is towards larger q (a smaller cell).
        objective: divergence and penalty after each update, float64 `[iterations]`.
    """

    activations: np.ndarray
    components: np.ndarray
    lags: np.ndarray
    objective: np.ndarray


def kl_divergence(patterns: np.ndarray, model: np.ndarray) -> float:
    """Generalised KL divergence sum [x ln(x / r) - x + r], with 0 ln 0 = 0."""
    ratio = np.log((patterns + _TINY) / (model + _TINY))
    return float(np.sum(patterns * ratio - patterns + model, dtype=np.float64))


def shifted_components(components: np.ndarray, lags: np.ndarray) -> np.ndarray:
    """Components `[K, L]` moved by each lag `[K, M, L]`; what comes in from beyond an end is 0."""
    count, length = components.shape
    stack = np.zeros((count, len(lags), length), components.dtype)
    for m, lag in enumerate(lags):
        start, stop = max(lag, 0), length + min(lag, 0)
        stack[:, m, start:stop] = components[:, start - lag : stop - lag]
    return stack


def _gathered(stack: np.ndarray, lags: np.ndarray) -> np.ndarray:
    """The transpose of `shifted_components`: `[K, M, L]` moved back and summed, `[K, L]`."""
    total = np.zeros((stack.shape[0], stack.shape[2]), stack.dtype)
    for m, lag in enumerate(lags):
        start, stop = max(lag, 0), stack.shape[2] + min(lag, 0)
        total[:, start - lag : stop - lag] += stack[:, m, start:stop]
    return total


def reconstruction(found: Convolutive) -> np.ndarray:
    """What a factorisation says the patterns are, `[p, L]`."""
    stack = shifted_components(found.components, found.lags)
    return np.einsum("pkm,kml->pl", found.activations, stack, optimize=True)


def unlike_patterns(patterns: np.ndarray, count: int, max_lag: int) -> np.ndarray:
    """Returns indices of mutually unlike patterns, int `[count]`, a shift being no difference.

    The first is the strongest; each following one is least like, by the correlation at the best
    shift, those chosen before. With max_lag = 0 nearly `unmix.farthest_points`.
    """
    chosen = [int(np.argmax(np.linalg.norm(patterns, axis=1)))]
    likeness = lagged_correlation(patterns, patterns[chosen], max_lag)[:, 0]
    for _ in range(count - 1):
        likeness[chosen] = np.inf
        chosen.append(int(np.argmin(likeness)))
        new = lagged_correlation(patterns, patterns[chosen[-1:]], max_lag)[:, 0]
        likeness = np.maximum(likeness, new)
    return np.array(chosen)


def unmix_convolutive(
    patterns: np.ndarray,
    count: int,
    max_lag: int,
    *,
    stride: int = 1,
    mask: np.ndarray | None = None,
    start: np.ndarray | None = None,
    max_iterations: int = MAX_ITERATIONS,
    tolerance: float = TOLERANCE,
    penalty: float = PENALTY,
) -> Convolutive:
    """Factorises patterns by multiplicative updates, first of activations, then of components.

    Each update minimises a bound of the objective that touches it (Lee and Seung's for the
    divergence, a parabola for the norm), so the objective over what was measured never increases.

    Args:
        patterns: float `[p, L]`, not negative; computed in its dtype.
        count: number of components K.
        max_lag: largest shift either way, in grid points; 0 is plain factorisation.
        stride: of the shifts, in points; 2 or 3 save time where peaks are wider than that.
        mask: bool `[p, L]`, true where measured; None: everywhere.
        start: components to start from, `[K, L]`; None: those of `unlike_patterns`.
        max_iterations: of the updates.
        tolerance: relative fall per update below which it stops.
        penalty: see the head of this module.

    Raises:
        ValueError: a negative pattern, or more components than patterns.
    """
    if patterns.min(initial=0.0) < 0.0:
        raise ValueError(f"a pattern has a negative value {patterns.min()}")
    if not 0 < count <= len(patterns):
        raise ValueError(f"{count} components of {len(patterns)} patterns")
    whole = mask is None or bool(mask.all())
    if mask is None or whole:
        mask = np.ones((1, patterns.shape[1]), bool)
    ones = mask.astype(patterns.dtype)
    patterns = patterns * ones
    lags = np.arange(-(max_lag // stride), max_lag // stride + 1) * stride
    if start is None:
        start = patterns[unlike_patterns(patterns, count, max_lag)]
    components = start / np.maximum(start.max(axis=1, keepdims=True), _TINY)
    components = (components + _FLOOR).astype(patterns.dtype)
    # Small shifts are likelier: otherwise components drift to the ends of the range.
    weight = np.exp(-2.0 * (lags / max(max_lag, 1)) ** 2)
    share = (weight / weight.sum() / count).astype(patterns.dtype)
    size = patterns.max(axis=1, keepdims=True) + _FLOOR
    amount = np.tile(share, (len(patterns), count)) * size  # [p, K M]
    stacked = (count, len(lags), -1)
    costs: list[float] = []
    # One thread: the same numbers on every machine, and small products are hardly slower.
    with threadpool_limits(1, "blas"):
        moved = shifted_components(components, lags).reshape(len(share) * count, -1)
        model = amount @ moved
        for _ in range(max_iterations):
            norm = np.linalg.norm(components, axis=1).astype(patterns.dtype)
            cost = ones @ moved.T + penalty * np.repeat(norm, len(lags)) + _TINY
            amount = amount * ((patterns / (model + _TINY)) @ moved.T) / cost
            ratio = patterns / (amount @ moved + _TINY)
            above = components * _gathered((amount.T @ ratio).reshape(stacked), lags)
            measured = amount.sum(axis=0)[:, None] * ones if whole else amount.T @ ones
            below = _gathered(measured.reshape(stacked), lags) + _TINY
            # The least point of the bound b c + curve c^2 / 2 - u log c is a quadratic's root.
            curve = penalty * amount.sum(axis=0).reshape(count, -1).sum(axis=1) / (norm + _TINY)
            curve = curve.astype(patterns.dtype)[:, None]
            components = 2.0 * above / (below + np.sqrt(below**2 + 4.0 * curve * above))
            moved = shifted_components(components, lags).reshape(len(share) * count, -1)
            model = amount @ moved
            size = amount.reshape(len(patterns), count, -1).sum(axis=(0, 2))
            spread = penalty * float(size @ np.linalg.norm(components, axis=1))
            costs.append(kl_divergence(patterns, model * ones) + spread)
            if len(costs) > 1 and costs[-2] - costs[-1] < tolerance * costs[-2]:
                break
    shape = (len(patterns), count, len(lags))
    top = np.maximum(components.max(axis=1), _TINY).astype(patterns.dtype)
    return Convolutive(
        amount.reshape(shape) * top[:, None],
        components / top[:, None],
        lags,
        np.array(costs),
    )


class Phases(NamedTuple):
    """A factorisation in the words of a library.

    Attributes:
        components: `[K, L]`, maximum 1, moved to the mean of the places that they have.
        shares: of the intensity of each pattern, `[p, K]`, rows sum to 1 (or are 0).
        shifts: where component k lies in pattern p, less its mean, in grid points, `[p, K]`; NaN
            where its share is below MIN_SHARE.
    """

    components: np.ndarray
    shares: np.ndarray
    shifts: np.ndarray


def phases(found: Convolutive) -> Phases:
    """Returns shares, shifts and centred components of a factorisation."""
    amount = found.activations.astype(np.float64)
    intensity = amount.sum(axis=2) * found.components.sum(axis=1, dtype=np.float64)
    shares = intensity / np.maximum(intensity.sum(axis=1, keepdims=True), _TINY)
    place = (amount @ found.lags) / np.maximum(amount.sum(axis=2), _TINY)
    mean = np.sum(place * intensity, axis=0) / np.maximum(intensity.sum(axis=0), _TINY)
    centred = [
        shifted_components(row[None], np.array([round(lag)]))[0, 0]
        for row, lag in zip(found.components, mean, strict=True)
    ]
    components = np.stack(centred)
    components /= np.maximum(components.max(axis=1, keepdims=True), _TINY)
    shifts = np.where(shares >= MIN_SHARE, place - np.round(mean), np.nan)
    return Phases(components, shares, shifts)
