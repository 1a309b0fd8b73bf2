"""What is told of files before anything is refined."""

import csv
import json
import logging
import re

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from scan_case_files import ANGLE, CASES, PAN, F, P, Q, changed, rows, xy

from imitation_refinement import cli
from imitation_refinement.commands import inspect_page
from imitation_refinement.commands.inspect_page import HEIGHT, WIDTH, picture
from imitation_refinement.commands.inspect_scans import inspect_scans
from imitation_refinement.config import parse_flags
from imitation_refinement.errors import UserError
from imitation_refinement.xrd.scans import Scan


def look(folder, *inputs, wavelength=None, status=0):
    """Inspects; returns what inspect.json says, patterns by name."""
    out = folder / "out"
    assert inspect_scans([str(path) for path in inputs], out, wavelength) == status
    found = json.loads((out / "inspect.json").read_text(encoding="utf-8"))
    found["patterns"] = {item["name"]: item for item in found["patterns"]}
    return found


def put(folder, name, content=None):
    content = CASES[name][0] if content is None else content
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder / name


# --- what is told of a pattern ------------------------------------------------------------------


def test_a_scan_is_described(tmp_path):
    slow = "# wavelength 1.5406\n# Time per step: 2.5 s\n"
    gap = put(tmp_path, "gap.xy", xy(changed(F, gap=(-1, [(45.0, 49.95)])), slow))
    (found,) = look(tmp_path, gap)["patterns"].values()
    assert found["status"] == "read" and found["input"] == str(gap)
    assert found["format"] == "text, columns"
    assert found["axis"] == found["axis_used"] == "2 theta (degrees)"
    assert (found["wavelength"], found["wavelength_source"]) == (1.5406, "file")
    assert (found["two_theta_min"], found["two_theta_max"]) == (ANGLE[0], ANGLE[-1])
    assert found["step"] == found["step_max"] == 0.05  # the gap is no step
    assert found["points"] == len(ANGLE) - 100
    assert found["counting_time_s"] == 2.5
    assert found["unmeasured"] == [[45.0, 49.95]]
    assert found["largest"] == F[(ANGLE < 44.99) | (ANGLE > 49.96)].max()
    (note,) = found["notes"]
    assert note.startswith("45.00 to 49.95 degrees not measured")


@pytest.mark.parametrize(
    ("name", "format_"),
    [
        ("two.ras", "Rigaku .ras"), ("old.asc", "Rigaku .asc"), ("cps.uxd", "Bruker .uxd"),
        ("listed.udf", "Philips .udf"), ("ins0.dat", "FullProf, counts listed"),
        ("affn.dx", "JCAMP-DX"), ("pd.cif", "powder CIF"), ("spec.dat", "SPEC"),
        ("esd.gsa", "GSAS"), ("samples.csv", "text, columns"),
    ],
)  # fmt: skip
def test_formats_are_named(tmp_path, name, format_):
    found = look(tmp_path, put(tmp_path, name))["patterns"]
    assert {item["format"] for item in found.values()} == {format_}


def test_npz_and_xrdml_are_named(tmp_path):
    np.savez(tmp_path / "m.npz", two_theta=ANGLE, patterns=np.stack([F, P]), wavelength=1.5)
    xrdml = (
        '<xrdMeasurements><xrdMeasurement><scan scanAxis="Gonio"><dataPoints>'
        '<positions axis="2Theta"><startPosition>15</startPosition><endPosition>94.95'
        "</endPosition></positions><commonCountingTime>0.75</commonCountingTime><intensities>"
        f"{' '.join(f'{c:.0f}' for c in F)}</intensities></dataPoints></scan></xrdMeasurement>"
        "</xrdMeasurements>"
    )
    put(tmp_path, "a.xrdml", xrdml)
    found = look(tmp_path, tmp_path / "m.npz", tmp_path / "a.xrdml")["patterns"]
    assert [item["format"] for item in found.values()] == [".npz", ".npz", "PANalytical .xrdml"]
    assert found["a"]["counting_time_s"] == 0.75 and found["m_row0"]["counting_time_s"] is None


@pytest.mark.parametrize(
    ("line", "seconds"),
    [
        ("_STEPTIME=1.5", 1.5), ("Time per step,0.5", 0.5), ("ScanStepTime,  12.0,/", 12.0),
        ("# counting time [s]: 3", 3.0), ("# exposure time 500 ms", 0.5),
        ("Count time: 2 min", 120), ("# exposure time 10 frames", None), ("# time 30 min", None),
        ("# step 0.02", None),
    ],
)  # fmt: skip
def test_counting_times(tmp_path, line, seconds):
    (found,) = look(tmp_path, put(tmp_path, "a.xy", f"{line}\n{xy(F)}"))["patterns"].values()
    assert found["counting_time_s"] == seconds


