"""Whether a measured scan shows peaks at all: noise, glass and empty detectors do not.

Belongs here: one test on counts and angles, made for measured scans. It knows no crystal and no
network.
"""

from functools import lru_cache

import numpy as np
from scipy.ndimage import median_filter, minimum_filter1d, uniform_filter1d

from imitation_refinement.xrd.cells import cell_means, cell_noise, spacing
from imitation_refinement.xrd.medians import median, quantile

# Scales are in steps of ln q; 25 steps are a peak of 1 degree at 2 theta = 40.
_STEP = 8.4e-4
_NARROW, _WIDE = 2, 15  # standard deviations of the two Gaussians whose difference finds peaks
_BASE, _SMOOTH = 201, 20  # running median and smoothing of what peaks stand on
_SLOW = 40  # standard deviation of what counts as background and humps
_REACH = 14  # how far to either side a peak must fall off
_PEAK, _AROUND = 9, 91  # windows in which counts are compared
# Thresholds. 745 labelled measured scans and 629 of composition libraries pass; of 3,840 generated
# scans without peaks, at any level of counts, 10 do: all smoothed, with less than one count per
# four points.
_MIN_TWO_SIDED = 0.35
_MIN_COUNTS, _MIN_POISSON = 15.0, 6.0  # surplus in quanta of the detector, and in deviations
# Of the best peak: height over two estimates of the lower tail, height above what it stands on over
# that one's tail, share of the largest intensity, and the number of peaks above 4 deviations.
_WAYS = ((6.0, 5.5, 10.0, 0.04, 1), (5.0, 6.0, 10.0, 0.3, 2))
# Or, where noise is white: share of the largest intensity, height over the noise of points, and how
# much more three points further apart may leave a straight line.
_WHITE = (0.3, 14.0, 1.5)
_HUMP = 0.2  # of the largest intensity


def missing_signal(q: np.ndarray, counts: np.ndarray, density: np.ndarray) -> str:
    """Returns why a scan has no peaks that could be recognised; empty if it has.

    The strongest narrow feature must fall off to both sides, as steps and ramps do not, and be made
    of more counts than chance brings where counts are few. And it must stand out: against the lower
    tail of all narrow features, which noise of any correlation shapes and peaks hardly do, above a
    running median, as a visible part of the pattern; or, a large part of it, against white noise.

    Args:
        q: 1/angstrom, float64 `[n]`, strictly increasing.
        counts: intensity as measured, float64 `[n]`, not negative.
        density: intensity per unit of q, float64 `[n]`.
    """
    if not counts.max() > 0.0:
        return "every count is zero"
    if np.ptp(counts) <= 1e-9 * counts.max():
        return "all counts are the same"
    centers = np.geomspace(q[0], q[-1], max(100, int(np.log(q[-1] / q[0]) / _STEP)))
    mean = np.maximum(cell_means(q, density / density.max(), centers), 0.0)
    top = mean.max()
    slow = _gaussian(mean, _SLOW)
    noise = np.sqrt(np.maximum(slow, 0.05 * mean.mean()))  # its shape, if counts are Poisson's
    band = _gaussian(mean, _NARROW) - _gaussian(mean, _WIDE)
    narrow = band / noise
    base = _gaussian(median_filter(mean, _BASE, mode="nearest"), _SMOOTH)
    above = _gaussian(mean - base, _NARROW) / noise
    above -= median(above)
    surplus, expected = _surplus(q, counts, centers)
    tail, tail_above = _lower_tail(narrow), _lower_tail(above)
    found = (
        narrow.max() / max(tail[0], 1e-12),
        narrow.max() / max(tail[2], 1e-12),
        above.max() / max(*tail_above, 1e-12),
        band.max() / top,
        np.count_nonzero(_tops(narrow, 4.0 * max(tail))),
    )
    crisp, kink = _white(q, density / density.max(), centers, band)
    peaks = (
        _two_sided(mean, narrow) >= _MIN_TWO_SIDED
        and surplus.max() >= _MIN_COUNTS
        and (surplus / np.sqrt(expected + 1.0)).max() >= _MIN_POISSON
        and (
            any(all(np.greater_equal(found, way)) for way in _WAYS)
            or (band.max() >= _WHITE[0] * top and crisp >= _WHITE[1] and kink <= _WHITE[2])
        )
    )
    if peaks:
        return ""
    if slow[1:-1].max() - max(slow[0], slow[-1]) > _HUMP * top:
        return "no peaks, only broad humps: amorphous"
    return "nothing rises above background and noise"


