"""Training the refiner of phases: pairs in batches, the loop, the averaged parameters.

Belongs here: the recipe, and where the batches of `refining.phase_step` come from. Loop and
checkpoints are `runtime.loop`'s: a run that was stopped goes on bit for bit.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict, FrozenConfigDict

from imitation_refinement.method import networks, optimizers
from imitation_refinement.method.refiner import init_refiner
from imitation_refinement.phases.device_held import Held
from imitation_refinement.phases.device_pairs import batch
from imitation_refinement.phases.device_scans import Bounds
from imitation_refinement.phases.pairs import Pairs
from imitation_refinement.phases.prototypes import Prototypes, draw_shifted
from imitation_refinement.phases.refining import CHANNELS, Objective, phase_step, shown
from imitation_refinement.runtime import devices
from imitation_refinement.runtime.batches import uniform_indices
from imitation_refinement.runtime.loop import batches_on_devices, train
from imitation_refinement.runtime.workdir import WorkDir
from imitation_refinement.xrd.grid import Grid

Tree = Any
Batches = Callable[[int], Iterator[Any]]  # first step -> batches on the devices
STAGE = "refiner"


def recipe() -> ConfigDict:
    """Returns how the refiner of phases is trained."""
    return ConfigDict(
        {
            "network": "unet_62k", "dtype": "float32", "steps": 10_000, "batch_size": 16,
            "optimizer": "adam", "learning_rate": 2e-3, "schedule": "cosine", "warmup_steps": 50,
            "clip_norm": 1.0, "ema_decay": 0.99,
        }
        | Objective()._asdict()
    )  # fmt: skip


def batch_example(
    pairs: Pairs, prototypes: Prototypes, phase: np.ndarray, index: int
) -> dict[str, np.ndarray]:
    """Returns one pair as rows of a batch of `refining.phase_loss`.

    Args:
        pairs: n of them.
        prototypes: N of them.
        phase: number of the phase of each, int `[N]`.
        index: which pair.
    """
    pattern, excess, noise, mask, truth, entry, shift, _ = (column[index] for column in pairs)
    return {
        "x": shown(pattern[None], excess[None], noise[None], mask[None])[0],
        "mask": mask.astype(np.float32),
        "truth": truth.astype(np.float32),
        "bank": draw_shifted(prototypes, entry, shift),
        "phase": phase[entry].astype(np.int32),
    }


def batches_of_pairs(
    pairs: Pairs,
    prototypes: Prototypes,
    phase: np.ndarray,
    section: ConfigDict,
    run: ConfigDict,
    seed: int,
) -> Batches:
    """Returns batches of pairs that were simulated before, in random order.

    Args:
        pairs: n of them.
        prototypes: N of them.
        phase: number of the phase of each, int `[N]`.
        section: see `recipe`.
        run: a config's `run` section.
        seed: of the order.
    """
    indices = uniform_indices(len(pairs.mask), section.batch_size, section.steps, seed)
    return batches_on_devices(
        indices,
        lambda index, _: batch_example(pairs, prototypes, phase, index),
        batch_size=section.batch_size,
        seed=seed,
        threads=run.threads,
    )


def batches_of_draws(
    held: Held, grid: Grid, section: ConfigDict, seed: int, bounds: Bounds
) -> Batches:
    """Returns batches of scans that are drawn anew in every step, on the devices.

    Args:
        held: of s structures; it is put on the devices once.
        grid: of the prototypes.
        section: see `recipe`.
        seed: of all draws.
        bounds: of the arrays of a scan.
    """
    whole = devices.replicated()
    known, key = devices.replicate(held), devices.place(np.uint32(seed), whole)
    make = _drawing(section.batch_size, bounds, grid)
    following = jax.jit(lambda step: step + jnp.uint32(1), out_shardings=whole)

    def batches(start_step: int) -> Iterator[Any]:
        step = devices.place(np.uint32(start_step), whole)
        while True:
            yield make(known, key, step)
            step = following(step)

    return batches


def train_phase_refiner(
    batches: Batches,
    grid: Grid,
    section: ConfigDict,
    run: ConfigDict,
    workdir: WorkDir,
    seed: int,
    start: Tree | None = None,
    until: int | None = None,
) -> Tree:
    """Returns the averaged parameters after all steps, from the last checkpoint if there is one.

    Stopping at `until` and calling it again is the same as never stopping, bit for bit.

    Args:
        batches: of `batches_of_pairs` or `batches_of_draws`.
        grid: of the scans.
        section: see `recipe`.
        run: a config's `run` section.
        workdir: where checkpoints and metrics go.
        seed: of the beginning.
        start: parameters to begin with; without them the refiner begins as the identity.
        until: the last step to take now; all without it.

    Raises:
        UserError, Interrupted: see `runtime.loop.train`.
    """
    network, optimizer = networks.build_refiner(section), optimizers.build_optimizer(section)
    state = train(
        STAGE,
        jax.jit(
            partial(init_refiner, network, optimizer, (grid.length, CHANNELS), seed, start),
            out_shardings=devices.replicated(),
        ),
        _program(FrozenConfigDict(section)),
        batches,
        called="config.refiner",
        section=ConfigDict({**section.to_dict(), "steps": until or section.steps}),
        run=run,
        workdir=workdir,
    )
    return state.ema_params


@lru_cache(maxsize=2)
def _drawing(size: int, bounds: Bounds, grid: Grid) -> Callable[..., Any]:
    """The compiled `(held, seed, step) -> batch`."""

    def make(held: Held, seed: jax.Array, step: jax.Array) -> Any:
        key = jax.random.fold_in(jax.random.key(seed), step)
        return batch(held, key, size=size, bounds=bounds, grid=grid)

    return jax.jit(make, out_shardings=devices.by_example())


@lru_cache(maxsize=2)
def _program(section: FrozenConfigDict) -> Callable[..., Any]:
    """The compiled step; it donates the state."""
    whole = devices.replicated()
    return jax.jit(
        partial(
            phase_step,
            network=networks.build_refiner(section),
            optimizer=optimizers.build_optimizer(section),
            objective=Objective(**{name: section[name] for name in Objective._fields}),
            ema_decay=section.ema_decay,
        ),
        in_shardings=(whole, devices.by_example()),
        out_shardings=whole,
        donate_argnums=0,
    )
