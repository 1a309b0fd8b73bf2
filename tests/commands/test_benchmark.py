import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
from fake_model import SYSTEMS, FakeModel

from imitation_refinement.commands.benchmark import compare, place, run_benchmark
from imitation_refinement.commands.benchmark_scores import (
    Answers,
    Compared,
    balanced_accuracy,
    quality_of,
    score,
)
from imitation_refinement.errors import UserError
from imitation_refinement.evaluation.calibration import softmax_at
from imitation_refinement.model.acceptance import Calibration
from imitation_refinement.xrd.grid import Grid, grid_q, two_theta_from_q
from imitation_refinement.xrd.manifest import read_manifest

NAMES = ("a", "b", "c")
CUBIC = """data_x
_cell_length_a 5.64
_cell_length_b 5.64
_cell_length_c 5.64
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'F m -3 m'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Na Na 0 0 0
Cl Cl 0.5 0.5 0.5
"""


def answers():
    """Six patterns in three groups; logits of the truth are 2 where right, else of the next."""
    labels = np.array([0, 0, 0, 0, 1, 2])
    raw = np.array([0, 1, 1, 1, 1, 0])
    refined = np.array([0, 0, 0, 1, 1, 0])
    probabilities = {}
    for kind, found in (("raw", raw), ("refined", refined)):
        logits = 2.0 * np.eye(3)[found] + 1.0 * np.eye(3)[labels]
        probabilities[kind] = softmax_at(logits, 1.0)
    return Answers(
        labels,
        np.array(["x", "x", "y", "y", "z", "z"]),
        np.array(["here", "here", "here", "there", "there", "there"]),
        probabilities,
        {kind: softmax_at(np.log(p), 0.5) for kind, p in probabilities.items()},
        np.array(["confident", "confident", "ambiguous", "confident", "ambiguous", "confident"]),
    )


def test_accuracies_by_hand():
    found = score(answers(), None, NAMES, resamples=50)
    overall = found["overall"]
    assert overall["raw"]["top1"]["value"] == pytest.approx(2 / 6)
    assert overall["refined"]["top1"]["value"] == pytest.approx(4 / 6)
    assert overall["gain"]["value"] == pytest.approx(2 / 6)
    assert overall["refined"]["top2"]["value"] == 1.0  # the truth always has the second logit
    # Recall of a: 3/4, of b: 1, of c: 0.
    assert overall["refined"]["balanced"]["value"] == pytest.approx((0.75 + 1.0 + 0.0) / 3)
    assert overall["refined"]["balanced"]["low"] is None  # three groups: no interval
    assert found["by_source"]["here"]["refined"]["top1"]["value"] == 1.0
    assert found["by_class"]["a"]["patterns"] == 4
    assert found["confusion"]["refined"] == [[3, 1, 0], [0, 1, 0], [1, 0, 0]]
    json.dumps(found)


def test_verdicts_and_risk_by_hand():
    found = score(answers(), None, NAMES, resamples=50)
    sure = found["verdicts"]["confident"]
    assert sure["patterns"] == 4 and sure["share"]["value"] == pytest.approx(4 / 6)
    assert sure["accuracy"]["value"] == pytest.approx(2 / 4)
    assert found["verdicts"]["not recognised"]["accuracy"]["value"] is None
    # Right answers have the higher confidence here, so the surest half are all right.
    curve = found["risk_coverage"]["refined"]
    assert curve["accuracy_at"]["0.5"] == 1.0
    assert curve["accuracy_at"]["1.0"] == pytest.approx(4 / 6)
    assert curve["coverage"] == pytest.approx([4 / 6, 1.0])


def test_calibration_is_measured_before_and_after():
    given = answers()
    found = score(given, None, NAMES, resamples=50)["calibration"]["refined"]
    confidence = given.probabilities["refined"].max(axis=1)
    assert found["after"]["mean_confidence"] == pytest.approx(confidence.mean())
    right, wrong = np.exp(3) / (np.exp(3) + 2), np.exp(2) / (np.exp(2) + np.exp(1) + 1)
    error = (4 * (1 - right) + 2 * wrong) / 6
    assert found["after"]["calibration_error"]["value"] == pytest.approx(error)
    assert found["before"]["mean_confidence"] > found["after"]["mean_confidence"]
    bins = found["after"]["reliability"]
    assert bins["accuracy"] == [0.0, 1.0] and bins["patterns"] == [2, 4]


