"""The embedding F: a scan lies near the prototype of its own structure (Eq. 2 of the paper).

Belongs here: the network, its training with one class for each structure, and the embeddings of
scans and prototypes. A class has one example, the structure's drawn pattern, whose embedding is
its prototype; a new structure is a new prototype, without training. Input are root patterns.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from imitation_refinement.method.losses import prototype_distances, prototype_log_probs
from imitation_refinement.method.networks import VGG, ClassifierOutput
from imitation_refinement.phases.prototypes import Prototypes, draw_roots, unit
from imitation_refinement.phases.scores import shifted

DIMENSIONS = 96
_BATCH = 256  # patterns embedded at once

Params = Any


class Settings(NamedTuple):
    """How F is trained.

    Attributes:
        steps: of Adam, cosine decay.
        batch_size: scans in a step.
        rivals: prototypes in the bank for each scan that coarse patterns take for it.
        strangers: prototypes in the bank for each scan drawn from all.
        distance: see `losses.prototype_distances`.
        scale: factor on the distances of unit embeddings, lambda of the softmax.
        learning_rate: the largest.
        jitter: noise added to roots of scans, relative to their deviation, at most.
    """

    steps: int = 2500
    batch_size: int = 48
    rivals: int = 3
    strangers: int = 1
    distance: str = "sqeuclidean"
    scale: float = 12.0
    learning_rate: float = 2e-3
    jitter: float = 0.1


class Embedding(NamedTuple):
    """Trained F: variables of `network`."""

    params: Params
    batch_stats: Params


def network() -> VGG:
    """Returns F: three stages over 1,000 points, then one dense layer, which keeps positions."""
    return VGG(
        num_classes=1, stages=((32,), (64,), (64,)), hidden=(DIMENSIONS,), kernel=5,
        stem_kernel=9, stem_stride=4, pool_window=2, pool_stride=2, batch_norm=True, dropout=0.0,
    )  # fmt: skip


def standardized(roots: np.ndarray) -> np.ndarray:
    """Returns root patterns of norm 1 as F takes them: of mean square 1, float32 `[n, P, 1]`."""
    return np.asarray(roots * np.sqrt(roots.shape[1]), np.float32)[:, :, None]


def embed(embedding: Embedding, roots: np.ndarray) -> np.ndarray:
    """Returns embeddings of unit length, float32 `[n, DIMENSIONS]`.

    Args:
        embedding: F.
        roots: of `scan_roots` or `draw_roots`, `[n, P]`.
    """
    found = np.empty((len(roots), DIMENSIONS), np.float32)
    for start in range(0, len(roots), _BATCH):
        part = roots[start : start + _BATCH]
        padded = np.zeros((_BATCH, roots.shape[1]), np.float32)  # one shape, one program
        padded[: len(part)] = part
        found[start : start + len(part)] = _embed(embedding, standardized(padded))[: len(part)]
    return found


@jax.jit
def _embed(embedding: Embedding, x: jax.Array) -> jax.Array:
    variables = {"params": embedding.params, "batch_stats": embedding.batch_stats}
    output = network().apply(variables, x, mutable=False)
    assert isinstance(output, ClassifierOutput)  # flax returns a pair where something is mutable
    return _unit(output.embedding)


def _unit(z: jax.Array) -> jax.Array:
    return z / (jnp.linalg.norm(z, axis=1, keepdims=True) + 1e-6)


def structure_loss(
    z: jax.Array,
    prototypes: jax.Array,
    excluded: jax.Array,
    scale: float,
    distance: str = "sqeuclidean",
) -> jax.Array:
    """Returns -ln p(own structure) of each scan (Eqs. 2 and 3), `[B]`.

    Args:
        z: embeddings of scans, `[B, D]`.
        prototypes: of the bank; that of scan i is the i-th, `[N, D]`.
        excluded: entries of the scan's phase other than its own, which are no negatives,
            bool `[B, N]`.
        scale: factor on the distances.
        distance: see `losses.prototype_distances`.
    """
    distances = prototype_distances(z, prototypes, scale, distance)
    logs = prototype_log_probs(jnp.where(excluded, 1e9, distances))
    return -jnp.diagonal(logs[:, : len(z)])


def scan_batches(
    roots: np.ndarray,
    masks: np.ndarray,
    entry: np.ndarray,
    rivals: np.ndarray,
    prototypes: Prototypes,
    phase: np.ndarray,
    settings: Settings,
    seed: int = 0,
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yields batches for `train_embedding` without end.

    A scan is read up to two points further on or back, gets noise, and loses up to a fifth of its
    range at either end, as other samples and laboratories would have it.

    Args:
        roots: of simulated scans, `[n, P]`.
        masks: bool `[n, P]`.
        entry: the structure of each, int `[n]`.
        rivals: prototypes that coarse patterns take for each, int `[n, R]`.
        prototypes: N of them.
        phase: number of the phase of each, int `[N]`.
        settings: of the training.
        seed: of all draws.
    """
    rng = np.random.default_rng([seed, 3])
    size, points = settings.batch_size, roots.shape[1]
    q, height, offsets, *_ = prototypes
    while True:
        rows = rng.choice(len(roots), size, replace=False)
        scans = np.stack([shifted(roots[row], int(rng.integers(-2, 3))) for row in rows])
        noise = rng.uniform(0.0, settings.jitter, (size, 1)) * scans.std(axis=1, keepdims=True)
        scans = np.maximum(scans + noise * rng.standard_normal(scans.shape), 0.0)
        low, high = rng.uniform(0.0, 0.2, (2, size, 1)) * rng.integers(0, 2, (2, size, 1))
        place = np.arange(points) / points
        scans = unit(scans * masks[rows] * ((place >= low) & (place <= 1.0 - high)))
        near = rng.integers(0, rivals.shape[1], (size, settings.rivals))
        bank = np.concatenate(
            [
                entry[rows],
                rivals[rows[:, None], near].ravel(),
                rng.integers(0, prototypes.size, size * settings.strangers),
            ]
        )
        excluded = phase[bank] == phase[entry[rows]][:, None]
        excluded[np.arange(size), np.arange(size)] = False
        yield scans, draw_roots(q, height, offsets, bank, prototypes.grid), excluded


