"""Batches of awkward files: each ends as a result, a failure or left out, and alone."""

import csv
import gzip
import io
import json
import logging
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from fake_model import FakeModel
from program import ROOT
from scan_case_files import ANGLE, CASES, F, counts, rows, two_theta, xy

from imitation_refinement.commands import assess_scans
from imitation_refinement.commands import refine_scans as module
from imitation_refinement.commands.refine_scans import refine_scans
from imitation_refinement.errors import UserError
from imitation_refinement.xrd.grid import Grid

OXIDE = "α-oxide.xy"
SPECIMEN = "試料 1.xy"
STATED = "# wavelength 1.54184\n"
CELL = "data_{}\n_cell_length_a {}\n_cell_length_b {}\n_cell_length_c {}\n" + "".join(
    f"_cell_angle_{angle} 90\n" for angle in ("alpha", "beta", "gamma")
)
SITES = (
    "_symmetry_space_group_name_H-M '{}'\n_symmetry_Int_Tables_number {}\nloop_\n_atom_site_label\n"
    "_atom_site_type_symbol\n_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z\n"
    "_atom_site_occupancy\n"
)


def fluorite(a: float = 5.4116) -> str:
    sites = "Ce1 Ce 0 0 0 1\nO1 O 0.25 0.25 0.25 1\n"
    return CELL.format("fluorite", a, a, a) + SITES.format("F m -3 m", 225) + sites


def salt() -> str:
    sites = "Na1 Na 0 0 0 1\nCl1 Cl 0.5 0.5 0.5 1\n"
    return CELL.format("salt", 5.64, 5.64, 5.64) + SITES.format("F m -3 m", 225) + sites


def results(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


def entries(folder: Path) -> dict[str, dict]:
    return {entry["name"]: entry for entry in results(folder)["results"]}


def refine(tmp_path: Path, *inputs: Path, wavelength=None, **options) -> int:
    names = [str(path) for path in inputs]
    return refine_scans(FakeModel(Grid()), names, tmp_path / "out", wavelength, **options)


# --- names of files ---------------------------------------------------------------------------


def test_names_in_any_script_get_all_their_files(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in (OXIDE, SPECIMEN, "plain.xy"):
        (folder / name).write_text(STATED + xy(F))
    assert refine(tmp_path, folder) == 0
    assert set(entries(tmp_path / "out")) == {"α-oxide", "試料_1", "plain"}
    for name in ("α-oxide", "試料_1", "plain"):
        for ending in ("refined.xy", "background.xy", "peaks.csv", "png"):
            assert (tmp_path / "out" / f"{name}.{ending}").exists()
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert '"α-oxide"' in page or "\\u03b1-oxide" in page


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are bytes on Linux alone")
def test_a_name_that_is_no_utf8_ends_nothing(tmp_path):
    folder = os.fsencode(tmp_path) + b"/in"
    os.mkdir(folder)
    with open(folder + b"/caf\xe9.xy", "w") as file:
        file.write(STATED + xy(F))
    (tmp_path / "in" / "good.xy").write_text(STATED + xy(F))
    assert refine(tmp_path, tmp_path / "in") == 0
    assert len(entries(tmp_path / "out")) == 2
    assert "good" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_any_locale_will_do(tmp_path):
    folder = tmp_path / "ein δ"
    folder.mkdir()
    for name in (OXIDE, SPECIMEN):
        (folder / name).write_text(STATED + xy(F), encoding="utf-8")
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, str(ROOT / "main.py"), "--mode=inspect", f"--input={folder}"],
        cwd=tmp_path, capture_output=True, timeout=300, env=environment,
    )  # fmt: skip
    output = (done.stdout + done.stderr).decode("utf-8")
    assert done.returncode == 0, output
    assert "ein δ/α-oxide.xy" in output and "ein δ/試料 1.xy" in output
    found = json.loads((tmp_path / "inspected" / "inspect.json").read_text(encoding="utf-8"))
    assert [item["name"] for item in found["patterns"]] == ["α-oxide", "試料 1"]
    page = (tmp_path / "inspected" / "inspect.html").read_text(encoding="utf-8")
    assert "α-oxide" in page and "試料 1" in page


# --- the ledger -------------------------------------------------------------------------------


def test_one_bad_row_fails_alone(tmp_path):
    matrix = np.stack([F] * 6)
    matrix[2] = np.nan
    np.savez(tmp_path / "m.npz", two_theta=ANGLE, patterns=matrix, wavelength=1.54184)
    assert refine(tmp_path, tmp_path / "m.npz") == 3
    found = entries(tmp_path / "out")
    assert [name for name, entry in found.items() if entry["verdict"] == "failed"] == ["m_row2"]
    assert "(row2)" in found["m_row2"]["error"] and len(found) == 6


