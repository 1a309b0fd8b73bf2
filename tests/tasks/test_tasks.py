"""A second kind of task through the pipeline: images whose truth nobody knows, given folds, views,
unlabelled examples and a reader. Squares at four places; imperfect ones are faint and noisy.
"""

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from imitation_refinement import pipeline
from imitation_refinement.errors import UserError
from imitation_refinement.evaluation.inputs import from_arrays
from imitation_refinement.method import networks
from imitation_refinement.method.networks import VGG
from imitation_refinement.runtime.files import read_json, read_npz
from imitation_refinement.runtime.workdir import WorkDir
from imitation_refinement.stages import classifiers as classifier_stages
from imitation_refinement.stages import refiners as training
from imitation_refinement.stages.run import Run
from imitation_refinement.tasks import SEEN, TRAIN, IdealData, ImperfectData, Measure, Picture

SIZE, CLASSES, FEW, TESTS = 8, 4, 12, 20
PLACES = ((1, 1), (1, 5), (5, 1), (5, 5))
TINY = VGG, {
    "ndim": 2, "stages": ((4,), (6,)), "hidden": (), "pool_window": 2, "pool_stride": 2,
    "batch_norm": True,
}  # fmt: skip

pytestmark = pytest.mark.usefixtures("quick_compilation")


def square(label, noise=0.0, seed=0):
    image = np.zeros((SIZE, SIZE, 1), np.float32)
    row, column = PLACES[label]
    image[row : row + 2, column : column + 2] = 1.0 - noise
    rough = noise * np.random.default_rng(seed).random(image.shape)
    return np.clip(image + rough, 0, 1).astype(np.float32)


class Squares:
    """Few labelled images that are never tested, and test images, some without a label."""

    class_names = ("a", "b", "c", "d")
    input_shape = (SIZE, SIZE, 1)
    noun, group_noun = "images", "images"

    def __init__(self, config, cache_dir, workers):
        self.views = set()
        label = np.arange(40, dtype=np.int32) % CLASSES
        split = np.where(np.arange(40) < 32, TRAIN, SEEN).astype(np.int8)
        self.ideal = IdealData(
            label, split, lambda i, rng: square(label[i]), lambda i: square(label[i])
        )
        self.reading = IdealData(
            label,
            split,
            lambda i, rng: square(label[i], 0.5, i),
            lambda i: square(label[i], 0.5, i),
        )
        count = FEW + TESTS
        known = np.arange(count, dtype=np.int32) % CLASSES
        pattern = np.stack([square(k, 0.6, 100 + i) for i, k in enumerate(known)])

        def view(index, rng):
            self.views.add(index)
            return np.roll(pattern[index], rng.integers(2), axis=0)

        known[-4:] = -1
        fold = np.where(np.arange(count) < FEW, -1, 0).astype(np.int32)
        self.imperfect = ImperfectData(
            pattern, None, known, np.arange(count, dtype=np.int32), fold, view
        )

    def pair(self, rng, index=None):
        label = rng.integers(CLASSES) if index is None else self.ideal.label[index]
        return square(label, 0.3, rng.integers(100)), square(label), np.int32(label)

    def measures(self, inputs):
        return {
            "corner": Measure("Brightness of the corner", float(inputs.refined[:, 0, 0].mean()))
        }

    def pictures(self, inputs, results):
        return {"own": Picture("A picture of its own", "Squares.", b"png")}


