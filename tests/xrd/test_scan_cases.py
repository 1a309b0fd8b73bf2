"""Awkward files of every kind: the right value or one error that names file and cause."""

import os
from pathlib import Path

import numpy as np
import pytest
from scan_case_files import (
    ANGLE,
    CASES,
    FACE_CENTRED,
    PAN,
    PRIMITIVE,
    F,
    at,
    changed,
    counts,
    rows,
    strongest,
    xy,
)
from scipy.signal import find_peaks

from imitation_refinement.errors import UserError
from imitation_refinement.xrd.formats import read_patterns, read_records
from imitation_refinement.xrd.grid import Grid, grid_q, two_theta_from_q
from imitation_refinement.xrd.scans import Scan, on_grid

GRID = Grid()


def read(folder: Path, name: str, content: str | bytes, wavelength=None) -> list[Scan]:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_patterns(path, wavelength)


def peaks(scan: Scan) -> np.ndarray:
    """Returns the angles of the peaks of a scan on the grid, the strongest first."""
    placed = on_grid(scan, GRID)
    assert not placed.signal
    found, _ = find_peaks(placed.pattern, height=0.04, distance=12)
    found = found[np.argsort(-placed.pattern[found])]
    q = grid_q(GRID)[found]
    return two_theta_from_q(q, scan.wavelength)


def check(scan: Scan, lines, most=5) -> None:
    expected = strongest(lines, scan.wavelength, scan.two_theta[0] + 0.7, 88, most)
    found = peaks(scan)
    for angle in expected:
        assert np.min(np.abs(found[: most + 3] - angle)) < 0.15, (angle, found)
    assert abs(found[0] - expected[0]) < 0.15


@pytest.mark.parametrize("name", CASES)
def test_the_right_pattern_or_one_line_that_says_why_not(tmp_path, name):
    content, option, expected = CASES[name]
    if isinstance(expected, str):
        with pytest.raises(UserError, match=expected) as caught:
            read(tmp_path, name, content, option)
        assert str(caught.value).startswith(str(tmp_path / name))
        assert "\n" not in str(caught.value)
        return
    scans = read(tmp_path, name, content, option)
    assert [scan.name for scan in scans] == [f"{Path(name).stem}{end}" for end, _ in expected]
    for scan, (_, lines) in zip(scans, expected, strict=True):
        check(scan, lines)
        assert scan.wavelength_source == ("file" if option is None else "option")


def test_one_rule_for_both_k_alpha_lines(tmp_path):
    # (1.540598 + 0.5 * 1.544426) / 1.5
    (scan,) = read(tmp_path, "a.csv", CASES["panalytical.csv"][0])
    assert scan.wavelength == pytest.approx(1.541874, abs=1e-6)
    assert scan.k_alpha2 == "present"
    for name in ("listed.udf", "counts.uxd"):  # (1.5406 + 0.5 * 1.54439) / 1.5
        (scan,) = read(tmp_path, name, CASES[name][0])
        assert scan.wavelength == pytest.approx(1.541863, abs=1e-6)


def test_undone_scales_give_the_ratios_of_the_counts(tmp_path):
    for name in ("log10.csv", "root.csv"):
        (scan,) = read(tmp_path, name, CASES[name][0], "CuKa")
        np.testing.assert_allclose(scan.counts, F, rtol=1e-3)
        assert any("undone" in note for note in scan.notes)


def test_a_variable_slit_is_brought_to_a_fixed_one_if_its_length_is_said(tmp_path):
    slit = "Divergence slit,Automatic\nIrradiated length (mm),10.00"
    data = PAN.format("Gonio", slit) + rows("{:.3f},{:.0f}", ANGLE, F)
    (scan,) = read(tmp_path, "a.csv", data)
    top = int(np.argmax(F))
    expected = F * np.sin(np.deg2rad(ANGLE[top] / 2)) / np.sin(np.deg2rad(ANGLE / 2))
    np.testing.assert_allclose(scan.counts, expected, rtol=1e-9)
    assert any("divided by sin theta" in note for note in scan.notes)
    (scan,) = read(tmp_path, "a.csv", data.replace("Irradiated length (mm),10.00", ""))
    np.testing.assert_array_equal(scan.counts, F)
    assert any("not brought to a fixed one" in note for note in scan.notes)


# --- points that are no measurements -------------------------------------------------------------


