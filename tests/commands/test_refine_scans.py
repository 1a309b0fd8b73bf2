"""A batch of scans through a model: files in, files out, bad ones named, the others finished."""

import csv
import json
import logging
import os
import stat
from pathlib import Path

import numpy as np
import pytest
from fake_model import CUT, SYSTEMS, FakeModel

from imitation_refinement.commands import assess_scans
from imitation_refinement.commands.ledger import exit_status
from imitation_refinement.commands.progress import duration
from imitation_refinement.commands.refine_scans import refine_scans
from imitation_refinement.commands.scan_results import Names
from imitation_refinement.errors import UserError
from imitation_refinement.xrd.grid import Grid, grid_q, two_theta_from_q

PEAKS = (25.0, 38.0, 52.0, 70.0)


def scan_text(first=15.0, last=94.0, step=0.04, seed=0, peaks=PEAKS) -> str:
    """Peaks of 0.2 degrees over a sloping background, with counting noise."""
    angle = np.arange(first, last, step)
    counts = 150.0 + 100.0 * np.exp(-angle / 40.0)
    for number, peak in enumerate(peaks):
        counts = counts + 3000.0 / (1 + number) * np.exp(-0.5 * ((angle - peak) / 0.09) ** 2)
    counts = np.random.default_rng(seed).poisson(counts)
    return "".join(f"{a:.3f} {c}\n" for a, c in zip(angle, counts, strict=True))


def columns(path: Path) -> np.ndarray:
    return np.loadtxt(path).T


def summary(folder: Path) -> dict[str, dict[str, str]]:
    with open(folder / "summary.csv", newline="", encoding="utf-8") as file:
        return {row["name"]: row for row in csv.DictReader(file)}


@pytest.fixture
def scans(tmp_path) -> Path:
    folder = tmp_path / "scans"
    folder.mkdir()
    (folder / "good.xy").write_text(scan_text())
    return folder


def test_one_scan_gives_all_its_files(scans, tmp_path):
    out = tmp_path / "out"
    assert refine_scans(FakeModel(), [str(scans / "good.xy")], out, "CuKa") == 0
    assert {path.name for path in out.iterdir()} == {
        "good.refined.xy", "good.refined_input_points.xy", "good.background.xy",
        "good.residual.xy", "good.peaks.csv", "good.png", "summary.csv", "candidates.csv",
        "results.json", "report.html",
    }  # fmt: skip
    assert (out / "good.png").read_bytes().startswith(b"\x89PNG")

    measured = columns(scans / "good.xy")
    parts = {name: columns(out / f"good.{name}.xy") for name in ("background", "residual")}
    refined = columns(out / "good.refined_input_points.xy")
    for part in parts.values():
        np.testing.assert_array_equal(part[0], refined[0])
    within = np.isin(np.round(measured[0], 3), np.round(refined[0], 3))
    assert within.sum() == len(refined[0]) > 1800
    # The three parts add up to what was measured, point by point.
    total = parts["background"][1] + parts["residual"][1] + refined[1]
    np.testing.assert_allclose(total, measured[1][within], atol=0.05)
    # The background is the sloping one, the refined peaks have the height of the measured ones.
    slope = 150.0 + 100.0 * np.exp(-refined[0] / 40.0)
    assert np.median(np.abs(parts["background"][1] - slope)) < 10
    top = np.argmax(refined[1])
    assert refined[0][top] == pytest.approx(25.0, abs=0.05)
    assert refined[1][top] == pytest.approx(3000.0, rel=0.1)

    grid_pattern = columns(out / "good.refined.xy")
    assert grid_pattern[1].max() == 100.0
    assert grid_pattern[0][np.argmax(grid_pattern[1])] == pytest.approx(25.0, abs=0.1)


def test_peak_table_of_the_scan(scans, tmp_path):
    out = tmp_path / "out"
    refine_scans(FakeModel(Grid()), [str(scans / "good.xy")], out, "CuKa")
    with open(out / "good.peaks.csv", newline="") as file:
        peaks = list(csv.DictReader(file))
    assert [float(peak["two_theta"]) for peak in peaks] == pytest.approx(PEAKS, abs=0.02)
    intensity = [float(peak["relative_intensity"]) for peak in peaks]
    assert intensity == pytest.approx([100, 50, 33, 25], rel=0.12)
    # FWHM of a Gaussian is 2.3548 sigma; the cells of the grid widen it a little.
    assert [float(peak["width_fwhm_two_theta"]) for peak in peaks] == pytest.approx(
        4 * [2.3548 * 0.09], rel=0.15
    )
    assert {peak["in_raw"] for peak in peaks} == {"yes"}
    d = 1.54184 / (2 * np.sin(np.radians(np.array(PEAKS) / 2)))
    assert [float(peak["d_spacing"]) for peak in peaks] == pytest.approx(d, rel=1e-3)