def _gaussian(values: np.ndarray, sigma: float) -> np.ndarray:
    """Returns values smoothed, continued by those at the ends.

    As `gaussian_filter1d(values, sigma, mode="nearest")` but for rounding, by products of vectors,
    which are a third of its time. Where all values are 0 the result is 0, too.
    """
    weights = _gaussian_weights(sigma)
    ends = np.ones(len(weights) // 2)
    return np.convolve(
        np.concatenate([values[0] * ends, values, values[-1] * ends]), weights, "valid"
    )


@lru_cache
def _gaussian_weights(sigma: float) -> np.ndarray:
    """Returns a Gaussian at the integers to four standard deviations on both sides, of sum 1."""
    reach = int(4.0 * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    return weights / weights.sum()


def _lower_tail(values: np.ndarray) -> tuple[float, float, float]:
    """Returns three estimates of the standard deviation from the values below zero."""
    low = -values[values < 0.0]
    if not low.size:
        return 0.0, 0.0, 0.0
    return (
        1.4826 * median(low),
        quantile(low, 0.8) / 1.2816,
        float(np.sqrt(np.mean(low**2))),
    )


def _tops(values: np.ndarray, least: float) -> np.ndarray:
    """Returns where a local maximum lies above `least`, bool of the same length."""
    inner = values[1:-1]
    found = (inner >= values[:-2]) & (inner >= values[2:]) & (inner > least)
    return np.concatenate([[False], found, [False]])


def _white(
    q: np.ndarray, density: np.ndarray, centers: np.ndarray, band: np.ndarray
) -> tuple[float, float]:
    """Returns the best peak over the noise of single points, and whether that noise is white.

    The second is the median second difference of every other point over that of neighbours: 1 for
    white noise, up to 4 for a smooth curve.
    """
    points = spacing(centers) / np.interp(centers, q, spacing(q))
    # Gain of a Gaussian on independent cells; cells that share points are not.
    gain = np.minimum(1.0, np.sqrt(np.maximum(1.0, 1.0 / points) / (2 * np.sqrt(np.pi) * _NARROW)))
    sigma = cell_noise(q, density, centers) * gain
    near = median(np.abs(density[:-2] - 2.0 * density[1:-1] + density[2:]))
    far = median(np.abs(density[:-4] - 2.0 * density[2:-2] + density[4:]))
    if not near > 0.0:
        return 0.0, np.inf
    return float(
        np.max(np.where(sigma > 0.0, band, 0.0) / np.where(sigma > 0.0, sigma, 1.0))
    ), far / near


def _two_sided(mean: np.ndarray, narrow: np.ndarray) -> float:
    """Returns how evenly the strongest features fall off to left and right, 0 to 1."""
    smooth = _gaussian(mean, 1.0)
    # Of each point and `_REACH` more to its left, and to its right, as far as there are any.
    size, shift = _REACH + 1, _REACH // 2
    left = smooth - minimum_filter1d(smooth, size, mode="nearest", origin=shift)
    right = smooth - minimum_filter1d(smooth, size, mode="nearest", origin=-shift)
    ratios = []
    for at in np.flatnonzero(_tops(narrow, 0.5 * narrow.max())).tolist():
        first = max(0, at - 3)
        best = first + int(np.argmax(smooth[first : at + 4]))
        ratios.append(min(left[best], right[best]) / max(left[best], right[best], 1e-12))
    return float(np.median(ratios)) if ratios else 0.0


def _surplus(q: np.ndarray, counts: np.ndarray, centers: np.ndarray) -> tuple[np.ndarray, ...]:
    """Returns by how much the counts near each center exceed what those around make expect.

    Both in quanta: the smallest difference between two counts, one for counts of a detector.
    """
    steps = np.diff(np.unique(np.append(counts, 0.0)))
    quantum = steps[steps > 1e-9 * counts.max()].min()
    points = spacing(centers) / np.interp(centers, q, spacing(q))
    quanta = np.maximum(cell_means(q, counts / quantum, centers), 0.0) * points
    near = _PEAK * uniform_filter1d(quanta, _PEAK, mode="nearest")
    wide = _AROUND * uniform_filter1d(quanta, _AROUND, mode="nearest")
    expected = np.maximum(wide - near, 0.0) * (_PEAK / (_AROUND - _PEAK))
    return near - expected, expected
