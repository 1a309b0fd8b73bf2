"""The stages of Algorithm 1: the classifier and the judges, trained or found in the work directory.

Belongs here: what they train on and from what. The step is in `classifier`, the loop in `loop`.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from ml_collections import ConfigDict, FrozenConfigDict

from imitation_refinement.errors import UserError
from imitation_refinement.method import losses, networks, optimizers
from imitation_refinement.method.classifier import (
    Classifier,
    ClassifierState,
    Distance,
    Prediction,
    classifier_step,
    distance_of,
    init_classifier,
    predict,
)
from imitation_refinement.runtime import devices
from imitation_refinement.runtime.ahead import Jitted
from imitation_refinement.runtime.batches import balanced_indices
from imitation_refinement.runtime.loop import abstract, train
from imitation_refinement.stages.finished import finished, keep
from imitation_refinement.stages.run import Run
from imitation_refinement.tasks import SEEN, TRAIN, UNSEEN, IdealData, ImperfectData


class TrainedClassifier(NamedTuple):
    """A frozen classifier with the network that applies it."""

    network: nn.Module
    tree: Classifier
    distance: Distance

    def predict(self, run: Run, x: Any) -> Prediction:
        """Returns NumPy predictions for patterns `[n, *spatial, C]`."""
        return run.apply(_predictor(self.network, self.distance), self.tree, {"x": x})


# One function object for each network, so that jax compiles it once and not at every call.
@lru_cache(maxsize=8)
def _predictor(network: nn.Module, distance: Distance) -> Callable[[Classifier, dict], Prediction]:
    return lambda frozen, batch: predict(frozen, batch["x"], network=network, distance=distance)


class FixedViews:
    """The plain views of some ideal examples, rendered when they are asked for."""

    def __init__(self, fixed: Any, indices: np.ndarray):
        self._fixed, self._indices = fixed, indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, rows: Any) -> np.ndarray:
        return np.stack([self._fixed(int(index)) for index in self._indices[rows]])


class ClassifierProgram(NamedTuple):
    """What Algorithm 1 runs on the devices, compiled when first called or ahead.

    Attributes:
        initialize: `seed -> state of step 0`.
        step: `(state, batch, seed) -> (state, metrics)`; it donates the state.
    """

    initialize: Jitted
    step: Jitted


# Seeds are arguments of what is compiled, so that a judge of equal settings needs no other program.
@lru_cache(maxsize=8)
def classifier_program(
    section: FrozenConfigDict, input_shape: tuple[int, ...], num_classes: int
) -> ClassifierProgram:
    """Returns the compiled functions of Algorithm 1 for a classifier section."""
    network = networks.build_classifier(section, num_classes)
    optimizer = optimizers.build_optimizer(section)

    def step(state: ClassifierState, batch: dict, seed: Any) -> tuple[ClassifierState, dict]:
        return classifier_step(
            state,
            batch,
            network=network,
            optimizer=optimizer,
            prototype_weight=section.prototype_weight,
            distance=distance_of(section),
            seed=seed,
        )

    whole = devices.replicated()
    return ClassifierProgram(
        Jitted(
            jax.jit(
                partial(init_classifier, network, optimizer, input_shape, num_classes),
                out_shardings=whole,
                compiler_options=devices.runs_once(),
            )
        ),
        Jitted(
            jax.jit(
                step,
                in_shardings=(whole, devices.by_example(), whole),
                out_shardings=whole,
                donate_argnums=0,
            )
        ),
    )


def program_of(run: Run, section: ConfigDict) -> ClassifierProgram:
    """Returns the program of a classifier section on the run's examples."""
    settings = {field: value for field, value in section.items() if field != "data"}
    classes = len(run.task.class_names)
    return classifier_program(FrozenConfigDict(settings), run.task.input_shape, classes)


def classifier_of(state: ClassifierState) -> Classifier:
    """Returns what is trained of a state, with its running prototypes."""
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    return Classifier(variables, state.prototypes)


