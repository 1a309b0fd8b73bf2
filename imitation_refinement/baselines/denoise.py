"""The field's usual cleaners: wavelet shrinkage, smoothed PCA, Savitzky-Golay smoothing.

Belongs here: denoising of patterns, and choosing its settings inside the training folds. Pure NumPy
functions, no files, no networks; a classifier comes as a function. A denoised row depends on this
row and the training patterns alone, never on other test rows.
"""

from collections.abc import Callable
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import pywt
import scipy.signal
from numpy.typing import ArrayLike, NDArray
from sklearn.decomposition import PCA
from threadpoolctl import threadpool_limits

from imitation_refinement.evaluation.metrics import max_normalized

Array = NDArray[np.float64]
Settings = dict[str, Any]
Denoiser = Callable[[NDArray], NDArray[np.float32]]

KINDS = ("dwt", "smoothed_pca", "savitzky_golay")
RULES = ("hard", "garrote", "soft")
THRESHOLDS = ("universal", "level", "sure")
MEDIAN, QUARTER = 0.674490, 0.318639  # quantiles 1/2 and 1/4 of |N(0, 1)|
INNER_FOLDS = 5
MOST_COMPONENTS = 300
DUST = 1e-9  # what rounding leaves of nothing; patterns have a maximum of 1


def candidates(kind: str) -> list[Settings]:
    """Returns the settings that are tried; none of them leaves every pattern as it is.

    Raises:
        ValueError: kind is none of KINDS.
    """
    if kind == "dwt":
        shrinkage = [(rule, "universal") for rule in RULES] + [("soft", "level"), ("soft", "sure")]
        return [
            {"wavelet": wavelet, "level": level, "rule": rule, "threshold": threshold}
            for wavelet, level, (rule, threshold) in product(("db4", "sym8"), (2, 5), shrinkage)
        ]
    if kind == "smoothed_pca":
        return [
            {"components": components, "window": window, "order": 2}
            for components, window in product((MOST_COMPONENTS, 100, 30), (5, 15))
        ]
    if kind == "savitzky_golay":
        return [
            {"window": window, "order": order}
            for window, order in product((5, 9, 15, 25), (2, 4))
            if window > order + 1  # else the polynomial goes through every point
        ]
    raise ValueError(f"kind {kind!r}: expected one of {', '.join(KINDS)}")


def fit(kind: str, settings: Settings, training: NDArray) -> Denoiser:
    """Returns a denoiser of patterns, `[n, L]` to float32 `[n, L]`.

    What it returns is non-negative with a maximum of 1; rows of which nothing is left are zero.

    Args:
        kind: one of KINDS.
        settings: the keyword arguments of `wavelet_shrinkage`, `smoothed_basis` or `smooth`.
        training: float `[m, L]`; only smoothed PCA looks at them.

    Raises:
        ValueError: kind is none of KINDS, or there are fewer than two patterns for PCA.
    """
    return fitter(kind, training)(settings)


def fitter(kind: str, training: NDArray) -> Callable[[Settings], Denoiser]:
    """Returns `fit` for this kind and these patterns, with what all settings share done once."""
    if kind == "smoothed_pca":
        components = principal_components(training)

        def project(settings: Settings) -> Denoiser:
            mean, basis = smoothed_basis(components, **settings)
            return lambda patterns: _finished(mean + ((patterns - mean) @ basis.T) @ basis)

        return project
    if kind not in KINDS:
        raise ValueError(f"kind {kind!r}: expected one of {', '.join(KINDS)}")
    function = wavelet_shrinkage if kind == "dwt" else smooth
    return lambda settings: lambda patterns: _finished(function(patterns, **settings))


class Choice(NamedTuple):
    """Settings chosen on training folds.

    Attributes:
        settings: of the best candidate.
        accuracy: its accuracy on the patterns that it was not fitted to.
        table: for each candidate its settings, accuracy and mean absolute `change` of a point.
    """

    settings: Settings
    accuracy: float
    table: list[dict[str, Any]]


