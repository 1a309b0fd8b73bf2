"""Text files with columns: separators, decimals, headers, names of columns, encodings."""

from pathlib import Path

import numpy as np
import pytest

from imitation_refinement.errors import UserError
from imitation_refinement.xrd.formats import read_patterns, read_scan
from imitation_refinement.xrd.formats.headers import read_header

ANGLES = np.arange(20.0, 24.0, 0.1)
COUNTS = np.round(100 + 50 * np.sin(ANGLES))


def write(folder: Path, text: str | bytes, name: str = "scan.xy") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def table(form: str) -> str:
    return "".join(form.format(t, int(c)) for t, c in zip(ANGLES, COUNTS, strict=True))


def check(scan, factor=1.0):
    np.testing.assert_allclose(scan.two_theta, ANGLES, rtol=0, atol=1e-6)
    np.testing.assert_allclose(scan.counts, factor * COUNTS)


@pytest.mark.parametrize(
    "form",
    [
        "{:.2f} {}\n",
        "  {:.2f}\t{}  \r\n",
        "{:.2f},{}\n",
        "{:.2f}, {}\n",
        "{:.2f} , {}\n",
        "{:.2f},{},\n",
        "{:.2f};{}\n",
        "{:.2f} ; {} ;\n",
        "{:.2e} {}.0e0\n",
        "{:.2f} {} 12.5\n",
        "\n{:.2f} {}\n",
    ],
)
def test_separators(tmp_path, form):
    angles = ANGLES if "e" not in form else np.array([float(f"{t:.2e}") for t in ANGLES])
    scan = read_scan(write(tmp_path, table(form)), "CuKa")
    np.testing.assert_allclose(scan.two_theta, angles, rtol=0, atol=1e-9)
    np.testing.assert_array_equal(scan.counts, COUNTS)
    assert (scan.name, scan.wavelength) == ("scan", 1.54184)


@pytest.mark.parametrize("form", ["{:.2f};{}\n", "{:.2f}\t{},0\n", "{:.2f}  {}\n", "{:.2f}, {}\n"])
def test_decimal_commas(tmp_path, form):
    text = "".join(
        form.format(t, int(c)).replace(".", ",") for t, c in zip(ANGLES, COUNTS, strict=True)
    )
    scan = read_scan(write(tmp_path, text), "CuKa")
    np.testing.assert_allclose(scan.two_theta, ANGLES, rtol=0, atol=1e-9)
    np.testing.assert_array_equal(scan.counts, COUNTS)


def test_ambiguous_decimal_commas_are_refused(tmp_path):
    # "20,05,123": 20.05 and 123, or 20 and 05? Taking the second would be silently wrong.
    text = table("{:.2f} {}\n").replace(".", ",").replace(" ", ",")
    with pytest.raises(UserError, match="decimals with a point"):
        read_scan(write(tmp_path, text), "CuKa")


def test_headers_comments_and_broken_lines(tmp_path):
    lines = table("{:.2f} {}\n").splitlines()
    lines[5:5] = ["", "# a comment", "21.0", "detector moved"]
    text = '"2theta" "counts"\n2020-05-17 CuKa 40 kV\n20.0 0.1 24.0\n' + "\n".join(lines)
    scan = read_scan(write(tmp_path, text), "CuKa")
    np.testing.assert_allclose(scan.two_theta, ANGLES, rtol=0, atol=1e-9)
    assert scan.notes == ("2 unreadable lines skipped (first: line 11)",)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_encodings(tmp_path, encoding):
    text = "Winkel in °\n" + table("{:.2f} {}\n")
    scan = read_scan(write(tmp_path, text.encode(encoding)), "CuKa")
    np.testing.assert_array_equal(scan.counts, COUNTS)


