"""Which points of a scan are measurements: gaps of the detector, dead, hot and saturated points.

Belongs here: tests on the counts of one scan in the order of its angles. Nothing is corrected, only
told apart. Thresholds were chosen on generated scans (`tests/xrd/test_validity.py`): of 1,200
without such points, with peaks of 1.3 steps and more, two lost one point.
"""

from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.ndimage import median_filter

from imitation_refinement.xrd.medians import median

LARGEST = 1e30  # what lies beyond is no count; keeps squares within floats
_SENTINELS = (65535, 65534, 2**24 - 1, 2**31 - 1, 2**32 - 1, 2**32 - 2, 2**32 - 3)
_LIMITS = (2**15 - 1, 65535, 99999, 2**20 - 1, 999999, 2**24 - 1, 2**31 - 1, 2**32 - 1)
_RUN = 3  # points in a row with one value are a stretch, fewer are dead or hot points
_WINDOW, _EVERY = 201, 50  # points over which noise is estimated, and between two estimates
_SURE = 20.0  # quanta of the detector: chance leaves them out once in 5e8 times
_FEW = 0.01  # share of negative counts up to which they are taken for dead points
_CUT = 0.97  # of the limit: beside a top that was cut off the counts are lower
_HOT = 10.0  # standard deviations above what is around
_AROUND = 5  # points to either side that a hot point exceeds three times their range
_NARROW, _RESOLVED = 0.12, 0.4  # of a top: its higher neighbour, above what is around
_FINE = 0.03  # degrees; a peak of any diffractometer is wider than a step this small
_COARSE = 0.25  # degrees; a true peak may fall on one point of a scan with steps this large


class Validity(NamedTuple):
    """What is known of the points of a scan.

    Attributes:
        keep: bool `[n]`, false where a point is no measurement.
        stretches: (first, last) angle of each stretch inside the scan that was not measured.
        notes: sentences.
    """

    keep: np.ndarray
    stretches: tuple[tuple[float, float], ...]
    notes: tuple[str, ...]


def valid_points(angle: np.ndarray, counts: np.ndarray) -> Validity:
    """Tells which points of a scan are measurements.

    Not measured are three and more points in a row without a number, at one negative value, at the
    largest value of an integer between low counts, or at zero where chance does not bring zeros.
    Single points of these kinds, and points far above or below all neighbours in a scan whose peaks
    are wider, are dropped. Points at the limit of the counter are kept and noted.

    Args:
        angle: degrees, float64 `[n]`, strictly increasing.
        counts: float64 `[n]`, of any value.
    """
    keep = np.isfinite(counts) & (np.abs(counts) <= LARGEST)
    overflow = _overflowed(angle[keep], counts[keep])
    stretches: list[tuple[float, float]] = []
    notes: list[str] = []
    usual = _around(counts[keep & (counts > 0)])
    quantum = _quantum(usual)
    runs = _runs(counts)
    beyond = _beyond(counts[keep], quantum)
    sentinels = _negative_sentinels(counts, runs)
    odd = np.count_nonzero(~keep)
    zeros = [last - first for first, last, value in runs if value == 0.0]
    few_zeros = sum(zeros) - sum(length for length in zeros if length >= _RUN) <= 0.001 * len(
        counts
    )
    dead: list[int] = []
    for first, last, value in runs:
        length = last - first
        if not np.isfinite(value) or abs(value) > LARGEST:
            gap = True
        elif value < 0:
            gap = value in sentinels
        elif value in _SENTINELS or (value >= beyond and length >= _RUN):
            gap = max(_beside(counts, first, last), default=np.inf) < 0.1 * value
        else:
            gap = (
                value == 0
                and few_zeros
                and length >= _RUN
                and _impossible(counts, first, last, quantum)
            )
        if not gap:
            continue
        keep[first:last] = False
        if length < _RUN:
            dead += list(range(first, last)) if abs(value) <= LARGEST else []
            continue
        if first and last < len(counts):
            stretches.append((float(angle[first]), float(angle[last - 1])))
        notes.append(
            f"{angle[first]:.2f} to {angle[last - 1]:.2f} degrees not measured: {length} points"
            f" {f'of {value:g}' if np.isfinite(value) else 'without a number'} in a row"
        )
    if odd:
        notes.insert(0, f"{odd} points that are not numbers dropped")
    negative = keep & (counts < 0)
    if 0 < np.count_nonzero(negative) <= _FEW * np.count_nonzero(keep):
        dead += np.flatnonzero(negative).tolist()
        keep &= ~negative
    fallen = _fallen(np.where(keep, counts, np.nan), quantum)
    dead += np.flatnonzero(fallen).tolist()
    keep &= ~fallen
    if dead:
        notes.append(f"{_points(len(dead), 'dead')} dropped, at {places(angle[sorted(dead)])}")
    hot = np.zeros(len(counts), bool)
    hot[keep] = _spikes(angle[keep], counts[keep], quantum, usual)
    if hot.any():
        keep &= ~hot
        notes.append(
            f"{_points(int(np.count_nonzero(hot)), 'hot')} dropped, narrower than any peak, at"
            f" {places(angle[hot])}"
        )
    if overflow:
        notes.append(overflow)
    if saturated := _saturated(angle[keep], counts[keep], quantum):
        notes.append(saturated)
    return Validity(keep, tuple(stretches), tuple(notes))