def test_the_axis_is_told_as_found_and_as_used(tmp_path):
    for name, axis in (("q.csv", "momentum transfer (1/A)"), ("t.csv", "Theta (deg)")):
        x = Q if name == "q.csv" else ANGLE / 2
        put(tmp_path, name, f"{axis},I\n" + rows("{:.6f},{:.0f}", x, P))
    found = look(tmp_path, tmp_path / "q.csv", tmp_path / "t.csv", wavelength="CuKa")["patterns"]
    assert found["q"]["axis"] == "momentum transfer (1/A)"
    assert found["q"]["axis_used"] == "2 theta (degrees), computed at 1.54184 angstrom"
    assert found["t"]["axis"] == "Theta (deg)" and found["t"]["two_theta_min"] == 15.0


def test_without_a_wavelength_a_scan_over_2_theta_is_shown_and_one_over_q_is_not(tmp_path, caplog):
    put(tmp_path, "a.xy", xy(F))
    put(tmp_path, "q.csv", CASES["momentum.csv"][0])
    with caplog.at_level(logging.INFO, logger="absl"):
        found = look(tmp_path, tmp_path / "a.xy", tmp_path / "q.csv", status=3)["patterns"]
    assert found["a"]["wavelength"] is None and found["a"]["status"] == "read"
    assert found["a"]["wavelength_source"] == "not stated; give --wavelength"
    assert found["a"]["two_theta_min"] == 15.0
    assert found["q"]["status"] == "failed" and "--wavelength" in found["q"]["reason"]
    assert "wavelength: not stated; give --wavelength" in caplog.text
    page = (tmp_path / "out" / "inspect.html").read_text(encoding="utf-8")
    assert '<span class="missing">not stated; give --wavelength</span>' in page
    # What contradicts is an error here too.
    put(tmp_path, "b.xy", xy(F, "# wavelength 0.7093\n"))
    found = look(tmp_path, tmp_path / "b.xy", wavelength="CuKa", status=1)["patterns"]
    assert "0.7093 angstrom and --wavelength says 1.54184" in found["b"]["reason"]
    with pytest.raises(UserError, match="XyKa"):
        inspect_scans([str(tmp_path / "a.xy")], tmp_path / "out", "XyKa")


# --- tables, log and page -----------------------------------------------------------------------


def test_one_line_a_file_and_the_ledger(tmp_path, caplog):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("two.ras", "samples.csv", "tof.dat", "two-ranges.uxd"):
        put(folder, name)
    put(folder, "notes.md", "x")
    tilted = CASES["two-ranges.uxd"][0].replace("COUPLED", "OMEGA", 1)
    put(folder, "two-ranges.uxd", tilted)
    with caplog.at_level(logging.INFO, logger="absl"):
        found = look(tmp_path, folder, status=3, wavelength=1.54184)
    assert list(found["patterns"]) == [
        "samples_Quartz", "samples_Calcite", "samples_Ferrite", "tof", "two-ranges_range2",
        "two_scan1", "two_scan2",
    ]  # fmt: skip
    left = {item["input"]: item["reason"] for item in found["left_out"]}
    assert set(left) == {str(folder / "notes.md"), str(folder / "two-ranges.uxd")}
    assert left[str(folder / "two-ranges.uxd")] == "(range1): measured over OMEGA"
    lines = [record.getMessage() for record in caplog.records]
    for name, end in (
        ("samples.csv", "(the first of 3 patterns)"), ("two.ras", "(the first of 2 patterns)"),
        ("tof.dat", "export that"),
    ):  # fmt: skip
        (line,) = [line for line in lines if name in line]
        assert line.endswith(end)
    assert sum("left out: " in line for line in lines) == 2
    with open(tmp_path / "out" / "inspect.csv", newline="", encoding="utf-8") as file:
        table = {row["name"]: row for row in csv.DictReader(file)}
    assert list(table) == list(found["patterns"])
    assert table["two_scan1"]["format"] == "Rigaku .ras" and table["tof"]["status"] == "failed"


def test_a_wavelength_without_effect_is_told(tmp_path):
    put(tmp_path, "a.xy", xy(F, "# wavelength 1.5406\n"))
    found = look(tmp_path, tmp_path / "a.xy", wavelength=1.5406)
    assert found["notes"] == [
        "--wavelength had no effect: every file, or the manifest, states its own"
    ]
    assert look(tmp_path, put(tmp_path, "b.xy", xy(F)), wavelength=1.5406)["notes"] == []