def test_points_are_averaged_and_cleaned_and_never_sorted(tmp_path):
    rows = [f"{t:.2f} {int(c)}" for t, c in zip(ANGLES, COUNTS, strict=True)]
    rows[7:8] = [rows[7], f"{ANGLES[7]:.2f} {int(COUNTS[7]) + 30}"]
    rows[3] = "20.30 nan"
    rows = ["-0.10 3", *rows, "nan 5"]
    expected = COUNTS.copy()
    expected[7] += 15
    for order in (1, -1):
        scan = read_scan(write(tmp_path, "\n".join(rows[::order])), "CuKa")
        kept = np.arange(len(ANGLES)) != 3
        np.testing.assert_allclose(scan.two_theta, ANGLES[kept], rtol=0, atol=1e-9)
        np.testing.assert_allclose(scan.counts, expected[kept])
        assert scan.notes == (
            "1 points that are not numbers dropped",
            "1 points at or below 0 degrees dropped",
            "1 repeated angles averaged",
            "1 points that are not numbers dropped",
        )
    mixed = np.random.default_rng(0).permutation(len(rows))
    with pytest.raises(UserError, match="neither rise nor fall"):
        read_scan(write(tmp_path, "\n".join(rows[i] for i in mixed)), "CuKa")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "empty"),
        ("title\n" * 50, "0 lines with two numbers"),
        ("20 5\n21 6\n", "2 lines with two numbers, at least 20"),
        (b"\x01\0\0\0\xff" * 30, "binary"),
        ("\n".join(f"{t} 5\nnoise" for t in range(20, 60)), "lines among the data"),
        ("\n".join(f"{609 + t} 612" for t in range(40)), "648 in the first column"),
        ("\n".join(f"{t} -4" for t in range(20, 60)), "no count above zero"),
        ("\n".join(f"{-t} 4" for t in range(20, 60)), "only 0 distinct angles"),
        ("\n".join("20.0 nan" for _ in range(40)), "only 1 distinct angles"),
    ],
)
def test_what_is_no_scan_is_refused_in_one_line_that_names_the_file(tmp_path, content, message):
    path = write(tmp_path, content)
    with pytest.raises(UserError, match=message) as caught:
        read_scan(path, "CuKa")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file_and_folder(tmp_path):
    for path in (tmp_path / "none.xy", tmp_path):
        with pytest.raises(UserError, match="cannot be read"):
            read_scan(path, "CuKa")


# --- wavelength ------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None])
def test_no_wavelength_anywhere_is_refused(tmp_path, value):
    path = write(tmp_path, table("{:.2f} {}\n"))
    with pytest.raises(UserError, match=r"scan.xy: states no wavelength.*--wavelength.*CuKa"):
        read_scan(path, value)


@pytest.mark.parametrize(
    ("line", "wavelength", "k_alpha2"),
    [
        ("# wavelength 1.54", 1.54, "unknown"),
        ("Wavelength [A]: 1,5406", 1.5406, "unknown"),
        ("# lambda = 0.15406 nm", 1.5406, "unknown"),
        ("_WL1 = 1.540598", 1.540598, "unknown"),
        ('*MEAS_COND_XG_WAVE_LENGTH_ALPHA1 "1.540593"', 1.540593, "unknown"),
        ('*MEAS_COND_XG_WAVE_LENGTH_ALPHA2 "1.544414"', None, "unknown"),
        ("K-Alpha1 wavelength,1.540598", 1.540598, "unknown"),
        ("K-Beta wavelength,1.39225", None, "unknown"),
        ("Wavelength (Cu Ka1) = 1.54056", 1.54056, "unknown"),
        ("# Anode: Cu K-alpha", 1.54184, "unknown"),
        ("# Co K\u03b11", 1.79026, "unknown"),
        ("# Mo Ka1, Ka2 stripped", 0.71073, "stripped"),
        ("# K-alpha2 was removed", None, "stripped"),
        ("# Cu Ka and Co Ka", None, "unknown"),
        ("# wavelength 154.06 pm", 1.5406, "unknown"),
        ("# measured on 12.05.2020 for 1.54 h", None, "unknown"),
        ("# alphabet Cu Kalphabet", None, "unknown"),
    ],
)
def test_wavelength_of_a_header(line, wavelength, k_alpha2):
    header = read_header(["a title", line])
    assert (header.wavelength, header.k_alpha2) == (pytest.approx(wavelength), k_alpha2)


def test_wavelength_of_the_header_is_used_and_said(tmp_path):
    path = write(tmp_path, "# wavelength 0.7093\n" + table("{:.2f} {}\n"))
    scan = read_scan(path, None)
    assert (scan.wavelength, scan.wavelength_source) == (0.7093, "file")
    with pytest.raises(UserError, match=r"0\.7093 angstrom and --wavelength says 1\.54184"):
        read_scan(path, "CuKa")
    assert read_scan(path, 0.71).wavelength == 0.7093  # near enough; the file is more exact


# --- columns ---------------------------------------------------------------------------------


def test_columns_by_name_whatever_their_order(tmp_path):
    rows = "".join(
        f"{i},{c:.0f},{t:.2f},9\n" for i, (t, c) in enumerate(zip(ANGLES, COUNTS, strict=True))
    )
    scan = read_scan(write(tmp_path, "no,counts,2Theta,sigma\n" + rows, "a.csv"), "CuKa")
    check(scan)
    assert scan.notes == ("columns ignored: no, sigma",)


@pytest.mark.parametrize(
    "header",
    [
        "2theta I_obs I_calc\n",
        "# two_theta_deg observed calculated\n",
        '"2Theta (deg)"\t"Intensity (cps)"\t"Background"\n',
        "title\nAngle   Int   esd\n\n",
        "2\u03b8\tI\tfit\n",
    ],
)
def test_what_is_no_intensity_is_ignored(tmp_path, header):
    check(read_scan(write(tmp_path, header + table("{:.2f}\t{}\t5\n")), "CuKa"))


