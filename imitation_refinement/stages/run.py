"""One run: its config, folder and data, and the few ways its stages use the devices.

Stages (`pipeline`) are written in terms of this; the mathematics (`classifier`, `refiner`,
`losses`) never sees it.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from imitation_refinement.runtime import devices
from imitation_refinement.runtime.batches import BatchIndices, Example, padded_rows
from imitation_refinement.runtime.device_batches import Make, made_on_devices
from imitation_refinement.runtime.files import user_cache
from imitation_refinement.runtime.loop import batches_on_devices
from imitation_refinement.runtime.workdir import WorkDir
from imitation_refinement.tasks import Task

Tree = Any
# What is drawn from a run's seed. The numbers are part of every result: they never change and none
# is used again; the data sets of an application draw from streams of their own.
STREAMS = {
    "classifier": 1,
    "judge": 2,
    "refiner": 3,
    "folds": 4,
    "held_out": 5,
    "pretraining": 6,
    "calibration": 7,
    "other": 8,
    "adda": 9,
    "gta": 10,
}


@dataclass
class Run:
    """What every stage is given.

    Attributes:
        config: the resolved and validated config.
        workdir: the run's folder.
        make_task: `(config, folder for generated data, worker processes) -> Task`.
        names: where sections stand in the config that the user wrote, for those that stand
            elsewhere, as in a comparison: `{"refiner": "config.tables.paper_refiner"}`.
    """

    config: ConfigDict
    workdir: WorkDir
    make_task: Callable[..., Task]
    names: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def task(self) -> Task:
        """The application's examples; they are made when first asked for."""
        workers = self.config.run.workers or os.cpu_count() or 1
        return self.make_task(self.config, cache_folder(self.config), workers)

    def called(self, section: str) -> str:
        """Returns what the user calls a section of the config, for messages."""
        return self.names.get(section, f"config.{section}")

    def seed(self, stream: str, *numbers: int) -> int:
        """Returns a 31-bit seed, a pure function of the config's seed, the stream and the numbers.

        Args:
            stream: what is drawn, a key of `STREAMS`.
            numbers: which of them.
        """
        entropy = (self.config.seed, STREAMS[stream], *numbers)
        return int(np.random.SeedSequence(entropy).generate_state(1)[0] >> 1)

    def batches(
        self,
        indices: BatchIndices,
        example: Callable[[int, np.random.Generator], Example],
        batch_size: int,
        called: str,
        seed: int,
    ) -> Callable[[int], Iterator[Tree]]:
        """Returns `start_step -> batches on devices`; `called` is the section named in errors."""
        devices.local_batch_size(batch_size, f"{called}.batch_size")
        threads = self.config.run.threads
        return batches_on_devices(
            indices, example, batch_size=batch_size, seed=seed, threads=threads
        )

    def batches_made(
        self, indices: BatchIndices, held: Tree, make: Make, batch_size: int, called: str, seed: int
    ) -> Callable[[int], Iterator[Tree]]:
        """Returns `start_step -> batches` made on the devices; see `device_batches`, `batches`."""
        devices.local_batch_size(batch_size, f"{called}.batch_size")
        return made_on_devices(indices, held, make, batch_size=batch_size, seed=seed)

    def like_batch(self, batch_size: int, *names: str) -> dict[str, jax.ShapeDtypeStruct]:
        """Returns what batches of these arrays are like: labels, or examples float32.

        Args:
            batch_size: global batch size B.
            *names: of the arrays; one with `label` in it is int32 `[B]`, another an example.
        """
        return {
            name: jax.ShapeDtypeStruct(
                (batch_size,) if "label" in name else (batch_size, *self.task.input_shape),
                jnp.int32 if "label" in name else jnp.float32,
                sharding=devices.by_example(),
            )
            for name in names
        }

    def apply(self, function: Callable[[Tree, Tree], Tree], frozen: Tree, examples: Tree) -> Tree:
        """Applies `function(frozen, batch)` to all rows of `examples`, batch by batch.

        Args:
            function: pure; its outputs have the batch as leading axis.
            frozen: a tree of arguments that every device holds whole.
            examples: NumPy arrays with a common leading axis n, or a sequence whose items are
                trees.

        Returns:
            NumPy arrays with leading axis n, equal on every process.
        """
        compiled = jax.jit(
            function,
            in_shardings=(devices.replicated(), devices.by_example()),
            out_shardings=devices.replicated(),
        )
        count = len(jax.tree.leaves(examples)[0])
        size = devices.padded_size(min(self.config.evaluate.batch_size, count))
        parts = [
            jax.device_get(compiled(frozen, devices.to_devices(local_rows(examples, rows))))
            for rows in padded_rows(count, size)
        ]
        return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:count], *parts)


def local_rows(examples: Tree, rows: np.ndarray) -> Tree:
    """Returns this process's share of some rows of NumPy arrays, in process order."""
    mine = np.split(rows, jax.process_count())[jax.process_index()]
    return jax.tree.map(lambda array: array[mine], examples)


def cache_folder(config: ConfigDict) -> Path:
    """Returns where generated data are kept: `config.run.cache_dir` or the user's cache folder."""
    return Path(config.run.cache_dir or user_cache("data")).expanduser()
