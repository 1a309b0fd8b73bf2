"""The command line: which model is used, what is refused, the exit status; the example scans."""

import csv
import importlib
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from program import ROOT, SMOKE
from tiny_model import tiny_model

from imitation_refinement.errors import UserError
from imitation_refinement.model import find, portable
from imitation_refinement.runtime.shard import Shard


@pytest.fixture(scope="module")
def model_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.npz"
    portable.save_model(tiny_model(), path)
    return path


@pytest.fixture
def start(quick_program, tmp_path):
    """Runs main.py in a process of its own, in an empty folder; exit status and all output."""

    def main(*words: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, str(ROOT / "main.py"), *words], cwd=tmp_path, capture_output=True,
            text=True, timeout=300, env={**os.environ, **quick_program, "JAX_PLATFORMS": "cpu"},
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    return main


def rows(folder: Path) -> dict[str, dict[str, str]]:
    with open(folder / "summary.csv", newline="", encoding="utf-8") as file:
        return {row["name"]: row for row in csv.DictReader(file)}


# --- the example scans, as a newcomer tries them ----------------------------------------------


def test_the_examples_are_refined_in_one_command(start, tmp_path, model_file):
    pytest.importorskip("pymatgen")
    status, output = start(
        "--mode=refine", f"--model={model_file}", f"--input={ROOT}/examples/*.xy"
    )
    assert status == 0, output
    assert "model: tiny" in output and "report.html" in output
    folder = tmp_path / "refined"
    table = rows(folder)
    assert set(table) == {path.stem for path in (ROOT / "examples").glob("*.xy")}
    assert table["glass"]["verdict"] == "not recognised" and table["glass"]["system"] == ""
    for name, row in table.items():
        assert row["wavelength_source"] == "file"
        assert float(row["wavelength"]) == (0.71073 if name == "silicon" else 1.54184)
        if name != "glass":
            assert row["cif"] == name and (folder / f"{name}.refined.xy").exists()
    results = json.loads((folder / "results.json").read_text())
    assert len(results["results"]) == len(table)
    assert "Traceback" not in output


def test_the_examples_are_what_their_script_writes(tmp_path):
    pytest.importorskip("pymatgen")
    before = {path.name: path.read_bytes() for path in (ROOT / "examples").glob("*.xy")}
    script = tmp_path / "make_scans.py"
    script.write_bytes((ROOT / "examples" / "make_scans.py").read_bytes())
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, str(script)], check=True, env=environment, timeout=300)
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.xy")} == before


def test_a_process_that_generates_data_does_not_run_the_program_again(monkeypatch):
    monkeypatch.setattr("imitation_refinement.cli.entry_point", lambda: pytest.fail("it runs"))
    runpy.run_path(str(ROOT / "main.py"), run_name="__mp_main__")  # as multiprocessing does


# --- exit status and errors -------------------------------------------------------------------


def test_some_and_none_worked(call, tmp_path, model_file):
    (tmp_path / "broken.xy").write_text("nothing\n")
    flags_ = ["--mode=refine", f"--model={model_file}"]
    good = f"--input={ROOT}/examples/rutile.xy"
    assert call(*flags_, good, "--input=broken.xy", "--output=some") == 3
    assert call(*flags_, "--input=broken.xy", "--output=none") == 1
    assert rows(tmp_path / "some")["rutile"]["error"] == ""
    assert rows(tmp_path / "none")["broken"]["verdict"] == "failed"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--mode=refine"], "--mode=refine needs --input, as in --input='scans/*.xy'"),
        (["--mode=inspect"], "--mode=inspect needs --input, as in --input='scans/*.xy'"),
        (["--mode=benchmark"], "--mode=benchmark needs --input, as in --input=manifest.csv"),
        (["--mode=benchmark", "--input=a", "--input=b"], "takes one manifest"),
        (["--mode=unmix", "--merge"], "no finished shard in it; run --mode=unmix --shard=i/n"),
        (["--mode=benchmark", "--merge"], "no finished shard in it; run --mode=benchmark --shard"),
        (["--mode=benchmark", "--cluster=local"], "--mode=benchmark needs --input"),
        (["--mode=save"], "--mode=save needs --workdir"),
        (["--mode=refine", "--input=a", "--workdir=none"], "none"),
        (["--mode=refine", "--input=a", "--model=none.npz"], "none.npz"),
        (["--mode=all"], "--config is missing"),
        (["--mode=refine", "scan.xy"], "'scan.xy' is no flag"),
    ],
)
def test_what_is_missing_is_said_in_one_line(call, words, message):
    with pytest.raises(UserError, match="(?s).*") as caught:
        call(*words)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_wrong_wavelength_and_a_wrong_cif_end_before_anything_is_written(
    call, tmp_path, model_file
):
    words = ["--mode=refine", f"--model={model_file}", f"--input={ROOT}/examples/rutile.xy"]
    for wrong in ("--wavelength=XyKa", "--cif=none"):
        with pytest.raises(UserError, match=wrong.partition("=")[2]):
            call(*words, wrong)
    assert not (tmp_path / "refined").exists()


