"""Jobs with fakes in the place of everything that trains, and one whole run of the program."""

from types import SimpleNamespace

import numpy as np
import pytest
from program import ROOT, contents

from configs.xrd import get_config
from imitation_refinement.comparison import answers
from imitation_refinement.comparison import jobs as module
from imitation_refinement.comparison.answers import remembered
from imitation_refinement.comparison.measure import quality
from imitation_refinement.comparison.methods import Job, jobs
from imitation_refinement.errors import UserError
from imitation_refinement.method.classifier import Prediction
from imitation_refinement.runtime.files import read_json, read_npz
from imitation_refinement.runtime.workdir import WorkDir
from imitation_refinement.stages import jobs as runner
from imitation_refinement.stages.classifiers import imperfect_as_ideal
from imitation_refinement.stages.jobs import clock, time_left
from imitation_refinement.stages.run import Run
from imitation_refinement.tasks import IdealData, ImperfectData

CLASSES, COUNT, LENGTH = 3, 30, 40
MAIN = "proto_densenet_slim"


class FakeTask:
    """One peak for each class; every third pattern has a higher one of the next class."""

    class_names = ("a", "b", "c")
    noun, group_noun = "patterns", "libraries"
    input_shape = (LENGTH, 1)
    reading = None

    def __init__(self, config=None, cache_dir=None, workers=1):
        label = np.arange(COUNT, dtype=np.int32) % CLASSES
        truth = np.zeros((COUNT, LENGTH, 1), np.float32)
        truth[np.arange(COUNT), 4 + 8 * label] = 1.0
        pattern = truth.copy()
        self.wrong = np.arange(COUNT) % 9 < 3
        pattern[self.wrong, 4 + 8 * ((label[self.wrong] + 1) % CLASSES)] = 1.0
        pattern[self.wrong, 4 + 8 * label[self.wrong]] = 0.5
        group = np.arange(COUNT, dtype=np.int32) // CLASSES
        self.imperfect = ImperfectData(pattern, truth, label, group)
        self.ideal = IdealData(label, np.zeros(COUNT, np.int8), None, None)
        self._truth = truth

    def pair(self, rng, index):
        truth = self._truth[index]
        return truth + rng.random(truth.shape, np.float32), truth, self.ideal.label[index]


def perfectly_refined(run, params, x):
    """Takes the wrong peak away where there are two."""
    two = np.any(x == 0.5, axis=1, keepdims=True)
    return np.where(two, 2.0 * x * (x == 0.5), x)


class FakeClassifier:
    """Recognises a class by the height at its place; times -1 it is always wrong."""

    tree = SimpleNamespace(prototypes=np.eye(CLASSES))

    def __init__(self, sign=1.0):
        self.sign = sign

    def predict(self, run, x):
        heights = self.sign * np.asarray(x)[:, [4, 12, 20], 0]
        return Prediction(heights, heights, heights, -heights)


@pytest.fixture
def trained(monkeypatch):
    """What was trained, in order: (what, name, training rows or examples)."""
    calls = []

    def classifier_stage(run, name, start=None, *, section=None, called="", data=None):
        if data is None:
            run.workdir.mark_done(name, {"seen": 0.75})
            return FakeClassifier()
        calls.append((run.workdir.path.name, name, data, start is not None))
        return FakeClassifier()

    def adda_stage(run, source, name, rows, section, called):
        calls.append((run.workdir.path.name, name, rows, section.label_weight))
        return FakeClassifier(-1.0)

    def gta_stage(run, source, name, rows, section, called):
        calls.append((run.workdir.path.name, name, rows, section.label_weight))
        return SimpleNamespace(classifier=FakeClassifier(), generate=np.zeros_like)

    def refiner_stage(run, classifier, fold, pretrained=None):
        calls.append((run.workdir.path.name, fold, pretrained, run.config.refiner.targeted))

    def pretraining_stage(run, classifier):
        calls.append(("pretraining", run.workdir.path.name, None, None))
        return "pretrained"

    monkeypatch.setattr(module, "write_page", lambda *arguments, **options: None)
    monkeypatch.setattr(module, "judge_stages", lambda run: {"other_seed": FakeClassifier(-1.0)})
    monkeypatch.setattr(module, "classifier_stage", classifier_stage)
    for stage in (classifier_stage, adda_stage, gta_stage, refiner_stage, pretraining_stage):
        monkeypatch.setattr(answers, stage.__name__, stage)
    monkeypatch.setattr(answers, "refined_patterns", perfectly_refined)
    return calls


