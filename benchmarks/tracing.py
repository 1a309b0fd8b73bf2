"""How long tracing and lowering the default preset's steps takes, by how garbage is looked for.

    PYTHONPATH=. python benchmarks/tracing.py --rounds=3

Processor time of a process for each round and setting, in turns: as Python is set, and by
`devices.collect_garbage_rarely`. Nothing is compiled.
"""

import multiprocessing
import runpy
import statistics
import time
from functools import partial
from pathlib import Path

from absl import app, flags

CONFIG = Path(__file__).parents[1] / "configs" / "xrd.py"
_ROUNDS = flags.DEFINE_integer("rounds", 3, "Processes of each setting.", lower_bound=1)


def traced(rarely: bool) -> float:
    """Seconds of the processor for the steps of Algorithms 1 and 2 and the first parameters."""
    import jax
    import jax.numpy as jnp
    from ml_collections import FrozenConfigDict

    from imitation_refinement.method import networks
    from imitation_refinement.method.classifier import Classifier, Distance
    from imitation_refinement.method.refiner import RefinerObjective
    from imitation_refinement.runtime import devices
    from imitation_refinement.runtime.loop import abstract
    from imitation_refinement.stages.classifiers import classifier_program
    from imitation_refinement.stages.refiners import refiner_program, refiner_start

    if rarely:
        devices.collect_garbage_rarely()
    config = runpy.run_path(str(CONFIG))["get_config"]()
    shape, classes = (2000, 1), 7
    section, own = FrozenConfigDict(config.classifier), FrozenConfigDict(config.refiner)
    began = time.process_time()
    program = classifier_program(section, shape, classes)
    program.initialize.function.lower(0)
    state = abstract(partial(program.initialize, 0))

    def rows(count: int, *names: str) -> dict:
        x = jax.ShapeDtypeStruct((count, *shape), jnp.float32)
        label = jax.ShapeDtypeStruct((count,), jnp.int32)
        return {name: label if "label" in name else x for name in names}

    program.step.function.lower(state, rows(section.batch_size, "x", "label"), 0)
    frozen = Classifier(
        {"params": state.params, "batch_stats": state.batch_stats}, state.prototypes
    )
    fields = RefinerObjective._fields
    known = {name: own[name] for name in fields if name != "distance"}
    objective = RefinerObjective(**known, distance=Distance())
    step = refiner_program(own, networks.build_classifier(section, classes), objective)
    start = refiner_start(own, shape)
    start.function.lower(0, None)
    state = abstract(partial(start, 0, None))
    pairs = "pair_x", "pair_truth", "pair_label"
    for names in (pairs, (*pairs, "x", "label")):
        step.function.lower(state, frozen, rows(own.batch_size, *names))
    return time.process_time() - began


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(_ROUNDS.value):
        for rarely, found in seconds.items():
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                found.append(pool.apply(traced, (rarely,)))
    print("| garbage | s, median (least to most) |\n| --- | --- |")
    for rarely, found in seconds.items():
        name = "rarely" if rarely else "as Python is set"
        print(f"| {name} | {statistics.median(found):.1f} ({min(found):.1f} to {max(found):.1f}) |")


if __name__ == "__main__":
    app.run(main)