def test_the_page_is_escaped_loads_nothing_and_has_a_picture_of_each(tmp_path):
    evil = "<img src=x onerror=alert(1)>"
    put(
        tmp_path,
        f"{evil.replace('/', '')}.csv",
        f"2theta,{evil},b&c\n" + rows("{},{},{}", ANGLE, F, P),
    )
    gap = put(tmp_path, "gap.xy", xy(changed(F, gap=(-1, [(45.0, 49.95)]))))
    put(tmp_path, "bad.xy", "nothing")
    inputs = [tmp_path / "*.csv", gap, tmp_path / "bad.xy"]
    look(tmp_path, *inputs, status=3)
    page = (tmp_path / "out" / "inspect.html").read_text(encoding="utf-8")
    assert "<img" not in page and "&lt;img src=x" in page
    assert "default-src 'none'; style-src 'unsafe-inline'" in page
    assert not re.search(r"<script|src=\"|href=|url\(|https?:", page)
    assert page.count("<polyline") == 3 and page.count("<rect") == 1
    assert page.count('<tr class="failed">') == 1


def test_the_picture_shows_every_peak_and_the_gap():
    counts = np.full(4001, 4.0)
    counts[1000] = 400.0  # one point
    angle = np.linspace(10.0, 90.0, 4001)
    drawn = picture(Scan(angle, counts, 1.5, "a", unmeasured=((50.0, 60.0),)))
    points = np.array([point.split(",") for point in drawn["points"].split()], float)
    assert len(points) <= WIDTH + 2
    assert points[:, 0].min() == 0 and WIDTH - 2 <= points[:, 0].max() <= WIDTH
    x, top = points[np.argmin(points[:, 1])]
    assert x == pytest.approx(WIDTH * 1000 / 4000, abs=0.1) and top == 1.0
    # Square root of 4 is a tenth of that of 400.
    assert points[0, 1] == pytest.approx(HEIGHT - 1 - 0.1 * (HEIGHT - 2), abs=0.06)
    assert drawn["gaps"] == [(WIDTH * 0.5, WIDTH * 0.125)]
    flat = picture(Scan(angle, 0 * counts, 1.5, "a"))
    assert "nan" not in flat["points"]


def test_trouble_with_one_pattern_is_its_own(tmp_path, monkeypatch):
    from imitation_refinement.commands import inspect_scans as module

    def broken(scan):
        if scan.name == "b":
            raise IndexError("no point")
        return picture(scan)

    monkeypatch.setattr(module, "picture", broken)
    files = [put(tmp_path, name, xy(F)) for name in ("a.xy", "b.xy", "c.xy")]
    found = look(tmp_path, *files, status=3)["patterns"]
    assert [item["status"] for item in found.values()] == ["read", "failed", "read"]
    assert "IndexError (no point); please report this file" in found["b"]["reason"]


def test_a_large_batch_keeps_the_page_small(tmp_path, monkeypatch):
    monkeypatch.setattr(inspect_page, "ROWS", 2)
    matrix = np.stack([F] * 5)
    np.savez(tmp_path / "m.npz", two_theta=ANGLE, patterns=matrix, wavelength=1.5)
    assert len(look(tmp_path, tmp_path / "m.npz")["patterns"]) == 5
    page = (tmp_path / "out" / "inspect.html").read_text()
    assert page.count("<polyline") == 2 and "The first 2 are shown" in page and "5 patterns" in page


# --- the command --------------------------------------------------------------------------------


def test_the_mode_needs_no_model_and_says_which_flags_have_no_effect(tmp_path, monkeypatch, caplog):
    put(tmp_path, "a.xy", xy(F))
    monkeypatch.chdir(tmp_path)
    with caplog.at_level(logging.WARNING, logger="absl"), flagsaver.flagsaver():
        flags.FLAGS.unparse_flags()
        words = ["--mode=inspect", "--input=a.xy", "--model=none.npz", "--components=3", "--cif=x"]
        assert cli.main(parse_flags(["main.py", *words])) == 0
    flags.FLAGS(["main.py"])
    assert (tmp_path / "inspected" / "inspect.html").exists()
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [
        "--cif has no effect with --mode=inspect", "--components has no effect with --mode=inspect",
    ]  # fmt: skip


def test_a_header_of_panalytical_states_its_time(tmp_path):
    text = PAN.format("Gonio", "Time per step,1.25") + rows("{:.4f},{:.0f}", ANGLE, P)
    (found,) = look(tmp_path, put(tmp_path, "a.csv", text))["patterns"].values()
    assert found["counting_time_s"] == 1.25 and found["k_alpha2"] == "present"