def test_third_column_of_xye_is_ignored_and_said(tmp_path):
    scan = read_scan(write(tmp_path, table("{:.2f} {} 5\n"), "a.xye"), "CuKa")
    check(scan)
    assert scan.notes == ("1 further columns ignored",)


def test_several_intensities_are_several_patterns(tmp_path):
    rows = "".join(
        f"{t:.2f},{c:.0f},{2 * c:.0f},{3 * c:.0f}\n" for t, c in zip(ANGLES, COUNTS, strict=True)
    )
    scans = read_patterns(write(tmp_path, "tth,Fe10,Fe20,Fe30\n" + rows, "a.csv"), "CuKa")
    assert [scan.name for scan in scans] == ["a_Fe10", "a_Fe20", "a_Fe30"]
    for i, scan in enumerate(scans):
        check(scan, i + 1)
    rows = rows.replace(",101,", ",,", 1)  # an empty cell is a missing point
    scans = read_patterns(write(tmp_path, "tth,Fe10,Fe20,Fe30\n" + rows, "a.csv"), "CuKa")
    assert len(scans) == 3


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("q [1/A]", 4 * np.pi / 1.54184 * np.sin(np.deg2rad(ANGLES / 2))),
        ("Q(nm^-1)", 40 * np.pi / 1.54184 * np.sin(np.deg2rad(ANGLES / 2))),
        ("d-spacing", 1.54184 / 2 / np.sin(np.deg2rad(ANGLES / 2))),
        ("d", 1.54184 / 2 / np.sin(np.deg2rad(ANGLES / 2))),
    ],
)
def test_q_and_d_count_only_if_the_header_says_so(tmp_path, name, values):
    rows = "".join(f"{x:.8f},{c:.0f}\n" for x, c in zip(values, COUNTS, strict=True))
    scan = read_scan(write(tmp_path, f"{name},intensity\n" + rows, "a.csv"), "CuKa")
    check(scan)
    assert any(note.startswith("2 theta computed from") for note in scan.notes)


@pytest.mark.parametrize("across", [True, False])
def test_matrices_of_numbers(tmp_path, across):
    matrix = np.stack([ANGLES, COUNTS, *([2 * COUNTS] * 25)])
    matrix = matrix if across else matrix.T
    text = "\n".join(",".join(f"{v:g}" for v in row) for row in matrix)
    scans = read_patterns(write(tmp_path, text, "m.csv"), "CuKa")
    assert len(scans) == 26
    assert scans[0].name == ("m_row1" if across else "m_column2")
    check(scans[0])
    check(scans[-1], 2)


def test_the_fast_and_the_slow_way_agree(tmp_path):
    plain = read_scan(write(tmp_path, table("{:.2f} {}\n")), "CuKa")
    slow = read_scan(write(tmp_path, table("{:.2f} {}\n") + "end of scan\n"), "CuKa")
    np.testing.assert_array_equal(plain.two_theta, slow.two_theta)
    np.testing.assert_array_equal(plain.counts, slow.counts)
    assert slow.notes and not plain.notes


def test_attenuation_of_ras_files_is_undone(tmp_path):
    head = '*RAS_DATA_START\n*MEAS_COND_XG_WAVE_LENGTH_ALPHA1 "1.540593"\n*RAS_INT_START\n'
    text = head + table("{:.4f} {} 10.0\n") + "*RAS_INT_END\n*RAS_DATA_END\n"
    scan = read_scan(write(tmp_path, text, "a.ras"), None)
    check(scan, 10)
    assert scan.wavelength == 1.540593


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_its_mark(tmp_path, encoding):
    check(read_scan(write(tmp_path, table("{:.2f} {}\n").encode(encoding)), "CuKa"))


@pytest.mark.parametrize(
    "body",
    [
        "{:.2f} {:d}\n",  # plain
        " {:8.2f}   {:9d}  \n",
        "{:.2f}\t{:d}\n",
        "{:.2f};{:d}\n",
        "{:.4e} +{:d}.E0\n",
    ],
)
@pytest.mark.parametrize(
    ("head", "foot"),
    [("", ""), ("# raw, R\n\n* scan\n", ""), ("2theta counts\n", "# end\n"), ("", "\n \n")],
)
def test_rows_are_the_same_in_every_plain_form(tmp_path, body, head, foot):
    x, y = 10.0 + 0.02 * np.arange(60), np.arange(100, 160)
    rows = "".join(body.format(a, b) for a, b in zip(x.tolist(), y.tolist(), strict=True))
    path = tmp_path / "a.xy"
    path.write_text(head + rows + foot)
    scan = read_scan(path, "CuKa")
    np.testing.assert_array_equal(scan.two_theta, np.round(x, 2))
    np.testing.assert_array_equal(scan.counts, y)
    assert scan.notes == ()