@pytest.mark.parametrize("value", [0, -1, -2, 65535, 2**31 - 1, 2**32 - 1, 2**32 - 2, "nan"])
def test_a_gap_of_the_detector_is_not_measured(tmp_path, value):
    number = np.nan if value == "nan" else value
    (scan,) = read(tmp_path, "a.xy", xy(changed(F, gap=(number, [(45.0, 49.95)]))), "CuKa")
    assert any(note.startswith("45.00 to 49.95 degrees not measured") for note in scan.notes)
    assert scan.unmeasured == ((45.0, 49.95),)
    placed = on_grid(scan, GRID)
    angle = two_theta_from_q(grid_q(GRID), scan.wavelength)
    inside = (angle > 44.96) & (angle < 49.99)
    assert not placed.mask[inside].any() and not placed.pattern[inside].any()
    assert placed.mask[~inside & (angle > 15.1) & (angle < 94)].all()
    lines = [(d, h) for d, h in FACE_CENTRED if h != 55]  # 47.52 lies in the gap
    check(scan, lines)
    near = (angle > 43.5) & (angle < 51.5)
    assert placed.pattern[near].max() < 0.02


def test_hot_points_are_dropped_and_named(tmp_path):
    hot = changed(F, a=(25000, at(25.5)), b=(18000, at(45.0)), c=(30000, at(61.0)))
    (scan,) = read(tmp_path, "a.xy", xy(hot), "CuKa")
    check(scan, FACE_CENTRED)
    assert scan.notes == (
        "3 hot points dropped, narrower than any peak, at 25.50, 45.00, 61.00 degrees",
    )


def test_dead_points_on_top_of_peaks_are_dropped_and_leave_one_peak(tmp_path):
    tops = [round(float(t) / 0.05) * 0.05 for t in strongest(FACE_CENTRED, most=3)]
    (scan,) = read(tmp_path, "a.xy", xy(changed(F, dead=(0, at(*tops)))), "CuKa")
    assert any(note.startswith("3 dead points dropped") for note in scan.notes)
    placed = on_grid(scan, GRID)
    angle = two_theta_from_q(grid_q(GRID), scan.wavelength)
    for top in tops:
        near = placed.pattern[np.abs(angle - top) < 0.6]
        assert len(find_peaks(near, height=0.15 * near.max())[0]) == 1


def test_saturated_tops_are_noted(tmp_path):
    (scan,) = read(tmp_path, "a.xy", xy(np.minimum(60 * F, 65535)), "CuKa")
    check(scan, FACE_CENTRED[:1])
    (note,) = scan.notes
    assert "stand at the limit of 65535" in note and "too small" in note


def test_a_variable_step_is_measured_throughout(tmp_path):
    fine, coarse = np.arange(25, 40, 0.01), np.arange(40, 95, 0.12)
    angle = np.concatenate([np.arange(15, 25, 0.12), fine, coarse])
    text = rows("{:.3f} {:.0f}", angle, counts(angle, FACE_CENTRED))
    (scan,) = read(tmp_path, "a.xy", text, "CuKa")
    check(scan, FACE_CENTRED)
    assert on_grid(scan, GRID).mask[10:-40].all()


def test_one_bad_row_fails_alone_and_the_others_keep_their_places(tmp_path):
    path = tmp_path / "a.npz"
    matrix = np.stack([F, np.full(len(F), np.nan), F])
    np.savez(path, two_theta=ANGLE, patterns=matrix, wavelength=1.54184)
    records = read_records(path, None)
    assert [record.name for record in records] == ["a_row0", "a_row1", "a_row2"]
    assert [record.scan is None for record in records] == [False, True, False]
    assert "a.npz (row1): only 0 points have a count" in records[1].reason
    assert not records[1].by_design


def test_scans_over_another_axis_are_left_out_by_design(tmp_path):
    content, *_ = CASES["two-ranges.uxd"]
    path = tmp_path / "a.uxd"
    path.write_text(content.replace("COUPLED", "OMEGA", 1))
    first, second = read_records(path, None)
    assert first.by_design and "range1" in first.reason and second.scan is not None


# --- the files that are handed round ---------------------------------------------------------