def test_a_mixed_folder_is_read_or_named(tmp_path, caplog):
    folder = tmp_path / "in"
    (folder / "deeper").mkdir(parents=True)
    text = STATED + xy(F)
    for name in ("a.xy", "d.prn", "no-suffix", "e.background.xy", "deeper/f.xy", "README.md"):
        (folder / name).write_text(text)
    (folder / "b.xy.gz").write_bytes(gzip.compress(text.encode()))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("c.xy", text)
    (folder / "c.zip").write_bytes(packed.getvalue())
    with caplog.at_level(logging.INFO, logger="absl"):
        assert refine(tmp_path, folder) == 0
    told = results(tmp_path / "out")
    read = {Path(entry["input"]).name for entry in told["results"]}
    left = {Path(entry["input"]).name: entry["reason"] for entry in told["left_out"]}
    assert read == {"a.xy", "b.xy.gz", "c.zip", "d.prn", "no-suffix"}
    assert set(left) == {"deeper", "e.background.xy", "README.md"}
    log = "\n".join(record.getMessage() for record in caplog.records)
    page = (tmp_path / "out" / "report.html").read_text()
    for name, reason in left.items():
        assert f"left out: {folder / name}: {reason}" in log
        assert reason in page


def test_trouble_with_one_record_is_its_own(tmp_path, monkeypatch):
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(4):
        (folder / f"scan_{number}.xy").write_text(STATED + xy(F))
    write = module.write_patterns

    def broken(output, result, *rest):
        if result.name == "scan_1":
            raise RuntimeError("no glyph")
        return write(output, result, *rest)

    monkeypatch.setattr(module, "write_patterns", broken)
    table = assess_scans.peak_table

    def broken_too(*arguments):
        broken_too.calls += 1
        if broken_too.calls in (3, 6):  # scan_2, in the batch and by itself
            raise IndexError("no peak")
        return table(*arguments)

    broken_too.calls = 0
    monkeypatch.setattr(assess_scans, "peak_table", broken_too)
    assert refine(tmp_path, folder) == 3
    found = entries(tmp_path / "out")
    assert [entry["verdict"] == "failed" for entry in found.values()] == [
        False, True, True, False,
    ]  # fmt: skip
    assert "RuntimeError (no glyph); please report this file" in found["scan_1"]["error"]
    assert "IndexError (no peak)" in found["scan_2"]["error"]
    with open(tmp_path / "out" / "summary.csv", newline="") as file:
        assert [row["name"] for row in csv.DictReader(file)] == list(found)

    def full(*_):
        raise UserError("out: cannot write (No space left on device)")

    monkeypatch.setattr(module, "write_patterns", full)
    with pytest.raises(UserError, match="No space left"):
        refine(tmp_path, folder)


def test_options_without_effect_and_repeated_notes_are_told_once(tmp_path, caplog):
    for number in range(3):
        head = STATED + "# Automatic divergence slit\n"
        (tmp_path / f"scan_{number}.xy").write_text(head + xy(F))
    (tmp_path / "other.cif").write_text("data_x\n")
    with caplog.at_level(logging.INFO, logger="absl"):
        glob = tmp_path / "*.xy"
        assert refine(tmp_path, glob, wavelength="1.54184", cif=tmp_path / "other.cif") == 0
    notes = results(tmp_path / "out")["notes"]
    assert notes == [
        "--cif had no effect: no pattern could be compared with it",
        "--wavelength had no effect: every file, or the manifest, states its own",
    ]
    assert notes[0] in (tmp_path / "out" / "report.html").read_text()
    lines = [record.getMessage() for record in caplog.records]
    (slit,) = [line for line in lines if "divergence slit" in line]
    assert slit.endswith("(3 times)")
    assert refine(tmp_path, tmp_path / "scan_0.xy") == 0
    assert results(tmp_path / "out")["notes"] == []


# --- crystals ---------------------------------------------------------------------------------


def best(folder: Path, name: str) -> dict:
    return entries(folder)[name]["cif_matches"][0]


