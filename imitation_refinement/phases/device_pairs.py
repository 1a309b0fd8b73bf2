"""Batches of the refiner of phases made on the device: scans that are drawn anew in every step.

Belongs here: a batch of `refining.phase_loss` as a pure function of a key and of what is held on
the device (`device_held`). How far each rival is shifted is found for every scan. `xrd.signal` is
not asked: a scan in which nothing rises above the noise is replaced by another of the batch.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from imitation_refinement.method.refiner import Batch
from imitation_refinement.phases.device_draws import Draw, Structures, draw
from imitation_refinement.phases.device_grid import Placed, expected_on_grid, on_grid
from imitation_refinement.phases.device_held import Held
from imitation_refinement.phases.device_scans import (
    Bounds,
    Expected,
    expected_scan,
    stated_wavelength,
    treated,
)
from imitation_refinement.phases.pairs import COUNTS, QUICK
from imitation_refinement.phases.prototypes import FOLD, SMOOTH, log_axis
from imitation_refinement.phases.refining import SIGNIFICANT
from imitation_refinement.phases.samples import Laboratory
from imitation_refinement.phases.scores import PRIOR, PRIOR_WEIGHT, SHIFTS
from imitation_refinement.xrd.grid import Grid

Array = Any  # np.ndarray or jax.Array
# Longer scans than the few thousand pairs on disk have room for, and more of a second phase: what
# was trained on these only was no closer to a scan four times as long from 5,000 counts on.
LABORATORIES = tuple(
    one._replace(counts=(COUNTS[0], 1e5), impurity=(one.impurity[0], 0.6)) for one in QUICK
)
_LEAST_COVERED = 0.1  # share of the grid: see `on_grid`


class Scans(NamedTuple):
    """n simulated scans as they are handed on.

    Attributes:
        placed: on the grid.
        truth: their expected peaks there, `[n, L]`.
        counts: of the strongest point, `[n]`.
    """

    placed: Placed
    truth: Array
    counts: Array


def batch(held: Held, key: jax.Array, *, size: int, bounds: Bounds, grid: Grid) -> Batch:
    """Returns a batch of `refining.phase_loss`, of laboratories in turns.

    Args:
        held: on the device.
        key: of all draws.
        size: B.
        bounds: of the arrays of a scan.
        grid: of the prototypes.
    """
    keys = jax.random.split(key, size + 1)
    chosen, other = held.turn[jax.random.randint(keys[0], (2, size), 0, len(held.turn))]
    structures, others = (_rows(held.structures, rows) for rows in (chosen, other))
    turn = jnp.arange(size, dtype=jnp.int32) % len(LABORATORIES)
    laboratories = jax.tree.map(lambda *of: jnp.asarray(of, jnp.float32)[turn], *LABORATORIES)
    scans = jax.vmap(partial(simulated_scan, bounds=bounds, grid=grid))(
        keys[1:], structures, others, laboratories
    )
    usable = (jnp.max(scans.placed.pattern, axis=1) > 0.0) & (
        jnp.mean(scans.placed.mask.astype(jnp.float32), axis=1) >= _LEAST_COVERED
    )
    first = jnp.argsort(~usable, stable=True)
    rows = first[jnp.arange(size) % jnp.maximum(jnp.sum(usable), 1)]
    scans = _rows(scans, rows)
    rival = held.rival[chosen[rows]]
    bank = jax.vmap(partial(shifted_rivals, grid=grid))(
        scans, held.bank[rival].astype(jnp.float32), held.kind[rival]
    )
    return {
        "x": shown(scans.placed), "mask": scans.placed.mask.astype(jnp.float32),
        "truth": scans.truth, "bank": bank, "phase": held.phase[chosen[rows]],
    }  # fmt: skip


def simulated_scan(
    key: jax.Array,
    structure: Structures,
    other: Structures,
    laboratory: Laboratory,
    *,
    bounds: Bounds,
    grid: Grid,
) -> Scans:
    """Draws a scan of a sample of one structure and places it, without the leading axis.

    Args:
        key: see `device_draws.draw`, as those that are not named here.
        structure: see there.
        other: see there.
        laboratory: see there.
        bounds: of the arrays.
        grid: where it is placed.
    """
    drawing, counting = jax.random.split(key)
    drawn = draw(drawing, structure, other, laboratory, bounds.points)
    expected = expected_scan(drawn.lines, drawn.impurity, drawn.tube, drawn.sample, bounds)
    mean = (expected.profile + expected.background) * drawn.sample.strongest
    counts = jax.random.poisson(counting, mean).astype(mean.dtype)
    return placed_scan(expected, counts, drawn, grid)


def placed_scan(expected: Expected, counts: Array, drawn: Draw, grid: Grid) -> Scans:
    """Returns a scan that was counted as it is handed on and placed, without the leading axis.

    Args:
        expected: the scan before it was counted.
        counts: zero beyond the axis, `[n]`.
        drawn: what it was made of.
        grid: where it is placed.
    """
    peaks = expected.profile * drawn.sample.strongest
    counts, peaks = treated(counts, peaks, expected.axis, drawn.treatment)
    wavelength = stated_wavelength(drawn.tube, drawn.treatment)
    placed = on_grid(counts, expected.axis, wavelength, grid)
    truth = expected_on_grid(peaks, expected.axis, wavelength, placed, grid)
    return Scans(placed, truth, jnp.max(counts))


def shown(placed: Placed) -> Array:
    """Returns `refining.shown`, `[..., L, CHANNELS]`."""
    deviations = placed.excess / jnp.maximum(placed.noise, 1e-4)
    signal = jnp.arcsinh(deviations) / SIGNIFICANT
    return jnp.stack([placed.pattern, placed.excess, signal], axis=-1)


def shifted_rivals(scan: Scans, drawn: Array, kind: Array, grid: Grid) -> Array:
    """Returns prototypes where they fit a scan best: see `pairs.with_rivals`, `[1 + RIVALS, P]`.

    They are moved by whole points, a change of the cell by 0.2 %.

    Args:
        scan: one, without the leading axis.
        drawn: root patterns, the own one first, `[1 + RIVALS, P]`.
        kind: of the source of each.
        grid: of the scan.
    """
    best = best_shifts(scan, drawn, kind, grid)
    points = drawn.shape[1]
    place = (
        jnp.arange(points, dtype=jnp.int32)[None] - jnp.asarray(SHIFTS, jnp.int32)[best][:, None]
    )
    moved = jnp.take_along_axis(drawn, jnp.clip(place, 0, points - 1), axis=1)
    return jnp.where((place >= 0) & (place < points), moved, 0.0)


def best_shifts(scan: Scans, drawn: Array, kind: Array, grid: Grid) -> Array:
    """Returns which of `SHIFTS` fits each prototype best, int `[1 + RIVALS]`; see `shifted_rivals`.

    By the cosine with the scan, of the own prototype with its truth, and the prior.
    """
    axis = log_axis(grid)
    shifts = (axis[1] - axis[0]) * np.asarray(SHIFTS)
    prior = PRIOR_WEIGHT * PRIOR.log(shifts[None], np.arange(3)[:, None])
    measured = jnp.min(scan.placed.mask.reshape(-1, FOLD), axis=1).astype(jnp.float32)
    reach = max(-SHIFTS[0], SHIFTS[-1])
    points = len(measured)

    def at_shifts(row: Array) -> Array:
        wide = jnp.pad(row, reach)
        return jnp.stack([wide[reach + shift : reach + shift + points] for shift in SHIFTS])

    def cosines(pattern: Array, rows: Array) -> Array:
        scans, inside = at_shifts(_root(pattern, measured)), at_shifts(measured)
        norm = jnp.sqrt(jnp.maximum(jnp.square(rows) @ inside.T, 1e-6))
        own = jnp.sqrt(jnp.maximum(jnp.sum(jnp.square(scans), axis=1), 1e-12))
        return rows @ scans.T / norm / own[None]

    score = jnp.concatenate(
        [cosines(scan.truth, drawn[:1]), cosines(scan.placed.pattern, drawn[1:])]
    )
    return jnp.argmax(score + jnp.asarray(prior, jnp.float32)[kind], axis=1)


def _root(pattern: Array, measured: Array) -> Array:
    """`prototypes.scan_roots` of one pattern, `[P]`."""
    root = jnp.sqrt(jnp.mean(jnp.maximum(pattern, 0.0).reshape(-1, FOLD), axis=1))
    wide = jnp.pad(root, SMOOTH // 2)
    smooth = sum(wide[i : i + len(root)] for i in range(SMOOTH)) / SMOOTH * measured
    return smooth / jnp.sqrt(jnp.maximum(jnp.sum(jnp.square(smooth)), 1e-12))


def _rows(tree: Any, rows: Array) -> Any:
    return jax.tree.map(lambda column: column[rows], tree)
