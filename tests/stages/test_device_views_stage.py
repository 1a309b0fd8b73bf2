"""Algorithm 1 on views that are made on the devices, which on a CPU is asked for."""

import jax
import numpy as np
import pytest
from presets import preset
from program import QUICK

from imitation_refinement.runtime import devices
from imitation_refinement.runtime.workdir import WorkDir
from imitation_refinement.stages.classifiers import simulated_as_ideal, view_batches
from imitation_refinement.stages.run import Run
from imitation_refinement.xrd.task import XrdTask


@pytest.fixture(scope="module")
def run(program, tmp_path_factory):
    config = preset("smoke")
    config.run.cache_dir = str(program.data)
    config.update_from_flattened_dict(QUICK)
    config.data.ideal.update(augment=True, coverage=(0.1, 0.1))
    return Run(config, WorkDir(tmp_path_factory.mktemp("run")), XrdTask)


def test_batches_hold_the_examples_that_numpy_would_draw(run, quick_compilation):
    section, data = run.config.classifier, run.task.ideal
    here, there = (
        next(view_batches(run, section, data, "config.classifier", 3, on_devices=way)(2))
        for way in (True, False)
    )
    like = run.like_batch(section.batch_size, "x", "label")
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), here) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), like
    )
    np.testing.assert_array_equal(here["label"], there["label"])
    # Of the same crystals: a view is most like the other view of its own.
    x, other = (np.asarray(batch["x"])[..., 0] for batch in (here, there))
    x, other = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (x, other))
    assert np.all(np.diag(x @ other.T) > 0.7)


def test_what_is_put_through_the_imperfections_is_left_to_numpy(run):
    assert run.task.ideal.on_device is not None
    assert simulated_as_ideal(run).on_device is None
    assert len(simulated_as_ideal(run).label) == len(run.task.ideal.label)


def test_algorithm_1_runs_on_them(here, tmp_path, monkeypatch):
    def drawn(*_):
        raise AssertionError("a view was drawn by NumPy")

    monkeypatch.setattr(XrdTask, "_view", drawn)
    monkeypatch.setattr(devices, "makes_examples", lambda: True)
    log = here(tmp_path, "classifier")
    assert "accuracy on held-out examples" in log
    assert WorkDir(tmp_path).stage_done("classifier")
