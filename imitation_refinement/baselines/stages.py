"""The stages of ADDA and GTA: trained on training folds and ideal patterns, or loaded.

Belongs here: what each trains on and from what, and finding the result in the work directory. The
steps are in `adda` and `gta`, the loop in `loop`, the fields of their sections in `fields`.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
import optax
from ml_collections import ConfigDict, FrozenConfigDict

from imitation_refinement.baselines.adda import AddaMethod, adapted, adda_step, init_adda
from imitation_refinement.baselines.adversarial import (
    FeatureDiscriminator,
    Generator,
    PatternDiscriminator,
)
from imitation_refinement.baselines.gta import (
    GtaMethod,
    GtaState,
    decaying,
    gta_refine,
    gta_step,
    init_gta,
)
from imitation_refinement.method.classifier import Classifier
from imitation_refinement.runtime import devices
from imitation_refinement.runtime.batches import uniform_indices
from imitation_refinement.runtime.loop import abstract, train
from imitation_refinement.stages.classifiers import TrainedClassifier, exact_prototypes
from imitation_refinement.stages.finished import finished, keep
from imitation_refinement.stages.run import Run
from imitation_refinement.tasks import TRAIN

Tree = Any
NOISE_SEED = 0  # of z when patterns are refined: one z for each row


class GtaResult(NamedTuple):
    """What GTA leaves.

    Attributes:
        classifier: C(F(x)), for imperfect patterns. Its prototypes are means of the embeddings of
            ideal patterns normalised by their own running statistics, as in training.
        generate: `x float32 [n, *spatial, C] -> G([K, F(x), z])` of the same shape, NumPy; row i
            has the same z in every call.
    """

    classifier: TrainedClassifier
    generate: Callable[[np.ndarray], np.ndarray]


class Program(NamedTuple):
    """What a method runs on the devices, compiled when first called.

    Attributes:
        method: its networks and choices.
        initialize: `(frozen source, seed) -> state of step 0`.
        step: `(state, frozen source, batch, seed) -> (state, metrics)`; it donates the state.
    """

    method: Any
    initialize: Callable
    step: Callable


def _compiled(method: Any, initialize: Callable, step: Callable) -> Program:
    whole = devices.replicated()
    return Program(
        method,
        jax.jit(initialize, out_shardings=whole),
        jax.jit(
            step,
            in_shardings=(whole, whole, devices.by_example(), whole),
            out_shardings=whole,
            donate_argnums=0,  # the state; the source must survive
        ),
    )


@lru_cache(maxsize=8)
def adda_program(network: nn.Module, section: FrozenConfigDict) -> Program:
    """Returns the compiled functions of ADDA, one set for all folds."""
    method = AddaMethod(
        network,
        FeatureDiscriminator(),
        optax.adam(section.learning_rate, b1=0.5),
        optax.adam(section.discriminator_learning_rate, b1=0.5),
        section.batch_norm,
        section.discriminator_steps,
        section.label_weight,
    )

    def step(state: Tree, source: Classifier, batch: dict, seed: Any) -> tuple[Tree, dict]:
        return adda_step(state, source, batch, method=method, seed=seed)

    return _compiled(method, partial(init_adda, method), step)


@lru_cache(maxsize=8)
def gta_program(
    network: nn.Module, section: FrozenConfigDict, input_shape: tuple[int, ...], num_classes: int
) -> Program:
    """Returns the compiled functions of GTA, one set for all folds."""
    rate = section.learning_rate
    method = GtaMethod(
        network,
        Generator(num_classes, input_shape, section.generator_features),
        PatternDiscriminator(num_classes, len(input_shape) - 1, section.discriminator_features),
        optax.adam(decaying(rate, section.decay), b1=0.8),
        optax.adam(rate, b1=0.8),
        section.noise,
        section.adversarial_weight,
        section.target_weight,
        section.label_weight,
    )

    def initialize(source: Classifier, seed: Any) -> GtaState:
        start = source.variables if section.warm_start else None
        return init_gta(method, start, input_shape, seed)

    def step(state: Tree, source: Classifier, batch: dict, seed: Any) -> tuple[Tree, dict]:
        return gta_step(state, batch, method=method, seed=seed)

    return _compiled(method, initialize, step)


def adda_stage(
    run: Run,
    source: TrainedClassifier,
    name: str,
    rows: np.ndarray,
    section: ConfigDict,
    called: str,
) -> TrainedClassifier:
    """Adapts a classifier to imperfect patterns by ADDA, or loads the result.

    Args:
        run: the run.
        source: frozen classifier of ideal patterns.
        name: of the stage; also the folder.
        rows: indices of the imperfect patterns to train on. Their labels are read only if
            `section.label_weight` > 0.
        section: fields `baselines.fields.ADDA`.
        called: what the user calls that section: `config.tables.adda`.
    """
    seed = run.seed("adda", *name.encode())
    program = adda_program(source.network, FrozenConfigDict(section))

    def result() -> dict[str, Tree]:
        state = _train(run, source, name, rows, section, called, program, seed)
        return {"classifier": adapted(state, source.tree)}

    def like() -> dict[str, Tree]:
        return {"classifier": abstract(lambda: source.tree)}

    items = _finished_or_made(run, name, section.steps, like, result)
    return source._replace(tree=items["classifier"])


def gta_stage(
    run: Run,
    source: TrainedClassifier,
    name: str,
    rows: np.ndarray,
    section: ConfigDict,
    called: str,
) -> GtaResult:
    """Trains GTA on ideal and imperfect patterns, or loads the result.

    Args:
        run: the run.
        source: classifier of ideal patterns, whose network F and C are and, with
            `section.warm_start`, whose variables they start from.
        name: see `adda_stage`, as those that are not named here.
        rows: see there.
        section: fields `baselines.fields.GTA`.
        called: see there.
    """
    seed = run.seed("gta", *name.encode())
    classes = len(run.task.class_names)
    program = gta_program(
        source.network, FrozenConfigDict(section), tuple(run.task.input_shape), classes
    )

    def result() -> dict[str, Tree]:
        state = _train(run, source, name, rows, section, called, program, seed)
        of_ideal = Classifier(
            {"params": state.classifier, "batch_stats": state.source_stats},
            source.tree.prototypes,
        )
        prototypes = exact_prototypes(run, source._replace(tree=of_ideal), run.task.ideal)
        variables = {"params": state.classifier, "batch_stats": state.batch_stats}
        generator = {"params": state.generator, "batch_stats": state.generator_stats}
        return {"classifier": Classifier(variables, prototypes), "generator": generator}

    def like() -> dict[str, Tree]:
        initial = abstract(partial(program.initialize, source.tree, seed))
        generator = {"params": initial.generator, "batch_stats": initial.generator_stats}
        return {"classifier": abstract(lambda: source.tree), "generator": generator}

    items = _finished_or_made(run, name, section.steps, like, result)
    refine = _refiner(program)

    def generate(x: np.ndarray) -> np.ndarray:
        rng = np.random.default_rng(np.random.SeedSequence((seed, NOISE_SEED)))
        noise = rng.standard_normal((len(x), section.noise), np.float32)
        return run.apply(refine, items, {"x": x, "noise": noise})

    return GtaResult(source._replace(tree=items["classifier"]), generate)


# One function object for each program, so that jax compiles it once and not at every call.
@lru_cache(maxsize=8)
def _refiner(program: Program) -> Callable[[Tree, dict], jax.Array]:
    return lambda items, batch: gta_refine(
        items["classifier"], items["generator"], batch["x"], batch["noise"], method=program.method
    )


def _train(
    run: Run,
    source: TrainedClassifier,
    name: str,
    rows: np.ndarray,
    section: ConfigDict,
    called: str,
    program: Program,
    seed: int,
) -> Tree:
    """Trains on pairs of an imperfect example, in turn, and an ideal one, drawn at random."""
    ideal, imperfect = run.task.ideal, run.task.imperfect
    training = np.flatnonzero(ideal.split == TRAIN)

    def example(position: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        index = int(rows[position])
        own = int(training[rng.integers(len(training))])
        x = imperfect.pattern[index] if imperfect.view is None else imperfect.view(index, rng)
        row = {"x": x, "source_x": ideal.view(own, rng), "source_label": ideal.label[own]}
        return row | {"label": imperfect.label[index]} if section.label_weight > 0 else row

    return train(
        name,
        partial(program.initialize, source.tree, seed),
        lambda state, batch: program.step(state, source.tree, batch, seed),
        run.batches(
            uniform_indices(len(rows), section.batch_size, section.steps, seed),
            example,
            section.batch_size,
            called,
            seed,
        ),
        called=called,
        section=section,
        run=run.config.run,
        workdir=run.workdir,
    )


def _finished_or_made(
    run: Run,
    name: str,
    steps: int,
    like: Callable[[], dict[str, Tree]],
    make: Callable[[], dict[str, Tree]],
) -> dict[str, Tree]:
    found = finished(run, name, steps, like)
    if found is None:
        found = make()
        keep(run, name, steps, found)
    return found