def test_balanced_accuracy_weighs_classes_equally():
    labels, correct = np.array([0] * 98 + [1, 1]), np.array([1.0] * 98 + [0.0, 1.0])
    assert balanced_accuracy(labels, correct) == pytest.approx(0.75)


def test_quality_counts_the_measured_range_only():
    given = answers()
    x = np.arange(100)
    truth = np.exp(-0.5 * ((x - 30) / 2) ** 2)[None] + np.exp(-0.5 * ((x - 80) / 2) ** 2)[None]
    mask = (x < 60)[None]
    raw = np.where(mask, truth + 0.5 * np.exp(-0.5 * ((x - 50) / 2) ** 2), 0.0)
    masked = truth * mask
    compared = Compared(np.array([2]), raw, masked, masked, mask)
    found = score(given, quality_of(compared), NAMES, resamples=50)["quality"]
    assert found["distances"]["l1"]["refined"]["value"] == 0.0
    added = 0.5 * np.exp(-0.5 * ((x[:60] - 50) / 2) ** 2).sum()
    assert found["distances"]["l1"]["raw"]["value"] == pytest.approx(added)
    assert found["distances"]["ncc"]["refined"]["value"] == pytest.approx(1.0)
    assert found["distances"]["l1"]["improved"] == 1.0
    counts = found["peaks"]["counts"]
    assert (counts["truth"], counts["spurious_raw"], counts["spurious_refined"]) == (1, 1, 0)
    assert counts["invented"] == counts["lost"] == 0


class Calibrated(FakeModel):
    calibration = Calibration(2.0, 2.0, None, {}, None, {})  # type: ignore[arg-type]


def write_scan(path: Path, center: float = 3.0, noise: bool = False) -> None:
    """A scan whose strongest peak lies at q = center; or noise alone."""
    rng = np.random.default_rng(5)
    two_theta = np.arange(16.0, 92.0, 0.03)
    q = 4 * np.pi / 1.54184 * np.sin(np.deg2rad(two_theta / 2))
    signal = (0 if noise else 4000) * np.exp(-0.5 * ((q - center) / 0.01) ** 2)
    counts = rng.poisson(100 + signal)
    np.savetxt(path, np.column_stack([two_theta, counts]), fmt="%.3f")


@pytest.fixture
def manifest(tmp_path):
    write_scan(tmp_path / "a.xy")
    write_scan(tmp_path / "noise.xy", noise=True)
    (tmp_path / "bad.xy").write_text("nothing\n")
    (tmp_path / "a.cif").write_text(CUBIC)
    path = tmp_path / "manifest.csv"
    path.write_text(
        "file,source,sample,kind,crystal_system,wavelength_A,cif\n"
        "a.xy,<lab>,one & only,labelled,cubic,1.54184,a.cif\n"
        "a.xy,<lab>,again,labelled,trigonal,1.54184,missing.cif\n"
        "noise.xy,<lab>,noise,labelled,cubic,1.54184,\n"
        "bad.xy,other,broken,labelled,cubic,1.54184,\n"
        "a.xy,other,mix,mixture,,1.54184,\n"
    )
    return path


