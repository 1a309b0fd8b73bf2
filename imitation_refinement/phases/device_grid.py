"""Placing simulated scans on the grid within `jit`: `xrd.scans.on_grid` for uniform 2 theta.

Belongs here: what `on_grid` and the functions under it do to a scan, on arrays of a fixed size of
which the first n points are the scan, so that a device makes many at once. A simulated scan has a
uniform axis and no holes, so that places on it are computed and not searched, and differences of q
are taken from angles, which float32 can hold. `tests/phases/test_phases_device.py` compares both.

Not here: `xrd.signal.missing_signal`. Angles are 2 theta in degrees, q = 2 pi / d in 1/angstrom.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from imitation_refinement.xrd.cells import NOISE_WINDOW
from imitation_refinement.xrd.grid import Grid, grid_q
from imitation_refinement.xrd.scans import FLOOR, SNIP_SCALE, SNIP_SMOOTHING, TOGETHER

Array = Any  # jax.Array, or what becomes one
_CLIPS = 60  # largest distance of SNIP, in points


class Axis(NamedTuple):
    """The uniform axis of a scan: its first angle, its step, and how many of the points are it."""

    begin: Array
    step: Array
    count: Array


class Placed(NamedTuple):
    """A scan on the grid; see `xrd.scans.PlacedScan`, `[L]` each and a scalar `scale`."""

    pattern: Array
    mask: Array
    background: Array
    excess: Array
    noise: Array
    scale: Array


# --- Filters of the first n points ---------------------------------------------------------------


def snip(values: Array, first: Array, stop: Array) -> Array:
    """Returns `xrd.background.snip` of the points from `first` to before `stop`, `[n]`.

    Args:
        values: not negative, `[n]`.
        first: see above.
        stop: more than 120 points after `first`.
    """
    number = jnp.arange(len(values), dtype=jnp.int32)
    scaled = jnp.log(jnp.log(jnp.sqrt(values + 1.0) + 1.0) + 1.0)

    def clip(i: Array, scaled: Array) -> Array:
        distance = _CLIPS - i
        wide = jnp.pad(scaled, _CLIPS)
        below, above = (
            jax.lax.dynamic_slice(wide, (_CLIPS + shift,), values.shape)
            for shift in (-distance, distance)
        )
        within = (number - distance >= first) & (number + distance < stop)
        return jnp.where(within, jnp.minimum(scaled, 0.5 * (below + above)), scaled)

    scaled = jax.lax.fori_loop(0, _CLIPS, clip, scaled)
    return jnp.square(jnp.exp(jnp.exp(scaled) - 1.0) - 1.0) - 1.0


def weighted_window(values: Array, index: Array, weights: Array) -> Array:
    """Returns sum_k weights[k] values[index[i + k]], `[len(index) - len(weights) + 1]`.

    Args:
        values: `[n]`.
        index: of the neighbours of all points, from the first of the first on.
        weights: `[w]`.
    """
    wide = values[index]
    size = len(index) - len(weights) + 1

    def add(k: Array, total: Array) -> Array:
        return total + weights[k] * jax.lax.dynamic_slice(wide, (k,), (size,))

    return jax.lax.fori_loop(0, len(weights), add, jnp.zeros(size, values.dtype))


def reflected(index: Array, count: Array) -> Array:
    """Returns places beyond the ends of `count` points as a mirror there shows them."""
    index = jnp.where(index < 0, -1 - index, index)
    return jnp.clip(jnp.where(index >= count, 2 * count - 1 - index, index), 0, count - 1)


def window_medians(values: Array, start: Array, size: int) -> Array:
    """Returns the median of `values[start:start + size]` for each start, `[k]`.

    By a wavelet matrix: ranks are dealt out by one bit after the other, from the highest, and each
    window follows the half that its median is in (F. Claude, G. Navarro, A. Ordonez, Information
    Systems 47, 15, 2015). One pass over the values for each bit, however wide the windows.

    Args:
        values: `[n]`.
        start: int `[k]`, 0 to n - size.
        size: odd.
    """
    count = len(values)
    bits = max(1, (count - 1).bit_length())
    order = jnp.argsort(values)
    number = jnp.arange(count, dtype=jnp.int32)
    rank = jnp.zeros(count, jnp.int32).at[order].set(number)

    def deal(i: Array, state: tuple[Array, ...]) -> tuple[Array, ...]:
        rank, left, right, place, found = state
        bit = bits - 1 - i
        upper = (rank >> bit) & 1
        before = jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum(upper, dtype=jnp.int32)])
        lower_count = count - before[-1]
        lower = (right - left) - (before[right] - before[left])
        up = place >= lower
        left, right = (
            jnp.where(up, lower_count + before[end], end - before[end]) for end in (left, right)
        )
        to = jnp.where(upper == 1, lower_count + before[:-1], number - before[:-1])
        rank = jnp.zeros(count, jnp.int32).at[to].set(rank, unique_indices=True)
        return (
            rank,
            left,
            right,
            place - jnp.where(up, lower, 0),
            found | (up.astype(jnp.int32) << bit),
        )

    start = start.astype(jnp.int32)
    middle = jnp.full(start.shape, size // 2, jnp.int32)
    state = rank, start, start + size, middle, jnp.zeros_like(start)
    return values[order][jax.lax.fori_loop(0, bits, deal, state)[-1]]


# --- The grid ------------------------------------------------------------------------------------


def on_grid(counts: Array, axis: Axis, wavelength: Array, grid: Grid) -> Placed:
    """Returns a scan on the grid as `xrd.scans.on_grid` places it.

    Args:
        counts: of at least 203 points, zero beyond them, `[n]`.
        axis: of the scan.
        wavelength: angstrom.
        grid: of which the scan covers a tenth or more.
    """
    kind = counts.dtype
    cells = jnp.asarray(grid_q(grid), kind)
    size = len(cells)
    where = _Places(axis, wavelength, len(counts), kind)
    place = where.of(cells)
    mask = (place > 0.0) & (place <= where.last)
    density = counts / where.slope
    averaged = jnp.where(mask, jnp.maximum(cell_means(density, where, grid), 0.0), 0.0)
    top = _or_one(jnp.max(averaged))
    width = where.interpolated(where.gradient, place) / jnp.asarray(np.gradient(grid_q(grid)), kind)
    sigma = _noise(density, where, place) / jnp.sqrt(jnp.maximum(1.0 / width, 1.0))
    first = jnp.argmax(mask).astype(jnp.int32)
    stop = first + jnp.sum(mask, dtype=jnp.int32)
    reach = SNIP_SMOOTHING // 2
    index = jnp.clip(jnp.arange(-reach, size + reach, dtype=jnp.int32), first, stop - 1)
    even = jnp.full(SNIP_SMOOTHING, 1.0 / SNIP_SMOOTHING, kind)
    smooth = weighted_window(SNIP_SCALE / top * averaged, index, even)
    background = jnp.where(mask, snip(smooth, first, stop) * (top / SNIP_SCALE), 0.0)
    excess = averaged - background
    near = jnp.maximum(jnp.ceil(width), 1.0).astype(jnp.int32)
    number = jnp.arange(size, dtype=jnp.int32)
    beside = excess[jnp.maximum(number - near, 0)] + excess[jnp.minimum(number + near, size - 1)]
    peak = (excess > FLOOR * sigma) & (excess + beside > TOGETHER * np.sqrt(3.0) * sigma)
    pattern = jnp.where(peak & mask, excess, 0.0)
    highest = jnp.max(pattern)
    scale = jnp.where(highest > 0.0, highest, top)
    return Placed(pattern / scale, mask, background / scale, excess / scale, sigma / scale, scale)


def expected_on_grid(
    expected: Array, axis: Axis, wavelength: Array, placed: Placed, grid: Grid
) -> Array:
    """Returns expected counts in the unit of the pattern, `[L]`: see `pairs.true_pattern`."""
    where = _Places(axis, wavelength, len(expected), expected.dtype)
    means = cell_means(expected / where.slope, where, grid)
    return jnp.where(placed.mask, means / placed.scale, 0.0)


def cell_means(density: Array, where: "_Places", grid: Grid) -> Array:
    """Returns `xrd.cells.cell_means` of a scan, `[L]`; areas of steps are summed cell by cell.

    Args:
        density: intensity per unit of q at the points, `[n]`.
        where: the points.
        grid: whose cells.
    """
    centers = grid_q(grid)
    inner = 0.5 * (centers[1:] + centers[:-1])
    borders = np.concatenate([[2 * centers[0] - inner[0]], inner, [2 * centers[-1] - inner[-1]]])
    edges = jnp.asarray(borders, density.dtype)
    place = where.of(edges)
    last = where.count - 1
    left = jnp.clip(jnp.floor(place).astype(jnp.int32), 0, last - 1)
    here, after = density[left], density[left + 1]
    step = where.between(left, 1.0)
    into = where.between(left, jnp.clip(place - left.astype(place.dtype), 0.0, 1.0))
    begun = here * into + 0.5 * (after - here) / step * jnp.square(into)
    outside = density[0] * where.between(jnp.zeros_like(left), jnp.minimum(place, 0.0))
    after_last = jnp.maximum(place - where.last, 0.0)
    outside += density[last] * where.between(jnp.full_like(left, last), after_last)
    areas = 0.5 * (density + jnp.roll(density, -1)) * where.between(where.number, 1.0)
    areas = jnp.where(where.number < last, areas, 0.0)
    # Step i belongs to the last cell whose left edge lies in it or before it.
    cell = jnp.cumsum(jnp.zeros_like(where.number).at[left].add(1), dtype=jnp.int32) - 1
    cell = jnp.where(cell < 0, len(centers), cell)  # beyond all of them: dropped
    whole = jnp.zeros(len(centers), density.dtype).at[cell].add(areas, mode="drop")
    total = whole + jnp.diff(begun + outside)
    return total / jnp.asarray(np.diff(borders), density.dtype)


def _noise(density: Array, where: "_Places", place: Array) -> Array:
    """The noise of a point of the scan at each cell: see `xrd.cells.cell_noise`, `[L]`."""
    second = jnp.abs(density - 2.0 * jnp.roll(density, -1) + jnp.roll(density, -2))
    reach = NOISE_WINDOW // 2
    wide = second[
        reflected(jnp.arange(-reach, len(density) + reach, dtype=jnp.int32), where.count - 2)
    ]
    inner = where.count - 2  # second difference i is at point i + 1
    at = jnp.clip(place - 1.0, 0.0, where.last - 2.0)
    left = jnp.clip(jnp.floor(at).astype(jnp.int32), 0, inner - 2)
    both = window_medians(wide, jnp.concatenate([left, left + 1]), NOISE_WINDOW)
    before, after = jnp.split(both / (0.6745 * np.sqrt(6.0)), 2)
    share = where.between(left + 1, at - left.astype(at.dtype)) / where.between(left + 1, 1.0)
    return before + share * (after - before)


class _Places:
    """The points of a scan, and places between them; differences of q without cancellation."""

    def __init__(self, axis: Axis, wavelength: Array, size: int, kind: Any):
        self.number = jnp.arange(size, dtype=jnp.int32)
        self.count = axis.count
        self.last = (axis.count - 1).astype(kind)
        self._begin, self._step = axis.begin, axis.step
        self._factor = 4.0 * np.pi / wavelength
        theta = self._theta(self.number.astype(kind))
        half = jnp.deg2rad(0.5 * axis.step)
        self.slope = 0.5 * self._factor * jnp.cos(theta)  # dq / d(2 theta)
        inside = self._factor * jnp.cos(theta) * jnp.sin(half)  # of numpy.gradient
        inside = jnp.where(self.number == 0, self.between(self.number, 1.0), inside)
        before = jnp.maximum(self.number - 1, 0)
        last = self.number == axis.count - 1
        self.gradient = jnp.where(last, self.between(before, 1.0), inside)

    def _theta(self, place: Array) -> Array:
        return jnp.deg2rad(0.5 * (self._begin + self._step * place))

    def of(self, q: Array) -> Array:
        """Returns where q lies, in steps from the first point."""
        angle = 2.0 * jnp.rad2deg(jnp.arcsin(jnp.minimum(q / self._factor, 1.0)))
        return (angle - self._begin) / self._step

    def between(self, point: Array, steps: Array | float) -> Array:
        """Returns the difference of q from a point to some steps after it."""
        half = 0.5 * jnp.deg2rad(0.5 * self._step) * steps
        middle = self._theta(point.astype(self._step.dtype)) + half
        return 2.0 * self._factor * jnp.cos(middle) * jnp.sin(half)

    def interpolated(self, values: Array, place: Array) -> Array:
        """Returns values at the points, linear in q between them; at the ends the end values."""
        at = jnp.clip(place, 0.0, self.last)
        left = jnp.clip(jnp.floor(at).astype(jnp.int32), 0, self.count - 2)
        share = self.between(left, at - left.astype(at.dtype)) / self.between(left, 1.0)
        return values[left] + share * (values[left + 1] - values[left])


def _or_one(value: Array) -> Array:
    return jnp.where(value > 0.0, value, 1.0)
