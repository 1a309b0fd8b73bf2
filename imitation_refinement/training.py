"""The stages that train: classifier and judge, pre-training on pairs, one refiner for each fold.

Belongs here: what each stage trains on and from what, and finding its finished result in the work
directory. The steps are in `classifier` and `refiner`, the loop that they share in `loop`.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
from absl import logging
from ml_collections import ConfigDict
from sklearn.model_selection import StratifiedGroupKFold

from imitation_refinement import devices, losses, networks, optimizers
from imitation_refinement.batches import balanced_indices, uniform_indices
from imitation_refinement.checkpoint import Checkpoints
from imitation_refinement.classifier import (
    Classifier,
    Distance,
    Prediction,
    classifier_step,
    init_classifier,
    predict,
)
from imitation_refinement.errors import UserError
from imitation_refinement.loop import abstract, train
from imitation_refinement.refiner import RefinerObjective, init_refiner, refine, refiner_step
from imitation_refinement.run import Run
from imitation_refinement.tasks import SEEN, TRAIN, UNSEEN

Tree = Any
PRETRAINED = "refiner/pretrained"
STREAMS = {
    "classifier": 1,
    "judge": 2,
    "refiner": 3,
    "folds": 4,
    "ideal_sample": 5,
    "pretraining": 6,
}


class TrainedClassifier(NamedTuple):
    """A frozen classifier with the network that applies it."""

    network: nn.Module
    frozen: Classifier
    distance: Distance

    def predict(self, run: Run, x: Any) -> Prediction:
        """Returns NumPy predictions for patterns `[n, *spatial, C]`."""
        return run.apply(_predictor(self.network, self.distance), self.frozen, {"x": x})


# One function object for each network, so that jax compiles it once and not at every call.
@lru_cache(maxsize=8)
def _predictor(network: nn.Module, distance: Distance) -> Callable[[Classifier, dict], Prediction]:
    return lambda frozen, batch: predict(frozen, batch["x"], network=network, distance=distance)


@lru_cache(maxsize=8)
def _refiner(network: nn.Module) -> Callable[[Tree, dict], jax.Array]:
    return lambda params, batch: refine(params, batch["x"], network=network)


class FixedViews:
    """The plain views of some ideal examples, rendered when they are asked for."""

    def __init__(self, fixed: Any, indices: np.ndarray):
        self._fixed, self._indices = fixed, indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, rows: Any) -> np.ndarray:
        return np.stack([self._fixed(int(index)) for index in self._indices[rows]])


def distance_of(section: ConfigDict) -> Distance:
    """Returns the distance d that a classifier section asks for; scale 0 stands for one over D."""
    return partial(
        losses.prototype_distances,
        scale=section.distance_scale or None,
        distance=section.distance,
    )


def folds(run: Run) -> np.ndarray:
    """Returns the test fold of each imperfect example, int32 `[n]`.

    Stratified by class as far as the groups allow, which are never split.
    """
    data, number = run.task.imperfect, run.config.evaluate.folds
    splitter = StratifiedGroupKFold(number, shuffle=True, random_state=run.seed(STREAMS["folds"]))
    fold = np.empty(len(data.label), np.int32)
    for index, (_, test) in enumerate(splitter.split(data.label, data.label, data.group)):
        fold[test] = index
    return fold


def classifier_stage(run: Run, name: str) -> TrainedClassifier:
    """Trains the classifier of config section `name` (Algorithm 1, then Eq. 1), or loads it."""
    section, task = run.config[name], run.task
    seed = run.seed(STREAMS[name])
    network = networks.build_classifier(section, len(task.class_names))
    optimizer = optimizers.build_optimizer(section)
    shapes = task.input_shape, len(task.class_names)
    # The seed is an argument of what is compiled, so that another one needs no other program.
    initialize = jax.jit(
        partial(init_classifier, network, optimizer, *shapes), out_shardings=devices.replicated()
    )
    initial = partial(initialize, seed)
    distance = distance_of(section)
    with Checkpoints(run.workdir.path / name / "trained") as trained:
        if run.workdir.stage_done(name) and trained.latest_step() == section.steps:
            like = abstract(initial)
            variables = {"params": like.params, "batch_stats": like.batch_stats}
            items, _ = trained.restore(None, {"classifier": Classifier(variables, like.prototypes)})
            return TrainedClassifier(network, items["classifier"], distance)

        training = np.flatnonzero(task.ideal.split == TRAIN)
        labels = task.ideal.label

        def example(position: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
            index = int(training[position])
            return {"x": task.ideal.view(index, rng), "label": labels[index]}

        step = partial(
            classifier_step,
            network=network,
            optimizer=optimizer,
            prototype_weight=section.prototype_weight,
            distance=distance,
            seed=seed,
        )
        if section.batch_size < len(task.class_names):
            raise UserError(
                f"config.{name}.batch_size = {section.batch_size}: must be at least "
                f"{len(task.class_names)}, so that a batch holds every class"
            )
        indices = balanced_indices(labels[training], section.batch_size, section.steps, seed)
        state = train(
            name,
            initial,
            jax.jit(
                step,
                in_shardings=(devices.replicated(), devices.by_example()),
                out_shardings=devices.replicated(),
                donate_argnums=0,
            ),
            run.batches(indices, example, name, seed),
            steps=section.steps,
            run=run.config.run,
            workdir=run.workdir,
        )
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        running = TrainedClassifier(network, Classifier(variables, state.prototypes), distance)
        logging.info("%s: exact prototypes of %d ideal patterns (Eq. 1)", name, len(training))
        embedding = running.predict(run, FixedViews(task.ideal.fixed, training)).embedding
        known = jnp.asarray(labels[training])
        prototypes = losses.class_prototypes(embedding, known, len(task.class_names))
        result = running._replace(frozen=Classifier(variables, devices.replicate(prototypes)))
        trained.save(section.steps, {"classifier": result.frozen}, {})
    accuracy = ideal_accuracy(run, result)
    logging.info("%s: accuracy on held-out ideal patterns: %s", name, accuracy)
    run.workdir.mark_done(name, accuracy)
    return result


def ideal_accuracy(run: Run, classifier: TrainedClassifier) -> dict[str, float]:
    """Returns the accuracy on held-out ideal patterns of seen and of unseen kinds."""
    ideal = run.task.ideal
    rng = np.random.default_rng(run.seed(STREAMS["ideal_sample"]))
    accuracy = {}
    for name, split in (("seen", SEEN), ("unseen", UNSEEN)):
        indices = rng.permutation(np.flatnonzero(ideal.split == split))
        indices = indices[: run.config.evaluate.ideal_count]
        logits = classifier.predict(run, FixedViews(ideal.fixed, indices)).logits
        accuracy[name] = float(np.mean(np.argmax(logits, axis=1) == ideal.label[indices]))
    return accuracy


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


def refiner_stage(run: Run, classifier: TrainedClassifier, fold: int) -> Tree:
    """Trains the refiner tested on `fold` (Algorithm 2), or loads it; returns its parameters.

    It sees the labels (if targeted) and patterns of the other folds, the frozen classifier, and
    simulated pairs if the config asks for them; never the judge or a true pattern. It starts from
    the refiner that was pre-trained on pairs, where there is one.
    """
    section, task, name = run.config.refiner, run.task, f"refiner/fold_{fold}"
    finished = finished_refiner(run, section, name)
    if finished is not None:
        return finished
    pretrained = pretraining_stage(run, classifier) if section.pretrain_steps > 0 else None
    with_pairs = objective_of(run).uses_pairs
    training = np.flatnonzero(folds(run) != fold)
    pattern, label = task.imperfect.pattern, task.imperfect.label

    def example(position: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        index = int(training[position])
        rows = {"x": pattern[index], "label": label[index]}
        return rows | pair_rows(run, rng) if with_pairs else rows

    return train_refiner(
        run, classifier, name, section, len(training), example,
        run.seed(STREAMS["refiner"], fold), pretrained,
    )  # fmt: skip


def pretraining_stage(run: Run, classifier: TrainedClassifier) -> Tree:
    """Trains a refiner on simulated pairs alone, or loads it; each fold's starts from it."""
    section = ConfigDict(run.config.refiner)
    section.update(steps=section.pretrain_steps, learning_rate=section.pretrain_learning_rate)
    finished = finished_refiner(run, section, PRETRAINED)
    if finished is not None:
        return finished

    def example(position: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return pair_rows(run, rng)

    count = section.steps * section.batch_size
    seed = run.seed(STREAMS["pretraining"])
    return train_refiner(run, classifier, PRETRAINED, section, count, example, seed, None)


def pair_rows(run: Run, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Returns a simulated pair as rows of a batch."""
    pattern, truth, label = run.task.pair(rng)
    return {"pair_x": pattern, "pair_truth": truth, "pair_label": np.asarray(label)}


def train_refiner(
    run: Run,
    classifier: TrainedClassifier,
    name: str,
    section: ConfigDict,
    count: int,
    example: Callable[[int, np.random.Generator], dict[str, np.ndarray]],
    seed: int,
    pretrained: Tree | None,
) -> Tree:
    """Runs Algorithm 2 over `count` examples and returns the averaged parameters."""
    network = networks.build_refiner(section)
    optimizer = optimizers.build_optimizer(section)
    step = jax.jit(
        partial(
            refiner_step,
            network=network,
            classifier_network=classifier.network,
            optimizer=optimizer,
            objective=objective_of(run),
            ema_decay=section.ema_decay,
        ),
        in_shardings=(devices.replicated(), devices.replicated(), devices.by_example()),
        out_shardings=devices.replicated(),
        donate_argnums=0,  # the state; the classifier must survive
    )
    state = train(
        name,
        jax.jit(
            partial(init_refiner, network, optimizer, run.task.input_shape, seed, pretrained),
            out_shardings=devices.replicated(),
        ),
        lambda state, batch: step(state, classifier.frozen, batch),
        run.batches(
            uniform_indices(count, section.batch_size, section.steps, seed),
            example,
            "refiner",
            seed,
        ),
        steps=section.steps,
        run=run.config.run,
        workdir=run.workdir,
    )
    run.workdir.mark_done(name)
    return state.ema_params


def finished_refiner(run: Run, section: ConfigDict, name: str) -> Tree | None:
    """Loads the averaged parameters of a refiner whose training was finished, else returns None.

    A damaged last checkpoint that was deleted, as its message advises, means not finished.
    """
    if not run.workdir.stage_done(name):
        return None
    network, optimizer = networks.build_refiner(section), optimizers.build_optimizer(section)
    like = abstract(partial(init_refiner, network, optimizer, run.task.input_shape, 0))
    with Checkpoints(run.workdir.path / name) as checkpoints:
        if checkpoints.latest_step() != section.steps:
            return None
        return checkpoints.restore(None, {"state": like})[0]["state"].ema_params


def refined_patterns(run: Run, params: Tree, x: np.ndarray) -> np.ndarray:
    """Returns R(x) for patterns `[n, *spatial, C]`."""
    return run.apply(_refiner(networks.build_refiner(run.config.refiner)), params, {"x": x})


class TrainedModel(NamedTuple):
    """What refines and classifies new patterns: the refiners of all folds and their classifier."""

    run: Run
    classifier: TrainedClassifier
    refiners: list[Tree]

    def refine(self, x: np.ndarray) -> np.ndarray:
        """Returns the mean of what the refiners make of patterns `[n, *spatial, C]`."""
        every = [refined_patterns(self.run, params, x) for params in self.refiners]
        return np.mean(every, axis=0)

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        """Returns the frozen classifier's class probabilities of patterns, float32 `[n, K]`."""
        return scipy.special.softmax(self.classifier.predict(self.run, x).logits, axis=1)


def trained_model(run: Run) -> TrainedModel:
    """Loads the model of a run; what is not trained yet is trained first."""
    classifier = classifier_stage(run, "classifier")
    numbers = range(run.config.evaluate.run_folds)
    return TrainedModel(run, classifier, [refiner_stage(run, classifier, k) for k in numbers])
