"""One process of a run over several devices or processes; `test_devices.py` starts it.

    python distributed_worker.py steps|stop|made|who FOLDER PROCESS_ID [COORDINATOR NUM_PROCESSES]

steps: three steps of Algorithm 1 and three of Algorithm 2 by the shipped programs on small real
networks, a checkpoint in between; the main process writes every number to FOLDER/numbers.npz.
made: batches of views made on the devices, to FOLDER/made.npz.
stop: steps until asked to stop, then a checkpoint and FOLDER/"stopped PROCESS_ID". How many devices
there are is set by the environment.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import FrozenConfigDict

from imitation_refinement.method import networks, optimizers
from imitation_refinement.method.classifier import Classifier, Distance
from imitation_refinement.method.networks import DenseNet, UNet
from imitation_refinement.method.refiner import RefinerObjective, init_refiner
from imitation_refinement.runtime import devices
from imitation_refinement.runtime.batches import balanced_indices
from imitation_refinement.runtime.checkpoint import Checkpoints
from imitation_refinement.runtime.device_batches import _program, made_on_devices
from imitation_refinement.runtime.files import atomic_write_npz, atomic_write_text
from imitation_refinement.runtime.interrupt import StopSignal
from imitation_refinement.stages.classifiers import ClassifierProgram, classifier_program
from imitation_refinement.stages.refiners import refiner_program
from imitation_refinement.xrd.device_views import device_views
from imitation_refinement.xrd.grid import Grid
from imitation_refinement.xrd.ideal import IdealLines
from imitation_refinement.xrd.profiles import IdealViews

LENGTH, CLASSES, BATCH = 64, 3, 16
# Not Adam: it turns the rounding error of a gradient that is zero into a step of full length.
OPTIMIZER = optax.sgd(0.05, momentum=0.9)
CLASSIFIER = DenseNet(CLASSES, blocks=(1, 1), growth=4, stem_features=8)
REFINER = UNet(features=(4, 4))


def batch(step: int):
    """This process's rows of the global batch of a step, on devices."""
    rng = np.random.default_rng(step)
    arrays = {
        "x": rng.uniform(size=(BATCH, LENGTH, 1)).astype(np.float32),
        "label": rng.integers(CLASSES, size=BATCH).astype(np.int32),
        "pair_x": rng.uniform(size=(BATCH // 2, LENGTH, 1)).astype(np.float32),
        "pair_truth": rng.uniform(size=(BATCH // 2, LENGTH, 1)).astype(np.float32),
        "pair_label": rng.integers(CLASSES, size=BATCH // 2).astype(np.int32),
    }
    part = jax.process_index()
    rows = {name: np.split(array, jax.process_count())[part] for name, array in arrays.items()}
    return devices.to_devices(rows)


def classifier_program_of_worker() -> ClassifierProgram:
    """The program of Algorithm 1 as it is shipped, on the small network."""
    section = FrozenConfigDict({"prototype_weight": 1.0, "distance": "sqeuclidean",
                                "distance_scale": 0.0})  # fmt: skip
    with small():
        return classifier_program(section, (LENGTH, 1), CLASSES)


def refiner_program_of_worker() -> Callable:
    """The program of Algorithm 2 as it is shipped, on the small networks."""
    objective = RefinerObjective(
        targeted=True, prediction_weight=1.0, regularization_weight=10.0, prototype_weight=1.0,
        norm=1.0, psi="first_conv", distance=Distance(), pair_weight=1.0, pair_recognition=1.0,
    )  # fmt: skip
    with small():
        return refiner_program(FrozenConfigDict({"ema_decay": 0.9}), CLASSIFIER, objective)


@contextmanager
def small() -> Iterator[None]:
    """Lets the programs be built from what is above, in the place of what a section names."""
    with (
        mock.patch.object(networks, "build_classifier", lambda section, classes: CLASSIFIER),
        mock.patch.object(networks, "build_refiner", lambda section: REFINER),
        mock.patch.object(optimizers, "build_optimizer", lambda section: OPTIMIZER),
    ):
        yield


def run_steps(folder: Path) -> None:
    """Trains, goes through a checkpoint, trains on, and writes all numbers."""
    program = classifier_program_of_worker()
    state = program.initialize(0)
    numbers = {}
    for step in range(3):
        state, metrics = program.step(state, batch(step), 0)
        numbers |= {f"classifier {step} {name}": value for name, value in metrics.items()}

    with Checkpoints(folder / "checkpoints") as checkpoints:
        checkpoints.save(3, {"state": state}, {"processes": jax.process_count()})
        checkpoints.wait()
        items, _ = checkpoints.restore(None, {"state": state})
    assert all(
        np.array_equal(new, old)
        for new, old in zip(jax.tree.leaves(items), jax.tree.leaves(state), strict=True)
    )
    state = items["state"]

    frozen = Classifier(
        {"params": state.params, "batch_stats": state.batch_stats}, state.prototypes
    )
    start = partial(init_refiner, REFINER, OPTIMIZER, (LENGTH, 1), 0)
    refiner = jax.jit(start, out_shardings=devices.replicated())()
    train_refiner = refiner_program_of_worker()
    for step in range(3):
        refiner, metrics = train_refiner(refiner, frozen, batch(10 + step))
        numbers |= {f"refiner {step} {name}": value for name, value in metrics.items()}

    for tree in (state, refiner):
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            numbers[type(tree).__name__ + jax.tree_util.keystr(path)] = leaf
    if devices.is_main_process():
        numbers = {name: np.asarray(value) for name, value in numbers.items()}
        atomic_write_npz(folder / "numbers.npz", numbers)
        atomic_write_text(folder / "devices.txt", devices.describe())


def run_until_stopped(folder: Path) -> None:
    """Counts steps until a process of the run is told to stop; saves the count."""
    advance = jax.jit(
        lambda state, rows: state + jnp.mean(rows),
        in_shardings=(devices.replicated(), devices.by_example()),
        out_shardings=devices.replicated(),
    )
    state = devices.replicate(np.float32(0))
    rows = devices.to_devices(np.ones(BATCH // jax.process_count(), np.float32))
    with StopSignal() as stop, Checkpoints(folder / "checkpoints") as checkpoints:
        for step in range(1, 1000):
            state = advance(state, rows)
            if stop.requested(step):
                checkpoints.save(step, {"count": state})
                checkpoints.wait()
                atomic_write_text(folder / f"stopped {jax.process_index()}", str(step))
                return
            if step == 3:
                atomic_write_text(folder / f"running {jax.process_index()}", "")
            time.sleep(0.05)


def make_batches(folder: Path) -> None:
    """Writes batches of views that are made on the devices."""
    rng = np.random.default_rng(0)
    lines = IdealLines(
        np.sort(rng.uniform(1.0, 6.0, 60)).astype(np.float32), np.ones(60, np.float16),
        np.arange(0, 61, 10), np.arange(6, dtype=np.int32) % CLASSES, np.arange(6, dtype=np.int32),
        np.zeros(6, np.int8),
    )  # fmt: skip
    views = device_views(lines, Grid(length=LENGTH), IdealViews(augment=True))
    indices = balanced_indices(lines.label, BATCH, 3, 0)
    stream = made_on_devices(indices, views.held, views.view, batch_size=BATCH, seed=0)
    whole = jax.jit(lambda rows: rows, out_shardings=devices.replicated())
    made = np.stack([np.asarray(whole(batch)) for batch in stream(0)])
    like = jax.ShapeDtypeStruct
    rows, number = like((BATCH,), np.int32), like((), np.uint32)
    program = _program(views.view).lower(
        views.held, rows, number, number, like((BATCH,), np.uint32)
    )
    assert "all-gather" not in program.compile().as_text(), "devices wait for each other"
    if devices.is_main_process():
        atomic_write_npz(folder / "made.npz", {"views": made})


def say_who(folder: Path) -> None:
    """Writes which process this is, and of what."""
    atomic_write_text(folder / f"process {jax.process_index()}", devices.describe())


def main(mode: str, folder: str, process_id: str, coordinator: str = "", count: str = "1") -> None:
    """Joins the run, if there is one to join, and does what `mode` says."""
    if coordinator:
        devices.initialize_distributed(coordinator, int(count), int(process_id))
    work = {
        "steps": run_steps, "stop": run_until_stopped, "made": make_batches, "who": say_who,
    }[mode]  # fmt: skip
    work(Path(folder))
    devices.sync("end")


if __name__ == "__main__":
    main(*sys.argv[1:])