def places(angle: np.ndarray | Sequence[float], most: int = 3) -> str:
    """Returns angles in words, the first few of many."""
    named = ", ".join(f"{value:.2f}" for value in list(angle)[:most])
    return f"{named}{', ...' if len(angle) > most else ''} degrees"


def _points(count: int, kind: str) -> str:
    return f"{count} {kind} point{'s' if count > 1 else ''}"


def _spread(counts: np.ndarray) -> np.ndarray:
    """Returns the standard deviation of each point by noise, float64 `[n]`.

    As `cells.cell_noise` has it, from the median of second differences, but with a window for every
    fiftieth point only, as scans are checked by the thousand.
    """
    second = np.abs(counts[:-2] - 2.0 * counts[1:-1] + counts[2:])
    if not second.size:
        return np.zeros(len(counts))
    half = min(_WINDOW, second.size - 1) // 2
    windows = sliding_window_view(np.pad(second, half, mode="reflect"), 2 * half + 1)
    at = np.arange(0, second.size, _EVERY)
    spread = np.partition(windows[at], half, axis=1)[:, half] / (0.6745 * np.sqrt(6.0))
    return np.interp(np.arange(len(counts)), at + 1, spread)


class _Around(NamedTuple):
    """Some counts, their standard deviation by noise, and their running median, `[n]` each."""

    counts: np.ndarray
    spread: np.ndarray
    level: np.ndarray


def _around(counts: np.ndarray) -> _Around:
    return _Around(counts, _spread(counts), median_filter(counts, 21) if counts.size else counts)


def _quantum(usual: _Around) -> float:
    """Returns the intensity of one count of the detector, as well as it shows.

    The smallest difference of two values, or, if that is larger, what makes the noise that of
    counts (whose variance is their mean).

    Args:
        usual: of the counts above zero.
    """
    counts = usual.counts
    if counts.size < 3:
        return 1.0
    noise = median(usual.spread**2 / usual.level)
    steps = np.diff(np.unique(counts))
    return max(noise, float(steps.min()) if steps.size else 1.0)


def _runs(counts: np.ndarray) -> list[tuple[int, int, float]]:
    """Returns (first, last + 1, value) of each run of one value that could be no measurement."""
    with np.errstate(invalid="ignore"):
        odd = ~np.isfinite(counts) | (np.abs(counts) > LARGEST)
        same = (counts[1:] == counts[:-1]) | (odd[1:] & odd[:-1])
    edges = np.concatenate([[0], np.flatnonzero(~same) + 1, [len(counts)]])
    values = counts[edges[:-1]]
    top = counts[~odd].max(initial=0.0)
    candidates = np.flatnonzero(
        odd[edges[:-1]] | ~(values > 0) | np.isin(values, _SENTINELS) | (values == top)
    )
    return [(int(edges[i]), int(edges[i + 1]), float(values[i])) for i in candidates]


def _negative_sentinels(counts: np.ndarray, runs: list[tuple[int, int, float]]) -> set[float]:
    """Returns the negative values that mark what was not measured: few, and mostly in runs."""
    values = {value for _, _, value in runs if value < 0 and np.isfinite(value)}
    inside = sum(last - first for first, last, value in runs if value < 0 and last - first >= _RUN)
    few = len(values) <= 3 and inside >= 0.5 * np.count_nonzero(counts < 0)
    return values if few and inside < np.count_nonzero(counts >= 0) else set()


def _beside(counts: np.ndarray, first: int, last: int) -> list[float]:
    """Returns the two values beside a run, without what is no number."""
    beside = [counts[at] for at in (first - 1, last) if 0 <= at < len(counts)]
    return [float(value) for value in beside if np.isfinite(value)]


def _beyond(counts: np.ndarray, quantum: float) -> float:
    """Returns the largest count if it is far beyond every other, as a mark is; else infinity."""
    top = counts.max(initial=0.0)
    below = counts[counts < top].max(initial=0.0)
    return float(top) if top > max(5.0 * below, 50.0 * quantum) else np.inf


def _overflowed(angle: np.ndarray, counts: np.ndarray) -> str:
    """Returns a note if tops of peaks fell by 2**16, as in a counter of 16 bits that overflowed.

    Flanks are seen on both sides, where single hot or dead points have none.
    """
    low, high = counts.min(initial=0.0), counts.max(initial=0.0)
    if high - low >= 2**16 or high < 2**14:
        return ""
    steps = np.diff(counts)
    falls, rises = np.flatnonzero(steps < -(2**15)), np.flatnonzero(steps > 2**15)
    tops = []
    for fall in falls:
        after = rises[rises > fall]
        if not after.size or fall == 0 or after[0] + 2 >= len(counts):
            continue
        rise = int(after[0])
        flanks = counts[fall - 1] > 0.5 * counts[fall] and counts[rise + 2] > 0.5 * counts[rise + 1]
        if flanks and np.all(counts[fall + 1 : rise + 1] != 0):
            tops.append(float(angle[fall + 1]))
    if not tops:
        return ""
    return (
        f"a counter of 16 bits overflowed (counts fall by more than 32768 at {places(tops)}): the"
        " intensities of these peaks are wrong"
    )


