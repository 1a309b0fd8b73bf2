"""A small calibrated model with random weights, and patterns that it can be given."""

from functools import lru_cache, partial

import jax
import numpy as np

from imitation_refinement.method import networks
from imitation_refinement.method.classifier import Classifier
from imitation_refinement.model.acceptance import Calibration, Cloud, HeldOut, fit_calibration
from imitation_refinement.model.model import (
    ClassifierSpec,
    Model,
    RefinerSpec,
    classifier_network,
    pattern_statistics,
)
from imitation_refinement.xrd.crystals import CRYSTAL_SYSTEMS
from imitation_refinement.xrd.grid import Grid

LENGTH = 256
CLASSIFIER = ClassifierSpec("vgg_slim", "float32", "sqeuclidean", 0.0)
REFINER = RefinerSpec("unet_34k", "float32")


def patterns(count: int, seed: int = 0) -> np.ndarray:
    """Random peaks with maximum 1, float32 [n, L, 1]."""
    rng = np.random.default_rng(seed)
    x = np.arange(LENGTH)
    centers, heights = rng.uniform(0, LENGTH, (2, count, 6, 1))
    peaks = (heights * np.exp(-0.5 * ((x - centers) / 2.0) ** 2)).sum(axis=1)
    return (peaks / peaks.max(axis=1, keepdims=True)).astype(np.float32)[..., None]


def randomized(tree, seed: int):
    """Every array plus small random numbers: also what starts at zero takes part."""
    leaves, structure = jax.tree.flatten(jax.device_get(tree))
    rng = np.random.default_rng(seed)
    moved = [leaf + (0.02 * rng.normal(size=leaf.shape)).astype(leaf.dtype) for leaf in leaves]
    return jax.tree.unflatten(structure, moved)


@lru_cache(maxsize=1)
def tiny_model() -> Model:
    """Two refiners and a classifier on 256 points, calibrated on patterns of made-up classes."""
    key, x = jax.random.key(0), np.zeros((1, LENGTH, 1), np.float32)
    classes = len(CRYSTAL_SYSTEMS)
    network = classifier_network(CLASSIFIER, classes)
    variables = randomized(jax.jit(partial(network.init, train=False))(key, x), 1)
    params = jax.jit(networks.build_refiner(REFINER).init)(key, x)["params"]
    output = jax.eval_shape(partial(network.apply, train=False), variables, x)
    width = output.embedding.shape[1]
    rng = np.random.default_rng(2)
    prototypes = rng.normal(size=(classes, width)).astype(np.float32)
    cloud = Cloud(np.zeros(width, np.float32), np.eye(width, dtype=np.float32))
    model = Model(
        class_names=CRYSTAL_SYSTEMS,
        grid=Grid(length=LENGTH),
        classifier_spec=CLASSIFIER,
        classifier=Classifier(variables, prototypes),
        refiner_spec=REFINER,
        refiners=(randomized(params, 3), randomized(params, 4)),
        calibration=Calibration(1.0, 1.0, None, {}, cloud, {}),
        origin={"name": "tiny", "version": "0", "config_sha256": "none"},
    )
    raw = patterns(60)
    refined = model.refine(raw)
    before, after = model.predict(raw), model.predict(refined)
    held_out = HeldOut(
        after.logits,
        before.logits,
        after.embedding,
        pattern_statistics(raw, refined, np.ones(raw.shape[:2], bool), after),
        rng.integers(classes, size=len(raw)),
        np.arange(len(raw)) // 3,
    )
    fields = {name: getattr(model, name) for name in model.__dataclass_fields__}
    calibration = fit_calibration(held_out, CRYSTAL_SYSTEMS, resamples=50)
    return Model(**{**fields, "calibration": calibration})