def config():
    training = {
        "dtype": "float32", "steps": 6, "batch_size": 8, "optimizer": "adam",
        "learning_rate": 0.01, "schedule": "constant", "warmup_steps": 0, "clip_norm": 0.0,
    }  # fmt: skip
    classifier = training | {
        "network": "tiny", "prototype_weight": 1.0, "distance": "sqeuclidean",
        "distance_scale": 0.0,
    }  # fmt: skip
    refiner = training | {
        "network": "tiny_unet", "targeted": True, "prediction_weight": 1.0,
        "regularization_weight": 1.0, "prototype_weight": 1.0, "norm": 1.0, "psi": "identity",
        "pair_weight": 1.0, "pair_recognition": 0.0, "pretrain_steps": 0,
        "pretrain_learning_rate": 0.01, "pairs_after_pretraining": True, "ema_decay": 0.9,
    }  # fmt: skip
    return ConfigDict(
        {
            "task": "squares",
            "seed": 3,
            "classifier": classifier,
            "judges": {
                "other_seed": classifier | {"data": "ideal"},
                "reader": classifier | {"data": "imperfect"},
            },
            "refiner": refiner,
            "evaluate": {
                "folds": 1, "run_folds": 1, "batch_size": 8, "ideal_count": 8, "bootstrap": 50,
            },
            "run": {
                "workers": 1, "threads": 1, "log_every": 6, "checkpoint_every": 6,
                "tensorboard": False, "cache_dir": "",
            },
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def registered(mixed_dtypes):
    """The task and its tiny networks by name, as an application would have them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(networks.CLASSIFIERS, "tiny", TINY)
        options = {"ndim": 2, "features": (4, 4), "output": "unit", "flow": 1}
        patch.setitem(networks.REFINERS, "tiny_unet", options)
        yield


@pytest.fixture(scope="module")
def done(registered, tmp_path_factory):
    run = Run(config(), WorkDir(tmp_path_factory.mktemp("squares")), Squares)
    run.workdir.claim(run.config)
    pipeline.run_stages(run, "all")
    run.workdir.close()
    return run


def test_the_given_fold_is_tested_and_the_rest_trains(done):
    data = done.task.imperfect
    np.testing.assert_array_equal(training.folds(done), data.fold)
    inputs = from_arrays(read_npz(done.workdir.path / "evaluation" / "arrays.npz"))
    tested = slice(FEW, FEW + TESTS - 4)  # the last four have no label
    np.testing.assert_array_equal(inputs.raw, data.pattern[tested, ..., 0])
    np.testing.assert_array_equal(inputs.labels, data.label[tested])
    assert inputs.truth is None
    assert done.task.views == set(range(FEW))  # every one of the few, in random views; no other


def test_a_reader_is_trained_on_what_the_task_gives_for_it(done):
    reader = classifier_stages.classifier_stage(done, "judge/reader")
    other = classifier_stages.classifier_stage(done, "judge/other_seed")
    for judge, data in ((reader, done.task.reading), (other, done.task.ideal)):
        indices = np.flatnonzero(data.split == TRAIN)
        x = np.stack([data.fixed(i) for i in indices])
        embedding = np.asarray(judge.predict(done, x).embedding)
        means = [embedding[data.label[indices] == k].mean(axis=0) for k in range(CLASSES)]
        np.testing.assert_allclose(judge.tree.prototypes, means, rtol=1e-4, atol=1e-6)
    assert done.workdir.stage_summary("judge/reader").keys() == {"seen"}  # there is no unseen kind


def test_results_and_report_are_those_of_images_without_a_truth(done):
    results = read_json(done.workdir.path / "evaluation" / "results.json")
    assert results["quality"] == {} and results["peaks"] is None
    assert results["noun"] == "images" and results["counts"]["patterns"] == TESTS - 4
    judges = results["accuracy"]["judges"]
    assert {name: head["reader"] for name, head in judges.items()} == {
        "other_seed": False, "reader": True,
    }  # fmt: skip
    inputs = from_arrays(read_npz(done.workdir.path / "evaluation" / "arrays.npz"))
    corner = results["measures"]["corner"]
    assert corner["value"] == pytest.approx(inputs.refined[:, 0, 0].mean())
    page = (done.workdir.path / "report.html").read_text()
    assert page.index("A picture of its own") < page.index("What is taken for what")
    assert "Brightness of the corner" in page and "truth" not in page.lower()


def test_a_finished_run_is_read_again(done):
    before = {p: p.read_bytes() for p in done.workdir.path.rglob("*") if p.is_file()}
    again = Run(done.config, WorkDir(done.workdir.path), Squares)
    pipeline.run_stages(again, "all")
    assert {p: p.read_bytes() for p in done.workdir.path.rglob("*") if p.is_file()} == before
    assert again.task.views == set()


def test_equal_settings_are_compiled_once(done):
    programs = classifier_stages.classifier_program.cache_info()
    assert programs.hits >= 2  # classifier and two judges
    section = classifier_stages.classifier_section(done, "judge/reader")[0]
    assert section.data == "imperfect"
    own, other = (
        classifier_stages._predictor(networks.build_classifier(done.config.classifier, CLASSES),
                                     classifier_stages.distance_of(done.config.classifier))
        for _ in range(2)
    )  # fmt: skip
    assert own is other


def test_without_steps_of_its_own_a_refiner_is_the_pretrained_one(done, tmp_path):
    changed = config()
    changed.refiner.update(steps=0, pretrain_steps=3)
    run = Run(changed, WorkDir(tmp_path / "squares"), Squares)
    run.workdir.claim(changed)
    classifier = classifier_stages.classifier_stage(done, "classifier")
    refiner = training.refiner_stage(run, classifier, 0)
    pretrained = training.pretraining_stage(run, classifier)
    jax.tree.map(np.testing.assert_array_equal, refiner, pretrained)
    assert run.workdir.stage_done("refiner/fold_0")
    run.workdir.close()


def test_without_pairs_after_pretraining_only_the_start_tells_of_them(done, tmp_path):
    classifier = classifier_stages.classifier_stage(done, "classifier")
    refiners = []
    for name, changes in (
        ("kept", {"pairs_after_pretraining": True}),
        ("left", {"pairs_after_pretraining": False}),
        ("none", {"pair_weight": 0.0}),
    ):
        changed = config()
        changed.refiner.update(steps=3, pretrain_steps=3)
        run = Run(changed, WorkDir(tmp_path / name), Squares)
        pretrained = training.pretraining_stage(run, classifier)
        changed.refiner.update(changes)
        refiners.append(training.refiner_stage(run, classifier, 0, pretrained))
        run.workdir.close()
    kept, left, none = refiners
    jax.tree.map(np.testing.assert_array_equal, left, none)
    leaves = zip(jax.tree.leaves(left), jax.tree.leaves(kept), strict=True)
    assert any(not np.array_equal(one, other) for one, other in leaves)


def test_fine_tuning_starts_from_what_it_is_given(done, tmp_path):
    trained = classifier_stages.classifier_stage(done, "classifier").tree
    kept = jax.tree.map(np.array, trained)
    settings = done.config.copy_and_resolve_references()
    settings.classifier.steps = 1
    settings.classifier.learning_rate = 1e-12
    tuned = Run(settings, WorkDir(tmp_path), Squares)
    result = classifier_stages.classifier_stage(tuned, "classifier", start=trained).tree
    tuned.workdir.close()
    for got, wanted in zip(
        jax.tree.leaves(result.variables["params"]),
        jax.tree.leaves(kept.variables["params"]),
        strict=True,
    ):
        np.testing.assert_allclose(got, wanted, atol=1e-10)
    jax.tree.map(np.testing.assert_array_equal, trained, kept)  # `start` itself survives


def test_a_reader_without_examples_and_a_test_without_labels_are_refused(done, tmp_path):
    run = Run(done.config, WorkDir(tmp_path), Squares)
    run.task.reading = None
    with pytest.raises(
        UserError, match=r"^config\.judges\.reader\.data = 'imperfect': task squares"
    ):
        classifier_stages.classifier_stage(run, "judge/reader")
    blind = Run(done.config, WorkDir(done.workdir.path), Squares)
    model = training.trained_model(blind)
    label = np.full_like(blind.task.imperfect.label, -1)
    blind.task.imperfect = blind.task.imperfect._replace(label=label)
    (done.workdir.path / "evaluation" / "arrays.npz").rename(tmp_path / "arrays.npz")
    with pytest.raises(UserError, match="none of the 20 test images has one"):
        pipeline.evaluation_stage(blind, model, {})
    (tmp_path / "arrays.npz").rename(done.workdir.path / "evaluation" / "arrays.npz")


def test_too_few_examples_for_the_folds_are_named(done, tmp_path):
    settings = done.config.copy_and_resolve_references()
    settings.evaluate.folds = 6
    run = Run(settings, WorkDir(tmp_path), Squares)
    keep = slice(FEW, FEW + 16)  # four of each class
    data = run.task.imperfect
    run.task.imperfect = ImperfectData(data.pattern[keep], None, data.label[keep], data.group[keep])
    with pytest.raises(UserError, match=r"^config\.evaluate\.folds = 6: .* Lower it\.$") as error:
        training.folds(run)
    assert "\n" not in str(error.value)
    settings.evaluate.folds = 4
    found = training.folds(run)
    for label in range(CLASSES):  # one of each class in every fold
        assert sorted(found[run.task.imperfect.label == label]) == [0, 1, 2, 3]
