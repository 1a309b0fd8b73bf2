"""What the program refuses, and how: one line that names the culprit and the mend."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from program import ROOT, SMOKE, contents, stages, trained

from imitation_refinement.errors import UserError
from imitation_refinement.runtime.files import read_npz


def one_line(output: str) -> str:
    """The error; nothing but log lines may come before it."""
    *_, last = output.splitlines()
    assert last.startswith("error: ")
    assert output.count("error: ") == 1
    assert "Traceback" not in output
    return last


REFUSED: dict[str, tuple[Callable[[Path], list[str]], str]] = {
    "mistyped field": (
        lambda folder: ["--config.clasifier.steps=4"],
        "--config.clasifier.steps: this config has no such field; "
        "the nearest is config.classifier.steps",
    ),
    "mistyped flag": (lambda folder: ["--wrokdir=x"], "wrokdir"),
    "wrong type": (lambda folder: ["--config.classifier.steps=many"], "many"),
    "value out of range": (
        lambda folder: ["--config.refiner.norm=0.5"],
        "config.refiner.norm = 0.5: must be a number, at least 1.0",
    ),
    "unknown preset": (lambda folder: [f"--config={ROOT}/configs/xrd.py:tiny"], "tiny"),
    "no config file": (lambda folder: [f"--config={folder}/none.py"], "none.py"),
    "workdir below a file": (
        lambda folder: [f"--workdir={folder}/file/run"],
        "file/run: cannot write (Not a directory)",
    ),
    "cache below a file": (
        lambda folder: ["--mode=data", f"--config.run.cache_dir={folder}/file/data"],
        "cannot write the data cache",
    ),
    "not a flag": (lambda folder: ["refine"], "'refine' is no flag"),
    "refine without input": (lambda folder: ["--mode=refine"], "--mode=refine needs --input"),
    "refine with an unfinished run": (
        lambda folder: ["--mode=refine", f"--input={folder}/file"], "holds no finished run",
    ),
    "batch that does not divide": (
        lambda folder: ["--config.classifier.batch_size=15", "--mode=classifier"],
        "config.classifier.batch_size = 15 does not divide over 2 devices",
    ),
    "batch smaller than the classes": (
        lambda folder: ["--config.judges.other_network.batch_size=6", "--mode=judge"],
        "config.judges.other_network.batch_size = 6: must be at least 7",
    ),
}  # fmt: skip


# What is not known before the process has its devices, or ends it.
IN_PROCESSES = ("mistyped field", "mistyped flag", "batch that does not divide")


@pytest.mark.parametrize("case", IN_PROCESSES)
def test_mistakes_give_one_line_that_names_them(program, tmp_path, case):
    flags, message = REFUSED[case]
    output = program(tmp_path / "run", *flags(tmp_path), fails=1, devices=2)
    assert message in one_line(output)


@pytest.mark.parametrize("case", [case for case in REFUSED if case not in IN_PROCESSES])
def test_other_mistakes_give_the_line_as_an_error(call, program, tmp_path, monkeypatch, case):
    (tmp_path / "file").write_text("")
    flags, message = REFUSED[case]
    words = [SMOKE, f"--workdir={tmp_path}/run", f"--config.run.cache_dir={program.data}"]
    words += flags(tmp_path)
    monkeypatch.setattr(sys, "argv", ["main.py", *words])  # where ml_collections looks
    assert message in error_of(call, *words)


def test_without_config_one_line_says_so(program, tmp_path):
    assert "--config is missing" in one_line(program(tmp_path / "run", config="", fails=1))


# ---- The same errors as exceptions, without a process for each ----


def error_of(run: Callable, *arguments: object, **options: object) -> str:
    with pytest.raises(UserError) as caught:
        run(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_another_config_is_refused_with_the_first_field_that_differs(here, reference):
    before = contents(reference)
    changes = {"seed": 1, "refiner.norm": 2.0, "judges.other_seed.steps": 9}
    error = error_of(here, reference, **changes)
    assert "holds a run with config.judges.other_seed.steps = 8, this one has 9" in error
    assert contents(reference) == before


def test_a_damaged_classifier_is_named_and_its_advice_mends_the_run(here, copy, reference):
    saved = copy / "classifier" / "trained" / "8"
    data = max((saved / "classifier").rglob("d/*"), key=lambda path: path.stat().st_size)
    whole = data.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for broken in (bytes(flipped), whole[: len(whole) // 2]):
        data.write_bytes(broken)
        error = error_of(here, copy, "classifier")
        assert f"{saved}: damaged checkpoint" in error
        assert f"delete {saved} to go on" in error
    shutil.rmtree(saved)
    output = here(copy, "classifier")
    assert not trained(output)  # the state of the last step is whole; the prototypes were lost
    assert "exact prototypes" in output
    for name in ("metrics.jsonl", "stages/classifier.json"):
        assert (copy / name).read_bytes() == (reference / name).read_bytes()


def test_a_damaged_refiner_is_named_and_trained_again_from_the_step_before(here, copy, reference):
    last = copy / "refiner" / "fold_1" / "8"
    data = max((last / "state").rglob("d/*"), key=lambda path: path.stat().st_size)
    data.write_bytes(data.read_bytes()[: data.stat().st_size // 2])
    error = error_of(here, copy, "refiner")
    assert f"{last}: damaged checkpoint" in error
    assert "to go on from step 4" in error
    shutil.rmtree(last)
    (copy / "evaluation" / "arrays.npz").unlink()
    output = here(copy, "evaluate")
    assert "refiner/fold_1: resumed at step 4 of 8" in output
    arrays, expected = (read_npz(w / "evaluation" / "arrays.npz") for w in (copy, reference))
    np.testing.assert_array_equal(arrays["refined"], expected["refined"])


def test_damaged_arrays_of_the_evaluation_are_named(here, copy):
    path = copy / "evaluation" / "arrays.npz"
    path.write_bytes(path.read_bytes()[:-1000])
    assert f"{path}: damaged" in error_of(here, copy)


def test_a_damaged_data_cache_is_named(program, here, reference, tmp_path):
    data = Path(shutil.copytree(program.data, tmp_path / "data"))
    (path,) = data.glob("ideal-*/root_intensity.npy")
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 1
    path.write_bytes(whole)
    error = error_of(here, tmp_path / "run", "data", **{"run.cache_dir": str(data)})
    assert f"{path} is damaged" in error
    assert f"delete the folder {path.parent}" in error


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_checkpoint(here, tmp_path):
    workdir = tmp_path / "run"
    changes = {"classifier.learning_rate": 1e30, "run.checkpoint_every": 1}
    error = error_of(here, workdir, "classifier", **changes)
    words = error.split()
    step = int(words[words.index("step") + 1].rstrip(";"))
    assert any(f"{term} is {value} at" in error for term in ("loss", "cross_entropy", "prototype")
               for value in ("nan", "inf"))  # fmt: skip
    assert 1 < step <= 8
    assert f"the checkpoint of step {step - 1} is kept in {workdir}/classifier" in error
    assert (workdir / "classifier" / str(step - 1) / "commit_success.txt").exists()
    assert not (workdir / "classifier" / str(step)).exists()
    assert stages(workdir) == set()
