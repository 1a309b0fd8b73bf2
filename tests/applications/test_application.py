"""A new application is one class, one table of fields, one line: `raman.py` through everything."""

import inspect

import numpy as np
import pytest
from raman import APPLICATION, RamanTask, raman_config
from test_messages import tiny_networks  # noqa: F401

from imitation_refinement import tasks
from imitation_refinement.applications import APPLICATIONS, check_config, run_application
from imitation_refinement.config import fields
from imitation_refinement.digits.task import DigitsTask
from imitation_refinement.errors import UserError
from imitation_refinement.runtime.files import read_json, read_npz
from imitation_refinement.runtime.interrupt import StopSignal
from imitation_refinement.runtime.loop import Interrupted
from imitation_refinement.runtime.workdir import WorkDir
from imitation_refinement.stages.fields import spec
from imitation_refinement.xrd.task import XrdTask

pytestmark = pytest.mark.usefixtures("quick_compilation", "tiny_networks")


@pytest.fixture(scope="module", autouse=True)
def registered():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(APPLICATIONS, "raman", APPLICATION)
        yield


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return raman_config(tmp_path_factory.mktemp("data"))


def run_all(config, folder):
    workdir = WorkDir(folder)
    try:
        run_application(check_config(config), config, workdir, "all")
    finally:
        workdir.close()


@pytest.fixture(scope="module")
def done(config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("raman") / "run"
    run_all(config, folder)
    return folder


def test_its_config_is_checked_like_any_other(config):
    assert check_config(config) is APPLICATION
    assert set(fields(config)) == set(spec(APPLICATION.fields, config.judges))
    for name, value, message in (
        ("data.noise", -1.0, "config.data.noise = -1.0: must be a number, at least 0"),
        ("data.length", 131, "config.data.length = 131: must be a multiple of"),
        ("refiner.network", "unet_digits", "config.refiner.network = 'unet_digits'"),
    ):
        changed = config.copy_and_resolve_references()
        changed.update_from_flattened_dict({name: value})
        with pytest.raises(UserError, match=f"^{message}"):
            check_config(changed)


def test_it_goes_through_the_whole_pipeline(done, config):
    results = read_json(done / "evaluation" / "results.json")
    assert results["noun"] == "spectra" and results["counts"]["patterns"] == config.data.count
    assert {"l1", "l2", "kl", "ncc"} < set(results["quality"])
    assert results["measures"]["left"]["label"] == "Background that is left"
    judges = results["accuracy"]["judges"]
    assert set(judges) == {"other_seed", "other_network"}
    page = (done / "report.html").read_text()
    assert "spectra" in page and "Background that is left" in page
    assert not (done / "model.npz").exists()  # the application has no new examples to use it on


def test_stopped_in_each_stage_it_ends_with_the_same_bits(done, config, tmp_path, monkeypatch):
    folds = "refiner/fold_0", "refiner/fold_1"
    stops = "classifier", "refiner/pretrained", *folds, "judge/other_network", "judge/other_seed"
    monkeypatch.setattr(StopSignal, "requested", lambda self, step: step == 3)
    for stage in stops:
        with pytest.raises(Interrupted, match=f"^{stage}: saved at step 3 of 8"):
            # A stage that was stopped before is resumed beyond step 3 and ends.
            run_all(config, tmp_path / "run")
    monkeypatch.undo()
    run_all(config, tmp_path / "run")
    for name, array in read_npz(done / "evaluation" / "arrays.npz").items():
        np.testing.assert_array_equal(
            array, read_npz(tmp_path / "run" / "evaluation" / "arrays.npz")[name], err_msg=name
        )


@pytest.mark.parametrize("task", [RamanTask, XrdTask, DigitsTask])
@pytest.mark.parametrize("name", ["pair", "measures", "pictures"])
def test_tasks_take_what_the_protocol_says(task, name):
    wanted, found = (inspect.signature(getattr(each, name)) for each in (tasks.Task, task))
    assert list(found.parameters) == list(wanted.parameters)
    for one, other in zip(found.parameters.values(), wanted.parameters.values(), strict=True):
        assert (one.kind, one.default) == (other.kind, other.default)