def _impossible(counts: np.ndarray, first: int, last: int, quantum: float) -> bool:
    """Returns whether a run of zeros is no measurement: cut off sharply, where counts are many.

    Patterns whose background was subtracted and cut off at zero have runs of zeros too, but fall to
    them gradually.
    """
    sides = []
    for side in (counts[max(0, first - 30) : first][::-1], counts[last : last + 30]):
        zeros = np.flatnonzero(~(side > 0))
        side = side[: zeros[0]] if zeros.size else side
        if side.size:
            sides.append(side)
        elif zeros.size:  # a zero or an unmeasured point beside the run
            return False
    if not sides or any(len(side) < 5 for side in sides):
        return False
    edges = [float(np.median(side[:3])) for side in sides]
    sharp = all(
        edge >= 0.5 * np.percentile(side, 25) for edge, side in zip(edges, sides, strict=True)
    )
    return sharp and (last - first) * min(edges) >= _SURE * quantum


def _fallen(counts: np.ndarray, quantum: float) -> np.ndarray:
    """Returns which one or two points lie at a tenth of both neighbours or less, bool `[n]`."""
    found = np.zeros(len(counts), bool)
    for width in (1, 2):
        if len(counts) < width + 4:
            continue
        inner = len(counts) - width - 3
        block = reduce(np.maximum, [counts[2 + i : 2 + i + inner] for i in range(width)])
        beside = [counts[i : i + inner] for i in (0, 1, width + 2, width + 3)]
        low = reduce(np.minimum, beside)
        with np.errstate(invalid="ignore"):
            at = np.flatnonzero((block <= 0.1 * low) & (low >= _SURE * quantum))
        for i in range(width):
            found[at + 2 + i] = True
    return found


def _spikes(angle: np.ndarray, counts: np.ndarray, quantum: float, usual: _Around) -> np.ndarray:
    """Returns which single points stand out of a scan whose peaks are wider, bool `[n]`.

    `usual` is of some of these counts, most often of all: then it is not found out again.
    """
    none = np.zeros(len(counts), bool)
    if len(counts) < 20 or (step := median(np.diff(angle))) > _COARSE:
        return none
    _, spread, base = usual if np.array_equal(usual.counts, counts) else _around(counts)
    noise = np.maximum(spread, np.sqrt(np.maximum(base, 0.0) * quantum))
    if np.count_nonzero(counts == 0) > 0.05 * counts.size and np.any(counts > 0):
        # Cut off at zero: half of the noise is gone, and the median of the rest tells little.
        noise = np.maximum(noise, np.sqrt(quantum * np.median(counts[counts > 0])))
    above = counts - base
    padded = np.concatenate([counts[:1], counts, counts[-1:]])
    beside = np.maximum(padded[:-2], padded[2:]) - base
    tops = (above > _HOT * np.maximum(noise, 1e-12 * np.abs(counts).max())) & (above > beside)
    at = np.flatnonzero(tops)
    ratio = np.maximum(beside[at], 0.0) / above[at]
    around = sliding_window_view(np.pad(counts, _AROUND, mode="edge"), 2 * _AROUND + 1)
    others = np.delete(around[at], _AROUND, axis=1)
    slender = (ratio < _NARROW) & (above[at] > 3.0 * np.ptp(others, axis=1))
    narrow, wide = none.copy(), ratio[~slender]
    narrow[at[slender]] = True
    resolved = bool(np.median(wide) >= _RESOLVED) if wide.size >= 2 else step <= _FINE
    many = np.count_nonzero(slender) > max(5, wide.size)
    return narrow if resolved and not many else none


def _saturated(angle: np.ndarray, counts: np.ndarray, quantum: float) -> str:
    """Returns a note if tops of the scan are cut off at the limit of the counter."""
    if not counts.size or not counts.max() > 0:
        return ""
    limit = counts.max()
    at = np.flatnonzero(counts == limit)
    if at.size > 0.2 * counts.size or median(counts) > 0.8 * limit:
        return ""
    firsts = at[np.diff(at, prepend=-9) != 1]
    lasts = at[np.diff(at, append=len(counts) + 9) != 1]
    before, after = (
        counts[np.maximum(firsts - 1, 0)],
        counts[np.minimum(lasts + 1, len(counts) - 1)],
    )
    cut = (lasts - firsts + 1 >= _RUN) & (np.maximum(before, after) < _CUT * limit)
    cut &= limit >= 50.0 * quantum
    if not cut.any() and not (limit in _LIMITS and at.size >= 2):
        return ""
    return (
        f"{at.size} points stand at the limit of {limit:g} (at {places(angle[at])}): the counter"
        " was saturated and the intensities of these peaks are too small"
    )
