"""The prototypical classifier by structure: network, Eq. 2 over a bank of structures, one step.

Belongs here: pure functions of trees and arrays. F maps root patterns to a sphere; the embedding of
a structure's ideal pattern is its prototype (Eq. 1 with one example in each class), so that a new
structure is a new prototype without training. The head G reads crystal systems. With lambda 0 the
same network is the paper's standard classifier. Equations are those of `method.losses`.
"""

from functools import lru_cache
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax

from imitation_refinement.method import losses
from imitation_refinement.method.classifier import Distance
from imitation_refinement.method.networks import VGG, ClassifierOutput
from imitation_refinement.runtime.batches import padded_rows
from imitation_refinement.xrd.crystals import CRYSTAL_SYSTEMS

Tree = Any
Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]

NETWORK = VGG(
    num_classes=len(CRYSTAL_SYSTEMS), stages=((16,), (32,), (64,)), hidden=(96,), kernel=5,
    stem_kernel=9, stem_stride=4, pool_window=2, pool_stride=2, batch_norm=True, dropout=0.0,
)  # fmt: skip
_FAR = 1e9  # distance of what is no negative
_ROWS = 256  # patterns embedded at once: one shape, one program


class Objective(NamedTuple):
    """What is minimised: L_C + lambda L_F (Algorithm 1, line 6).

    Attributes:
        prototype_weight: lambda; 0 trains the standard classifier.
        distance: d of Eq. 2, between embeddings of norm 1.
    """

    prototype_weight: float
    distance: Distance


class EmbeddingState(NamedTuple):
    """What training carries from step to step.

    Attributes:
        params: parameters of F and G.
        batch_stats: running mean and variance of the batch norms.
        opt_state: the optimizer's state.
    """

    params: Tree
    batch_stats: Tree
    opt_state: Tree


class Embedded(NamedTuple):
    """What a trained network makes of n root patterns.

    Attributes:
        z: F, of norm 1, float32 `[n, D]`.
        logits: of the head, float32 `[n, 7]`.
    """

    z: np.ndarray
    logits: np.ndarray


def init_embedding(
    optimizer: optax.GradientTransformation, points: int, seed: int
) -> EmbeddingState:
    """Returns fresh parameters for root patterns of some points."""
    variables = NETWORK.init(jax.random.key(seed), jnp.zeros((1, points, 1)))
    return EmbeddingState(
        variables["params"], variables["batch_stats"], optimizer.init(variables["params"])
    )


def structure_loss(
    z: jax.Array, prototypes: jax.Array, phase: jax.Array, own: jax.Array, distance: Distance
) -> jax.Array:
    """Eq. 2 with one class for each structure: -ln p(own structure) of each scan, `[B]`.

    Args:
        z: embeddings of scans, `[B, D]`.
        prototypes: embeddings of the bank, `[N, D]`.
        phase: of each of the bank, int `[N]`; entries of a scan's phase other than its own are no
            negatives.
        own: place of each scan's own structure in the bank, int `[B]`.
        distance: d.
    """
    number = jnp.arange(len(phase), dtype=own.dtype)
    same = (phase[None] == phase[own][:, None]) & (number[None] != own[:, None])
    distances = jnp.where(same, _FAR, distance(z, prototypes))
    return losses.prototype_loss(losses.prototype_log_probs(distances), own)


def embedding_loss(
    params: Tree, batch_stats: Tree, batch: Batch, *, objective: Objective
) -> tuple[jax.Array, tuple[Metrics, Tree]]:
    """L_C + lambda L_F and its terms, and the batch statistics afterwards.

    L_C is cross-entropy over crystal systems, of the scans and of the ideal patterns of the bank,
    each as a mean: whatever lambda is, the network sees the same.

    Args:
        params: the only differentiated argument.
        batch_stats: before.
        batch: `x` root patterns of scans `[B, P]`; `bank` `[B, M, P]`, root patterns of each scan's
            own structure, first, and of others, all of which are the prototypes of all scans;
            `phase` and `system` int `[B, M]`, of each.
        objective: weights.
    """
    size, among = batch["phase"].shape
    bank = batch["bank"].reshape(size * among, -1)
    output, updated = NETWORK.apply(
        {"params": params, "batch_stats": batch_stats},
        standardized(jnp.concatenate([batch["x"], bank])),
        train=True,
        mutable=["batch_stats"],
    )
    assert isinstance(output, ClassifierOutput)
    z = unit_length(output.embedding)
    own = among * jnp.arange(size, dtype=jnp.int32)
    system = batch["system"].reshape(-1)
    of_scans = losses.cross_entropy(output.logits[:size], system[own])
    of_bank = losses.cross_entropy(output.logits[size:], system)
    prediction = 0.5 * (jnp.mean(of_scans) + jnp.mean(of_bank))
    each = structure_loss(z[:size], z[size:], batch["phase"].reshape(-1), own, objective.distance)
    prototype = jnp.mean(each)
    loss = prediction + objective.prototype_weight * prototype
    hits = jnp.argmax(output.logits[:size], axis=1) == system[own]
    terms = {
        "loss": loss, "cross_entropy": prediction, "prototype": prototype,
        "accuracy": jnp.mean(hits.astype(jnp.float32)),
    }  # fmt: skip
    return loss, (terms, updated["batch_stats"])


def embedding_step(
    state: EmbeddingState,
    batch: Batch,
    *,
    optimizer: optax.GradientTransformation,
    objective: Objective,
) -> tuple[EmbeddingState, Metrics]:
    """Takes one step with `embedding_loss`."""
    (_, (terms, batch_stats)), gradient = jax.value_and_grad(embedding_loss, has_aux=True)(
        state.params, state.batch_stats, batch, objective=objective
    )
    updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
    return EmbeddingState(optax.apply_updates(state.params, updates), batch_stats, opt_state), terms


def embed(variables: Tree, roots: np.ndarray) -> Embedded:
    """Applies a trained network, with running statistics, to root patterns `[n, P]`, n > 0.

    Args:
        variables: `{'params', 'batch_stats'}` of the network.
        roots: of `scan_roots` or `draw_roots`.
    """
    program = _program()
    parts = [program(variables, roots[rows]) for rows in padded_rows(len(roots), _ROWS)]
    columns = zip(*parts, strict=True)
    return Embedded(*(np.concatenate(column)[: len(roots)] for column in columns))


@lru_cache(maxsize=1)
def _program() -> Any:
    def apply(variables: Tree, roots: jax.Array) -> tuple[jax.Array, jax.Array]:
        output = cast(ClassifierOutput, NETWORK.apply(variables, standardized(roots), train=False))
        return unit_length(output.embedding), output.logits

    return jax.jit(apply)


def standardized(roots: jax.Array) -> jax.Array:
    """Returns root patterns of norm 1 as the network takes them: of mean square 1, `[n, P, 1]`."""
    return (roots * float(np.sqrt(roots.shape[1])))[..., None]


def unit_length(z: jax.Array) -> jax.Array:
    """Returns embeddings of norm 1, `[n, D]`."""
    return z / (jnp.sqrt(jnp.sum(jnp.square(z), axis=1, keepdims=True)) + 1e-6)
