"""Which programs a run will need, known from its config: for `runtime.ahead` to compile ahead.

Belongs here: in which order, and for arguments of which shapes. Programs are made where their
stages are; a stage that is done needs none. Predictions are left out: they are small, and how many
rows they take is not known before the examples are made.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from ml_collections import ConfigDict, FrozenConfigDict

from imitation_refinement.method import networks
from imitation_refinement.runtime.ahead import Jitted
from imitation_refinement.stages.classifiers import (
    classifier_of,
    classifier_section,
    program_of,
)
from imitation_refinement.stages.refiners import (
    PAIRS,
    PRETRAINED,
    fold_name,
    folds_use_pairs,
    objective_of,
    pretraining_section,
    refiner_program,
    refiner_start,
)
from imitation_refinement.stages.run import Run

Tree = Any
Compile = Callable[[], None]
ANY_SEED = 0  # seeds are arguments: a program is the same for all


def programs_ahead(run: Run, mode: str) -> list[Compile]:
    """Returns what compiles the programs of the stages of a mode, in the order of their calls.

    Args:
        run: the run.
        mode: see `pipeline.run_stages`.
    """
    found: list[Compile] = []
    if mode not in ("data", "judge"):
        found += classifier_programs(run, "classifier")
    if mode not in ("data", "judge", "classifier"):
        found += refiner_programs(run)
    if mode not in ("data", "classifier", "refiner"):
        for name in sorted(run.config.judges):
            found += classifier_programs(run, f"judge/{name}")
    return found


def classifier_programs(run: Run, name: str) -> list[Compile]:
    """Returns what compiles the programs of Algorithm 1, for `classifier` or `judge/<name>`."""
    if run.workdir.stage_done(name):
        return []
    section, _ = classifier_section(run, name)
    program = program_of(run, section)
    batch = run.like_batch(section.batch_size, "x", "label")

    def step() -> None:
        program.step.compile(program.initialize.result(ANY_SEED), batch, ANY_SEED)

    # The step takes longest. A run that cannot wait compiles first parameters itself meanwhile.
    return [step, partial(program.initialize.compile, ANY_SEED)]


def refiner_programs(run: Run) -> list[Compile]:
    """Returns what compiles the programs of Algorithm 2: of pre-training, and one for all folds."""
    folds = range(run.config.evaluate.run_folds)
    if all(run.workdir.stage_done(fold_name(fold)) for fold in folds):
        return []
    section, first = run.config.refiner, pretraining_section(run)
    pretrains = section.pretrain_steps > 0 or section.steps == 0
    found = []
    if pretrains and not run.workdir.stage_done(PRETRAINED):
        found += _refiner(run, first, PAIRS, lambda: None)
    if section.steps > 0:
        start = _start(run, first)
        names = ("x", "label", *(PAIRS if folds_use_pairs(run) else ()))
        found += _refiner(
            run, section, names,
            lambda: start.result(ANY_SEED, None).ema_params if pretrains else None,
        )  # fmt: skip
    return found


def _refiner(
    run: Run, section: ConfigDict, names: tuple[str, ...], pretrained: Callable[[], Tree | None]
) -> list[Compile]:
    """Of Algorithm 2 on batches of these arrays, from what `pretrained` gives the shapes of."""
    own = run.config.classifier
    initialize = program_of(run, own).initialize
    network = networks.build_classifier(own, len(run.task.class_names))
    program = refiner_program(FrozenConfigDict(section), network, objective_of(run))
    start, batch = _start(run, section), run.like_batch(section.batch_size, *names)

    def step() -> None:
        frozen = classifier_of(initialize.result(ANY_SEED))
        program.compile(start.result(ANY_SEED, pretrained()), frozen, batch)

    return [step, lambda: start.compile(ANY_SEED, pretrained())]


def _start(run: Run, section: ConfigDict) -> Jitted:
    return refiner_start(FrozenConfigDict(section), run.task.input_shape)
