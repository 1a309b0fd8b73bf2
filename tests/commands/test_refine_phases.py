"""A batch with a library of phases: what the tables say, CIF files, elements, and the flags."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from fake_model import FakeModel
from made_phases import EXAMPLES, by_cosine
from tiny_model import tiny_model

from imitation_refinement import cli
from imitation_refinement.commands.refine_scans import refine_scans
from imitation_refinement.commands.scan_figure import ScanFigure
from imitation_refinement.commands.scan_outputs import CANDIDATE_COLUMNS
from imitation_refinement.config import parse_flags
from imitation_refinement.errors import UserError
from imitation_refinement.model import portable
from imitation_refinement.phases import identify
from imitation_refinement.phases.compositions import parse_elements
from imitation_refinement.phases.identify import load_phases
from imitation_refinement.phases.prototypes import GRID
from imitation_refinement.xrd.structures.cif import read_cif

PHASES = {
    "corundum": ("Al2O3", 167, "R-3c", "trigonal"),
    "rutile": ("TiO2", 136, "P4_2/mnm", "tetragonal"),
    "silicon": ("Si", 227, "Fd-3m", "cubic"),
    "tenorite": ("CuO", 15, "C2/c", "monoclinic"),
    "zincite": ("ZnO", 186, "P6_3mc", "hexagonal"),
}
AXES = {
    "corundum": (4.7587, 4.7587, 12.9929), "rutile": (4.5937, 4.5937, 2.9587),
    "silicon": (5.4309, 5.4309, 5.4309), "tenorite": (4.6837, 3.4226, 5.1288),
    "zincite": (3.2495, 3.2495, 5.2069),
}  # fmt: skip


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def phases(cache, monkeypatch):
    """The five phases of the examples."""
    monkeypatch.setattr(identify, "load_calibration", by_cosine)
    return load_phases([EXAMPLES], cache)


def table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def results(folder: Path) -> dict[str, dict]:
    entries = json.loads((folder / "results.json").read_text())["results"]
    return {entry["name"]: entry for entry in entries}


def test_each_example_is_its_own_phase_in_every_table(phases, tmp_path):
    assert refine_scans(FakeModel(GRID), [str(EXAMPLES)], tmp_path, None, phases=phases) == 0
    summary = {row["name"]: row for row in table(tmp_path / "summary.csv")}
    found = results(tmp_path)
    assert set(summary) == set(found) == {*PHASES, "glass"}
    first = {row["name"]: row for row in table(tmp_path / "candidates.csv") if row["rank"] == "1"}
    for name, (formula, number, symbol, system) in PHASES.items():
        row, entry, best = summary[name], found[name], first[name]
        assert (row["formula"], row["space_group_number"]) == (formula, str(number))
        assert row["system"] == entry["system"] == best["system"] == system
        assert entry["space_group_number"] == number
        assert entry["systems"][system] == pytest.approx(entry["confidence"], abs=1e-6)
        assert entry["answer_from"] == ["raw", "refined"]
        assert sum(entry["systems"].values()) == pytest.approx(1.0, abs=1e-5)
        assert list(best) == list(CANDIDATE_COLUMNS)
        assert best["space_group"] == symbol and best["source"] == "examples"
        told = entry["candidates"][0]
        assert {key: str(told[key]) for key in told} == {key: best[key] for key in told}
        axes = [float(number) for number in best["cell"].split()[:3]]
        assert axes == pytest.approx(AXES[name], rel=2e-3)
        assert float(row["phase_probability"]) == pytest.approx(told["probability"], abs=1e-4)
        assert [one["rank"] for one in entry["candidates"]] == list(
            range(1, len(entry["candidates"]) + 1)
        )
    glass = found["glass"]
    assert glass["verdict"] == "not recognised" and glass["system"] is None
    assert glass["candidates"] == glass["further_phases"] == [] and "glass" not in first


def test_candidates_are_written_as_cif_files(phases, tmp_path):
    scan = str(EXAMPLES / "rutile.xy")
    refine_scans(FakeModel(GRID), [scan], tmp_path, None, phases=phases)
    entry = results(tmp_path)["rutile"]
    named = [name for name in entry["files"] if name.endswith(".cif")]
    assert named[0] == "rutile.candidate-1.cif"
    assert sorted(path.name for path in tmp_path.glob("*.cif")) == sorted(named)
    assert len(named) == min(3, len(entry["candidates"]))
    (atoms,) = read_cif(named[0], (tmp_path / named[0]).read_bytes())
    assert atoms.space_group == 136 and atoms.amounts == {"Ti": 2, "O": 4}


def test_the_picture_names_the_phase(phases, tmp_path, monkeypatch):
    titles, draw = [], ScanFigure.__call__

    def watched(self, title, *curves):
        titles.append(title)
        return draw(self, title, *curves)

    monkeypatch.setattr(ScanFigure, "__call__", watched)
    scans = [str(EXAMPLES / f"{name}.xy") for name in ("rutile", "glass")]
    refine_scans(FakeModel(GRID), scans, tmp_path, None, phases=phases)
    (title,) = titles  # of glass there is nothing to draw
    expected = r"rutile: TiO2, P4_2/mnm, \d+%, tetragonal \d+%, confident"
    assert re.fullmatch(expected, title)


def test_a_mixture_has_its_second_phase_among_the_further_ones(phases, tmp_path):
    angle, rutile = np.loadtxt(EXAMPLES / "rutile.xy").T
    corundum = np.loadtxt(EXAMPLES / "corundum.xy")[:, 1]
    lines = "".join(f"{a:.2f} {c:.0f}\n" for a, c in zip(angle, rutile + corundum, strict=True))
    (tmp_path / "both.xy").write_text(f"# wavelength 1.54184 angstrom\n{lines}")
    out = tmp_path / "out"
    refine_scans(FakeModel(GRID), [str(tmp_path / "both.xy")], out, None, phases=phases)
    entry = results(out)["both"]
    assert entry["candidates"][0]["left_over"] > 0.2
    found = {entry["candidates"][0]["formula"], entry["further_phases"][0][0]["formula"]}
    assert found == {"TiO2", "Al2O3"}
    assert sum(entry["intensity_shares"]) == pytest.approx(1.0, abs=1e-5)
    assert min(entry["intensity_shares"][:2]) > 0.1
    assert all(one["two_theta"] > 0.0 for one in entry["left_over_peaks"])
    # One phase explains a pure sample, and nothing more is proposed.
    refine_scans(FakeModel(GRID), [str(EXAMPLES / "rutile.xy")], out, None, phases=phases)
    pure = results(out)["rutile"]
    assert pure["further_phases"] == pure["intensity_shares"] == []
    assert pure["left_over_peaks"] is None


def test_elements_rule_phases_out(phases, tmp_path):
    scan, known = str(EXAMPLES / "rutile.xy"), parse_elements("Zn O Cu")
    refine_scans(FakeModel(GRID), [scan], tmp_path, None, phases=phases, elements=known)
    formulas = {row["formula"] for row in table(tmp_path / "candidates.csv")}
    assert formulas and formulas <= {"ZnO", "CuO"}


def test_a_manifest_says_the_elements_of_each_scan(phases, tmp_path):
    (tmp_path / "m.csv").write_text(
        "file,wavelength_A,elements\n"
        f"{EXAMPLES}/rutile.xy,,Ti O\n{EXAMPLES}/zincite.xy,1.54184,-Zn\n{EXAMPLES}/tenorite.xy,,\n"
    )
    refine_scans(
        FakeModel(GRID), [str(tmp_path / "m.csv")], tmp_path / "out", None, phases=phases,
        elements=parse_elements("+Cu"),
    )  # fmt: skip
    found = {name: set() for name in ("rutile", "zincite", "tenorite")}
    for row in table(tmp_path / "out" / "candidates.csv"):
        found[row["name"]].add(row["formula"])
    assert found["rutile"] == {"TiO2"} and found["tenorite"] == {"CuO"}
    assert "ZnO" not in found["zincite"]


def test_without_a_library_nothing_is_said_of_phases(tmp_path):
    refine_scans(FakeModel(GRID), [str(EXAMPLES / "rutile.xy")], tmp_path, None)
    entry = results(tmp_path)["rutile"]
    assert not {"candidates", "systems", "not_in_library", "space_group_number"} & set(entry)
    assert table(tmp_path / "candidates.csv") == [] and not list(tmp_path.glob("*.cif"))
    assert table(tmp_path / "summary.csv")[0]["formula"] == ""


# --- the command line -------------------------------------------------------------------------


@pytest.fixture
def call(tmp_path, cache, monkeypatch):
    """Refines rutile from the command line in this process; returns the exit status."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(identify, "load_calibration", by_cosine)
    monkeypatch.setattr(cli, "user_cache", lambda name: cache / name)
    portable.save_model(tiny_model(), tmp_path / "tiny.npz")

    def main(*words: str) -> int:
        always = ["--mode=refine", "--model=tiny.npz", f"--input={EXAMPLES}/rutile.xy"]
        with flagsaver.flagsaver():
            flags.FLAGS.unparse_flags()
            return cli.main(parse_flags(["main.py", *always, *words]))

    yield main
    flags.FLAGS(["main.py"])  # what comes after finds them parsed, as before


def test_a_folder_of_cif_files_is_a_library(call, tmp_path):
    assert call(f"--library={EXAMPLES}/", "--output=out") == 0
    entry = results(tmp_path / "out")["rutile"]
    assert (entry["candidates"][0]["formula"], entry["system"]) == ("TiO2", "tetragonal")
    header = json.loads((tmp_path / "out" / "results.json").read_text())
    assert header["library"] == "5 structures, 5 of them measured"
    assert "a library of 5 structures" in (tmp_path / "out" / "report.html").read_text()


def test_elements_by_flag(call, tmp_path):
    assert call(f"--library={EXAMPLES}", "--elements=-Ti", "--output=out") == 0
    formulas = {row["formula"] for row in table(tmp_path / "out" / "candidates.csv")}
    assert "TiO2" not in formulas
    with pytest.raises(UserError, match="'Xx' is no element"):
        call(f"--library={EXAMPLES}", "--elements=Xx")
    with pytest.raises(UserError, match="nothing without a library"):
        call("--library=none", "--elements=Ti")


def test_a_library_that_is_not_there(call):
    with pytest.raises(UserError, match="--library=nowhere: there is no such file or folder"):
        call("--library=nowhere")
