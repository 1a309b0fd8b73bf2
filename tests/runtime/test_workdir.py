import json
import math
import shutil
import subprocess
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from imitation_refinement.errors import UserError
from imitation_refinement.runtime import workdir as workdirs
from imitation_refinement.runtime.workdir import WorkDir


def config(**changes) -> ConfigDict:
    default = {"seed": 0, "refiner": {"steps": 5, "features": (8, 8)}, "run": {"workers": 0}}
    return ConfigDict(default | changes)


def test_claim_writes_config_and_environment(tmp_path):
    workdir = WorkDir(tmp_path / "new" / "run")
    workdir.claim(config())
    written = json.loads((workdir.path / "config.json").read_text())
    assert written == {"seed": 0, "refiner": {"steps": 5, "features": [8, 8]},
                       "run": {"workers": 0}}  # fmt: skip
    environment = json.loads((workdir.path / "environment.json").read_text())
    assert environment["packages"]["numpy"] == np.__version__
    assert environment["devices"] == ["TFRT_CPU_0"] or "cpu" in environment["devices"][0].lower()


def test_other_config_is_refused_and_the_first_difference_named(tmp_path):
    WorkDir(tmp_path).claim(config())
    before = (tmp_path / "config.json").read_bytes()
    other = config(refiner={"steps": 6, "features": (8, 8)}, run={"workers": 3})
    with pytest.raises(UserError) as error:
        WorkDir(tmp_path).claim(other, may_differ=("run",))
    assert f"{tmp_path} holds a run with config.refiner.steps = 5, this one has 6;" in str(
        error.value
    )
    assert "\n" not in str(error.value)
    assert (tmp_path / "config.json").read_bytes() == before


def test_excused_fields_may_differ(tmp_path):
    WorkDir(tmp_path).claim(config(), may_differ=("run",))
    WorkDir(tmp_path).claim(config(run={"workers": 3}), may_differ=("run",))
    with pytest.raises(UserError, match=r"config\.run\.workers = 3, this one has 0"):
        WorkDir(tmp_path).claim(config())


def test_revision_is_a_commit_or_nothing(tmp_path, monkeypatch):
    here = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    asked = subprocess.run(here, capture_output=True, text=True) if shutil.which("git") else None
    expected = asked.stdout.strip() if asked and asked.returncode == 0 else ""
    assert (workdirs.environment()["git"] or "").removesuffix("+changes") == expected
    # A copy of the package elsewhere, even below a checkout, is not of that commit.
    monkeypatch.setattr(workdirs, "__file__", str(tmp_path / "workdir.py"))
    assert workdirs.environment()["git"] is None


def test_stage_markers(tmp_path):
    workdir = WorkDir(tmp_path)
    assert not workdir.stage_done("refiner/fold0")
    workdir.mark_done("refiner/fold0", {"accuracy": np.float32(0.5), "per_class": np.ones(2)})
    again = WorkDir(tmp_path)
    assert again.stage_done("refiner/fold0")
    assert again.stage_summary("refiner/fold0") == {"accuracy": 0.5, "per_class": [1.0, 1.0]}
    assert not again.stage_done("refiner")
    (tmp_path / "stages" / "refiner" / "fold0.json").write_text("{")
    with pytest.raises(UserError, match=r"fold0\.json: damaged"):
        again.stage_summary("refiner/fold0")


def test_metrics_are_on_disk_at_once_and_are_strict_json(tmp_path):
    workdir = WorkDir(tmp_path)
    workdir.append_metrics("classifier", 1, {"loss": jnp.float32(0.5), "accuracy": 1})
    workdir.append_metrics("classifier", 2, {"loss": math.nan, "accuracy": np.float64(math.inf)})

    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line, parse_constant=refuse) for line in lines] == [
        {"stage": "classifier", "step": 1, "loss": 0.5, "accuracy": 1.0},
        {"stage": "classifier", "step": 2, "loss": None, "accuracy": None},
    ]
    workdir.close()


def test_resume_drops_later_lines_of_its_stage_alone(tmp_path):
    workdir = WorkDir(tmp_path)
    for stage in ("classifier", "judge"):
        for step in (2, 4, 6):
            workdir.append_metrics(stage, step, {"loss": step / 7})
    workdir.close()
    with open(tmp_path / "metrics.jsonl", "a") as file:  # killed while it wrote
        file.write('{"stage": "judge", "step": 8, "lo')

    again = WorkDir(tmp_path)
    assert [row["step"] for row in again.read_metrics("judge")] == [2, 4, 6]
    again.truncate_metrics("judge", 4)
    again.append_metrics("judge", 6, {"loss": 0.25})
    rows = [(row["stage"], row["step"], row["loss"]) for row in again.read_metrics()]
    assert rows == [
        *(("classifier", step, step / 7) for step in (2, 4, 6)),
        ("judge", 2, 2 / 7), ("judge", 4, 4 / 7), ("judge", 6, 0.25),
    ]  # fmt: skip
    again.truncate_metrics("judge", 0)
    assert again.read_metrics("judge") == []
    assert len(again.read_metrics("classifier")) == 3


@pytest.mark.parametrize("bad", ["{", "5", '{"step": 1}', "\x00\x00"])
def test_damaged_metrics_line_is_numbered(tmp_path, bad):
    good = '{"stage": "a", "step": 1}'
    (tmp_path / "metrics.jsonl").write_text(f"{good}\n{bad}\n{good}\n")
    with pytest.raises(UserError, match=r"metrics\.jsonl: line 2 is damaged"):
        WorkDir(tmp_path).read_metrics()


def test_no_metrics_yet(tmp_path):
    workdir = WorkDir(tmp_path)
    assert workdir.read_metrics() == []
    workdir.truncate_metrics("classifier", 0)
    assert workdir.read_metrics() == []


def test_unwritable_place_is_a_user_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/run: cannot write \("):
        WorkDir(tmp_path / "file" / "run")


def test_tensorboard_on_request_alone(tmp_path):
    pytest.importorskip("tensorboardX", reason="optional dependency")
    for asked in (False, True):
        workdir = WorkDir(tmp_path / str(asked), tensorboard=asked)
        workdir.truncate_metrics("refiner", 3)
        workdir.append_metrics("refiner", 4, {"loss": 0.5})
        workdir.close()
        events = list(workdir.path.glob("tensorboard/refiner/events*"))
        assert len(events) == asked
    assert b"loss" in events[0].read_bytes()


def test_tensorboard_without_its_package_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr(workdirs.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install tensorboardX"):
        WorkDir(tmp_path, tensorboard=True)