def classifier_section(run: Run, name: str) -> tuple[ConfigDict, str]:
    """Returns the config section of stage `classifier` or `judge/<name>`, and what it is called."""
    kind, _, judge = name.partition("/")
    if kind == "judge":
        return run.config.judges[judge], f"config.judges.{judge}"
    return run.config[name], run.called(name)


def classifier_data(run: Run, section: ConfigDict, called: str) -> IdealData:
    """Returns what a classifier is trained on: ideal examples, or for readers imperfect ones."""
    if section.get("data", "ideal") == "ideal":
        return run.task.ideal
    if run.task.reading is None:
        raise UserError(f"{called}.data = 'imperfect': task {run.config.task} has no such examples")
    return run.task.reading


def classifier_stage(
    run: Run,
    name: str,
    start: Classifier | None = None,
    *,
    section: ConfigDict | None = None,
    called: str = "",
    data: IdealData | None = None,
) -> TrainedClassifier:
    """Trains a classifier (Algorithm 1, then Eq. 1), or loads it.

    Args:
        run: the run.
        name: `classifier`, or `judge/<name>` for a section of `config.judges`; also the folder. Any
            other name if `section` is given.
        start: what to start from (fine-tuning); None is from scratch.
        section: how to train, in the place of the config's section of this name.
        called: what the user calls that section.
        data: what to train on, in the place of the task's ideal examples.
    """
    if section is None:
        section, called = classifier_section(run, name)
    kind, _, rest = name.partition("/")
    own = (kind, rest) if kind in ("classifier", "judge") else ("other", name)
    seed = run.seed(own[0], *own[1].encode())
    classes = len(run.task.class_names)
    network, distance = networks.build_classifier(section, classes), distance_of(section)
    program = program_of(run, section)
    initial = partial(initial_state, program, seed, start)

    def like() -> dict[str, Classifier]:
        return {"classifier": classifier_of(abstract(initial))}

    found = finished(run, name, section.steps, like)
    if found is not None:
        return TrainedClassifier(network, found["classifier"], distance)
    if data is None:
        data = classifier_data(run, section, called)
    training = np.flatnonzero(data.split == TRAIN)
    if section.batch_size < classes:
        raise UserError(
            f"{called}.batch_size = {section.batch_size}: must be at least {classes}, so that "
            "a batch holds every class"
        )
    state = train(
        name,
        initial,
        lambda state, batch: program.step(state, batch, seed),
        view_batches(run, section, data, called, seed, on_devices=devices.makes_examples()),
        called=called,
        section=section,
        run=run.config.run,
        workdir=run.workdir,
    )
    running = TrainedClassifier(network, classifier_of(state), distance)
    logging.info("%s: exact prototypes of %d training examples (Eq. 1)", name, len(training))
    prototypes = exact_prototypes(run, running, data)
    result = running._replace(tree=running.tree._replace(prototypes=prototypes))
    accuracy = held_out_accuracy(run, result, data)
    logging.info("%s: accuracy on held-out examples: %s", name, accuracy)
    keep(run, name, section.steps, {"classifier": result.tree}, accuracy)
    return result


