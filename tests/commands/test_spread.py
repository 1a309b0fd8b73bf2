"""Compositions of a spread: matched by name, or in a natural order that is told."""

import csv
import json

import numpy as np
import pytest
from fake_model import FakeModel
from scan_case_files import ANGLE, FACE_CENTRED, F, counts, xy

from imitation_refinement.commands.spread import read_spread
from imitation_refinement.commands.unmix_library import run_unmix
from imitation_refinement.errors import UserError
from imitation_refinement.xrd.grid import Grid

GRID = Grid()


@pytest.fixture
def three(tmp_path):
    """scan_1, scan_2 and scan_10, whose strongest line is 1, 2 and 10 times as high."""
    for number in (1, 2, 10):
        (tmp_path / f"scan_{number}.xy").write_text(xy(number * F))
    return tmp_path


def test_lines_without_names_go_to_scans_in_natural_order_which_is_told(three):
    (three / "composition.csv").write_text("Fe,Ni\n0.1,0.9\n0.2,0.8\n1.0,0.0\n")
    spread = read_spread([str(three)], GRID, "CuKa")
    assert spread.names == ["scan_1", "scan_2", "scan_10"]
    assert spread.composition[:, 0].tolist() == [0.1, 0.2, 1.0] and spread.elements == ["Fe", "Ni"]
    (note,) = spread.notes
    assert "were given to scan_1, scan_2, scan_10 in this order" in note
    assert spread.failures == [] and spread.left_out == []
    # Named by a glob it is the same.
    again = read_spread([f"{three}/*.xy"], GRID, "CuKa")
    assert again.names == spread.names
    np.testing.assert_array_equal(again.composition, spread.composition)


@pytest.mark.parametrize("head", ["file", "Sample", " name "])
@pytest.mark.parametrize("ending", ["", ".xy"])
def test_lines_with_names_go_to_their_scans_whatever_the_order(three, head, ending):
    (three / "composition.csv").write_text(
        f"{head},Fe,Ni\nscan_10{ending},1.0,0\nscan_2{ending},0.2,0.8\n\nscan_1{ending},0.1,0.9\n"
    )
    spread = read_spread([str(three)], GRID, "CuKa")
    assert spread.composition[:, 0].tolist() == [0.1, 0.2, 1.0] and spread.notes == []


def test_a_scan_without_a_line_fails_alone_and_a_line_without_a_scan_is_noted(three):
    (three / "composition.csv").write_text("file,Fe\nscan_10,1.0\nscan_7,0.7\nscan_2,0.2\n")
    spread = read_spread([str(three)], GRID, "CuKa")
    assert spread.names == ["scan_2", "scan_10"]
    assert spread.composition[:, 0].tolist() == [0.2, 1.0]
    assert spread.failures == [f"{three}/scan_1.xy: composition.csv has no line for scan_1"]
    assert "lines that name no pattern: 1 (first: scan_7)" in spread.notes[0]
    (three / "composition.csv").write_text("file,Fe\na,1.0\nb,0.7\n")
    with pytest.raises(UserError, match="no line for scan_1, nor for any other"):
        read_spread([str(three)], GRID, "CuKa")
    (three / "composition.csv").write_text("file,Fe\nscan_1,1.0\nscan_1,0.7\n")
    with pytest.raises(UserError, match="two lines for scan_1"):
        read_spread([str(three)], GRID, "CuKa")


def test_what_does_not_fit_is_refused(three):
    (three / "composition.csv").write_text("Fe\n1.0\n0.7\n")
    with pytest.raises(UserError, match="2 lines of numbers for 3 patterns; say in a first"):
        read_spread([str(three)], GRID, "CuKa")
    (three / "composition.csv").write_text("Fe,Ni\n1.0\n0.7\n")
    with pytest.raises(UserError, match="2 names above lines"):
        read_spread([str(three)], GRID, "CuKa")
    (three / "composition.csv").write_text("Fe,Ni\nmuch,0.1\n")
    with pytest.raises(UserError, match="not a line of names"):
        read_spread([str(three)], GRID, "CuKa")


def test_what_is_left_out_of_a_folder_is_told(three):
    (three / "notes.md").write_text("x")
    (three / "plain").write_text("no pattern")
    (three / "scan_3.xy").write_text("# TOF(ms) I\n")
    spread = read_spread([str(three)], GRID, "CuKa")
    assert {path.name for path, _ in spread.left_out} == {"notes.md", "plain"}
    (failure,) = spread.failures
    assert "scan_3.xy" in failure and len(spread.names) == 3


def test_an_option_that_every_file_contradicts_is_told(three):
    for path in three.glob("*.xy"):
        path.write_text("# wavelength 1.5406\n" + path.read_text())
    spread = read_spread([str(three)], GRID, "1.5406")
    assert spread.notes == ["--wavelength had no effect: every file states its own"]
    assert spread.wavelength == 1.5406


def test_one_bad_row_is_left_out_and_the_others_keep_their_compositions(tmp_path, one_bad_row):
    out = tmp_path / "out"
    assert run_unmix(FakeModel(GRID), [str(one_bad_row)], out, None, 2) == 3
    results = json.loads((out / "unmix.json").read_text())
    assert results["patterns"] == 5
    (left,) = results["left_out"]
    assert "(row2)" in left and "only 0 points have a count" in left
    with open(out / "activations.csv", newline="") as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    assert "bad_row_row2" not in rows
    assert (float(rows["bad_row_row3"]["Ce"]), float(rows["bad_row_row3"]["Zr"])) == (0.4, 0.6)
    assert "row2" in (out / "unmix.html").read_text()


@pytest.fixture
def one_bad_row(tmp_path):
    matrix = np.stack([counts(ANGLE, FACE_CENTRED, top=1800 + 100 * row) for row in range(6)])
    matrix[2] = np.nan
    ce = np.array([1.0, 0.8, 0.6, 0.4, 0.2, 0.0])
    path = tmp_path / "bad_row.npz"
    np.savez(
        path, two_theta=ANGLE, intensity=matrix, wavelength=1.54184,
        composition_ce_zr=np.column_stack([ce, 1 - ce]),
    )  # fmt: skip
    return path
