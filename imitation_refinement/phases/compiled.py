"""Loops that are compiled: what NumPy would do in many passes over large arrays, in one.

Belongs here: drawing peaks, and the sums that `evidence` makes its figures of, one prototype after
the other, so that a row of 2,000 points stays in the fastest memory. What they mean is said where
they are called. Numba compiles each once and keeps it beside this file, or in its own cache folder.
"""

import math
from typing import Any, NamedTuple

import numba
import numpy as np

_REACH = 3.2  # standard deviations at which a peak ends
_BESIDE = 8  # points of a running mean on either side
_WINDOWS = 10  # equally long parts of the grid in which the elastic cosine shifts for itself
_ELASTIC = (-4, -2, 0, 2, 4)  # points of the grid
FARTHEST = 4  # of these
_NEAR = 3  # points on either side that a peak is above
SEEN = 0.4  # of a peak's height in the scan that makes it explained


def compiled_loop(function: Any) -> Any:
    """Returns the function as machine code, kept where a folder can be written to."""
    # Sums may be taken in another order, which makes them several times as fast.
    options: Any = {"nogil": True, "fastmath": True, "error_model": "numpy"}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # no folder can be written to: it is compiled in each process
        return numba.njit(**options)(function)


@compiled_loop
def best_scores(
    product: np.ndarray, factor: np.ndarray, penalty: np.ndarray, kind: np.ndarray, out: np.ndarray
) -> None:
    """Writes the largest of product times factor plus penalty over S shifts, `[n, W]`.

    Args:
        product: float32 `[S, n, W]`, or with more columns, which are left out.
        factor: float32 `[n, W]`.
        penalty: of each shift, for each kind of source, float32 `[S, 3]`.
        kind: of each of W prototypes, int `[W]`.
        out: float32 `[n, W]`.
    """
    shifts, (count, width) = len(product), factor.shape
    added = np.empty((shifts, width), np.float32)
    for shift in range(shifts):
        for i in range(width):
            added[shift, i] = penalty[shift, kind[i]]
    for row in range(count):
        best, by = out[row], factor[row]
        best[:] = -np.inf
        for shift in range(shifts):
            own, more = product[shift, row], added[shift]
            for i in range(width):
                best[i] = max(best[i], own[i] * by[i] + more[i])


@compiled_loop
def draw_roots(
    q: np.ndarray,
    height: np.ndarray,
    begin: np.ndarray,
    end: np.ndarray,
    width: np.ndarray,
    factor: np.ndarray,
    start: float,
    step: float,
    out: np.ndarray,
) -> None:
    """Draws the root patterns of C structures on points of ln q, each of norm 1.

    Roots of the sums of Gaussian peaks per unit of q, averaged over three points with zeros beyond
    the ends. One without a line on the grid is 0 everywhere.

    Args:
        q: positions of all lines, 1/angstrom, `[M]`.
        height: integrated intensities, `[M]`.
        begin: first line of each structure, int `[C]`.
        end: one after its last, int `[C]`.
        width: standard deviation of its peaks, 1/angstrom, float64 `[C]`.
        factor: its lines lie at so many times q, float64 `[C]`.
        start: ln q of the first point.
        step: between points.
        out: float32 `[C, P]`, is written to.
    """
    points = out.shape[1]
    peaks = np.zeros(points + 2, np.float32)  # a zero beyond each end
    for row in range(len(begin)):
        inner, own = peaks[1 : points + 1], out[row]
        inner[:] = 0.0
        for line in range(begin[row], end[row]):
            center = q[line] * factor[row]
            place = (math.log(center) - start) / step
            spread = width[row] / center / step
            sigma = math.sqrt(spread * spread + 1.0 / 12.0)  # a point is the mean over its cell
            first = max(math.ceil(place - _REACH * sigma), 0)
            last = min(math.floor(place + _REACH * sigma), points - 1)
            if last < first:
                continue
            # exp(-x^2 / 2) at equal distances: each value is the one before times a factor, and
            # the factor changes by a constant one.
            by = 1.0 / sigma
            x = (first - place) * by
            value = height[line] / (sigma * center) * math.exp(-0.5 * x * x)
            ratio = math.exp(-by * (x + 0.5 * by))
            change = math.exp(-by * by)
            for point in range(first, last + 1):
                inner[point] += value
                value *= ratio
                ratio *= change
        for point in range(points):
            inner[point] = math.sqrt(inner[point])
        power = np.float32(0.0)
        for point in range(points):
            mean = peaks[point + 1] + peaks[point] + peaks[point + 2]
            own[point] = mean
            power += mean * mean
        norm = np.float32(1.0) / math.sqrt(power) if power > 0.0 else np.float32(0.0)
        for point in range(points):
            own[point] *= norm


