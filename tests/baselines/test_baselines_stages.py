"""ADDA and GTA through the training loop: what they are trained on, resuming, loading; and, slow,
that they reproduce what they are known for.
"""

import os
import shutil
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict, FrozenConfigDict
from test_tasks import CLASSES, FEW, TINY, Squares, config, square

from configs.digits import get_config
from imitation_refinement.baselines.fields import ADDA, GTA
from imitation_refinement.baselines.stages import adda_stage, gta_program, gta_stage
from imitation_refinement.config import validate
from imitation_refinement.digits.handwritten import load_mnist
from imitation_refinement.digits.task import DigitsTask
from imitation_refinement.errors import UserError
from imitation_refinement.method import networks
from imitation_refinement.runtime import devices
from imitation_refinement.runtime.checkpoint import Checkpoints
from imitation_refinement.runtime.loop import abstract
from imitation_refinement.runtime.workdir import WorkDir
from imitation_refinement.stages.classifiers import classifier_stage
from imitation_refinement.stages.run import Run
from imitation_refinement.tasks import TRAIN, IdealData, ImperfectData

DATA = Path(os.environ.get("IMITATION_REFINEMENT_DATA", "/nowhere"))
SECTIONS = {
    "adda": ConfigDict(
        {
            "steps": 6, "batch_size": 8, "learning_rate": 0.01,
            "discriminator_learning_rate": 0.01, "discriminator_steps": 2, "batch_norm": "train",
            "label_weight": 0.0,
        }
    ),
    "gta": ConfigDict(
        {
            "steps": 6, "batch_size": 8, "learning_rate": 0.01, "decay": 1e-4,
            "adversarial_weight": 0.1, "target_weight": 0.3, "noise": 4, "generator_features": 16,
            "discriminator_features": 2, "warm_start": True, "label_weight": 0.0,
        }
    ),
}  # fmt: skip
STAGES = {"adda": adda_stage, "gta": gta_stage}
ROWS = np.arange(FEW)[::2]
pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module")
def registered():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(networks.CLASSIFIERS, "tiny", TINY)
        with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
            yield


def new_run(folder, **changes):
    settings = config()
    settings.run.checkpoint_every = 3
    settings.update(changes)
    return Run(settings, WorkDir(folder), Squares)


@pytest.fixture(scope="module")
def source(registered, tmp_path_factory):
    run = new_run(tmp_path_factory.mktemp("source"))
    found = classifier_stage(run, "classifier")
    run.workdir.close()
    return found


@pytest.fixture(scope="module", params=["adda", "gta"])
def trained(request, source, tmp_path_factory):
    """The method's name, its finished run and its result; no label can have been read."""
    run = new_run(tmp_path_factory.mktemp(request.param))
    data = run.task.imperfect
    run.task.imperfect = data._replace(label=np.full_like(data.label, 10**6))
    kept = jax.tree.map(np.array, source.tree)
    name = f"{request.param}/fold_0"
    result = STAGES[request.param](run, source, name, ROWS, SECTIONS[request.param], "config.m")
    run.workdir.close()
    jax.tree.map(np.testing.assert_array_equal, source.tree, kept)
    return request.param, run, result


def classifier_of(result):
    return getattr(result, "classifier", result)


def test_only_the_given_rows_are_seen(trained):
    _, run, _ = trained
    assert run.task.views == set(ROWS.tolist())


def test_a_finished_stage_is_loaded(trained, source):
    method, run, result = trained
    again = new_run(run.workdir.path)
    found = STAGES[method](again, source, f"{method}/fold_0", ROWS, SECTIONS[method], "config.m")
    assert again.task.views == set()
    wanted, got = classifier_of(result).tree, classifier_of(found).tree
    jax.tree.map(np.testing.assert_array_equal, got, wanted)
    for leaf in jax.tree.leaves(got):  # whole on every device
        assert leaf.committed and leaf.sharding == devices.replicated()
    changed = jax.tree.map(lambda a, b: bool(np.any(a != b)), got, source.tree)
    assert any(jax.tree.leaves(changed.variables["params"]))
    if method == "gta":
        x = run.task.imperfect.pattern[:9]
        refined = result.generate(x)
        assert refined.shape == x.shape and refined.dtype == np.float32
        np.testing.assert_array_equal(found.generate(x), refined)
        np.testing.assert_allclose(found.generate(x[:3]), refined[:3], atol=1e-6)


def test_a_stopped_stage_goes_on_to_the_same_bits(trained, source, tmp_path):
    method, run, result = trained
    shutil.copytree(run.workdir.path, tmp_path / "run")
    folder = tmp_path / "run" / method / "fold_0"
    shutil.rmtree(folder / "trained")
    shutil.rmtree(folder / "6")
    (tmp_path / "run" / "stages" / method / "fold_0.json").unlink()
    resumed = new_run(tmp_path / "run")
    found = STAGES[method](resumed, source, f"{method}/fold_0", ROWS, SECTIONS[method], "config.m")
    resumed.workdir.close()
    jax.tree.map(
        np.testing.assert_array_equal, classifier_of(found).tree, classifier_of(result).tree
    )
    assert [row["step"] for row in resumed.workdir.read_metrics(f"{method}/fold_0")] == [6]