def run_tables(config, folder, mode="all", task=FakeTask):
    module.run_tables(Run(config, WorkDir(folder), task), mode)


def config_for(*methods, seeds=1):
    config = get_config("tables_smoke")
    config.tables.methods = methods
    config.tables.seeds = seeds
    for name in ("standard_methods", "other_methods", "other_standard_methods"):
        config.tables[name] = ()
    return config


def arrays_of(folder, method, seed=0):
    return read_npz(folder / f"seed_{seed}" / MAIN / method / "arrays.npz")


def test_what_is_measured_of_raw_and_of_a_perfect_refiner(tmp_path, trained):
    config = config_for("raw", "ours_targeted", "ours_non_targeted")
    run_tables(config, tmp_path)
    wrong = FakeTask().wrong
    raw, ours = arrays_of(tmp_path, "raw"), arrays_of(tmp_path, "ours_targeted")
    np.testing.assert_array_equal(raw["hit"], ~wrong)
    assert ours["hit"].all() and raw["hit_truth"].all()
    assert not raw["hit_other_seed"][~wrong].any()  # that judge is always wrong
    np.testing.assert_array_equal(raw["l1"], np.where(wrong, 1.5, 0.0))
    np.testing.assert_array_equal(ours["l1"], 0.0)
    assert raw["held_out_seen"] == [0.75]
    np.testing.assert_array_equal(raw["row"], np.arange(COUNT))
    kept = read_npz(tmp_path / "seed_0" / MAIN / "ours_targeted" / "patterns.npz")
    np.testing.assert_array_equal(kept["pattern"], kept["truth"])
    summary = read_json(tmp_path / "seed_0" / MAIN / "raw" / "result.json")
    assert summary["ideal"] == COUNT and summary["class_names"] == ["a", "b", "c"]


def test_refiners_of_a_seed_share_their_pretraining(tmp_path, trained):
    run_tables(config_for("ours_targeted", "ours_non_targeted", "paper_targeted"), tmp_path)
    starts = [name for what, name, _, _ in trained if what == "pretraining"]
    assert starts == ["shared", "shared"]  # the second finds what the first left
    refiners = [call for call in trained if call[0] != "pretraining"]
    assert {(name, start, targeted) for name, _, start, targeted in refiners} == {
        ("ours_targeted", "pretrained", True), ("ours_non_targeted", "pretrained", False),
        ("paper_targeted", None, True), ("prediction_only", None, True),
        ("prototype_only", None, True),
    }  # fmt: skip


def test_no_method_trains_on_its_test_groups(tmp_path, trained):
    config = config_for("adda", "gta_labels", "fine_tuned", "scratch")
    run_tables(config, tmp_path)
    group = FakeTask().imperfect.group
    fold = arrays_of(tmp_path, "adda")["fold"]
    seen = [call for call in trained if call[0] in ("adda", "gta_labels")]
    assert len(seen) == 2 * config.evaluate.folds
    for method, name, rows, weight in seen:
        number = int(name[-1])
        assert name == f"{method.partition('_')[0]}/fold_{number}"
        assert weight == (1.0 if method == "gta_labels" else 0.0)
        np.testing.assert_array_equal(np.sort(rows), np.flatnonzero(fold != number))
        assert not set(group[rows]) & set(group[fold == number])
    tuned = [call for call in trained if call[0] in ("fine_tuned", "scratch")]
    assert all(started == (method == "fine_tuned") for method, _, _, started in tuned)
    counts = [len(data.label) for method, _, data, _ in tuned if method == "scratch"]
    assert sum(counts) == COUNT
    assert not arrays_of(tmp_path, "adda")["hit"][~FakeTask().wrong].any()
    assert "l1" not in arrays_of(tmp_path, "adda")  # it makes no patterns
    assert (arrays_of(tmp_path, "gta_labels")["l1"] == 1.0).all()  # generates nothing