def test_every_structure_of_a_cif_is_compared_and_the_best_shown(tmp_path):
    (tmp_path / "two.xy").write_text(STATED + xy(F))
    (tmp_path / "two.cif").write_text(salt() + "\n" + fluorite())
    assert refine(tmp_path, tmp_path / "two.xy") == 0
    match = best(tmp_path / "out", "two")
    assert match["cif"] == "two#2" and match["score"] > 0.9
    assert [m["cif"] for m in entries(tmp_path / "out")["two"]["cif_matches"]] == ["two#2", "two#1"]


def test_nearly_cubic_stays_tetragonal(tmp_path):
    from imitation_refinement.xrd.structures.files import from_cif

    text = (
        CELL.format("iron", 2.859, 2.859, 2.937)
        + SITES.format("I 4/m m m", 139)
        + "Fe1 Fe 0 0 0 1\n"
    )
    a, c = 2.859, 2.937
    planes = (
        (1, 0, 1, 100),
        (1, 1, 0, 50),
        (0, 0, 2, 8),
        (2, 0, 0, 16),
        (2, 1, 1, 35),
        (1, 1, 2, 17),
    )
    lines = [((h * h + k * k) / a**2 + m * m / c**2, top) for h, k, m, top in planes]
    angle = np.arange(35.0, 95.0, 0.05)
    values = counts(angle, [(g**-0.5, top) for g, top in lines])
    (tmp_path / "iron.xy").write_text(STATED + rows("{:.3f} {:.0f}", angle, values))
    (tmp_path / "iron.cif").write_text(text)
    assert two_theta(lines[0][0] ** -0.5) == pytest.approx(44.21, abs=0.01)
    assert two_theta(lines[1][0] ** -0.5) == pytest.approx(44.83, abs=0.01)
    assert refine(tmp_path, tmp_path / "iron.xy") == 0
    assert best(tmp_path / "out", "iron")["score"] > 0.9
    (found,) = from_cif(("iron.cif", text.encode()))
    assert found.crystal.space_group == 139
    assert found.crystal.cell[:3] == pytest.approx([a, a, c])


@pytest.mark.parametrize("ending", ["cif", "CIF", "Cif"])
def test_the_ending_of_a_cif_may_be_in_any_case(tmp_path, ending):
    (tmp_path / "upper.xy").write_text(STATED + xy(F))
    (tmp_path / f"upper.{ending}").write_text(fluorite())
    assert refine(tmp_path, tmp_path / "upper.xy") == 0
    entry = entries(tmp_path / "out")["upper"]
    assert entry["cif_matches"][0]["score"] > 0.9
    assert entry["notes"][-1] == f"compared with upper.{ending} beside it"


def test_a_cif_that_was_named_goes_before_a_neighbour(tmp_path):
    (tmp_path / "scan.xy").write_text(STATED + xy(F))
    (tmp_path / "scan.cif").write_text(salt())
    named = tmp_path / "named"
    named.mkdir()
    (named / "ceria.CIF").write_text(fluorite())
    for cif in (named, named / "ceria.CIF"):
        assert refine(tmp_path, tmp_path / "scan.xy", cif=cif) == 0
        entry = entries(tmp_path / "out")["scan"]
        assert [match["cif"] for match in entry["cif_matches"]] == ["ceria"]
        assert entry["notes"][-1] == f"compared with --cif={cif}, not with scan.cif beside it"


# --- all together -----------------------------------------------------------------------------


def test_all_kinds_together_in_one_batch(tmp_path):
    """Every file ends as results or one line; those that have names of other scripts too."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name, (content, *_) in CASES.items():
        data = content if isinstance(content, bytes) else content.encode()
        (folder / name).write_bytes(data)
    for name in (OXIDE, SPECIMEN, "проба №3.xy"):
        (folder / name).write_text(xy(F), encoding="utf-8")
    given = sorted(folder.iterdir())
    assert refine(tmp_path, *given, wavelength=1.54184) == 3
    told = results(tmp_path / "out")
    ends: dict[str, list[dict]] = {path.name: [] for path in given}
    for entry in (*told["results"], *told["left_out"]):
        ends[Path(entry["input"]).name].append(entry)
    for name, (_, _, expected) in CASES.items():
        assert ends[name], name
        works = [entry for entry in ends[name] if entry.get("verdict", "failed") != "failed"]
        assert len(works) == (0 if isinstance(expected, str) else len(expected)), ends[name]
    for name in (OXIDE, SPECIMEN, "проба №3.xy"):
        (entry,) = ends[name]
        assert all((tmp_path / "out" / file).exists() for file in entry["files"])
        assert len(entry["files"]) == 6
    lines = [entry["error"] for entry in told["results"] if entry["verdict"] == "failed"]
    assert not any("please report" in line or "\n" in line for line in lines)