def train_embedding(
    batches: Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]],
    settings: Settings,
    *,
    points: int,
    seed: int = 0,
    start: Embedding | None = None,
) -> Iterator[tuple[int, float, Embedding]]:
    """Yields (steps done, mean loss since the last, F) every 100 steps and at the end.

    Args:
        batches: (roots of B scans `[B, P]`, roots of the bank `[N, P]`, excluded `[B, N]`), see
            `structure_loss`.
        settings: see there.
        points: P.
        seed: of the beginning.
        start: F to begin with in the place of a random one.
    """
    net = network()
    if start is None:
        variables = net.init(jax.random.key(seed), jnp.zeros((2, points, 1)))
        start = Embedding(variables["params"], variables["batch_stats"])
    schedule = optax.schedules.warmup_cosine_decay_schedule(
        0.0, settings.learning_rate, min(100, settings.steps // 4 + 1), settings.steps
    )
    tx = optax.adam(schedule)
    params, stats, state = start.params, start.batch_stats, tx.init(start.params)

    @jax.jit
    def step(params: Params, stats: Params, state: Any, x: Any, excluded: Any) -> Any:
        def loss(params: Params) -> Any:
            variables = {"params": params, "batch_stats": stats}
            output, new = net.apply(variables, x, train=True, mutable=["batch_stats"])
            z = _unit(output.embedding)
            scans = excluded.shape[0]
            each = structure_loss(z[:scans], z[scans:], excluded, settings.scale, settings.distance)
            return jnp.mean(each), new["batch_stats"]

        (value, stats), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        updates, state = tx.update(gradient, state, params)
        return optax.apply_updates(params, updates), stats, state, value

    losses = []
    for number in range(1, settings.steps + 1):
        scans, bank, excluded = next(batches)
        x = standardized(np.concatenate([scans, bank]))
        params, stats, state, value = step(params, stats, state, x, excluded)
        losses.append(value)
        if number % 100 == 0 or number == settings.steps:
            yield number, float(np.mean([float(v) for v in losses])), Embedding(params, stats)
            losses = []
