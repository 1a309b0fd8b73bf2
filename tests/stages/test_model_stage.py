"""The stage that keeps a model: what was trained is handed on, not read back from the disk."""

from functools import partial

import jax
import numpy as np
import pytest
from presets import preset
from test_messages import TINY

from imitation_refinement.method import networks
from imitation_refinement.method.classifier import Classifier, Distance
from imitation_refinement.method.networks import VGG
from imitation_refinement.model.find import load_model
from imitation_refinement.pipeline import model_stage
from imitation_refinement.runtime.checkpoint import Checkpoints
from imitation_refinement.runtime.workdir import WorkDir
from imitation_refinement.stages.classifiers import TrainedClassifier
from imitation_refinement.stages.refiners import TrainedModel
from imitation_refinement.stages.run import Run
from imitation_refinement.tasks import ImperfectData
from imitation_refinement.xrd.crystals import CRYSTAL_SYSTEMS

LENGTH, COUNT = 40, 28
pytestmark = pytest.mark.usefixtures("quick_compilation")


class FakeTask:
    """Random patterns of seven classes with given folds."""

    class_names = CRYSTAL_SYSTEMS
    input_shape = (LENGTH, 1)

    def __init__(self, config, cache_dir, workers):
        rng = np.random.default_rng(0)
        index = np.arange(COUNT, dtype=np.int32)
        pattern = rng.random((COUNT, LENGTH, 1), np.float32)
        self.imperfect = ImperfectData(pattern, None, index % 7, index, index % 2)


def trained(config):
    """A classifier and two refiners, each with random weights."""
    classifier, refiner = VGG(7, **TINY), networks.build_refiner(config.refiner)
    x = np.zeros((1, LENGTH, 1), np.float32)
    variables = classifier.init(jax.random.key(0), x, train=False)
    width = jax.eval_shape(partial(classifier.apply, train=False), variables, x).embedding.shape[1]
    prototypes = np.random.default_rng(1).normal(size=(7, width)).astype(np.float32)
    params = [refiner.init(jax.random.key(seed), x)["params"] for seed in (1, 2)]
    frozen = Classifier(variables, prototypes)
    return TrainedModel(TrainedClassifier(classifier, frozen, Distance()), params)


def test_the_model_stage_opens_no_checkpoint(tmp_path, monkeypatch):
    # Names of their own: programs are kept by the names of their networks.
    monkeypatch.setitem(networks.CLASSIFIERS, "classifier_of_stage", (VGG, TINY))
    monkeypatch.setitem(networks.REFINERS, "refiner_of_stage", {"features": (4, 4)})

    def opened(*arguments, **options):
        raise AssertionError("a checkpoint was opened")

    monkeypatch.setattr(Checkpoints, "__init__", opened)
    config = preset("smoke")
    config.data.grid.length = LENGTH
    config.classifier.network, config.refiner.network = "classifier_of_stage", "refiner_of_stage"
    run, model = Run(config, WorkDir(tmp_path), FakeTask), trained(config)
    with jax.numpy_dtype_promotion("standard"):
        model_stage(run, model)
    assert run.workdir.stage_done("model")
    kept = load_model(tmp_path)
    jax.tree.map(np.testing.assert_array_equal, list(kept.refiners), model.refiners)
    jax.tree.map(np.testing.assert_array_equal, kept.classifier, model.classifier.tree)