# --- which model ------------------------------------------------------------------------------


def test_a_config_without_a_finished_run_trains_nothing(start, tmp_path):
    status, output = start(
        SMOKE, "--mode=refine", f"--input={ROOT}/examples/rutile.xy", "--output=out"
    )
    assert "runs/xrd-smoke holds no finished run" in output
    assert not (tmp_path / "runs").exists() and "step" not in output
    if portable.shipped_model().is_file():
        assert status == 0 and "shipped with the package" in output
    else:
        assert status == 1 and "error: " in output


@pytest.mark.slow
def test_the_finished_run_of_the_config_is_used_if_it_is_the_same_config(
    start, tmp_path, model_file
):
    folder = tmp_path / "runs" / "xrd-smoke"
    folder.mkdir(parents=True)
    (folder / portable.MODEL_FILE).write_bytes(model_file.read_bytes())
    words = [SMOKE, "--mode=save", "--output=copy.npz"]
    describe = (
        "import sys; from absl import flags; from imitation_refinement import cli, config;"
        "config.parse_flags(sys.argv); open('runs/xrd-smoke/config.json', 'w')"
        ".write(config.to_json(cli._CONFIG.value))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(
        [sys.executable, "-c", describe, SMOKE], cwd=tmp_path, check=True, env=environment
    )
    status, output = start(*words)
    assert status == 0, output
    assert "model: tiny" in output and "runs/xrd-smoke" in output
    assert find.load_model(tmp_path / "copy.npz").describe() == tiny_model().describe()
    status, output = start(*words, "--config.seed=7")
    assert status == 1
    assert "error: runs/xrd-smoke holds a run with config.seed = " in output.splitlines()[-1]


@pytest.mark.parametrize(
    ("mode", "module", "function", "flags_", "arguments"),
    [
        ("refine", "refine_scans", "refine_scans",
         ["--cif=x.cif", "--wavelength=CuKa", "--library=none"],
         (["in"], Path("refined"), "CuKa", Path("x.cif"))),
        ("benchmark", "benchmark", "run_benchmark", ["--output=~/o"],
         (Path("in"), Path("~/o").expanduser())),
        ("unmix", "unmix_library", "run_unmix", ["--components=4", "--wavelength=1.2"],
         (["in"], Path("unmixed"), "1.2", 4)),
    ],
)  # fmt: skip
def test_modes_reach_their_functions_and_return_their_status(
    call, model_file, monkeypatch, mode, module, function, flags_, arguments
):
    given = []

    def stand_in(model, *rest, **options):
        given.append((model.describe(), *rest))
        assert options == ({"phases": None, "elements": None} if mode == "refine" else {})
        return 3

    __import__(f"imitation_refinement.commands.{module}")
    monkeypatch.setattr(sys.modules[f"imitation_refinement.commands.{module}"], function, stand_in)
    assert call(f"--mode={mode}", f"--model={model_file}", "--input=in", *flags_) == 3
    assert given == [(tiny_model().describe(), *arguments)]


@pytest.mark.parametrize(
    ("mode", "words", "arguments"),
    [
        ("benchmark", ["--cluster=tcp://host:1"], (Path("in"), Path("benchmark"))),
        ("unmix", ["--cluster=tcp://host:1", "--components=4"], (["in"], Path("unmixed"), None, 4)),
        ("unmix", ["--input=?", "--wavelength=1.2"], (["in", "?"], Path("unmixed"), "1.2", None)),
    ],
)
def test_batches_reach_their_shards_and_are_merged_unless_one_was_asked_for(
    call, monkeypatch, tmp_path, mode, words, arguments
):
    for name in "ab":  # two spreads, which are a batch without further flags
        (tmp_path / name).mkdir()
        (tmp_path / name / "scan.xy").touch()
    given, merged = [], []

    def stand_in(setup, *rest, shard, cluster):
        given.append((*rest, shard, cluster))
        assert Path(setup.folder) == tmp_path
        return 3

    module = importlib.import_module(f"imitation_refinement.commands.{mode}_shards")
    monkeypatch.setattr(module, "run_shard", stand_in)
    monkeypatch.setattr(module, "merge_shards", lambda output: merged.append(output) or 0)
    cluster = "tcp://host:1" if "--cluster=tcp://host:1" in words else None
    output = Path(f"{mode}ed" if mode == "unmix" else mode)
    assert call(f"--mode={mode}", "--input=in", *words) == 0 and merged == [output]
    assert call(f"--mode={mode}", "--input=in", *words, "--shard=1/3") == 3
    assert call(f"--mode={mode}", "--merge") == 0 and merged == [output] * 2
    assert given == [(*arguments, Shard(0, 1), cluster), (*arguments, Shard(1, 3), cluster)]
