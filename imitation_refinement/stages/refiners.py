"""The stages of Algorithm 2: pre-training on pairs, one refiner for each fold.

Belongs here: what each refiner trains on and from what, and finding its finished result in the work
directory. The step is in `refiner`, the loop in `loop`, the classifiers in `classifiers`.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
from ml_collections import ConfigDict, FrozenConfigDict
from sklearn.model_selection import StratifiedGroupKFold

from imitation_refinement.errors import UserError
from imitation_refinement.method import networks, optimizers
from imitation_refinement.method.classifier import distance_of
from imitation_refinement.method.refiner import (
    RefinerObjective,
    init_refiner,
    refine,
    refiner_step,
)
from imitation_refinement.runtime import devices
from imitation_refinement.runtime.ahead import Jitted
from imitation_refinement.runtime.batches import uniform_indices
from imitation_refinement.runtime.loop import abstract, train
from imitation_refinement.stages.classifiers import TrainedClassifier, classifier_stage
from imitation_refinement.stages.finished import finished
from imitation_refinement.stages.run import Run

Tree = Any
PRETRAINED = "refiner/pretrained"
PAIRS = "pair_x", "pair_truth", "pair_label"


@lru_cache(maxsize=8)
def _refiner(network: nn.Module) -> Callable[[Tree, dict], jax.Array]:
    return lambda params, batch: refine(params, batch["x"], network=network)


def folds(run: Run) -> np.ndarray:
    """Returns the fold in which each imperfect example is a test example, int32 `[n]`.

    The task's own if it has them (-1: in none), else stratified by class as far as the groups
    allow, which are never split.

    Raises:
        UserError: there are too few examples for so many folds.
    """
    data, number = run.task.imperfect, run.config.evaluate.folds
    if data.fold is not None:
        return data.fold
    splitter = StratifiedGroupKFold(number, shuffle=True, random_state=run.seed("folds"))
    fold = np.empty(len(data.label), np.int32)
    try:
        for index, (_, test) in enumerate(splitter.split(data.label, data.label, data.group)):
            fold[test] = index
    except ValueError as error:  # every class has fewer examples than there are folds
        raise UserError(f"config.evaluate.folds = {number}: {error} Lower it.") from error
    return fold


def objective_of(run: Run) -> RefinerObjective:
    """Returns the weights of Eq. 3 that the config asks for."""
    section = run.config.refiner
    return RefinerObjective(
        targeted=section.targeted,
        prediction_weight=section.prediction_weight,
        regularization_weight=section.regularization_weight,
        prototype_weight=section.prototype_weight,
        norm=section.norm,
        psi=section.psi,
        distance=distance_of(run.config.classifier),
        pair_weight=section.pair_weight,
        pair_recognition=section.pair_recognition,
    )


def fold_name(fold: int) -> str:
    """Returns the name of the stage that trains the refiner tested on a fold."""
    return f"refiner/fold_{fold}"


def folds_use_pairs(run: Run) -> bool:
    """Returns whether the batches of the folds hold simulated pairs."""
    return objective_of(run).uses_pairs and run.config.refiner.pairs_after_pretraining


def refiner_stage(
    run: Run, classifier: TrainedClassifier, fold: int, pretrained: Tree | None = None
) -> Tree:
    """Trains the refiner tested on `fold` (Algorithm 2), or loads it; returns its parameters.

    It sees the labels (if targeted) and patterns of the other folds, the frozen classifier, and
    simulated pairs if the config asks for them; never a judge or a true pattern. It starts from
    the refiner that was pre-trained on pairs, where there is one, and with 0 steps it is that one.

    Args:
        run: the run.
        classifier: frozen.
        fold: see `folds`.
        pretrained: what `pretraining_stage` gave another run of the same pairs; None: the run does
            its own pre-training if its config asks for one.
    """
    section, task, name = run.config.refiner, run.task, fold_name(fold)
    if section.steps == 0:
        if pretrained is None:
            pretrained = pretraining_stage(run, classifier)
        if not run.workdir.stage_done(name):
            run.workdir.mark_done(name)
        return pretrained
    finished = finished_refiner(run, section, name)
    if finished is not None:
        return finished
    if pretrained is None and section.pretrain_steps > 0:
        pretrained = pretraining_stage(run, classifier)
    with_pairs = folds_use_pairs(run)
    training = np.flatnonzero(folds(run) != fold)
    data = task.imperfect

    def example(position: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        index = int(training[position])
        x = data.pattern[index] if data.view is None else data.view(index, rng)
        rows = {"x": x, "label": data.label[index]}
        return rows | pair_rows(run, rng) if with_pairs else rows

    return train_refiner(
        run, classifier, name, section, len(training), example,
        run.seed("refiner", fold), pretrained,
    )  # fmt: skip


def pretraining_section(run: Run) -> ConfigDict:
    """Returns the refiner's section with steps and learning rate of its pre-training."""
    section = ConfigDict(run.config.refiner)
    section.update(steps=section.pretrain_steps, learning_rate=section.pretrain_learning_rate)
    return section


