"""Adapting the refiner to the very scans at hand, without a label: one half predicts the other.

Belongs here: pairs made of raw counts alone, and the few steps taken on them. Splitting counts
binomially gives two independent measurements of half the time each (`xrd.counts.halves`). What the
refiner makes of one is compared with the other: its noise is independent, so that the squared error
is least, in expectation, at the pattern that endless counting would have shown (noise2noise;
Lehtinen et al. 2018, arXiv:1803.04189).
"""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from imitation_refinement.errors import UserError
from imitation_refinement.method.refiner import Tree, refine
from imitation_refinement.phases.refining import moving_sum, shown
from imitation_refinement.xrd.cells import cell_means
from imitation_refinement.xrd.counts import halves
from imitation_refinement.xrd.grid import Grid, grid_q, q_from_two_theta, two_theta_from_q
from imitation_refinement.xrd.scans import PlacedScan, Scan, on_grid, q_per_radian

Array = Any  # np.ndarray, or jax.Array within `jit`
STEPS, BATCH, RATE = 60, 8, 3e-4
_SLOW = 201  # points over which a difference is levelled: backgrounds are estimates


class Halves(NamedTuple):
    """One half of some scans, placed, and what the other half says of it.

    Attributes:
        x: of `refining.shown`, float32 `[n, L, CHANNELS]`.
        mask: float32 `[n, L]`.
        other: the other half less the background of this one, in the unit of this one's pattern,
            float32 `[n, L]`.
        weight: one over its variance, relative to the largest, float32 `[n, L]`.
    """

    x: Array
    mask: Array
    other: Array
    weight: Array


def half_of(scan: Scan, grid: Grid, rng: np.random.Generator) -> Halves | None:
    """Returns a random half of a scan, without the leading axis; None where it shows no peaks.

    Args:
        scan: of raw counts.
        grid: of the refiner.
        rng: splits the counts.

    Raises:
        UserError: the counts are not whole numbers, or `on_grid` cannot place the scan.
    """
    one, other = halves(scan.counts, rng, source=scan.name)
    placed = on_grid(scan._replace(counts=one), grid)
    if placed.signal:
        return None
    cells = grid_q(grid)
    q = q_from_two_theta(scan.two_theta, scan.wavelength)
    density = other / q_per_radian(scan.two_theta, scan.wavelength)
    target = (cell_means(q, density, cells) / placed.scale - placed.background) * placed.mask
    weight = placed.mask / _variance(placed, q, cells, scan.wavelength)
    x = shown(*(column[None] for column in (
        placed.pattern, placed.excess, placed.noise, placed.mask)))[0]  # fmt: skip
    return Halves(
        x, *(part.astype(np.float32) for part in (placed.mask, target, weight / weight.max()))
    )


def _variance(
    placed: PlacedScan, q: np.ndarray, cells: np.ndarray, wavelength: float
) -> np.ndarray:
    """Variance of the mean over each cell by counting: of the background, and of the peaks."""
    points = np.maximum(np.gradient(cells) / np.interp(cells, q, np.gradient(q)), 1.0)
    angle = two_theta_from_q(np.clip(cells, q[0], q[-1]), wavelength)
    one_count = 1.0 / (placed.scale * q_per_radian(angle, wavelength) * points)
    return np.maximum(placed.noise, 1e-4) ** 2 + one_count * placed.pattern


def prediction_loss(params: Tree, batch: Halves, *, network: nn.Module) -> jax.Array:
    """Returns the mean weighted squared error of the refined half against the other, a scalar.

    The difference is levelled by its mean over 201 points: what is left of a background that was
    estimated badly is smooth and no peak.

    Args:
        params: of the refiner.
        batch: of `half_of`, with the leading axis.
        network: refiner module.
    """
    difference = (refine(params, batch.x, network=network)[..., 0] - batch.other) * batch.mask
    level = moving_sum(difference, _SLOW) / jnp.maximum(moving_sum(batch.mask, _SLOW), 1.0)
    error = jnp.square((difference - level) * batch.mask)
    return jnp.sum(batch.weight * error) / jnp.sum(batch.weight)


def adapted(
    params: Tree, scans: Sequence[Scan], grid: Grid, network: nn.Module, *, seed: int = 0
) -> Tree:
    """Returns parameters after some steps on random halves of the scans.

    Args:
        params: to begin with.
        scans: at least one of raw counts that shows peaks; others are passed over.
        grid: of the refiner.
        network: refiner module.
        seed: of all draws.

    Raises:
        UserError: no scan can be used.
    """
    usable: list[Scan] = []
    for scan in scans:
        try:
            half = half_of(scan, grid, np.random.default_rng([seed, len(usable)]))
        except UserError:
            continue
        if half is not None:
            usable.append(scan)
    if not usable:
        raise UserError(
            "--adapt: none of the scans holds raw counts with peaks, of which one half could be"
            " predicted from the other; leave it out"
        )
    optimizer, step = _program(network, RATE, STEPS)
    params = jax.tree.map(jnp.array, params)
    state = optimizer.init(params)
    for number in range(STEPS):
        params, state = step(params, state, _batch(usable, grid, seed, number))
    return jax.tree.map(np.asarray, params)


@lru_cache(maxsize=2)
def _program(
    network: nn.Module, rate: float, steps: int
) -> tuple[optax.GradientTransformation, Callable[..., tuple[Tree, Tree]]]:
    """The optimizer and its compiled step, which donates parameters and state."""
    optimizer = optax.adam(optax.schedules.cosine_decay_schedule(rate, steps))

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(params: Tree, state: Tree, batch: Halves) -> tuple[Tree, Tree]:
        gradient = jax.grad(prediction_loss)(params, batch, network=network)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    return optimizer, step


def _batch(scans: Sequence[Scan], grid: Grid, seed: int, number: int) -> Halves:
    """The halves of step `number`, BATCH of them: a function of seed and step."""
    rng = np.random.default_rng([seed, number, 1])
    found: list[Halves] = []
    while len(found) < BATCH:
        half = half_of(scans[int(rng.integers(len(scans)))], grid, rng)
        if half is not None:
            found.append(half)
    return Halves(*(np.stack(column) for column in zip(*found, strict=True)))
