"""Loops that are compiled, over the reflections and lines of one structure and the peaks near them.

Belongs here: what NumPy would do in some hundred calls on a few dozen numbers each, where the calls
take longer than the numbers: places of reflections, slopes and axes of lines, the peaks of a scan
that lines predict, and least squares that forgive. What they mean is said where they are called;
see `compiled` for how.
"""
# ruff: noqa: E741 (h, k and l are so called)

import math

import numpy as np

from imitation_refinement.phases.compiled import compiled_loop


@compiled_loop
def listed(inverse: np.ndarray, most: np.ndarray, limit: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns one of each pair hkl, -h-k-l, but for 000, whose normal is short enough.

    Args:
        inverse: of the lattice vectors as rows, `[3, 3]`.
        most: the largest h, k and l, int `[3]`.
        limit: of the squared length of the normal.

    Returns:
        (hkl, squared lengths), float64 `[3, n]` and `[n]`, in the order of h, then k, then l.
    """
    room = (2 * most[0] + 1) * (2 * most[1] + 1) * (2 * most[2] + 1) // 2
    hkl, square, count = np.empty((3, room)), np.empty(room), 0
    for h in range(-most[0], 1):
        for k in range(-most[1], (most[1] if h < 0 else 0) + 1):
            for l in range(-most[2], (most[2] if h < 0 or k < 0 else -1) + 1):
                length = 0.0
                for axis in range(3):
                    part = inverse[axis, 0] * h + inverse[axis, 1] * k + inverse[axis, 2] * l
                    length += part * part
                if length < limit:
                    hkl[0, count], hkl[1, count], hkl[2, count] = h, k, l
                    square[count] = length
                    count += 1
    return hkl[:, :count], square[:count]


@compiled_loop
def line_slopes(
    hkl: np.ndarray, square: np.ndarray, first: np.ndarray, last: np.ndarray, six: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns d(ln q) of each line by p components of the metric, and whether it has one.

    The mean of the least and the largest of its reflections, if these are nearly the same.

    Args:
        hkl: reflections, `[3, n]`.
        square: squared lengths of their normals, `[n]`.
        first: the first reflection of each of m lines, int `[m]`.
        last: one after the last, int `[m]`.
        six: what h^2, k^2, l^2, kl, hl, hk are multiplied by for each component, `[p, 6]`.

    Returns:
        (slopes, whether), float64 `[m, p]` and bool `[m]`.
    """
    slope, has = np.zeros((len(first), len(six))), np.zeros(len(first), np.bool_)
    for line in range(len(first)):
        if last[line] == first[line]:
            continue
        apart, steepest = 0.0, 0.0
        for component in range(len(six)):
            by = six[component]
            least, most = np.inf, -np.inf
            for i in range(first[line], last[line]):
                h, k, l = hkl[0, i], hkl[1, i], hkl[2, i]
                value = h * (by[0] * h + by[5] * k + by[4] * l)
                value += k * (by[1] * k + by[3] * l) + by[2] * l * l
                value *= 0.5 / square[i]
                least, most = min(least, value), max(most, value)
            slope[line, component] = 0.5 * (least + most)
            apart, steepest = max(apart, most - least), max(steepest, abs(most + least))
        has[line] = apart < 0.05 * steepest
    return slope, has


@compiled_loop
def line_axes(normals: np.ndarray, first: np.ndarray, last: np.ndarray, most: int) -> np.ndarray:
    """Returns 3 cos^2 - 1 of m lines about axes that differ, float64 `[axes, m]`.

    Means over the reflections of each line. Axes of which one's means are the other's times a
    constant, as in a crystal of one principal axis all are, are one: that of the largest means. One
    about which all means are 0 tells nothing.

    Args:
        normals: of length 1, of reflections, `[3, n]`.
        first: see `line_slopes`, as the next.
        last: int `[m]`.
        most: so many lines' first reflections may be axes.
    """
    lines = len(first)
    # The last row is that of the axis that is tried.
    terms, power = np.zeros((most + 1, lines)), np.zeros(most)
    count, tried, own = 0, 0, most
    for of in range(lines):
        if tried == most or last[of] == first[of]:
            continue
        tried += 1
        a, b, c = normals[0, first[of]], normals[1, first[of]], normals[2, first[of]]
        size = 0.0
        for line in range(lines):
            total = 0.0
            for i in range(first[line], last[line]):
                cosine = a * normals[0, i] + b * normals[1, i] + c * normals[2, i]
                total += 3.0 * cosine * cosine - 1.0
            terms[own, line] = total / max(last[line] - first[line], 1)
            size += terms[own, line] * terms[own, line]
        place = count
        for row in range(count):
            product = 0.0
            for line in range(lines):
                product += terms[own, line] * terms[row, line]
            if product * product > 0.998 * size * power[row]:
                place = row
        if size > 1e-6 * lines and (place == count or size > power[place]):
            power[place] = size
            for line in range(lines):
                terms[place, line] = terms[own, line]
            count = max(count, place + 1)
    return terms[:count]


@compiled_loop
def peaks_near(
    place: np.ndarray,
    height: np.ndarray,
    root: np.ndarray,
    reach: int,
    alone: float,
    weakest: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns where the peak near each of m lines is in a scan, -1 where there is none.

    Args:
        place: of lines, in points, ascending, float64 `[m]`.
        height: of these, `[m]`.
        root: of the scan, `[L]`.
        reach: points on either side in which a peak may be.
        alone: points within which no other line is a fifth as strong.
        weakest: of the largest height, from which on a line has a say.

    Returns:
        (points, by a parabola through three of them; heights there), float64 `[m]` each.
    """
    found, peaks = np.zeros(len(place)), np.zeros(len(place))
    tallest = 0.0
    for line in range(len(place)):
        tallest = max(tallest, height[line])
    weakest *= tallest
    for line in range(len(place)):
        found[line] = -1.0
        begin = math.floor(place[line] + 0.5) - reach
        if begin < 1 or begin + 2 * reach + 2 > len(root) or not height[line] > weakest:
            continue
        crowded = False
        for direction in (-1, 1):
            other = line + direction
            while 0 <= other < len(place) and abs(place[other] - place[line]) < alone:
                crowded |= height[other] > 0.2 * height[line]
                other += direction
        if crowded:
            continue
        top = begin
        for i in range(begin + 1, begin + 2 * reach + 1):
            if root[i] > root[top]:
                top = i
        before, peak, after = float(root[top - 1]), float(root[top]), float(root[top + 1])
        bend = 2.0 * peak - before - after
        if peak > 0.0 and before <= peak and after <= peak and bend > 0.0:
            found[line], peaks[line] = top + 0.5 * (after - before) / bend, peak
    return found, peaks


@compiled_loop
def forgiving_fit(
    design: np.ndarray, observed: np.ndarray, spread: np.ndarray, scale: np.ndarray, rounds: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns what linear least squares find, with Gaussian priors and Cauchy weights.

    Args:
        design: `[n, p]`.
        observed: `[n]`.
        spread: standard deviation of each that is observed, `[n]`.
        scale: standard deviation of the prior of each that is found, `[p]`.
        rounds: of weights.

    Returns:
        (found, normal matrix of the last round), float64 `[p]` and `[p, p]`.
    """
    count, free = design.shape
    found, normal, lower = np.zeros(free), np.zeros((free, free)), np.zeros((free, free))
    off = np.zeros(count)
    for _ in range(rounds):
        for a in range(free):
            found[a] = 0.0
            for b in range(free):
                normal[a, b] = 1.0 / (scale[a] * scale[a]) if a == b else 0.0
        for i in range(count):
            weight = 1.0 / (spread[i] * spread[i] + off[i] * off[i])
            for a in range(free):
                by = weight * design[i, a]
                found[a] += by * observed[i]
                for b in range(free):
                    normal[a, b] += by * design[i, b]
        # By the Cholesky decomposition.
        for a in range(free):
            for b in range(a + 1):
                rest = normal[a, b]
                for c in range(b):
                    rest -= lower[a, c] * lower[b, c]
                lower[a, b] = math.sqrt(rest) if a == b else rest / lower[b, b]
            for c in range(a):
                found[a] -= lower[a, c] * found[c]
            found[a] /= lower[a, a]
        for a in range(free - 1, -1, -1):
            for c in range(a + 1, free):
                found[a] -= lower[c, a] * found[c]
            found[a] /= lower[a, a]
        for i in range(count):
            off[i] = observed[i]
            for a in range(free):
                off[i] -= design[i, a] * found[a]
    return found, normal


@compiled_loop
def peak_sums(
    root: np.ndarray,
    excess: np.ndarray,
    noise: np.ndarray,
    mask: np.ndarray,
    q: np.ndarray,
    step: float,
    near: float,
    weak: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Adds up a scan over each peak of what is predicted of it.

    A peak ends where the running mean over five points has a minimum.

    Args:
        root: of what is predicted, as drawn, float32 `[L]`.
        excess: of the scan, `[L]`, as the next three.
        noise: of it.
        mask: of it, bool.
        q: of the points, 1/angstrom.
        step: of ln q.
        near: of a peak's largest value, from which on points belong to it.
        weak: share of all intensity, from which on a peak counts.

    Returns:
        (predicted, measured, variance, q of the center of m peaks, `[4, m]`; which of them each
        point is in, -1 for none, int `[L]`).
    """
    length = len(root)
    model, wide = np.zeros(length + 4), np.empty(length)
    part, largest = np.empty(length, np.int64), np.zeros(length)
    for i in range(length):
        model[i + 2] = float(root[i]) ** 2 if mask[i] else 0.0
    for i in range(length):
        wide[i] = 0.2 * (model[i] + model[i + 1] + model[i + 2] + model[i + 3] + model[i + 4])
    number, tallest = 0, 0.0
    for i in range(length):
        if 0 < i < length - 1 and wide[i] <= wide[i - 1] and wide[i] < wide[i + 1]:
            number += 1
        part[i] = number
        largest[number] = max(largest[number], wide[i])
        tallest = max(tallest, wide[i])
    sums = np.zeros((4, number + 1))
    for i in range(length):
        own = part[i]
        if mask[i] and wide[i] > near * largest[own] and wide[i] > weak * tallest:
            width = q[i] * step  # patterns are per unit of q
            sums[0, own] += model[i + 2] * width
            sums[1, own] += excess[i] * width
            sums[2, own] += (noise[i] * width) ** 2
            sums[3, own] += model[i + 2] * width * q[i]
    every = 0.0
    for own in range(number + 1):
        every += sums[0, own]
    numbers, count = np.empty(number + 1, np.int64), 0
    for own in range(number + 1):
        numbers[own] = -1
        if sums[0, own] > weak * every:
            numbers[own] = count
            sums[3, own] /= sums[0, own]
            for kind in range(4):
                sums[kind, count] = sums[kind, own]
            count += 1
    for i in range(length):
        part[i] = numbers[part[i]]
    return sums[:, :count], part


@compiled_loop
def axis_sums(
    peak: np.ndarray, height: np.ndarray, terms: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the heights of the lines in each of m peaks, and their terms times heights, added up.

    Args:
        peak: which of them each line is in, -1 for none, int `[lines]`.
        height: of the lines, `[lines]`.
        terms: of the lines, `[axes, lines]`.
        count: m.

    Returns:
        (terms, heights), float64 `[axes, m]` and `[m]`.
    """
    heights, sums = np.zeros(count), np.zeros((len(terms), count))
    for line in range(len(peak)):
        if peak[line] >= 0:
            heights[peak[line]] += height[line]
            for axis in range(len(terms)):
                sums[axis, peak[line]] += height[line] * terms[axis, line]
    return sums, heights


@compiled_loop
def smooth_and_about(
    values: np.ndarray, weight: np.ndarray, square: np.ndarray, about: np.ndarray, ridge: float
) -> tuple[float, float, float, float]:
    """Fits values of m peaks by a constant and a slope, and what is left by one axis of several.

    Args:
        values: `[m]`.
        weight: of each, of sum 1, `[m]`.
        square: by which the slope is, `[m]`.
        about: of each axis, `[axes, m]`; what a constant and a slope explain of it is taken off.
        ridge: added to squared norms.

    Returns:
        (the slope, the mean square that constant and slope leave, the slope by the axis with which
        least is left, the mean square left then; with no axis 0 and the same).
    """
    one, x, xx = ridge, 0.0, ridge
    for i in range(len(values)):
        one += weight[i]
        x += weight[i] * square[i]
        xx += weight[i] * square[i] * square[i]
    off = np.empty((len(about) + 1, len(values)))
    slope = 0.0
    for row in range(len(off)):
        own = values if row == 0 else about[row - 1]
        y = xy = 0.0
        for i in range(len(own)):
            y += weight[i] * own[i]
            xy += weight[i] * square[i] * own[i]
        steep = (one * xy - x * y) / (one * xx - x * x)
        level = (y - x * steep) / one
        for i in range(len(own)):
            off[row, i] = own[i] - level - steep * square[i]
        if row == 0:
            slope = steep
    left = 0.0
    for i in range(len(values)):
        left += weight[i] * off[0, i] * off[0, i]
    best, least = 0.0, left
    for row in range(1, len(off)):
        product, power = 0.0, ridge
        for i in range(len(values)):
            product += weight[i] * off[0, i] * off[row, i]
            power += weight[i] * off[row, i] * off[row, i]
        by, after = product / power, 0.0
        for i in range(len(values)):
            rest = off[0, i] - by * off[row, i]
            after += weight[i] * rest * rest
        if after < least:
            best, least = by, after
    return slope, left, best, least