def pretraining_stage(run: Run, classifier: TrainedClassifier) -> Tree:
    """Trains a refiner on simulated pairs alone, or loads it; each fold's starts from it."""
    section = pretraining_section(run)
    finished = finished_refiner(run, section, PRETRAINED)
    if finished is not None:
        return finished

    def example(position: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return pair_rows(run, rng)

    count = section.steps * section.batch_size
    seed = run.seed("pretraining")
    return train_refiner(
        run, classifier, PRETRAINED, section, count, example, seed, None,
        rate="pretrain_learning_rate",
    )  # fmt: skip


def pair_rows(run: Run, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Returns a simulated pair as rows of a batch."""
    pattern, truth, label = run.task.pair(rng)
    return dict(zip(PAIRS, (pattern, truth, np.asarray(label)), strict=True))


def train_refiner(
    run: Run,
    classifier: TrainedClassifier,
    name: str,
    section: ConfigDict,
    count: int,
    example: Callable[[int, np.random.Generator], dict[str, np.ndarray]],
    seed: int,
    pretrained: Tree | None,
    rate: str = "learning_rate",
) -> Tree:
    """Runs Algorithm 2 over `count` examples and returns the averaged parameters."""
    settings = FrozenConfigDict(section)
    initialize = refiner_start(settings, run.task.input_shape)
    step = refiner_program(settings, classifier.network, objective_of(run))
    state = train(
        name,
        partial(initialize, seed, pretrained),
        lambda state, batch: step(state, classifier.tree, batch),
        run.batches(
            uniform_indices(count, section.batch_size, section.steps, seed),
            example,
            section.batch_size,
            run.called("refiner"),
            seed,
        ),
        called=run.called("refiner"),
        section=section,
        run=run.config.run,
        workdir=run.workdir,
        rate=rate,
    )
    run.workdir.mark_done(name)
    return state.ema_params


# Seed and pre-trained parameters are arguments, so that there is one program for all folds.
@lru_cache(maxsize=8)
def refiner_start(section: FrozenConfigDict, input_shape: tuple[int, ...]) -> Jitted:
    """Returns what makes the state of step 0: `(seed, pretrained or None) -> RefinerState`."""
    network, optimizer = networks.build_refiner(section), optimizers.build_optimizer(section)
    return Jitted(
        jax.jit(
            partial(init_refiner, network, optimizer, input_shape),
            out_shardings=devices.replicated(),
            compiler_options=devices.runs_once(),
        )
    )


@lru_cache(maxsize=8)
def refiner_program(
    section: FrozenConfigDict, classifier_network: nn.Module, objective: RefinerObjective
) -> Jitted:
    """Returns the step of Algorithm 2, one for all folds; it donates the state.

    It is `(RefinerState, Classifier, batch) -> (RefinerState, metrics)`.
    """
    whole = devices.replicated()
    return Jitted(
        jax.jit(
            partial(
                refiner_step,
                network=networks.build_refiner(section),
                classifier_network=classifier_network,
                optimizer=optimizers.build_optimizer(section),
                objective=objective,
                ema_decay=section.ema_decay,
            ),
            in_shardings=(whole, whole, devices.by_example()),
            out_shardings=whole,
            donate_argnums=0,  # the state; the classifier must survive
        )
    )


def finished_refiner(run: Run, section: ConfigDict, name: str) -> Tree | None:
    """Loads the averaged parameters of a refiner whose training was finished, else returns None."""
    network, optimizer = networks.build_refiner(section), optimizers.build_optimizer(section)
    initial = partial(init_refiner, network, optimizer, run.task.input_shape, 0)
    found = finished(run, name, section.steps, lambda: {"state": abstract(initial)}, folder="")
    return None if found is None else found["state"].ema_params


def refined_patterns(run: Run, params: Tree, x: np.ndarray) -> np.ndarray:
    """Returns R(x) for patterns `[n, *spatial, C]`."""
    return run.apply(_refiner(networks.build_refiner(run.config.refiner)), params, {"x": x})


class TrainedModel(NamedTuple):
    """The refiners of all folds and their classifier."""

    classifier: TrainedClassifier
    refiners: list[Tree]


def trained_model(run: Run) -> TrainedModel:
    """Loads the model of a run; what is not trained yet is trained first."""
    classifier = classifier_stage(run, "classifier")
    numbers = range(run.config.evaluate.run_folds)
    return TrainedModel(classifier, [refiner_stage(run, classifier, k) for k in numbers])
