"""How fast the host draws training views, by number of reading threads, and how fast the device.

    python benchmarks/views.py

An accelerator waits for the host as soon as its step is shorter than a batch of views takes. All
ways of a task are timed in turns and the medians reported, also in processor time, which other work
on a CPU changes less. Nothing is trained.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import app, flags
from ml_collections import ConfigDict

from imitation_refinement.digits.task import DigitsTask
from imitation_refinement.runtime import devices
from imitation_refinement.runtime.batches import (
    BatchIndices,
    Example,
    batch_stream,
    uniform_indices,
)
from imitation_refinement.runtime.device_batches import made_on_devices
from imitation_refinement.tasks import DeviceViews
from imitation_refinement.xrd import device_views
from imitation_refinement.xrd.device_views import Held
from imitation_refinement.xrd.grid import Grid
from imitation_refinement.xrd.profiles import IdealViews, ViewDraws, draw_view, view_of
from imitation_refinement.xrd.task import XrdTask

sys.path.insert(0, str(Path(__file__).parents[1]))
from configs import digits, xrd  # noqa: E402

_ROUNDS = flags.DEFINE_integer("rounds", 5, "Rounds in turns.", lower_bound=1)
_BATCHES = flags.DEFINE_integer("batches", 20, "Batches per round.", lower_bound=1)
_THREADS = flags.DEFINE_multi_integer("threads", [0, 1, 2, 4], "Reading threads; 0: the caller.")

_BATCH = 128
Rate = tuple[float, float]  # a second, and a second of processor time


def views_per_second(
    example: Callable[[int, np.random.Generator], Example], count: int, threads: int
) -> Rate:
    """Returns how many examples a stream of the host gives, after its first batch."""
    stream = batch_stream(
        indices_of(count),
        example,
        batch_size=_BATCH,
        seed=0,
        start_step=0,
        process_index=0,
        process_count=1,
        threads=threads,
    )
    return rate(stream)


def device_views_per_second(views: DeviceViews, count: int) -> Rate:
    """Returns how many examples the device makes, after its first batch."""
    order = indices_of(count)
    return rate(made_on_devices(order, views.held, views.view, batch_size=_BATCH, seed=0)(0))


def apart(lines: Held, grid: Grid) -> np.ndarray:
    """Returns by how much views of NumPy and of the device differ at most, of the maximum, `[n]`.

    Of the first patterns; both are given the same random numbers. No noise is cut, so that no
    point falls to the other side of the cut.
    """
    most = int(lines.count.max())
    known = jax.device_put(lines)
    views = IdealViews((12.0, 150.0), 0.8, (0.25, 0.3), True, 0.3)

    @jax.jit
    def made(index: int, draws: ViewDraws) -> jax.Array:
        return device_views.view_of(*device_views.lines_of(known, index, most), grid, draws)

    def typed(value: Any) -> np.ndarray:
        value = np.asarray(value)
        return value if value.dtype == bool else value.astype(np.float32)

    found = []
    for index in range(_BATCH):
        count, start = lines.count[index], lines.start[index]
        draws = draw_view(np.random.default_rng(index), count, grid.length, views)
        draws = draws._replace(cut=np.float32(-np.inf))
        q, root = (column[start : start + count].astype(np.float64) for column in lines[:2])
        expected = view_of(q, root**2, grid, draws)
        padded = draws._replace(grains=np.pad(draws.grains, (0, most - count)))
        found.append(np.abs(made(index, jax.tree.map(typed, padded)) - expected).max())
    return np.array(found)


def indices_of(count: int) -> BatchIndices:
    """Returns the order in which `count` examples are seen."""
    return uniform_indices(count, _BATCH, _BATCHES.value + 1, seed=0)


def rate(stream: Iterator[Any]) -> Rate:
    """Returns how many examples a stream gives after its first batch, each waited for."""
    jax.block_until_ready(next(stream))
    began, busy = time.perf_counter(), time.process_time()
    for batch in stream:
        jax.block_until_ready(batch)
    number = _BATCH * _BATCHES.value
    return number / (time.perf_counter() - began), number / (time.process_time() - busy)


def sources(own: XrdTask, cache: Path) -> dict[str, tuple[Callable, int, DeviceViews | None]]:
    """Returns what is drawn, by name: what draws one, how many there are, what devices draw by."""
    ideal, ideal_digits = own.ideal, DigitsTask(digits.get_config(), cache, 1).ideal
    return {
        "ideal patterns of 2,000 points": (ideal.view, len(ideal.label), ideal.on_device),
        "simulated pairs of 2,000 points": (lambda _, rng: own.pair(rng), 1000, None),
        "ideal digits of 32 x 32": (ideal_digits.view, len(ideal_digits.label), None),
    }


def main(_: list[str]) -> None:
    ways = [f"{number} threads" for number in _THREADS.value] + [devices.describe()]
    patterns: ConfigDict = xrd.get_config()
    patterns.data.ideal.prototypes = 200
    with tempfile.TemporaryDirectory() as folder:
        own = XrdTask(patterns, Path(folder), 1)
        held = own.ideal.on_device.held
        differ = apart(held, own.grid)
        print(f"lines of a pattern: mean {held.count.mean():.0f}, most {held.count.max():,}")
        print(f"apart, of the maximum: median {np.median(differ):.1e}, most {differ.max():.1e}\n")
        print("| drawn per second (of processor time) | " + " | ".join(ways) + " |")
        print("| --- |" + " --- |" * len(ways))
        for name, (example, count, views) in sources(own, Path(folder)).items():
            rounds = [
                [views_per_second(example, count, threads) for threads in _THREADS.value]
                + ([device_views_per_second(views, count)] if views else [])
                for _ in range(_ROUNDS.value)
            ]
            cells = [f"{whole:,.0f} ({busy:,.0f})" for whole, busy in np.median(rounds, axis=0)]
            cells += [""] * (len(ways) - len(cells))
            print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    app.run(main)