def test_the_classifier_of_simulated_imperfections_sees_ideal_examples_put_through_them(
    tmp_path, trained
):
    run_tables(config_for("simulated"), tmp_path)
    data = next(data for method, _, data, _ in trained if method == "simulated")
    task = FakeTask()
    np.testing.assert_array_equal(data.label, task.ideal.label)
    np.testing.assert_array_equal(data.split, task.ideal.split)
    first, again = (data.view(2, np.random.default_rng(0)) for _ in range(2))
    np.testing.assert_array_equal(first, task.pair(np.random.default_rng(0), 2)[0])
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, data.view(2, np.random.default_rng(1)))
    np.testing.assert_array_equal(data.fixed(2), data.fixed(2))
    assert not np.array_equal(data.fixed(2), data.fixed(1))


def test_denoisers_are_chosen_on_training_folds(tmp_path, trained, monkeypatch):
    group = FakeTask().imperfect.group
    asked = []

    def choose(kind, patterns, labels, groups, logits, seed):
        assert len(patterns) == len(labels) == len(groups) and patterns.shape[1:] == (LENGTH,)
        np.testing.assert_array_equal(np.argmax(logits(patterns), 1), patterns[:, [4, 12, 20]]
                                      .argmax(1))  # fmt: skip
        asked.append(set(groups))
        return SimpleNamespace(settings={"level": 2}, accuracy=0.5)

    monkeypatch.setattr(answers.denoise, "choose", choose)
    monkeypatch.setattr(answers.denoise, "fit", lambda kind, settings, training: lambda x: 0.5 * x)
    run_tables(config_for("dwt"), tmp_path)
    fold = arrays_of(tmp_path, "dwt")["fold"]
    assert asked == [set(group[fold != number]) for number in range(2)]
    chosen = read_json(tmp_path / "seed_0" / MAIN / "dwt" / "result.json")["settings"]
    assert chosen == [{"level": 2, "accuracy": 0.5}] * 2


def test_only_what_is_missing_is_done(tmp_path, trained, monkeypatch):
    config = config_for("raw", "adda", seeds=2)
    done = []
    original = module.Bench.do
    monkeypatch.setattr(
        module.Bench, "do", lambda self, job: (done.append(job), original(self, job))[1]
    )
    run_tables(config, tmp_path)
    assert done == jobs(config)
    done.clear()
    before = contents(tmp_path)
    run_tables(config, tmp_path)
    run_tables(config, tmp_path, "report")
    assert done == [] and contents(tmp_path) == before
    (tmp_path / "seed_1" / MAIN / "adda" / "result.json").unlink()
    config.tables.seeds = 3  # a comparison may grow
    run_tables(config, tmp_path)
    assert [job[::2] for job in done if job.method in ("raw", "adda")] == [
        (1, "adda"), (2, "raw"), (2, "adda"),
    ]  # fmt: skip


def test_a_job_with_other_settings_is_not_mixed_in(tmp_path, trained):
    config = config_for("adda")
    run_tables(config, tmp_path)
    (tmp_path / "seed_0" / MAIN / "adda" / "result.json").unlink()
    config.tables.adda.steps = 5
    with pytest.raises(UserError, match="config.tables.adda.steps = 4, this one has 5"):
        run_tables(config, tmp_path)


def test_modes(tmp_path):
    with pytest.raises(UserError, match="--mode=train: many runs know the modes all and report"):
        run_tables(config_for("raw"), tmp_path, "train")


