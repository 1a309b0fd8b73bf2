"""Means over the cells of a grid, and their noise.

Belongs here: resampling by areas, as pure functions of positions and values. It knows no files and
no units.
"""

import numpy as np
from scipy.ndimage import median_filter

NOISE_WINDOW = 201  # points of the scan over which the noise is estimated


def cell_means(x: np.ndarray, y: np.ndarray, centers: np.ndarray) -> np.ndarray:
    """Returns the mean over each cell of the polygon through the points (x, y), float64 `[L]`.

    Exact for any spacing: fine scans are averaged, coarse ones interpolated, and the area under the
    polygon is kept. Beyond its ends the polygon is continued by its end values.

    Args:
        x: positions, float64 `[n]`, strictly increasing.
        y: values, float64 `[n]`.
        centers: cell centers, float64 `[L]`, increasing; cells meet halfway between them.
    """
    inner = 0.5 * (centers[1:] + centers[:-1])
    edges = np.concatenate([[2 * centers[0] - inner[0]], inner, [2 * centers[-1] - inner[-1]]])
    low, high = min(edges[0], x[0]) - 1.0, max(edges[-1], x[-1]) + 1.0
    x, y = np.concatenate([[low], x, [high]]), np.concatenate([y[:1], y, y[-1:]])
    step = np.diff(x)
    area = np.concatenate([[0.0], np.cumsum(0.5 * (y[1:] + y[:-1]) * step)])
    left = np.searchsorted(x, edges, side="right") - 1
    into = edges - x[left]
    slope = np.diff(y) / step
    integral = area[left] + y[left] * into + 0.5 * slope[left] * into**2
    return np.diff(integral) / np.diff(edges)


def cell_noise(x: np.ndarray, y: np.ndarray, centers: np.ndarray) -> np.ndarray:
    """Returns the standard deviation of each value of `cell_means` by noise, float64 `[L]`.

    From second differences of neighbouring points, which a smooth curve hardly has: their median in
    a moving window, which peaks do not move much. Nothing is assumed about the unit of y; the noise
    of neighbouring points is taken to be independent.

    Args:
        x: positions, float64 `[n]`, increasing.
        y: values, float64 `[n]`.
        centers: cell centers, float64 `[L]`.
    """
    second = np.abs(y[:-2] - 2.0 * y[1:-1] + y[2:])
    # The median size of a normal deviate is 0.6745; second differences have 1 + 4 + 1 times the
    # variance of a point.
    sigma = median_filter(second, min(NOISE_WINDOW, len(second))) / (0.6745 * np.sqrt(6.0))
    points_per_cell = spacing(centers) / np.interp(centers, x, spacing(x))
    return np.interp(centers, x[1:-1], sigma) / np.sqrt(np.maximum(points_per_cell, 1.0))


def spacing(x: np.ndarray) -> np.ndarray:
    """Returns half the distance of the two neighbours of each position, float64 `[n]`.

    At the ends, the distance of the one: `np.gradient`, which takes five times as long to begin.

    Args:
        x: positions, float64 `[n]`, two at least.
    """
    found = np.empty(len(x))
    np.subtract(x[2:], x[:-2], out=found[1:-1])
    found[1:-1] /= 2.0
    found[0], found[-1] = x[1] - x[0], x[-1] - x[-2]
    return found
