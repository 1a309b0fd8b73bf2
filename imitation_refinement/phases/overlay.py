"""A candidate laid over a scan: where its lines are, what it predicts, and what does not agree.

Belongs here: a candidate phase in the coordinates of the pattern that it is to explain. That it was
found, and how well it fits, is `identify`'s.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from imitation_refinement.phases.evidence import SIZES
from imitation_refinement.phases.identify import Phases
from imitation_refinement.phases.leftover import moved_lines
from imitation_refinement.phases.named import Named
from imitation_refinement.phases.prototypes import draw_roots
from imitation_refinement.xrd.grid import Grid, grid_q

LINES = 100  # that are kept of a candidate, the strongest; what is weaker is hardly seen
VISIBLE = 0.02  # of the largest value, from which on a line or a peak counts
SEEN = 0.2  # share of what is predicted or found from which on the other side agrees
REACH = 0.005  # relative distance in q within which it does


class Overlay(NamedTuple):
    """What a candidate says of one pattern on a grid of L points.

    Attributes:
        q: places of its strongest lines in the scan, 1/angstrom, ascending, float64 `[m]`.
        height: of these, per cent of the strongest on the grid, float64 `[m]`.
        pattern: calculated with peaks as wide as suits and scaled to fit, float64 `[L]`.
        unseen: whether a line should be seen in the pattern and is not, bool `[m]`.
        explained: whether a line is near each of the pattern's peaks, and as strong as it must
            be, bool `[p]`.
    """

    q: np.ndarray
    height: np.ndarray
    pattern: np.ndarray
    unseen: np.ndarray
    explained: np.ndarray


def overlays(
    candidates: Sequence[Named],
    phases: Phases,
    grid: Grid,
    pattern: np.ndarray,
    mask: np.ndarray,
    peaks: np.ndarray,
) -> list[Overlay]:
    """Lays candidates over a pattern; peaks of all are as wide as suits the first.

    Args:
        candidates: of one scan, likeliest first.
        phases: that they are of.
        grid: of the pattern.
        pattern: nonnegative, `[L]`.
        mask: where it was measured, bool `[L]`.
        peaks: q of its peaks, 1/angstrom, `[p]`.
    """
    axis, measured = grid_q(grid), np.where(mask, pattern, 0.0)
    least = VISIBLE * measured.max(initial=0.0)
    found = np.interp(peaks, axis, measured)
    sizes: tuple[float, ...] = SIZES
    laid: list[Overlay] = []
    for one in candidates:
        q, height = moved_lines(phases.prototypes, one.moved)
        fits = [
            _fitted(q, height, size, phases.prototypes.grid, axis, measured, mask) for size in sizes
        ]
        best = int(np.argmin([np.square(measured - fit).sum() for fit in fits]))
        sizes, calculated = (sizes[best],), fits[best]
        inside = (q >= axis[0]) & (q <= axis[-1])
        q, height = q[inside], height[inside]
        strong = np.sort(np.argsort(-height, kind="stable")[:LINES])
        q, height = q[strong], height[strong]
        predicted = np.interp(q, axis, calculated)
        laid.append(
            Overlay(
                q,
                100.0 * height / max(height.max(initial=0.0), 1e-30),
                calculated,
                (predicted > least) & (_nearby(axis, measured, q) < SEEN * predicted),
                (found <= least) | (_nearby(axis, calculated, peaks) >= SEEN * found),
            )
        )
    return laid


def _fitted(
    q: np.ndarray,
    height: np.ndarray,
    size: float,
    drawn_on: Grid,
    axis: np.ndarray,
    measured: np.ndarray,
    mask: np.ndarray,
) -> np.ndarray:
    """The pattern of lines with the scale of the least squares of differences, float64 `[L]`."""
    offsets, chosen = np.array([0, len(q)]), np.array([0])
    root = draw_roots(q, height, offsets, chosen, drawn_on, size_nm=size, fold=1)[0]
    drawn = mask * np.interp(axis, grid_q(drawn_on), np.square(root.astype(np.float64)))
    return drawn * ((drawn @ measured) / max(float(drawn @ drawn), 1e-30))


def _nearby(axis: np.ndarray, values: np.ndarray, q: np.ndarray) -> np.ndarray:
    """The largest value within REACH of each q, and of the nearest points in any case, `[n]`."""
    first = np.maximum(np.searchsorted(axis, q * (1.0 - REACH)) - 1, 0)
    last = np.minimum(np.searchsorted(axis, q * (1.0 + REACH)) + 1, len(axis))
    return np.array([values[a:b].max() for a, b in zip(first, last, strict=True)])
