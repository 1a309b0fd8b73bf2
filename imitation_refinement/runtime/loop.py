"""The one training loop: resume, step, log, checkpoint, stop. Shared by classifier and refiner.

It knows nothing of losses or networks; a step is a function `(state, batch) -> (state, metrics)`.
This is where training touches files, the clock and the log.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from imitation_refinement.errors import UserError
from imitation_refinement.runtime import devices
from imitation_refinement.runtime.batches import BatchIndices, Example, batch_stream
from imitation_refinement.runtime.checkpoint import Checkpoints
from imitation_refinement.runtime.interrupt import StopSignal
from imitation_refinement.runtime.workdir import WorkDir

Tree = Any


def batches_on_devices(
    indices: BatchIndices,
    example: Callable[[int, np.random.Generator], Example],
    *,
    batch_size: int,
    seed: int,
    threads: int,
) -> Callable[[int], Iterator[Tree]]:
    """Returns `start_step -> batches on devices`, of which each process reads its own rows.

    Args: see `batches.batch_stream`.
    """

    def stream(start_step: int) -> Iterator[Tree]:
        local = batch_stream(
            indices,
            example,
            batch_size=batch_size,
            seed=seed,
            start_step=start_step,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
            threads=threads,
        )
        return map(devices.to_devices, local)

    return stream


class Interrupted(Exception):
    """Training stopped on a signal, with its last step saved.

    Attributes:
        exit_status: 128 + number of the signal.
    """

    def __init__(self, message: str, exit_status: int):
        super().__init__(message)
        self.exit_status = exit_status


class Window(NamedTuple):
    """Sums of the metrics since the last log line; kept in checkpoints, so that a resumed run logs
    the same numbers as one that was never stopped.
    """

    sums: dict[str, float]
    steps: int

    def add(self, metrics: dict[str, float]) -> "Window":
        """Returns the window with one more step."""
        sums = {name: self.sums.get(name, 0.0) + value for name, value in metrics.items()}
        return Window(sums, self.steps + 1)

    def means(self) -> dict[str, float]:
        """Returns the mean of each metric over the window."""
        return {name: total / self.steps for name, total in self.sums.items()}


def _check_finite(
    name: str,
    called: str,
    section: ConfigDict,
    rate: str,
    step: int,
    metrics: dict[str, float],
    checkpoints: Checkpoints,
) -> None:
    bad = [term for term, value in metrics.items() if not np.isfinite(value)]
    if bad:
        last = checkpoints.latest_step()
        kept = f"the checkpoint of step {last} is kept" if last else "no checkpoint was written yet"
        clip = f" or set {called}.clip_norm" if "clip_norm" in section else ""
        raise UserError(
            f"{name}: {bad[0]} is {metrics[bad[0]]} at step {step}; {kept} in "
            f"{checkpoints.directory}; lower {called}.{rate}{clip}, and use a new --workdir"
        )


def abstract(initial: Callable[[], Tree]) -> Tree:
    """Returns shapes, dtypes and placement of what `initial` would make, without making it."""
    with jax.disable_jit():  # options of the compiler go with the outermost function alone
        shapes = jax.eval_shape(initial)
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=devices.replicated()),
        shapes,
    )


def train(
    name: str,
    initial: Callable[[], Tree],
    step_function: Callable[[Tree, dict], tuple[Tree, dict]],
    batches: Callable[[int], Iterator[dict]],
    *,
    called: str,
    section: ConfigDict,
    run: ConfigDict,
    workdir: WorkDir,
    rate: str = "learning_rate",
) -> Tree:
    """Runs `step_function` until `steps`, from the last checkpoint if there is one.

    Args:
        name: of the stage, also its folder below the work directory and its key in metrics.jsonl.
        initial: jitted function that makes the state of step 0 on the devices.
        step_function: jitted; it may donate its first argument.
        batches: `start_step -> iterator` over batches on devices.
        called: the config section that is to blame if training diverges, as the user wrote it:
            `config.refiner`, `config.tables.adda`.
        section: that section: `steps`, and `clip_norm` where there is one.
        run: the config's `run` section.
        workdir: where checkpoints and metrics go.
        rate: the field of that section that is the learning rate.

    Returns:
        The state after the last step.

    Raises:
        UserError: a metric is not finite, or the disk is full; the last good checkpoint stays.
        Interrupted: a signal came; the state was saved.
    """
    steps = section.steps
    with Checkpoints(workdir.path / name) as checkpoints, StopSignal() as stop:
        if checkpoints.latest_step() is None:
            state, start, window = initial(), 0, Window({}, 0)
        else:
            items, meta = checkpoints.restore(None, {"state": abstract(initial)})
            state, start = items["state"], int(meta["step"])
            window = Window(meta["window_sums"], meta["window_count"])
            logging.info("%s: resumed at step %d of %d", name, start, steps)
        if start == steps:
            return state
        workdir.truncate_metrics(name, start)

        def save(step: int) -> None:
            meta = {"step": step, "window_sums": window.sums, "window_count": window.steps}
            checkpoints.save(step, {"state": state}, meta)

        logging.info("%s: compiling the training step (once per machine, then cached)", name)
        stream = batches(start)
        began = time.monotonic()
        timed_from, timed_step = began, start
        pending: deque[tuple[int, dict]] = deque()
        for step in range(start + 1, steps + 1):
            state, metrics = step_function(state, next(stream))
            pending.append((step, metrics))
            stopping = stop.requested(step)
            logs = step % run.log_every == 0 or step == steps
            saves = stopping or step % run.checkpoint_every == 0 or step == steps
            # Metrics are fetched one step late, so that the device never waits for the log.
            while len(pending) > (0 if logs or saves or step == start + 1 else 1):
                done, metrics = pending.popleft()
                values = {key: float(value) for key, value in jax.device_get(metrics).items()}
                _check_finite(name, called, section, rate, done, values, checkpoints)
                window = window.add(values)
            if step == start + 1:
                logging.info("%s: first step after %.1f s", name, time.monotonic() - began)
                timed_from, timed_step = time.monotonic(), step
            if logs:
                seconds = (time.monotonic() - timed_from) / max(step - timed_step, 1)
                means = window.means()
                window = Window({}, 0)
                workdir.append_metrics(name, step, means)
                terms = "  ".join(f"{key} {value:.4g}" for key, value in means.items())
                logging.info(
                    "%s: step %d/%d  %s  %.3f s/step  %.0f s left",
                    name, step, steps, terms, seconds, seconds * (steps - step),
                )  # fmt: skip
            if saves:
                save(step)
            if stopping and step < steps:
                checkpoints.wait()
                raise Interrupted(f"{name}: saved at step {step} of {steps}", stop.exit_status)
        return state