def test_time_left_by_hand():
    every = [Job(seed, "c", method) for seed in (0, 1) for method in ("fast", "slow")]
    done = {every[0]: {"seconds": 60.0}, every[1]: {"seconds": 3600.0}}
    assert time_left(every, done) == "1.0 h"
    assert time_left(every, {every[0]: {"seconds": 60.0}}) == "3 min"
    assert "not known" in time_left(every, {})
    assert time_left(every, {job: {"seconds": 1.0} for job in every}) == "0 min"


def test_the_clock_adds_up_over_interruptions(tmp_path, monkeypatch):
    now = iter([100.0, 107.0, 200.0, 205.0])
    monkeypatch.setattr(runner, "time", SimpleNamespace(monotonic=lambda: next(now)))
    with pytest.raises(KeyboardInterrupt), clock(tmp_path / "seconds.json"):
        raise KeyboardInterrupt
    assert read_json(tmp_path / "seconds.json") == 7.0
    with clock(tmp_path / "seconds.json"):
        pass
    assert read_json(tmp_path / "seconds.json") == 12.0


def test_equal_rows_are_asked_for_once():
    asked = []

    def logits(x):
        asked.append(len(x))
        return 2.0 * x

    ask = remembered(logits)
    x = np.array([[1.0, 2.0], [3.0, 4.0], [1.0, 2.0]])
    np.testing.assert_array_equal(ask(x), 2.0 * x)
    np.testing.assert_array_equal(ask(x[::-1]), 2.0 * x[::-1])
    np.testing.assert_array_equal(ask(np.array([[3.0, 4.0], [5.0, 6.0]])), [[6, 8], [10, 12]])
    assert asked == [2, 1]


def test_imperfect_patterns_as_a_training_set():
    task = FakeTask()
    rows, rng = np.array([7, 2]), np.random.default_rng(0)
    data = imperfect_as_ideal(task.imperfect, rows)
    assert data.label.tolist() == [1, 2] and data.split.tolist() == [0, 0]
    np.testing.assert_array_equal(data.fixed(0), task.imperfect.pattern[7])
    np.testing.assert_array_equal(data.view(1, rng), task.imperfect.pattern[2])
    task.imperfect = task.imperfect._replace(view=lambda index, rng: index)
    assert imperfect_as_ideal(task.imperfect, rows).view(1, rng) == 2


def test_quality_where_only_some_truths_are_known():
    rng = np.random.default_rng(0)
    raw, pattern, truth = rng.random((3, 4, 40))
    truth[1] = np.nan
    found = quality(raw, pattern, truth)
    y, x = truth[2] / truth[2].max(), pattern[2] / pattern[2].max()
    assert found["l1"][2] == pytest.approx(np.abs(x - y).sum())
    assert found["l2"][2] == pytest.approx(((x - y) ** 2).sum())
    for name, values in found.items():
        unknown = np.isnan(values) if name[:5] != "peaks" else values < 0
        assert unknown.tolist() == [False, True, False, False]


@pytest.mark.slow
def test_every_table_by_one_command(program, tmp_path):
    config = f"--config={ROOT / 'configs' / 'xrd.py'}:tables_smoke"
    workdir = tmp_path / "run"
    output = program(workdir, config=config, seconds=1200)
    every = jobs(get_config("tables_smoke"))
    assert f"job {len(every)} of {len(every)}" in output
    tables = (workdir / "tables.md").read_text()
    assert f"jobs: {len(every)} of {len(every)} done" in tables and "not done" not in tables
    assert len(list((workdir / "figures").glob("*.png"))) == 6
    results = sorted(workdir.glob("seed_0/*/*/result.json"))
    assert len(results) == len(every)
    before = {path: path.read_bytes() for path in results}
    results[-1].unlink()
    assert "job " in program(workdir, config=config)
    again = sorted(workdir.glob("seed_0/*/*/result.json"))
    assert again == results and all(
        path.read_bytes() == before[path] for path in results[:-1]
    )  # fmt: skip
    (workdir / "tables.md").unlink()
    assert "job " not in program(workdir, "--mode=report", config=config)
    assert (workdir / "tables.md").exists()