def view_batches(
    run: Run, section: ConfigDict, data: IdealData, called: str, seed: int, *, on_devices: bool
) -> Callable[[int], Iterator[dict]]:
    """Returns `start_step -> batches` of random views of the training examples (Algorithm 1).

    Args:
        run: the run.
        section: with `batch_size`, `steps`.
        data: whose training examples are seen.
        called: what the user calls the section.
        seed: of order and views.
        on_devices: whether views are made there, if the data can be. Which examples are in a batch
            does not depend on it, the random numbers of their views do.
    """
    training, size = np.flatnonzero(data.split == TRAIN), section.batch_size
    indices = balanced_indices(data.label[training], size, section.steps, seed)
    if on_devices and data.on_device is not None:
        held = data.on_device.held, training.astype(np.int32), data.label[training]
        return run.batches_made(indices, held, _labelled(data.on_device.view), size, called, seed)

    def example(position: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        index = int(training[position])
        return {"x": data.view(index, rng), "label": data.label[index]}

    return run.batches(indices, example, size, called, seed)


# One function object for each kind of view, for the same reason as above.
@lru_cache(maxsize=8)
def _labelled(view: Callable[[Any, Any, Any], Any]) -> Callable[[Any, Any, Any], dict]:
    def example(held: Any, position: Any, key: Any) -> dict[str, Any]:
        patterns, training, label = held
        return {"x": view(patterns, training[position], key), "label": label[position]}

    return example


def exact_prototypes(run: Run, classifier: TrainedClassifier, data: IdealData) -> jax.Array:
    """Returns the class means of the embeddings of the training examples (Eq. 1).

    Args:
        run: the run.
        classifier: whose prototypes are not looked at.
        data: what it was trained on; the examples are taken in their plain views.

    Returns:
        float32 `[K, D]`, whole on every device.
    """
    training = np.flatnonzero(data.split == TRAIN)
    embedding = classifier.predict(run, FixedViews(data.fixed, training)).embedding
    known = jnp.asarray(data.label[training])
    found = losses.class_prototypes(embedding, known, len(run.task.class_names))
    return devices.replicate(found)


def imperfect_as_ideal(data: ImperfectData, rows: np.ndarray, augment: bool = True) -> IdealData:
    """Returns imperfect examples as what a classifier is trained on, all of them for training.

    Args:
        data: of the task.
        rows: indices of the examples.
        augment: whether they are seen in random views where the data have such, as refiners see
            them.
    """

    def fixed(index: int) -> np.ndarray:
        return data.pattern[rows[index]]

    def view(index: int, rng: np.random.Generator) -> np.ndarray:
        return data.view(int(rows[index]), rng) if augment and data.view else fixed(index)

    return IdealData(data.label[rows], np.full(len(rows), TRAIN, np.int8), view, fixed)


def simulated_as_ideal(run: Run) -> IdealData:
    """Returns the ideal examples put through the imperfection model, anew for each view."""
    data, pair = run.task.ideal, run.task.pair

    def fixed(index: int) -> np.ndarray:
        return pair(np.random.default_rng(run.seed("held_out", index)), index)[0]

    return IdealData(data.label, data.split, lambda index, rng: pair(rng, index)[0], fixed)


def initial_state(
    program: ClassifierProgram, seed: int, start: Classifier | None
) -> ClassifierState:
    """Returns the state of step 0: fresh, or with the variables and prototypes of `start`."""
    state = program.initialize(seed)
    if start is None:
        return state
    # Copies, because the step donates its state and `start` must survive.
    return state._replace(
        **jax.tree.map(jnp.copy, start.variables), prototypes=jnp.copy(start.prototypes)
    )


def judge_stages(run: Run) -> dict[str, TrainedClassifier]:
    """Trains or loads every judge of the config, by name."""
    return {name: classifier_stage(run, f"judge/{name}") for name in sorted(run.config.judges)}


def held_out_accuracy(run: Run, classifier: TrainedClassifier, data: IdealData) -> dict[str, float]:
    """Returns the accuracy on held-out examples of seen and of unseen kinds, if there are any."""
    rng = np.random.default_rng(run.seed("held_out"))
    accuracy = {}
    for name, split in (("seen", SEEN), ("unseen", UNSEEN)):
        indices = rng.permutation(np.flatnonzero(data.split == split))
        indices = indices[: run.config.evaluate.ideal_count]
        if len(indices):
            logits = classifier.predict(run, FixedViews(data.fixed, indices)).logits
            accuracy[name] = float(np.mean(np.argmax(logits, axis=1) == data.label[indices]))
    return accuracy
