"""Which peaks a refined pattern invents, keeps or loses.

Belongs here: peak finding on a sampled pattern and the comparison of peak positions. Line lists of
crystals are xrd/diffraction.py's.

A peak *is there* when both its height and its prominence reach `threshold` (2 %) of the pattern's
maximum. It *has a counterpart* in another pattern when that one has a peak of at least half the
threshold within `tolerance` grid points: a line at 2.1 % in one and 1.9 % in the other is
the same line, not a loss. On the default grid a point is 0.084 % of q; 5 points are 0.42 %.
"""

from typing import NamedTuple

import numpy as np
import scipy.signal
from numpy.typing import ArrayLike, NDArray

THRESHOLD = 0.02  # of the pattern's maximum
TOLERANCE = 5  # grid points
COUNTERPART = 0.5  # share of the threshold that suffices for a counterpart

Counts = NDArray[np.int64]


class PeakCounts(NamedTuple):
    """Numbers of peaks per pattern, int64 [n] each."""

    raw: Counts  # peaks in the raw pattern
    refined: Counts  # peaks in the refined pattern
    truth: Counts  # peaks in the true pattern
    invented: Counts  # refined peaks with no counterpart in truth and none in raw
    spurious_raw: Counts  # raw peaks with no counterpart in truth
    spurious_refined: Counts  # refined peaks with no counterpart in truth
    missed_raw: Counts  # true peaks with no counterpart in raw
    missed_refined: Counts  # true peaks with no counterpart in refined
    lost: Counts  # true peaks with a counterpart in raw and none in refined
    recovered: Counts  # true peaks with a counterpart in refined and none in raw


def find_peaks(pattern: ArrayLike, threshold: float = THRESHOLD) -> NDArray[np.intp]:
    """Grid indices of the peaks of pattern [L], ascending; an all-zero pattern has none.

    A peak is a local maximum (the middle of a flat top; never the first or last point) whose
    height and prominence are at least threshold times the pattern's maximum.
    """
    pattern = np.asarray(pattern, np.float64)
    if pattern.ndim != 1:
        raise ValueError(f"expected one pattern [L], got shape {pattern.shape}")
    level = threshold * float(pattern.max(initial=0.0))
    if level <= 0:
        return np.empty(0, np.intp)
    return scipy.signal.find_peaks(pattern, height=level, prominence=level)[0]


def has_counterpart(
    positions: ArrayLike, others: ArrayLike, tolerance: int = TOLERANCE
) -> NDArray[np.bool_]:
    """Whether each of positions [m] has one of others [k] within tolerance, bool [m]."""
    return np.any(abs(np.subtract.outer(positions, others)) <= tolerance, axis=1)


def invented_and_lost(
    raw: ArrayLike,
    refined: ArrayLike,
    truth: ArrayLike,
    *,
    threshold: float = THRESHOLD,
    tolerance: int = TOLERANCE,
) -> PeakCounts:
    """Peak bookkeeping of refined against raw and truth, [n, L] each.

    `invented` is what refinement made out of nothing; `spurious_*` also counts artefacts that the
    raw pattern brought along, so spurious_refined < spurious_raw is cleaning. `lost` is damage;
    `missed_*` also counts lines that the raw pattern never showed. As rates: invented and
    spurious_refined over refined, spurious_raw over raw, missed, lost and recovered over truth.
    """
    raw, refined, truth = (np.asarray(a) for a in (raw, refined, truth))
    if raw.ndim != 2 or not raw.shape == refined.shape == truth.shape:
        raise ValueError(
            f"expected three arrays of the same [n, L], got {raw.shape}, {refined.shape} "
            f"and {truth.shape}"
        )
    rows = [
        _compare(*three, threshold, tolerance) for three in zip(raw, refined, truth, strict=True)
    ]
    table = np.array(rows, np.int64).reshape(len(rows), len(PeakCounts._fields))
    return PeakCounts(*table.T)


def _compare(
    raw: NDArray, refined: NDArray, truth: NDArray, threshold: float, tolerance: int
) -> tuple[int, ...]:
    """One row of PeakCounts."""
    peaks_raw, peaks_refined, peaks_truth = (
        find_peaks(pattern, threshold) for pattern in (raw, refined, truth)
    )
    any_raw, any_refined, any_truth = (
        find_peaks(pattern, COUNTERPART * threshold) for pattern in (raw, refined, truth)
    )
    refined_is_true = has_counterpart(peaks_refined, any_truth, tolerance)
    refined_is_raw = has_counterpart(peaks_refined, any_raw, tolerance)
    raw_is_true = has_counterpart(peaks_raw, any_truth, tolerance)
    true_in_raw = has_counterpart(peaks_truth, any_raw, tolerance)
    true_in_refined = has_counterpart(peaks_truth, any_refined, tolerance)
    return (
        len(peaks_raw),
        len(peaks_refined),
        len(peaks_truth),
        int((~refined_is_true & ~refined_is_raw).sum()),
        int((~raw_is_true).sum()),
        int((~refined_is_true).sum()),
        int((~true_in_raw).sum()),
        int((~true_in_refined).sum()),
        int((true_in_raw & ~true_in_refined).sum()),
        int((true_in_refined & ~true_in_raw).sum()),
    )