def test_summary_and_results_say_the_same(scans, tmp_path):
    (scans / "good.xy").write_text("# wavelength 1.54184\n" + (scans / "good.xy").read_text())
    (scans / "narrow.xy").write_text("# wavelength 0.71073\n" + scan_text(15.0, 30.0))
    out = tmp_path / "out"
    assert refine_scans(FakeModel(), [str(scans)], out, None) == 0
    rows = summary(out)
    results = json.loads((out / "results.json").read_text())
    assert results["model"] == "fake model <1>" and results["classes"] == list(SYSTEMS)
    entries = {entry["name"]: entry for entry in results["results"]}
    assert list(rows) == list(entries) == ["good", "narrow"]
    assert (rows["good"]["verdict"], rows["narrow"]["verdict"]) == ("confident", "ambiguous")
    assert float(rows["narrow"]["wavelength"]) == entries["narrow"]["wavelength"] == 0.71073
    assert [rows[name]["wavelength_source"] for name in rows] == ["file", "file"]
    for name, row in rows.items():
        entry = entries[name]
        assert row["system"] == entry["system"] in SYSTEMS
        assert float(row["confidence"]) == pytest.approx(entry["confidence"], abs=1e-4)
        assert row["second_system"] != row["system"]
        for kind in ("raw", "refined"):
            numbers = [float(row[f"{kind}_{system}"]) for system in SYSTEMS]
            assert sum(numbers) == pytest.approx(1, abs=1e-3)
            assert list(entry["probabilities"][kind].values()) == pytest.approx(numbers, abs=1e-4)
        distances = [prototype["distance"] for prototype in entry["prototypes"]]
        assert distances == sorted(distances) and len(distances) == len(SYSTEMS)
        assert entry["prototypes"][0]["system"] == row["system"]
        assert float(row["covered"]) == pytest.approx(entry["covered"], abs=1e-3)
        assert sorted(entry["files"]) == sorted(
            path.name for path in out.iterdir() if path.name.startswith(f"{name}.")
        )
    assert "of the model's range was measured" in rows["narrow"]["notes"]
    assert rows["good"]["notes"] == ""


def test_nothing_is_written_outside_the_measured_range(scans, tmp_path):
    path = scans / "part.xy"
    path.write_text(scan_text(30.0, 60.0))
    out = tmp_path / "out"
    refine_scans(FakeModel(), [str(path)], out, "CuKa")
    angle = two_theta_from_q(grid_q(FakeModel().grid), 1.54184)
    for name in ("refined", "refined_input_points", "background", "residual"):
        written = columns(out / f"part.{name}.xy")[0]
        assert 30.0 <= written.min() < 30.2 and 59.8 < written.max() <= 60.0
    inside = np.count_nonzero((angle > 30.0) & (angle < 59.96))
    assert len(columns(out / "part.refined.xy")[0]) == pytest.approx(inside, abs=1)


def bad_corpus(folder: Path) -> dict[str, str]:
    """Files that cannot be used, with a word of what is to be said about each."""
    steps = [f"{15 + 0.04 * i:.2f}" for i in range(500)]
    (folder / "empty.xy").write_bytes(b"")
    (folder / "binary.dat").write_bytes(bytes(range(256)) * 40)
    (folder / "one_column.txt").write_text("\n".join(steps))
    (folder / "prose.txt").write_text("this is no pattern\n" * 50)
    (folder / "two_points.xy").write_text("20 5\n21 6\n")
    (folder / "nan.xy").write_text("\n".join(f"{t} nan" for t in steps))
    (folder / "angles.xy").write_text("\n".join(f"{400 + i} {i}" for i in range(500)))
    (folder / "cut.xrdml").write_text('<?xml version="1.0"?><xrdMeasurements><xrdMeasurement')
    (folder / "folder.xy").mkdir()
    (folder / "far.xy").write_text(scan_text(1.0, 6.0))
    return {
        "empty": "empty", "binary": "", "one_column": "", "prose": "", "two_points": "2",
        "nan": "", "angles": "180", "cut": "", "folder": "", "far": "covers",
        "missing": "No such file",
    }  # fmt: skip


def test_bad_files_have_one_line_and_a_row_each_and_the_others_go_on(scans, tmp_path, caplog):
    words = bad_corpus(scans)
    out = tmp_path / "out"
    inputs = [str(path) for path in sorted(scans.iterdir())] + [str(scans / "missing.xy")]
    with caplog.at_level(logging.WARNING, logger="absl"):
        assert refine_scans(FakeModel(), inputs, out, "CuKa") == 3
    rows = summary(out)
    assert set(rows) == {"good", *words}
    assert rows["good"]["verdict"] == "confident" and (out / "good.refined.xy").exists()
    for name, word in words.items():
        row = rows[name]
        assert row["verdict"] == "failed" and row["system"] == ""
        assert word in row["error"] and "\n" not in row["error"] and name in row["error"]
        assert not list(out.glob(f"{name}.*"))
    assert sum("failed: " in record.getMessage() for record in caplog.records) == len(words)


