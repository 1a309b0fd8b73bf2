"""How fast the host draws training views, by number of reading threads.

    python benchmarks/views.py

An accelerator waits for them as soon as its step is shorter than their batch takes. All thread
numbers of a task are timed in turns and the medians reported. Nothing is trained.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from absl import app, flags
from ml_collections import ConfigDict

from imitation_refinement.digits.task import DigitsTask
from imitation_refinement.runtime.batches import Example, batch_stream, uniform_indices
from imitation_refinement.xrd.task import XrdTask

sys.path.insert(0, str(Path(__file__).parents[1]))
from configs import digits, xrd  # noqa: E402

_ROUNDS = flags.DEFINE_integer("rounds", 5, "Rounds in turns.", lower_bound=1)
_BATCHES = flags.DEFINE_integer("batches", 20, "Batches per round.", lower_bound=1)
_THREADS = flags.DEFINE_multi_integer("threads", [0, 1, 2, 4], "Reading threads; 0: the caller.")

_BATCH = 128


def views_per_second(
    example: Callable[[int, np.random.Generator], Example], count: int, threads: int
) -> float:
    """Returns how many examples a stream gives in a second, after its first batch."""
    stream = batch_stream(
        uniform_indices(count, _BATCH, _BATCHES.value + 1, seed=0),
        example,
        batch_size=_BATCH,
        seed=0,
        start_step=0,
        process_index=0,
        process_count=1,
        threads=threads,
    )
    next(stream)
    began = time.perf_counter()
    for _ in stream:
        pass
    return _BATCH * _BATCHES.value / (time.perf_counter() - began)


def sources(cache: Path) -> dict[str, tuple[Callable, int]]:
    """Returns what is drawn, by name: the function that draws one and how many there are."""
    patterns: ConfigDict = xrd.get_config()
    patterns.data.ideal.prototypes = 200
    ideal_patterns, ideal_digits = (
        XrdTask(patterns, cache, 1),
        DigitsTask(digits.get_config(), cache, 1),
    )
    return {
        "ideal patterns of 2,000 points": (
            ideal_patterns.ideal.view,
            len(ideal_patterns.ideal.label),
        ),
        "simulated pairs of 2,000 points": (lambda _, rng: ideal_patterns.pair(rng), 1000),
        "ideal digits of 32 x 32": (ideal_digits.ideal.view, len(ideal_digits.ideal.label)),
    }


def main(_: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        print("| drawn per second | " + " | ".join(f"{n} threads" for n in _THREADS.value) + " |")
        print("| --- |" + " --- |" * len(_THREADS.value))
        for name, (example, count) in sources(Path(folder)).items():
            rates = [
                [views_per_second(example, count, threads) for threads in _THREADS.value]
                for _ in range(_ROUNDS.value)
            ]
            print(f"| {name} | " + " | ".join(f"{r:,.0f}" for r in np.median(rates, 0)) + " |")


if __name__ == "__main__":
    app.run(main)