@compiled_loop
def shifted_products(
    read: np.ndarray, lines: np.ndarray, which: np.ndarray, begin: np.ndarray, reach: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns what the cosines of K prototypes at neighbouring shifts are made of.

    Args:
        read: the scan and its mask by displacement, float32 `[2, D, W]`.
        lines: drawn prototypes, float32 `[K, L]`.
        which: displacement of each, int `[K]`.
        begin: first point of `read` of each, int `[K]`.
        reach: shifts on either side.

    Returns:
        (product with the measured part of the scan, squared norms' product), float64
        `[K, 2 reach + 1]`.
    """
    count, length = lines.shape
    product = np.zeros((count, 2 * reach + 1))
    powers = np.zeros((count, 2 * reach + 1))
    for row in range(count):
        own = lines[row]
        for by in range(2 * reach + 1):
            first = begin[row] + by - reach
            scan = read[0, which[row]][first : first + length]
            inside = read[1, which[row]][first : first + length]
            both = power = model = np.float32(0.0)
            for i in range(length):
                known = own[i] * inside[i]
                both += scan[i] * known
                power += scan[i] * scan[i]
                model += known * own[i]
            product[row, by], powers[row, by] = both, np.float64(power) * model
    return product, powers


class Sums(NamedTuple):
    """Sums over the points of a scan s and K prototypes m, as drawn where measured, float64 `[K]`.

    Attributes:
        points: measured.
        scan, model, power, model_power, overlap: of s, m, s^2, m^2, s m.
        weak, strong, power_strong, model_strong: of sqrt(s m), s^2 m^2, s^4, m^4.
        measured, measured_power: of s and s^2 where measured.
        top: the largest s.
        missing, left_over: squares of what is predicted and not seen, and seen and not predicted.
        worst_missing, worst_left_over: the largest of these.
        low, low_power: of s m and s^2 in the half at low q of what was measured.
        wide, wide_power, wide_model_power: of s m, s^2, m^2 of running means.
        elastic: of s m, where each window of the range has its own best shift.
        peaks, peaks_explained: heights of all peaks of s, of those that lie on a line.
    """

    points: np.ndarray
    scan: np.ndarray
    model: np.ndarray
    power: np.ndarray
    model_power: np.ndarray
    overlap: np.ndarray
    weak: np.ndarray
    strong: np.ndarray
    power_strong: np.ndarray
    model_strong: np.ndarray
    measured: np.ndarray
    measured_power: np.ndarray
    top: np.ndarray
    missing: np.ndarray
    left_over: np.ndarray
    worst_missing: np.ndarray
    worst_left_over: np.ndarray
    low: np.ndarray
    low_power: np.ndarray
    wide: np.ndarray
    wide_power: np.ndarray
    wide_model_power: np.ndarray
    elastic: np.ndarray
    peaks: np.ndarray
    peaks_explained: np.ndarray


def sums(
    read: np.ndarray,
    lines: np.ndarray,
    which: np.ndarray,
    begin: np.ndarray,
    floor: float,
    least: float,
) -> Sums:
    """Returns the sums of one scan and K prototypes.

    Args:
        read: see `shifted_products`, as the next three.
        lines: float32 `[K, L]`.
        which: int `[K]`.
        begin: int `[K]`.
        floor: height below which a scan shows nothing.
        least: height above which the largest of seven points is a peak.
    """
    out = np.zeros((len(lines), len(Sums._fields)))
    _sums(read, lines, which, begin, np.float32(floor), np.float32(least), out)
    return Sums(*out.T)


@compiled_loop
def _sums(read, lines, which, begin, floor, least, out):
    length = lines.shape[1]
    tops, measured_before = _tops_and_counts(read, least)
    model, predicted, lacking, surplus = np.zeros((4, length), np.float32)
    padded, fours = np.zeros((2, 2, length + 2 * _BESIDE), np.float32)
    for row in range(len(lines)):
        first, own = begin[row], lines[row]
        around = read[0, which[row]]
        scan = around[first : first + length]
        inside = read[1, which[row]][first : first + length]
        points = total = total_model = power = model_power = overlap = np.float32(0.0)
        for i in range(length):
            s, m = scan[i], own[i] * inside[i]
            model[i] = m
            points += inside[i]
            total += s
            total_model += m
            power += s * s
            model_power += m * m
            overlap += s * m
        weak = strong = power_strong = model_strong = np.float32(0.0)
        measured = measured_power = np.float32(0.0)
        for i in range(length):
            s, m = scan[i], model[i]
            weak += math.sqrt(s * m)
            strong += (s * m) * (s * m)
            power_strong += (s * s) * (s * s)
            model_strong += (m * m) * (m * m)
            measured += s * inside[i]
            measured_power += s * s * inside[i]
        # The scale that explains the scan best in least squares of roots.
        scale = overlap / max(model_power, np.float32(1e-12))
        missing = left_over = np.float32(0.0)
        for i in range(length):
            predicted[i] = scale * model[i]
            less = predicted[i] - scan[i]
            more = max(np.float32(-0.25) * predicted[i] - less, np.float32(0.0))
            less = max(less - floor, np.float32(0.0))
            missing += less * less
            left_over += more * more
            lacking[i], surplus[i] = less, more
        # Where more than half of what was measured has been passed.
        before = measured_before[which[row]]
        half, middle, above = before[first] + int(points) // 2, 0, length - 1
        while middle < above:
            between = (middle + above) // 2
            if before[first + between + 1] > half:
                above = between
            else:
                middle = between + 1
        low = low_power = np.float32(0.0)
        for i in range(max(middle, 1)):
            low += scan[i] * model[i]
            low_power += scan[i] * scan[i]
        # Sums of 17 points around each, zeros beyond the ends, from sums of four.
        for i in range(length):
            padded[0, i + _BESIDE], padded[1, i + _BESIDE] = scan[i], model[i]
        for look in range(2):
            row17, row4 = padded[look], fours[look]
            for i in range(length + 2 * _BESIDE - 3):
                row4[i] = (row17[i] + row17[i + 1]) + (row17[i + 2] + row17[i + 3])
        both = wide_power = wide_model_power = np.float32(0.0)
        for i in range(length):
            s, m = padded[0, i + 16], padded[1, i + 16]
            s += (fours[0, i] + fours[0, i + 4]) + (fours[0, i + 8] + fours[0, i + 12])
            m += (fours[1, i] + fours[1, i + 4]) + (fours[1, i + 8] + fours[1, i + 12])
            both += s * m
            wide_power += s * s
            wide_model_power += m * m
        elastic = np.float32(0.0)
        for window in range(_WINDOWS):
            start, end = window * length // _WINDOWS, (window + 1) * length // _WINDOWS
            best = np.float32(0.0)
            for by in _ELASTIC:
                moved, part = around[first + by + start : first + by + end], own[start:end]
                product = np.float32(0.0)
                for i in range(len(part)):
                    product += moved[i] * part[i]
                best = max(best, product)
            elastic += best
        heights = explained = np.float32(0.0)
        at = tops[which[row]]
        for place in range(at[0] + 2 * _NEAR):
            i = at[place + 1] - first
            if place >= at[0]:  # the ends, where what lies outside has no say
                end = place - at[0]
                i = end if end < _NEAR else length - 1 - end + _NEAR
                if not (scan[i] > least and _is_largest(scan, i)):
                    continue
            elif i < _NEAR or i >= length - _NEAR:
                continue
            heights += scan[i]
            near = np.float32(0.0)
            for j in range(max(i - 2, 0), min(i + 3, length)):
                near = max(near, predicted[j])
            if near > np.float32(SEEN) * scan[i]:
                explained += scan[i]
        every = (
            points, total, total_model, power, model_power, overlap, weak, strong, power_strong,
            model_strong, measured, measured_power, _largest(scan), missing, left_over,
            _largest(lacking), _largest(surplus), low, low_power, both, wide_power,
            wide_model_power, elastic, heights, explained,
        )  # fmt: skip
        for place, value in enumerate(every):
            out[row, place] = value


@compiled_loop
def _largest(row):
    """The largest of float32 that are not negative: their bits as integers are in the same order.

    Comparing integers takes eight at once, which comparing floats does not.
    """
    bits, largest = row.view(np.int32), np.int32(0)
    for i in range(len(bits)):
        largest = max(largest, bits[i])
    return np.array([largest]).view(np.float32)[0]


@compiled_loop
def _tops_and_counts(read, least):
    """The count and the places of the peaks of each row, and how many points before were measured.

    Integers `[D, W + 7]`: count and places; measured ones before each of W points.
    """
    _, count, width = read.shape
    tops, counts = np.zeros((2, count, width + 2 * _NEAR + 1), np.int64)
    for row in range(count):
        scan = read[0, row]
        for i in range(width):
            counts[row, i + 1] = counts[row, i] + int(read[1, row, i])
            if scan[i] > least and scan[i] >= scan[i - 1] and _is_largest(scan, i):
                tops[row, 0] += 1
                tops[row, tops[row, 0]] = i
    return tops, counts


@compiled_loop
def _is_largest(row, i):
    """Whether no point within three of one is larger."""
    largest = row[i]
    for j in range(max(i - _NEAR, 0), min(i + _NEAR + 1, len(row))):
        largest = max(largest, row[j])
    return row[i] == largest