def test_no_input_worked(tmp_path):
    out = tmp_path / "out"
    assert refine_scans(FakeModel(), [str(tmp_path / "*.xy")], out, "CuKa") == 1
    (row,) = summary(out).values()
    assert row["verdict"] == "failed" and "*.xy" in row["error"]
    assert (out / "report.html").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_a_row(scans, tmp_path):
    locked = scans / "locked.xy"
    locked.write_text(scan_text())
    locked.chmod(0)
    assert refine_scans(FakeModel(), [str(scans)], tmp_path / "out", "CuKa") == 3
    locked.chmod(stat.S_IRUSR | stat.S_IWUSR)
    assert "ermission" in summary(tmp_path / "out")["locked"]["error"]


def test_noise_gets_no_answer_and_no_pattern(scans, tmp_path):
    angle = np.arange(15.0, 92.0, 0.04)
    noise = np.random.default_rng(2).poisson(200.0, len(angle))
    path = scans / "noise.xy"
    path.write_text("".join(f"{a:.3f} {c}\n" for a, c in zip(angle, noise, strict=True)))
    out = tmp_path / "out"
    assert refine_scans(FakeModel(), [str(path)], out, "CuKa") == 0
    (row,) = summary(out).values()
    assert row["verdict"] == "not recognised" and row["reason"]
    assert row["system"] == row["second_system"] == row["confidence"] == ""
    assert [path.name for path in out.glob("noise.*")] == ["noise.background.xy"]
    (entry,) = json.loads((out / "results.json").read_text())["results"]
    assert entry["system"] is None and entry["peaks"] == []


def test_wavelength_is_needed_where_the_file_says_nothing(scans, tmp_path):
    (scans / "says.xy").write_text("# wavelength 1.5406\n" + scan_text())
    assert refine_scans(FakeModel(), [str(scans)], tmp_path / "out", None) == 3
    rows = summary(tmp_path / "out")
    assert "wavelength" in rows["good"]["error"]
    assert float(rows["says"]["wavelength"]) == 1.5406
    with pytest.raises(UserError, match="XyKa"):
        refine_scans(FakeModel(), [str(scans)], tmp_path / "other", "XyKa")


def test_batches_give_what_one_by_one_gives(scans, tmp_path, monkeypatch):
    for number in range(5):
        text = scan_text(seed=number, peaks=(20.0 + 3 * number, 50.0))
        (scans / f"scan{number}.xy").write_text(text)
    together = FakeModel()
    refine_scans(together, [str(scans)], tmp_path / "together", "CuKa")
    monkeypatch.setattr(assess_scans, "BATCH", 2)
    apart = FakeModel()
    refine_scans(apart, [str(scans)], tmp_path / "apart", "CuKa")
    assert (together.batches, apart.batches) == ([6], [2, 2, 2])
    written = [path for path in (tmp_path / "together").iterdir() if path.suffix in (".xy", ".csv")]
    assert len(written) > 2 * 6  # two curves of each scan, and the tables
    for path in written:
        assert path.read_bytes() == (tmp_path / "apart" / path.name).read_bytes(), path.name


def test_ctrl_c_keeps_what_was_finished(scans, tmp_path, monkeypatch):
    (scans / "later.xy").write_text(scan_text())
    monkeypatch.setattr(assess_scans, "BATCH", 1)
    model = FakeModel()
    assess = model.assess

    def interrupted(raw, mask):
        if model.batches:
            raise KeyboardInterrupt
        return assess(raw, mask)

    monkeypatch.setattr(model, "assess", interrupted)
    assert refine_scans(model, [str(scans)], tmp_path / "out", "CuKa") == 130
    assert list(summary(tmp_path / "out")) == ["good"]
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [entry["name"] for entry in results["results"]] == ["good"]


# --- which files ------------------------------------------------------------------------------


def test_a_folder_without_patterns_is_a_failed_input(tmp_path):
    (tmp_path / "empty").mkdir()
    assert refine_scans(FakeModel(), [str(tmp_path / "empty")], tmp_path / "out", "CuKa") == 1
    assert "looks like a pattern" in summary(tmp_path / "out")["empty"]["error"]


def test_names_are_unique_and_fit_for_files():
    names = Names()
    given = [
        "a",
        "a",
        "a-2",
        "A",
        "../../etc/passwd",
        "b\n<i>",
        "",
        ".hidden",
        "x" * 300,
        "naïve 1",
    ]
    made = [names(name) for name in given]
    assert made[:3] == ["a", "a-2", "a-2-2"] and made[3] == "A-3"
    assert made[4:8] == ["etc_passwd", "b_i", "scan", "hidden"]
    assert len(made[8]) == 60 and made[9] == "naïve_1"
    assert len({name.casefold() for name in made}) == len(given)
    assert not any(set(name) & set("/\\<>\n \0") for name in made)


def test_exit_status_and_duration():
    assert [exit_status(*pair) for pair in ((2, 0), (1, 1), (0, 2), (0, 0))] == [0, 3, 1, 1]
    assert [duration(s) for s in (8.4, 600, 36000)] == ["8 s", "10 min", "10.0 h"]


def test_the_fake_model_cuts_where_it_says():
    raw = np.full((1, 1000, 1), 0.5 * CUT, np.float32)
    raw[0, 14] = 1
    answer = FakeModel().assess(raw, np.ones((1, 1000), bool))
    assert np.flatnonzero(answer.refined).tolist() == [14] and answer.probabilities.argmax() == 0
