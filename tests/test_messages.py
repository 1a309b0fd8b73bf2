"""Messages of runs within a run name the config that the user wrote, not that of the inner run."""

import re

import numpy as np
import pytest
from test_comparison_jobs import LENGTH, MAIN, FakeTask, config_for

from configs.digits import get_config as digits_config
from imitation_refinement.comparison.jobs import Bench
from imitation_refinement.comparison.methods import Job
from imitation_refinement.digits import sweep
from imitation_refinement.errors import UserError
from imitation_refinement.method import networks
from imitation_refinement.method.networks import VGG
from imitation_refinement.runtime.workdir import WorkDir
from imitation_refinement.stages.run import Run

pytestmark = pytest.mark.usefixtures("quick_compilation", "tiny_networks")
TINY = {
    "stages": ((4,), (4,)), "hidden": (), "pool_window": 2, "pool_stride": 2, "batch_norm": True,
}  # fmt: skip


@pytest.fixture(scope="module")
def tiny_networks(mixed_dtypes):
    with pytest.MonkeyPatch.context() as patch:
        for name in ("densenet_slim", "vgg_slim"):
            patch.setitem(networks.CLASSIFIERS, name, (VGG, TINY))
        patch.setitem(networks.REFINERS, "unet_34k", {"features": (4, 4)})
        patch.setitem(networks.REFINERS, "unet_62k", {"features": (4, 4)})
        yield


class Diverging(FakeTask):
    """Imperfect patterns, alone or in pairs, with which every loss is NaN."""

    def __init__(self, config=None, cache_dir=None, workers=1):
        super().__init__()
        broken = np.full_like(self.imperfect.pattern, np.nan)
        self.imperfect = self.imperfect._replace(pattern=broken)
        self.ideal = self.ideal._replace(
            view=lambda index, rng: self._truth[index], fixed=lambda index: self._truth[index]
        )

    def pair(self, rng, index=0):
        return self.imperfect.pattern[index], self._truth[index], self.ideal.label[index]


class DivergingAtOnce(Diverging):
    """Ideal patterns with which every loss is NaN."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.ideal = self.ideal._replace(view=lambda index, rng: self.imperfect.pattern[index])


def fields_named(message):
    return set(re.findall(r"config((?:\.\w+)+)", message))


def has(config, path):
    for name in path.strip(".").split("."):
        if name not in config:
            return False
        config = config[name]
    return True


@pytest.mark.parametrize(
    ("classifier", "method", "task", "named"),
    [
        (MAIN, "adda", Diverging, ["tables.adda.learning_rate"]),
        (MAIN, "gta", Diverging, ["tables.gta.learning_rate"]),
        (MAIN, "fine_tuned", Diverging,
         ["tables.fine_tuned.learning_rate", "tables.fine_tuned.clip_norm"]),
        (MAIN, "scratch", Diverging,
         ["tables.scratch.learning_rate", "tables.scratch.clip_norm"]),
        (MAIN, "simulated", Diverging,
         ["tables.simulated.learning_rate", "tables.simulated.clip_norm"]),
        (MAIN, "paper_targeted", Diverging,
         ["tables.paper_refiner.learning_rate", "tables.paper_refiner.clip_norm"]),
        (MAIN, "ours_targeted", Diverging,
         ["refiner.pretrain_learning_rate", "refiner.clip_norm"]),
        (MAIN, "raw", DivergingAtOnce, ["classifier.learning_rate", "classifier.clip_norm"]),
        ("proto_vgg_slim", "raw", DivergingAtOnce,
         ["tables.other_classifier.learning_rate", "tables.other_classifier.clip_norm"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_a_diverging_job_names_fields_of_the_users_config(
    classifier, method, task, named, tmp_path
):
    config = config_for(method)
    config.data.grid.length = LENGTH
    bench = Bench(Run(config, WorkDir(tmp_path), task))
    with pytest.raises(UserError, match="is nan at step 1") as error:
        bench.do(Job(0, classifier, method))
    assert fields_named(str(error.value)) == {f".{name}" for name in named}
    assert all(has(config, name) for name in named)


def test_a_sweeps_shared_classifier_is_not_called_a_rivals(tmp_path, monkeypatch):
    called = {}

    def classifier_stage(run, name, start=None, *, data=None):
        called[run.workdir.path.name] = run.called("classifier")
        raise UserError("enough")

    monkeypatch.setattr(sweep, "classifier_stage", classifier_stage)
    settings = digits_config("sweep_smoke")
    outer = Run(settings, WorkDir(tmp_path), None)
    job = next(job for job in sweep.jobs(settings) if job.method == "scratch")
    with pytest.raises(UserError, match="enough"):
        sweep._do(outer, job)
    assert called == {"classifiers": "config.classifier"}
    assert has(settings, "classifier") and has(settings, "sweep.scratch")


def test_a_folder_of_other_settings_names_the_users_field(tmp_path):
    settings = digits_config("sweep_smoke")
    job = next(job for job in sweep.jobs(settings) if job.method == "scratch")
    outer = Run(settings, WorkDir(tmp_path), None)
    other = sweep.job_config(settings, job)
    other.classifier.steps += 1
    WorkDir(tmp_path / job.folder).claim(other)
    with pytest.raises(UserError, match=r"with config\.sweep\.scratch\.steps = "):
        sweep._do(outer, job)
