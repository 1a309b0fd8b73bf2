"""Training the prototypical classifier by structure, and the standard one on the same batches.

Belongs here: the recipe, and how pairs become the batches of `embedding.embedding_step`. Loop and
checkpoints are `runtime.loop`'s: a run that was stopped goes on bit for bit.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict, FrozenConfigDict

from imitation_refinement.method import optimizers
from imitation_refinement.method.classifier import distance_of
from imitation_refinement.phases.embedding import Objective, embedding_step, init_embedding
from imitation_refinement.phases.pairs import Pairs
from imitation_refinement.phases.prototypes import FOLD, Prototypes, scan_roots
from imitation_refinement.runtime import devices
from imitation_refinement.runtime.batches import uniform_indices
from imitation_refinement.runtime.loop import batches_on_devices, train
from imitation_refinement.runtime.workdir import WorkDir

Tree = Any
STAGE = "embedding"


class Known(NamedTuple):
    """What is known of the N structures of a library.

    Attributes:
        prototypes: their lines.
        phase: number of the phase of each, int `[N]`.
        system: index into CRYSTAL_SYSTEMS of each, int `[N]`.
        held: which are in no batch, bool `[N]`.
    """

    prototypes: Prototypes
    phase: np.ndarray
    system: np.ndarray
    held: np.ndarray


def recipe() -> ConfigDict:
    """Returns how it is trained; the standard classifier with `prototype_weight` 0."""
    return ConfigDict(
        {
            "steps": 1000, "batch_size": 32, "rivals": 3, "prototype_weight": 1.0,
            "distance": "sqeuclidean", "distance_scale": 12.0, "optimizer": "adam",
            "learning_rate": 2e-3, "schedule": "cosine", "warmup_steps": 50, "clip_norm": 1.0,
        }
    )  # fmt: skip


def batch_example(
    roots: np.ndarray, entries: np.ndarray, known: Known, rivals: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Returns one scan as rows of a batch of `embedding.embedding_loss`.

    Args:
        roots: of the scan, `[P]`.
        entries: its own structure and its rivals, int `[R]`.
        known: of the library.
        rivals: how many of them are drawn into the bank; where fewer may be in a batch, any other
            structures take their places.
        rng: of the draw.
    """
    others = entries[1:][~known.held[entries[1:]]]
    bank = np.concatenate([entries[:1], rng.permutation(others)[:rivals]])
    if len(bank) <= rivals:
        strangers = rng.choice(np.flatnonzero(~known.held), rivals + 1 - len(bank))
        bank = np.concatenate([bank, strangers])
    return {
        "x": roots,
        "bank": known.prototypes.roots(bank),
        "phase": known.phase[bank].astype(np.int32),
        "system": known.system[bank].astype(np.int32),
    }


def train_embedding(
    pairs: Pairs, known: Known, section: ConfigDict, run: ConfigDict, workdir: WorkDir, seed: int
) -> Tree:
    """Returns the network's variables after all steps, from the last checkpoint if there is one.

    Args:
        pairs: n simulated scans.
        known: of the library that they are of.
        section: see `recipe`.
        run: a config's `run` section.
        workdir: where checkpoints and metrics go.
        seed: of the beginning and of the batches.

    Raises:
        UserError, Interrupted: see `runtime.loop.train`.
    """
    roots, _ = scan_roots(pairs.pattern, pairs.mask)
    indices = uniform_indices(len(roots), section.batch_size, section.steps, seed)
    optimizer = optimizers.build_optimizer(section)

    def example(index: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return batch_example(roots[index], pairs.entry[index], known, section.rivals, rng)

    batches = batches_on_devices(
        indices, example, batch_size=section.batch_size, seed=seed, threads=run.threads
    )
    state = train(
        STAGE,
        jax.jit(
            partial(init_embedding, optimizer, known.prototypes.grid.length // FOLD, seed),
            out_shardings=devices.replicated(),
        ),
        _program(FrozenConfigDict(section)),
        batches,
        called="recipe",
        section=section,
        run=run,
        workdir=workdir,
    )
    return {"params": state.params, "batch_stats": state.batch_stats}


@lru_cache(maxsize=2)
def _program(section: FrozenConfigDict) -> Callable[..., Any]:
    """The compiled step; it donates the state."""
    whole = devices.replicated()
    return jax.jit(
        partial(
            embedding_step,
            optimizer=optimizers.build_optimizer(section),
            objective=Objective(section.prototype_weight, distance_of(section)),
        ),
        in_shardings=(whole, devices.by_example()),
        out_shardings=whole,
        donate_argnums=0,
    )