def choose(
    kind: str,
    patterns: NDArray,
    labels: NDArray,
    groups: NDArray,
    logits: Callable[[NDArray], ArrayLike],
    seed: int,
) -> Choice:
    """Chooses settings by the accuracy of a fixed classifier, cross-validated over groups.

    Of equally accurate candidates the one that changes patterns least is chosen.

    Args:
        kind: one of KINDS.
        patterns: float32 `[m, L]` of the training folds.
        labels: int `[m]`; patterns of unknown class (-1) are fitted to, and not scored.
        groups: `[m]`, which no inner fold splits.
        logits: of the classifier, `[n, L]` to `[n, K]`.
        seed: of the inner folds.

    Raises:
        ValueError: fewer than two groups, or no label.
    """
    names, member = np.unique(groups, return_inverse=True)
    scored = np.asarray(labels) >= 0
    if len(names) < 2 or not scored.any():
        raise ValueError(
            f"expected labelled patterns of two groups or more, got {len(names)} groups and "
            f"{scored.sum()} labels"
        )
    rng = np.random.default_rng(np.random.SeedSequence((seed, len(names))))
    fold = (rng.permutation(len(names)) % INNER_FOLDS)[member]
    tests = [fold == number for number in np.unique(fold)]
    fitters = [fitter(kind, patterns[~test]) for test in tests]
    table = []
    for settings in candidates(kind):
        denoised = np.empty(patterns.shape, np.float32)
        for test, fitted in zip(tests, fitters, strict=True):
            denoised[test] = fitted(settings)(patterns[test])
        hits = np.argmax(np.asarray(logits(denoised[scored])), axis=1) == labels[scored]
        change = np.abs(denoised.astype(np.float64) - patterns).mean()
        table.append({**settings, "accuracy": float(hits.mean()), "change": float(change)})
    best = min(range(len(table)), key=lambda i: (-table[i]["accuracy"], table[i]["change"]))
    return Choice(candidates(kind)[best], table[best]["accuracy"], table)


# ---- Wavelet shrinkage ----


def wavelet_shrinkage(
    patterns: ArrayLike, *, wavelet: str, level: int, rule: str, threshold: str
) -> Array:
    """Shrinks the details of a discrete wavelet transform, float64 `[n, L]`, not rescaled.

    Donoho and Johnstone 1994 (doi:10.1093/biomet/81.3.425); for diffraction patterns Cai and
    Harrington 1998 (doi:10.1021/ci980210j). Patterns are mirrored at their ends.

    Args:
        patterns: float `[n, L]`.
        wavelet: a name that PyWavelets knows.
        level: number of levels, fewer where patterns are too short for so many.
        rule: see `shrink`.
        threshold: `universal`: sigma sqrt(2 ln L) with sigma from the finest details; `level`: the
            same from the details of each level; `sure`: see `sure_threshold`, of each level, with
            sigma from the finest details.
    """
    patterns = np.asarray(patterns, np.float64)
    length = patterns.shape[1]
    level = min(level, pywt.dwt_max_level(length, wavelet))
    smooth_part, *details = pywt.wavedec(patterns, wavelet, mode="symmetric", level=level, axis=1)
    sigma = noise_level(details[-1] if details else smooth_part)
    shrunk = [
        shrink(detail, _thresholds(detail, sigma, length, threshold), rule) for detail in details
    ]
    return pywt.waverec([smooth_part, *shrunk], wavelet, mode="symmetric", axis=1)[:, :length]


def noise_level(detail: ArrayLike) -> Array:
    """Returns the standard deviation of the noise in wavelet details `[n, m]`, float64 `[n, 1]`.

    The median of |detail| over that of N(0, 1), exact zeros left out: where a pattern is zero it
    was cut off or not measured and tells nothing of the noise. Where more than half are zero, the
    others are mostly peaks, and the lower quarter is taken for the median. Without other details
    than zeros it is 0.
    """
    size = np.abs(np.asarray(detail, np.float64))
    sigma = np.zeros((len(size), 1))
    for row, values in enumerate(size):
        used = values[values > 0]
        if used.size:
            sparse = 2 * used.size < values.size
            sigma[row] = np.quantile(used, 0.25) / QUARTER if sparse else np.median(used) / MEDIAN
    return sigma


def shrink(detail: ArrayLike, threshold: ArrayLike, rule: str) -> Array:
    """Shrinks details c towards zero by a threshold t >= 0 that broadcasts to them.

    `hard`: c where |c| >= t; `soft`: sign(c) max(|c| - t, 0); `garrote`: c max(1 - t^2 / c^2, 0)
    (Gao 1998, doi:10.1080/10618600.1998.10474789). `pywt.threshold` makes NaN of c = t = 0.

    Raises:
        ValueError: rule is none of RULES.
    """
    detail = np.asarray(detail, np.float64)
    size, threshold = np.broadcast_arrays(np.abs(detail), np.asarray(threshold, np.float64))
    if rule == "hard":
        return np.where(size >= threshold, detail, 0.0)
    if rule == "soft":
        return np.sign(detail) * np.maximum(size - threshold, 0.0)
    if rule == "garrote":
        ratio = np.divide(threshold, size, out=np.ones(size.shape), where=size > threshold)
        return detail * (1.0 - ratio**2)
    raise ValueError(f"rule {rule!r}: expected one of {', '.join(RULES)}")