P_AT, F_AT = [21.15, 30.09, 43.08], [28.57, 47.52, 56.39]
SHARED: dict[str, list[list[float]] | str] = {
    "01-pyfai-wavelength-in-metres.dat": [[5.65, 7.99, 11.31]],
    "02-fit2d-q-inverse-nm.chi": [[21.17, 30.11, 43.12]],
    "04-two-scans.ras": [P_AT, [19.30, 27.40, 39.10]],
    "07-fullprof-ins0-low-counts.dat": [P_AT],
    "07-fullprof-ins0-normalised.dat": [P_AT],
    "08-philips.udf": [P_AT],
    "08-philips-normalised.udf": [P_AT],
    "09-rigaku-old.asc": [P_AT],
    "10-counts-per-line.uxd": [P_AT],
    "10-cps-per-line.uxd": [P_AT],
    "11-two-ranges.uxd": [P_AT, [19.30, 27.40, 39.10]],
    "12-jcamp.dx": [P_AT],
    "13-paired-columns.csv": [P_AT, P_AT],
    "15-panalytical.csv": [P_AT],
    "15-same-as.xrdml": [P_AT],
    "17-variable-slit.xrdml": [P_AT],
    "18-hall-symbol-only.cif": "crystal structure",
    "19-thousands.txt": [P_AT],
    "20-lambda-detector.xy": [P_AT],
    "22-pdcif-no-angle-column.cif": [P_AT],
    "27-momentum-transfer-axis.csv": [[21.17, 30.11, 43.12]],
    "40-file-names/α-oxide.xy": [F_AT],
    "40-file-names/試料 1.xy": [F_AT],
    "41-detector-gap-zeros.xy": [[28.57, 56.39, 33.11]],
    "41-detector-gap-minus-one.xy": [[28.57, 56.39, 33.11]],
    "41-detector-gap-uint32-max.xy": [[28.57, 56.39, 33.11]],
    "42-three-spikes.xy": [F_AT],
    "42-dropped-points.xy": [F_AT],
    "43-mineral-columns.csv": [[28.57], [29.20], [29.77]],
    "43-oxide-columns.csv": [[28.57], [29.20], [29.77]],
    "43-time-columns.csv": [[28.57], [29.20], [29.77]],
    "44-names-then-units-q.csv": [F_AT],
    "44-names-units-comment-d.txt": [F_AT],
    "45-fit-columns.txt": [F_AT],
    "46-variable-step.xy": [[*F_AT, 59.14, 69.48, 79.15]],
    "47-log10-intensity.csv": [F_AT],
    "47-square-root.csv": [F_AT],
    "48-reflection-list.csv": "list of peaks",
    "48-reflection-list.txt": "list of peaks",
    "49-decimal-comma-comma.csv": "decimal comma",
    "50-index-first.dat": [[28.57, 47.52, 33.11]],
    "51-matrix-falling-angles.csv": [F_AT] * 4,
    "52-saturated.xy": [F_AT],
    "53-one-bad-row.npz": [F_AT] * 5,
    "54-mixed-folder/b.xy.gz": [F_AT],
    "54-mixed-folder/c.zip": [F_AT],
    "54-mixed-folder/d.prn": [F_AT],
    "54-mixed-folder/no-suffix": [F_AT],
    "56-nearly-cubic.xy": [[44.21, 44.83]],
    "58-time-of-flight.dat": "time of flight",
    "58-pair-distribution.gr": "real space",
    "59-radians.dat": [F_AT],
}


@pytest.mark.parametrize("name", SHARED)
def test_the_shared_cases(name):
    folder = os.environ.get("IMITATION_REFINEMENT_DATA")
    if not folder or not (Path(folder) / "scan_cases").is_dir():
        pytest.skip("IMITATION_REFINEMENT_DATA does not name a folder with scan_cases")
    path, expected = Path(folder) / "scan_cases" / name, SHARED[name]
    if isinstance(expected, str):
        with pytest.raises(UserError, match=expected):
            read_patterns(path, "CuKa")
        return
    try:
        scans = read_patterns(path, None)
    except UserError as error:
        assert "states no wavelength" in str(error)
        scans = read_patterns(path, "CuKa")
    assert len(scans) == len(expected)
    for scan, angles in zip(scans, expected, strict=True):
        found = peaks(scan)
        for angle in angles:
            assert np.min(np.abs(found - angle)) < 0.15, (scan.name, angle, found)


def test_the_shared_spreadsheet_is_the_same_scan():
    pytest.importorskip("python_calamine")
    folder = os.environ.get("IMITATION_REFINEMENT_DATA")
    if not folder or not (Path(folder) / "scan_cases").is_dir():
        pytest.skip("IMITATION_REFINEMENT_DATA does not name a folder with scan_cases")
    mixed = Path(folder) / "scan_cases" / "54-mixed-folder"
    (sheet,), (text,) = (
        read_patterns(mixed / name, w) for name, w in (("g.xlsx", 1.54184), ("a.xy", None))
    )  # noqa: E501
    np.testing.assert_allclose(sheet.two_theta, text.two_theta)
    np.testing.assert_array_equal(sheet.counts, text.counts)
    assert PRIMITIVE and sheet.wavelength_source == "option"
