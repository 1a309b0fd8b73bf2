"""The refiner of phases: what it is shown, Eq. 3 over structures, and one step of Algorithm 2.

Belongs here: pure functions of trees and arrays. F of the frozen classifier has no parameters: it
is the root pattern of `prototypes`, of norm 1 on what was measured, and the prototypes are those of
the library, at the cell that fits. So that Eqs. 2 to 5 hold with one class for each structure, and
a new structure is a new prototype. Equations are those of `method.losses`, the network is
`method.networks.UNet`.
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

CHANNELS = 3
SIGNIFICANT = 4.0  # divides arsinh of the excess in standard deviations
_LIFT = 1e-4  # of intensities under the root, whose derivative at 0 is infinite
_FAR = 1e9  # distance of what is no negative
_ROWS = 32  # scans refined at once: one shape, one program


class Objective(NamedTuple):
    """Weights of Eq. 3 and of the distance to the truth.

    Attributes:
        targeted: labels are known (Eqs. 4 and 5) or not (entropies, Eq. 6).
        recognition: weight of l_proto (gamma + beta: with prototypes as the only classifier, l_pred
            over structures is the same function).
        regularization: alpha per element of Eq. 7, p = 1.
        pair: weight per element of `losses.pair_distance`.
        scale: of the distance d, the squared Euclidean one between root patterns of norm 1.
    """

    targeted: bool = True
    recognition: float = 1.0
    regularization: float = 0.0
    pair: float = 100.0
    scale: float = 20.0


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
    refined = refine(params, x, network=network)[..., 0] * mask
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
    loss = loss + objective.pair * apart
    return loss, {
        "loss": loss, "proto": terms["proto"], "change": terms["reg"] / points, "pair": apart,
        "first": first,
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


def refined(params: Tree, x: np.ndarray, mask: np.ndarray, network: nn.Module) -> np.ndarray:
    """Returns refined patterns, 0 where nothing was measured, float32 `[n, L]`.

    Args:
        params: of the refiner.
        x: of `shown`, `[n, L, CHANNELS]`.
        mask: bool `[n, L]`.
        network: refiner module.
    """
    program = _program(network)
    parts = [np.asarray(program(params, x[rows])) for rows in padded_rows(len(x), _ROWS)]
    return np.concatenate(parts)[: len(x)] * mask


@lru_cache(maxsize=2)
def _program(network: nn.Module) -> Callable[[Tree, np.ndarray], jax.Array]:
    return jax.jit(lambda params, x: refine(params, x, network=network)[..., 0])
