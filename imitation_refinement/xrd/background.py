"""Background of powder patterns: what varies slowly under the peaks.

Belongs here: estimating and removing it, for simulated and for measured patterns alike.
"""

import numpy as np
from scipy.ndimage import maximum_filter1d, minimum_filter1d, uniform_filter1d


def snip(pattern: np.ndarray, iterations: int = 60) -> np.ndarray:
    """Estimates the background by clipping peaks, float64 `[..., L]`.

    Statistics-sensitive nonlinear iterative peak clipping: each value is replaced by the mean of
    its neighbours at distance m where that is smaller, for m from `iterations` down to 1, on the
    scale ln(ln(sqrt(y + 1) + 1) + 1), which weighs weak and strong peaks alike. C. G. Ryan et al.,
    Nucl. Instrum. Methods B 34, 396 (1988); M. Morhac et al., Nucl. Instrum. Methods A 401, 113
    (1997). Peaks wider than about `iterations` points are taken for background. With noise the
    estimate runs along its lower edge.

    Args:
        pattern: not negative, float `[..., L]`, on a scale of counts (largest value 1e3 to 1e5).
        iterations: largest distance, in points.

    Raises:
        ValueError: a value is negative.
    """
    pattern = np.asarray(pattern, np.float64)
    if np.any(pattern < 0.0):
        raise ValueError(f"a pattern of counts has a negative value {pattern.min()}")
    scaled = np.log(np.log(np.sqrt(pattern + 1.0) + 1.0) + 1.0)
    length = scaled.shape[-1]
    for distance in range(min(iterations, (length - 1) // 2), 0, -1):
        # The mean is complete before the middle is overwritten.
        mean = scaled[..., : -2 * distance] + scaled[..., 2 * distance :]
        mean *= 0.5
        middle = scaled[..., distance : length - distance]
        np.minimum(middle, mean, out=middle)
    return (np.exp(np.exp(scaled) - 1.0) - 1.0) ** 2 - 1.0


def opening(pattern: np.ndarray, window: int) -> np.ndarray:
    """Estimates the background by a smoothed morphological opening, same shape and dtype.

    Ten times as fast as `snip` and rougher: the running minimum, then its running maximum, then
    their running mean, nowhere above the pattern.

    Args:
        pattern: `[L]`.
        window: of each of the three, in points; peaks narrower than it are left out.
    """
    floor = maximum_filter1d(minimum_filter1d(pattern, window), window)
    return np.minimum(uniform_filter1d(floor, window), pattern)