def test_the_whole_command(manifest, tmp_path):
    out = tmp_path / "out"
    model = Calibrated()
    assert run_benchmark(model, manifest, out) == 3  # one file could not be read
    results = json.loads((out / "benchmark.json").read_text())
    assert results["patterns"] == 3
    assert results["left_out"] == {"mixture": 1}
    assert len(results["unreadable"]) == 1 and "bad.xy" in results["unreadable"][0]
    assert len(results["not_compared"]) == 1 and "missing.cif" in results["not_compared"][0]
    assert results["quality"]["patterns"] == 1
    assert results["verdicts"]["not recognised"]["patterns"] == 1  # the noise
    with open(out / "patterns.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    place = int(np.argmin(np.abs(grid_q(model.grid) - 3.0)))
    near = {SYSTEMS[(place + shift) % 7] for shift in (-1, 0, 1)}
    assert rows[0]["sample"] == "one & only" and rows[0]["refined_system"] in near
    assert [row["verdict"] for row in rows] == ["confident", "confident", "not recognised"]
    page = (out / "benchmark.html").read_text()
    assert "&lt;lab&gt;" in page and "<lab>" not in page and "fake model &lt;1&gt;" in page
    assert "http" not in page.replace("http-equiv", "")  # loads nothing from elsewhere
    assert page.count("data:image/png;base64,") == 4


def test_a_bad_line_never_ends_it_and_every_line_is_accounted_for(manifest, tmp_path, monkeypatch):
    lines = manifest.read_text() + "a.xy,other,green,labelled,cubic,green,\n"
    lines += "b.xy,other,blue,labelled,blue,1.54184,\n,other,empty,labelled,cubic,1.54184,\n"
    manifest.write_text(lines)
    from imitation_refinement.commands import benchmark

    read = benchmark.read_entry

    def broken(entry):
        if entry.sample == "again":
            raise ZeroDivisionError("by zero")
        return read(entry)

    monkeypatch.setattr(benchmark, "read_entry", broken)
    out = tmp_path / "out"
    assert run_benchmark(Calibrated(), manifest, out) == 3
    results = json.loads((out / "benchmark.json").read_text())
    assert results["patterns"] == 2
    told = results["unreadable"]
    assert len(told) == 5
    for number, word in (
        (7, "wavelength_A 'green'"), (8, "crystal_system 'blue'"), (9, "no file"),
        (3, "ZeroDivisionError (by zero); please report"), (5, "bad.xy"),
    ):  # fmt: skip
        (line,) = [line for line in told if line.startswith(f"{manifest}:{number}: ")]
        assert word in line
    assert results["lines_left_out"] == [f"{manifest}:6: mix: kind mixture"]
    page = (out / "benchmark.html").read_text()
    assert "mix: kind mixture" in page and "ZeroDivisionError" in page


def test_a_manifest_without_labels_is_refused(tmp_path):
    path = tmp_path / "manifest.csv"
    path.write_text("file,kind\na.xy,unlabelled\n")
    with pytest.raises(UserError, match="no pattern has kind"):
        run_benchmark(Calibrated(), path, tmp_path / "out")


def test_nothing_readable_is_failure(tmp_path):
    path = tmp_path / "manifest.csv"
    path.write_text("file,crystal_system,wavelength_A\nmissing.xy,cubic,1.54\n")
    assert run_benchmark(Calibrated(), path, tmp_path / "out") == 1
    results = json.loads((tmp_path / "out" / "benchmark.json").read_text())
    assert len(results["unreadable"]) == 1 and "missing.xy" in results["unreadable"][0]


def test_a_simulated_scan_of_a_crystal_compares_well(tmp_path):
    # The pattern of rock salt, made by hand: lines of a face-centred lattice of a = 5.64.
    grid = Grid(length=1000)
    q = grid_q(grid)
    two_theta = two_theta_from_q(q, 1.54184)
    counts = np.zeros_like(q)
    lines = {
        (2, 0, 0): 100,
        (2, 2, 0): 60,
        (2, 2, 2): 18,
        (4, 0, 0): 8,
        (4, 2, 0): 15,
        (1, 1, 1): 9,
    }
    for hkl, height in lines.items():
        line = 2 * np.pi / 5.64 * np.linalg.norm(hkl)
        counts += height * np.exp(-0.5 * ((q - line) / 0.009) ** 2)
    np.savetxt(tmp_path / "a.xy", np.column_stack([two_theta, 50 * counts]))
    (tmp_path / "a.cif").write_text(CUBIC)
    path = tmp_path / "manifest.csv"
    path.write_text("file,crystal_system,wavelength_A,cif\na.xy,cubic,1.54184,a.cif\n")
    placed = place(read_manifest(path), grid)
    compared, troubles = compare(placed, placed.pattern, grid)
    assert not troubles and compared is not None
    assert np.corrcoef(compared.truth[0], compared.raw[0])[0, 1] > 0.93


@pytest.mark.slow
def test_measured_patterns_pass():
    folder = os.environ.get("IMITATION_REFINEMENT_DATA")
    if not folder:
        pytest.skip("IMITATION_REFINEMENT_DATA names no folder with measured patterns")
    entries = read_manifest(Path(folder) / "xrd_experimental" / "manifest.csv")
    labelled = [entry for entry in entries if entry.kind == "labelled"][::10]
    assert not place(labelled, Grid()).failures
