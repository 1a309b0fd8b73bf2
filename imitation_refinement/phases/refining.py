"""The refiner of phases: what it is shown, Eq. 3 over structures, and one step of Algorithm 2.

Belongs here: pure functions of trees and arrays. F of the frozen classifier has no parameters: it
is the root pattern of `prototypes`, of norm 1 on what was measured, and the prototypes are those of
the library, at the cell that fits. So that Eqs. 2 to 5 hold with one class for each structure, and
a new structure is a new prototype. Equations are those of `method.losses`, the network is
`method.networks.UNet`.

The network has two answers to a scan, in its first two channels. The *refined* pattern imitates the
phase: it is what names are taken from. The *denoised* one is the scan counted longer, as `on_grid`
would show it: it imitates nothing and is for looking at.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from imitation_refinement.method import losses
from imitation_refinement.method.refiner import Batch, Metrics, RefinerState, Tree, refine, updated
from imitation_refinement.phases.prototypes import FOLD, SMOOTH
from imitation_refinement.runtime.batches import padded_rows
from imitation_refinement.xrd.scans import FLOOR

CHANNELS = 3
SIGNIFICANT = 4.0  # divides arsinh of the excess in standard deviations
_LIFT = 1e-4  # of intensities under the root, whose derivative at 0 is infinite
_FAR = 1e9  # distance of what is no negative
_ROWS = 32  # scans refined at once: one shape, one program
_SLOW = 101  # points over which a background is level
_HUMP = 1.5  # standard deviations by which a background is surely too low
_EMPTY = 0.01  # of the largest value: below it a true pattern shows nothing


class Objective(NamedTuple):
    """Weights of Eq. 3 and of the distance to the truth.

    Attributes:
        targeted: labels are known (Eqs. 4 and 5) or not (entropies, Eq. 6).
        recognition: weight of l_proto (gamma + beta: with prototypes as the only classifier, l_pred
            over structures is the same function).
        regularization: alpha per element of Eq. 7, p = 1.
        pair: weight per element of `losses.pair_distance`.
        scale: of the distance d, the squared Euclidean one between root patterns of norm 1.
        denoising: weight of `denoising_loss`.
        invention: how much more intensity counts in it where there is none in truth.
        slope: weight of `slope_loss` of either answer.
    """

    targeted: bool = True
    recognition: float = 1.0
    regularization: float = 0.0
    pair: float = 100.0
    scale: float = 20.0
    denoising: float = 1.0
    invention: float = 4.0
    slope: float = 0.5


def shown(
    pattern: np.ndarray, excess: np.ndarray, noise: np.ndarray, mask: np.ndarray
) -> np.ndarray:
    """Returns what the refiner sees of scans, float32 `[n, L, CHANNELS]`.

    The pattern that is refined, the excess before the floor of noise, and how significant it is.

    Args:
        pattern: of `on_grid`, `[n, L]`, as the next three.
        excess: above the background.
        noise: its standard deviation.
        mask: where there is a scan.
    """
    excess = np.asarray(excess, np.float32) * mask
    deviations = excess / np.maximum(np.asarray(noise, np.float32), 1e-4)
    signal = np.arcsinh(deviations) / SIGNIFICANT
    return np.stack([np.asarray(pattern, np.float32) * mask, excess, signal], axis=-1)


def root_embedding(pattern: jax.Array, mask: jax.Array) -> jax.Array:
    """F: root patterns of norm 1 as `prototypes.scan_roots` makes them, differentiable, `[B, P]`.

    Args:
        pattern: not negative, `[B, L]`.
        mask: 1 where there is a scan, else 0, `[B, P]`.
    """
    folded = jnp.mean(pattern.reshape(len(pattern), -1, FOLD), axis=2)
    root = jnp.sqrt(folded + _LIFT) - jnp.sqrt(_LIFT)
    reach = SMOOTH // 2
    padded = jnp.pad(root, ((0, 0), (reach, reach)))
    parts = [padded[:, i : i + root.shape[1]] for i in range(SMOOTH)]
    smooth = sum(parts[1:], parts[0]) / SMOOTH * mask
    return smooth / jnp.sqrt(jnp.sum(jnp.square(smooth), axis=1, keepdims=True) + 1e-12)


def structure_distances(
    z: jax.Array, prototypes: jax.Array, mask: jax.Array, scale: float
) -> jax.Array:
    """Returns scale * ||z - c||^2 with prototypes of norm 1 on what each scan measured, `[B, N]`.

    That is scale * (2 - 2 cos): the d of `losses.prototype_distances` where each scan has its own
    c, without the `[B, N, P]` numbers of its direct form.

    Args:
        z: of `root_embedding`, `[B, P]`.
        prototypes: root patterns, `[N, P]`.
        mask: `[B, P]`.
        scale: of the distance.
    """
    norm = jnp.sqrt(jnp.maximum(mask @ jnp.square(prototypes).T, 1e-6))
    return scale * (2.0 - 2.0 * (z @ prototypes.T) / norm)


def counted_longer(truth: jax.Array, x: jax.Array, mask: jax.Array) -> jax.Array:
    """Returns what `on_grid` would show of a scan that is counted four times as long, `[B, L]`.

    That is the true peaks, and what its background leaves or takes: the mean over 101 points of
    what the scan has more than the truth. Where it has less, the background took the tails of
    peaks. Where it has more it is a hump, if it is more than 1.5 standard deviations of the
    difference; else noise, above a background that follows its lower edge. What rises less than
    the floor of the longer scan, whose noise is half of this one's, is 0.

    Args:
        truth: expected peaks, `[B, L]`.
        x: of `shown`, `[B, L, CHANNELS]`.
        mask: 1 where there is a scan, else 0, `[B, L]`.
    """
    number = jnp.maximum(moving_sum(mask, _SLOW), 1.0)
    excess = x[..., 1]
    difference = (excess - truth) * mask
    level = moving_sum(difference, _SLOW) / number
    square = moving_sum(jnp.square(difference), _SLOW) / number
    deviation = jnp.sqrt(jnp.maximum(square - jnp.square(level), 0.0))
    deviations = jnp.sinh(SIGNIFICANT * x[..., 2])
    noise = excess / jnp.where(deviations == 0.0, 1.0, deviations)
    known = jnp.maximum(deviation, moving_sum(noise, _SLOW) / number)
    level = jnp.where(level > _HUMP * known, level, jnp.minimum(level, 0.0))
    longer = (truth + level) * mask
    return jnp.where(longer > FLOOR / 2.0 * noise, jnp.maximum(longer, 0.0), 0.0)


def moving_sum(rows: jax.Array, width: int) -> jax.Array:
    """Returns the sums over `width` points, an odd number, around each, `[B, L]`."""
    reach = width // 2
    total = jnp.cumsum(jnp.pad(rows, ((0, 0), (reach + 1, reach))), axis=1)
    return total[:, width:] - total[:, :-width]


def denoising_loss(
    denoised: jax.Array, raw: jax.Array, target: jax.Array, invention: float
) -> jax.Array:
    """Returns the l1 distance of each scan to its target where that of the raw one is 1, `[B]`.

    So that a scan of many counts, whose noise is small, weighs as much as one of few. What is shown
    where the target is below 1 % of its largest value counts `invention` times: the median of what
    could be there becomes a lower quantile, 1 / (1 + invention).

    Args:
        denoised: `[B, L]`, as the next two.
        raw: the pattern of the scan.
        target: of `counted_longer`.
        invention: 1 for plain l1.
    """
    empty = target < _EMPTY * jnp.max(target, axis=1, keepdims=True)
    difference = denoised - target
    weight = jnp.where(empty & (difference > 0.0), invention, 1.0)
    # 1 is the least distance that noise has: a scan without noise need not become better.
    noise = 1.0 + jnp.sum(jnp.abs(raw - target), axis=1)
    return jnp.sum(weight * difference * jnp.sign(difference), axis=1) / noise


def revived(params: Tree, x: jax.Array, target: jax.Array, *, network: nn.Module) -> jax.Array:
    """Returns both answers, whose gradient also reaches points of no intensity that miss some.

    A network that ends in relu learns nothing where it says 0, however much there is: whole
    stretches of crowded lines stay deleted. Where the target has more than 1 % of its largest
    value the derivative of relu is taken as 1 (straight through; Bengio et al. 2013,
    arXiv:1308.3432).

    Args:
        params: of the refiner.
        x: `[B, L, CHANNELS]`.
        target: of either answer, `[2, B, L]`.
        network: refiner module, of which the last layer is called `out`.
    """
    made, seen = network.apply(
        {"params": params}, x, mutable=["intermediates"],
        capture_intermediates=lambda module, _: module.name == "out",
    )  # fmt: skip
    (change,) = seen["intermediates"]["out"]["__call__"]
    made, before = (jnp.moveaxis(each[..., :2], -1, 0) for each in (made, x + change))
    shown_there = target > _EMPTY * jnp.max(target, axis=2, keepdims=True)
    missed = (before < 0.0) & shown_there
    return made + jnp.where(missed, before - jax.lax.stop_gradient(before), 0.0)


def slope_loss(made: jax.Array, raw: jax.Array, target: jax.Array) -> jax.Array:
    """Returns the l1 distance between slopes of each scan where that of the raw one is 1, `[B]`.

    Bumps on the side of a peak and doublets that are smoothed out have little intensity.

    Args:
        made: `[B, L]`, as the next two.
        raw: the pattern of the scan.
        target: what `made` should be.
    """
    apart = jnp.diff(made - target, axis=1)
    noise = 1.0 + jnp.sum(jnp.abs(jnp.diff(raw - target, axis=1)), axis=1)
    return jnp.sum(apart * jnp.sign(apart), axis=1) / noise


def phase_loss(
    params: Tree, batch: Batch, *, network: nn.Module, objective: Objective
) -> tuple[jax.Array, Metrics]:
    """Eq. 3 over a bank of structures, plus the distance to the truth of pairs; and its terms.

    Args:
        params: of the refiner, the only differentiated argument.
        batch: `x` `[B, L, CHANNELS]`; `mask` `[B, L]`; `truth` `[B, L]`; `bank` `[B, M, P]`, root
            patterns of each scan's own structure, first, and its rivals, all of which are the
            prototypes of all scans; `phase` int `[B, M]`, of each: entries of a scan's phase other
            than its own are no negatives.
        network: refiner module.
        objective: weights.
    """
    x, mask = batch["x"], batch["mask"]
    target = counted_longer(batch["truth"], x, mask)
    refined, denoised = (
        made * mask
        for made in revived(params, x, jnp.stack([batch["truth"], target]), network=network)
    )
    size, points = refined.shape
    measured = jnp.min(mask.reshape(size, -1, FOLD), axis=2)
    z = root_embedding(refined, measured)
    rivals = batch["bank"].shape[1]
    bank, phase = batch["bank"].reshape(size * rivals, -1), batch["phase"].reshape(-1)
    own = rivals * jnp.arange(size, dtype=jnp.int32)
    number = jnp.arange(len(phase), dtype=jnp.int32)
    same = (phase[None] == phase[own][:, None]) & (number[None] != own[:, None])
    distances = structure_distances(z, bank, measured, objective.scale)
    distances = jnp.where(same & objective.targeted, _FAR, distances)
    change = losses.regularization(refined, x[..., 0])
    loss, terms = losses.refiner_loss(
        -distances,
        distances,
        change,
        own if objective.targeted else None,
        alpha=losses.per_element_weight(objective.regularization, points),
        beta=objective.recognition,
        gamma=0.0,
    )
    apart = jnp.mean(losses.pair_distance(refined, batch["truth"])) / points
    first = jnp.mean(jnp.argmin(distances, axis=1) == own)
    noise = jnp.mean(denoising_loss(denoised, x[..., 0], target, objective.invention))
    slope = jnp.mean(
        slope_loss(refined, x[..., 0], batch["truth"]) + slope_loss(denoised, x[..., 0], target)
    )
    loss = loss + objective.pair * apart + objective.denoising * noise + objective.slope * slope
    return loss, {
        "loss": loss, "proto": terms["proto"], "change": terms["reg"] / points, "pair": apart,
        "noise": noise, "slope": slope, "first": first,
    }  # fmt: skip


def phase_step(
    state: RefinerState,
    batch: Batch,
    *,
    network: nn.Module,
    optimizer: optax.GradientTransformation,
    objective: Objective,
    ema_decay: float,
) -> tuple[RefinerState, Metrics]:
    """Takes one step of Algorithm 2 with `phase_loss`."""
    (_, terms), gradient = jax.value_and_grad(phase_loss, has_aux=True)(
        state.params, batch, network=network, objective=objective
    )
    return updated(state, gradient, optimizer, ema_decay), terms


class Refined(NamedTuple):
    """The two answers of the network to n scans, float32 `[n, L]`, 0 where nothing was measured.

    Attributes:
        pattern: that of the phase.
        denoised: that of the scan, counted longer.
    """

    pattern: np.ndarray
    denoised: np.ndarray


def both_refined(params: Tree, x: np.ndarray, mask: np.ndarray, network: nn.Module) -> Refined:
    """Returns refined and denoised patterns.

    Args:
        params: of the refiner.
        x: of `shown`, `[n, L, CHANNELS]`.
        mask: bool `[n, L]`.
        network: refiner module.
    """
    program = _program(network)
    parts = [np.asarray(program(params, x[rows])) for rows in padded_rows(len(x), _ROWS)]
    made = np.concatenate(parts)[: len(x)] * mask[..., None]
    return Refined(made[..., 0], made[..., 1])


def refined(params: Tree, x: np.ndarray, mask: np.ndarray, network: nn.Module) -> np.ndarray:
    """Returns the refined patterns alone, float32 `[n, L]`; arguments as of `both_refined`."""
    return both_refined(params, x, mask, network).pattern


@lru_cache(maxsize=2)
def _program(network: nn.Module) -> Callable[[Tree, np.ndarray], jax.Array]:
    return jax.jit(lambda params, x: refine(params, x, network=network)[..., :2])