def sure_threshold(detail: ArrayLike) -> Array:
    """Returns soft thresholds for details `[n, m]` with noise of 1, float64 `[n, 1]`.

    The t among 0 and the |detail|, up to sqrt(2 ln m), with the least unbiased estimate of risk,
    m - 2 #{|c| <= t} + sum min(|c|, t)^2; where the details show next to no signal,
    sum (c^2 - 1) <= log2(m)^1.5 sqrt(m), the universal sqrt(2 ln m) (Donoho and Johnstone 1995,
    doi:10.1080/01621459.1995.10476626).
    """
    squares = np.sort(np.square(np.asarray(detail, np.float64)), axis=1)
    count = squares.shape[1]
    squares = np.pad(squares, ((0, 0), (1, 0)))  # t = 0
    below = np.arange(count + 1)
    risk = count - 2 * below + np.cumsum(squares, axis=1) + (count - below) * squares
    universal = 2.0 * np.log(count)
    risk = np.where(squares <= universal, risk, np.inf)
    best = np.take_along_axis(squares, risk.argmin(axis=1)[:, None], axis=1)
    signal = squares.sum(axis=1, keepdims=True) - count
    quiet = signal <= np.log2(count) ** 1.5 * np.sqrt(count)
    return np.sqrt(np.where(quiet, universal, best))


def _thresholds(detail: Array, sigma: Array, length: int, threshold: str) -> Array:
    """Thresholds `[n, 1]` of the details `[n, m]` of one level; sigma is that of the finest."""
    if threshold == "universal":
        return sigma * np.sqrt(2.0 * np.log(length))
    if threshold == "level":
        return noise_level(detail) * np.sqrt(2.0 * np.log(length))
    if threshold == "sure":
        scale = np.where(sigma > 0, sigma, 1.0)
        return sigma * sure_threshold(detail / scale)
    raise ValueError(f"threshold {threshold!r}: expected one of {', '.join(THRESHOLDS)}")


# ---- Smoothing ----


def smooth(patterns: ArrayLike, *, window: int, order: int) -> Array:
    """Savitzky-Golay smoothing of `[n, L]`: polynomials of `order` over `window` points, odd."""
    return scipy.signal.savgol_filter(
        np.asarray(patterns, np.float64), window, order, mode="mirror", axis=1
    )


class Components(NamedTuple):
    """Mean `[L]` and principal components `[k, L]` of patterns, float64, the largest first."""

    mean: Array
    components: Array


def principal_components(training: ArrayLike) -> Components:
    """Returns the first principal components of patterns `[m, L]`, as many as any candidate needs.

    Raises:
        ValueError: fewer than two patterns.
    """
    training = np.asarray(training, np.float64)
    if len(training) < 2:
        raise ValueError(f"expected two training patterns or more, got {len(training)}")
    kept = min(MOST_COMPONENTS, len(training) - 1, training.shape[1])
    with threadpool_limits(1):  # on busy cores more threads wait for each other
        found = PCA(kept, random_state=0).fit(training)
    return Components(found.mean_, found.components_)


def smoothed_basis(
    principal: Components, *, components: int, window: int, order: int
) -> tuple[Array, Array]:
    """Smooths mean and components and makes the latter orthonormal again.

    mean + (x - mean) basis^T basis is the pattern of their span nearest to x.

    Args:
        principal: of the training patterns.
        components: how many are used, fewer where there are fewer.
        window: see `smooth`.
        order: see `smooth`.

    Returns:
        mean `[1, L]` and basis `[k, L]`, float64.
    """
    used = smooth(principal.components[:components], window=window, order=order)
    with threadpool_limits(1):
        basis, _ = np.linalg.qr(used.T)
    return smooth(principal.mean[None], window=window, order=order), basis.T


def _finished(patterns: Array) -> NDArray[np.float32]:
    return max_normalized(np.where(patterns > DUST, patterns, 0.0)).astype(np.float32)