def test_prototypes(trained, source):
    """ADDA's are the source's; GTA's are means over ideal patterns by their own statistics."""
    method, run, result = trained
    found = classifier_of(result).tree.prototypes
    if method == "adda":
        np.testing.assert_array_equal(found, source.tree.prototypes)
        return
    program = gta_program(
        source.network, FrozenConfigDict(SECTIONS["gta"]), run.task.input_shape, CLASSES
    )
    with Checkpoints(run.workdir.path / "gta" / "fold_0") as checkpoints:
        like = abstract(partial(program.initialize, source.tree, 0))
        state = checkpoints.restore(None, {"state": like})[0]["state"]
    ideal = run.task.ideal
    training = np.flatnonzero(ideal.split == TRAIN)
    x = np.stack([ideal.fixed(i) for i in training])
    variables = {"params": state.classifier, "batch_stats": state.source_stats}
    embedding = np.asarray(source.network.apply(variables, x, train=False).embedding)
    means = [embedding[ideal.label[training] == k].mean(axis=0) for k in range(CLASSES)]
    np.testing.assert_allclose(found, means, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", ["adda", "gta"])
def test_sections_are_checked(method):
    fields = {"adda": ADDA, "gta": GTA}[method]
    validate(SECTIONS[method], fields)
    wrong = ConfigDict(SECTIONS[method].to_dict() | {"steps": 0})
    with pytest.raises(UserError, match="steps = 0"):
        validate(wrong, fields)


def test_a_classifier_of_other_data_by_another_section(source, tmp_path):
    """From scratch and fine-tuned, as on the training folds of imperfect patterns."""
    run = new_run(tmp_path)
    section = ConfigDict(run.config.classifier.to_dict() | {"steps": 2, "learning_rate": 1e-12})
    seen = set()

    def view(index, rng):
        seen.add(index)
        return square(index % CLASSES, 0.5, index)

    few = IdealData(
        np.arange(8, dtype=np.int32) % CLASSES, np.full(8, TRAIN, np.int8), view,
        lambda index: square(index % CLASSES),
    )  # fmt: skip
    scratch = classifier_stage(run, "scratch/fold_0", section=section, data=few)
    tuned = classifier_stage(run, "classifier/fold_0", start=source.tree, section=section, data=few)
    run.workdir.close()
    assert seen == set(range(8))
    leaves = [jax.tree.leaves(each.tree.variables["params"]) for each in (source, tuned, scratch)]
    for start, near, far in zip(*leaves, strict=True):
        np.testing.assert_allclose(near, start, atol=1e-10)
        assert far.shape == start.shape
    assert max(np.abs(far - near).max() for _, near, far in zip(*leaves, strict=True)) > 0.1
    assert run.workdir.stage_done("scratch/fold_0") and run.workdir.stage_done("classifier/fold_0")


# Published but for fewer steps and smaller batches and networks. With these ADDA went from 76.0 to
# 82.6 % (one run, other batches); GTA's figure is not known yet.
VALIDITY = {
    "adda": {
        "steps": 200, "batch_size": 64, "learning_rate": 2e-4,
        "discriminator_learning_rate": 2e-4, "discriminator_steps": 0, "batch_norm": "eval",
        "label_weight": 0.0,
    },
    "gta": {
        "steps": 400, "batch_size": 64, "learning_rate": 5e-4, "decay": 1e-4,
        "adversarial_weight": 0.1, "target_weight": 0.3, "noise": 64, "generator_features": 64,
        "discriminator_features": 16, "warm_start": True, "label_weight": 0.0,
    },
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "mnist").is_dir(), reason="IMITATION_REFINEMENT_DATA/mnist")
@pytest.mark.parametrize("method, margin", [("adda", 0.03), ("gta", 0.03)])
def test_typeset_digits_to_unlabelled_mnist_beats_the_source_alone(
    registered, method, margin, tmp_path
):
    settings = get_config("")
    settings.data.mnist_dir = str(DATA / "mnist")
    for name in settings.data.ideal:
        settings.data.ideal[name] = 0.0  # the grid as the paper has it
    settings.classifier.steps = 300
    settings.run.cache_dir = str(tmp_path / "cache")
    run = Run(settings, WorkDir(tmp_path / "run"), DigitsTask)
    data = load_mnist(str(DATA / "mnist"), tmp_path)
    tested = run.task.imperfect.fold == 0
    x, label = run.task.imperfect.pattern[tested], run.task.imperfect.label[tested]
    count = len(data.image)
    run.task.imperfect = ImperfectData(
        (data.image.astype(np.float32) / np.float32(255))[..., None], None,
        np.full(count, -1, np.int32), np.arange(count, dtype=np.int32),
    )  # fmt: skip
    source = classifier_stage(run, "classifier")
    section = ConfigDict(VALIDITY[method])
    result = STAGES[method](run, source, method, np.arange(count), section, "config.m")
    run.workdir.close()
    before, after = (
        float(np.mean(np.argmax(each.predict(run, x).logits, axis=1) == label))
        for each in (source, classifier_of(result))
    )
    print(f"{method}: source only {before:.4f}, adapted {after:.4f}")
    assert after > before + margin
