"""Training views of ideal patterns within `jit`: `profiles.ideal_view`, for devices.

Belongs here: from lines held on a device and a key to a view. Functions are of one view; `jax.vmap`
makes many. The twins in `profiles` are the reference: `tests/xrd/test_device_views.py` gives both
the same random numbers.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from imitation_refinement.tasks import DeviceViews
from imitation_refinement.xrd.grid import Grid
from imitation_refinement.xrd.ideal import IdealLines
from imitation_refinement.xrd.profiles import (
    HUMP_AMPLITUDE,
    HUMP_CENTER,
    HUMP_WIDTH,
    MOST_CUT,
    NOISE,
    SIGMA_PER_FWHM,
    IdealViews,
    ViewDraws,
    axes_of,
    cubic_weights,
    scherrer_fwhm,
    within,
)

Array = Any  # np.ndarray or jax.Array


class Held(NamedTuple):
    """Lines of n patterns, end to end as in `IdealLines`.

    Attributes:
        q: float32 `[sum m]`.
        root_intensity: float16 `[sum m]`.
        start: of each pattern's lines, int32 `[n]`.
        count: of its lines, int32 `[n]`.
    """

    q: Array
    root_intensity: Array
    start: Array
    count: Array


def device_views(lines: IdealLines, grid: Grid, views: IdealViews) -> DeviceViews | None:
    """Returns the views of a set that are made within `jit`.

    Args:
        lines: of the set. Within `jit` each pattern has as many as the longest.
        grid: where views are evaluated.
        views: how they vary.

    Returns:
        None for a set of more lines than int32 counts.
    """
    if lines.offsets[-1] > np.iinfo(np.int32).max:
        return None
    offsets = lines.offsets.astype(np.int32)
    count = np.diff(offsets)
    held = Held(lines.q, lines.root_intensity, offsets[:-1], count)
    most = int(count.max(initial=1))
    return DeviceViews(held, partial(random_view, grid=grid, views=views, most=most))


def random_view(
    held: Held, index: Array, key: Array, *, grid: Grid, views: IdealViews, most: int
) -> Array:
    """Returns a training view of pattern `index`, float32 `[L, 1]`: see `profiles.ideal_view`.

    Args:
        held: on the device.
        index: which pattern, int32.
        key: of all draws.
        grid: where the view is evaluated.
        views: how it varies.
        most: lines of the pattern that has most.
    """
    q, intensity = lines_of(held, index, most)
    return view_of(q, intensity, grid, draw_view(key, most, grid.length, views))[:, None]


def lines_of(held: Held, index: Array, most: int) -> tuple[Array, Array]:
    """Returns q and intensity of a pattern, float32 `[most]`; intensity 0 for what is no line."""
    number = jnp.arange(most, dtype=jnp.int32)
    place = held.start[index] + number
    there = number < held.count[index]
    root = jnp.where(there, held.root_intensity[place].astype(jnp.float32), 0.0)
    return jnp.where(there, held.q[place], 1.0), jnp.square(root)


def draw_view(key: Array, count: int, length: int, views: IdealViews) -> ViewDraws:
    """Draws what `profiles.draw_view` does, float32; arguments see there."""
    keys = iter(jax.random.split(key, 10))

    def uniform(low: float, high: float, *shape: int) -> Array:
        return jax.random.uniform(next(keys), shape, minval=low, maxval=high)

    size_nm = jnp.exp(uniform(*np.log(views.size_nm)))
    draws = ViewDraws(size_nm, uniform(0.0, views.lorentzian))
    if views.augment:
        amplitude = 10.0 ** uniform(*HUMP_AMPLITUDE, 2)
        places = uniform(*HUMP_CENTER, 2), uniform(*HUMP_WIDTH, 2)
        draws = draws._replace(
            grains=views.texture * jax.random.normal(next(keys), (count,)),
            humps=jnp.stack([amplitude, *places], axis=1),
            sigma=10.0 ** uniform(*NOISE),
            noise=jax.random.normal(next(keys), (length,)),
            cut=uniform(0.0, MOST_CUT),
        )
    if max(views.coverage) <= 0.0:
        return draws
    low, high = uniform(0.0, 1.0, 2) * jnp.asarray(views.coverage, jnp.float32)
    return draws._replace(window=within(length, low, high))


def view_of(q: Array, intensity: Array, grid: Grid, draws: ViewDraws) -> Array:
    """Returns what `profiles.view_of` does, of the dtype of q.

    Args:
        q: of the lines, `[m]`.
        intensity: 0 for what is no line, `[m]`.
        grid: where the view is evaluated.
        draws: random numbers.
    """
    if draws.grains is not None:
        intensity = intensity * jnp.exp(draws.grains)
    pattern = _normalized(_rendered(q, intensity, grid, draws))
    if draws.humps is not None:
        x = jnp.linspace(0.0, 1.0, grid.length, dtype=q.dtype)
        for amplitude, center, width in draws.humps:
            pattern = pattern + amplitude * jnp.exp(-0.5 * jnp.square((x - center) / width))
        pattern = pattern + draws.sigma * draws.noise
        pattern = jnp.where(pattern < draws.sigma * draws.cut, 0.0, pattern)
    return _normalized(pattern if draws.window is None else jnp.where(draws.window, pattern, 0.0))


def _rendered(q: Array, intensity: Array, grid: Grid, draws: ViewDraws) -> Array:
    """`profiles.render` without microstrain and instrument."""
    axes = axes_of(grid)
    width = scherrer_fwhm(1.0) / draws.size_nm
    frequency = jnp.asarray(axes.frequency, q.dtype)
    gaussian = jnp.exp(-0.5 * jnp.square(SIGMA_PER_FWHM * width * frequency))
    lorentzian = jnp.exp(-0.5 * width * frequency)
    transfer = (1.0 - draws.eta) * gaussian + draws.eta * lorentzian
    spectrum = jnp.fft.rfft(_splat(q, intensity, grid))
    fine = jnp.fft.irfft(spectrum * transfer.astype(spectrum.dtype), axes.points)
    left, weights = axes.to_grid
    neighbours = fine[jnp.asarray(left, jnp.int32)[None] + np.arange(4, dtype=np.int32)[:, None]]
    return jnp.maximum(jnp.sum(jnp.asarray(weights, q.dtype) * neighbours, axis=0), 0.0)


def _splat(q: Array, intensity: Array, grid: Grid) -> Array:
    """`profiles._splat`.

    Of (q - start) / step float32 has 5e-4 of a step left, so how far a line lies beyond its left
    neighbour is computed from the neighbour's place, which is held in two parts.
    """
    axes = axes_of(grid)
    nodes = axes.start + axes.step * np.arange(axes.points)
    high = nodes.astype(q.dtype)
    low = (nodes - high).astype(q.dtype)
    place = (q - axes.start) / axes.step
    inside = (place >= 1.0) & (place < axes.points - 2)
    left = jnp.clip(jnp.floor(place), 1, axes.points - 3).astype(jnp.int32)
    t = (q - jnp.asarray(high)[left] - jnp.asarray(low)[left]) / axes.step
    shares = jnp.stack(cubic_weights(t)) * (intensity / axes.step)[None]
    # Nothing is added for what is no line or outside: all of them at one place would be slow.
    target = jnp.where(inside & (intensity > 0.0), left - 1, axes.points)
    targets = target[None] + np.arange(4, dtype=np.int32)[:, None]
    return jnp.zeros(axes.points, q.dtype).at[targets].add(shares, mode="drop")


def _normalized(pattern: Array) -> Array:
    """`profiles.normalize_max`."""
    top = jnp.max(pattern)
    return jnp.where(top > 0.0, pattern / jnp.where(top > 0.0, top, 1.0), pattern)
