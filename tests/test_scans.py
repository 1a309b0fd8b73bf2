"""Reading, placing and writing measured scans."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest

from imitation_refinement.errors import UserError
from imitation_refinement.xrd.grid import Grid, grid_q, q_from_two_theta, two_theta_from_q
from imitation_refinement.xrd.scans import (
    WAVELENGTHS,
    cell_means,
    cell_noise,
    clean_scan,
    on_grid,
    parse_wavelength,
    read_scan,
    write_refined,
)

ANGLES = np.arange(20.0, 24.0, 0.1)
COUNTS = np.round(100 + 50 * np.sin(ANGLES))


def write(folder: Path, text: str | bytes, name: str = "scan.xy") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def table(form: str) -> str:
    return "".join(form.format(t, int(c)) for t, c in zip(ANGLES, COUNTS, strict=True))


# --- wavelength ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value", ["CuKa1", "cuka1", "Cu Ka1", "Cu-Kα1", "CU_K_alpha1", " CuKa1 ", "1.54056", 1.54056]
)
def test_wavelength_by_name_and_number(value):
    assert parse_wavelength(value) == 1.54056


def test_wavelengths_agree_with_pymatgen():
    table = pytest.importorskip("pymatgen.analysis.diffraction.xrd").WAVELENGTHS
    for name, wavelength in WAVELENGTHS.items():
        assert wavelength == pytest.approx(table[name], abs=2e-5)


@pytest.mark.parametrize("value", [None, "", "  "])
def test_wavelength_has_no_default(tmp_path, value):
    path = write(tmp_path, table("{:.2f} {}\n"))
    with pytest.raises(UserError, match="wavelength: not given.*CuKa.*angstrom"):
        read_scan(path, value)


@pytest.mark.parametrize("value", ["Kα", "XyKa", "nan", "0", "-1.5", "154.056", "inf"])
def test_wrong_wavelengths_are_refused(value):
    with pytest.raises(UserError, match="^wavelength: "):
        parse_wavelength(value)


# --- reading ---------------------------------------------------------------------------------


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


def test_points_are_sorted_averaged_and_cleaned(tmp_path):
    rows = [f"{t:.2f} {int(c)}" for t, c in zip(ANGLES, COUNTS, strict=True)]
    rows[3] = "20.30 -7"
    rows += ["20.00 400", "21.00 nan", "nan 5", "-0.10 3", "21.50 inf"]
    order = np.random.default_rng(0).permutation(len(rows))
    scan = read_scan(write(tmp_path, "\n".join(rows[i] for i in order)), "CuKa")
    expected = COUNTS.copy()
    expected[0] = 0.5 * (COUNTS[0] + 400)
    expected[3] = 0
    np.testing.assert_allclose(scan.two_theta, ANGLES, rtol=0, atol=1e-9)
    np.testing.assert_allclose(scan.counts, expected)
    assert scan.notes == (
        "3 points that are not numbers dropped",
        "1 points at or below 0 degrees dropped",
        "1 negative counts set to 0",
        "1 repeated angles averaged",
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "0 lines with two numbers"),
        ("title\n" * 50, "0 lines with two numbers"),
        ("20 5\n21 6\n", "2 lines with two numbers, at least 20"),
        (b"RAW1.01\0\0\0\xff" * 30, "binary"),
        ("\n".join(f"{t} 5\nnoise" for t in range(20, 60)), "lines among the data"),
        ("\n".join(f"{609 + t} 612" for t in range(40)), "648 in the first column"),
        ("\n".join(f"{t} 0" for t in range(20, 60)), "no count above zero"),
        ("\n".join(f"{t} -4" for t in range(20, 60)), "no count above zero"),
        ("\n".join(f"{-t} 4" for t in range(20, 60)), "only 0 distinct angles"),
        ("\n".join("20.0 nan" for _ in range(40)), "only 0 distinct angles"),
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


# --- placing ---------------------------------------------------------------------------------


def test_cell_means_match_a_fine_sum():
    rng = np.random.default_rng(1)
    x = np.sort(rng.uniform(0, 10, 60))
    y = rng.uniform(0, 5, 60)
    centers = np.geomspace(1.0, 9.0, 40)
    inner = np.sqrt(centers[1:] * centers[:-1])
    inner = 0.5 * (centers[1:] + centers[:-1])
    edges = [2 * centers[0] - inner[0], *inner, 2 * centers[-1] - inner[-1]]
    slow = []
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        points = low + (high - low) * (np.arange(20000) + 0.5) / 20000
        slow.append(np.mean(np.interp(points, x, y)))
    np.testing.assert_allclose(cell_means(x, y, centers), slow, rtol=1e-6)


def test_cell_means_by_hand():
    # Triangle 0, 2, 0 at 0, 1, 2: over [0.5, 1.5] its mean is 1.5, over [1.5, 2.5] 0.25 (then 0).
    x, y = np.array([0.0, 1.0, 2.0]), np.array([0.0, 2.0, 0.0])
    np.testing.assert_allclose(cell_means(x, y, np.array([1.0, 2.0, 3.0])), [1.5, 0.25, 0.0])


@pytest.mark.parametrize("step", [0.01, 0.02, 0.08])
def test_cell_noise_is_the_spread_of_repeated_scans(step):
    rng = np.random.default_rng(4)
    x = np.arange(0.0, 40.0, step)
    expected = 200.0 + 20.0 * x + 5000.0 * np.exp(-0.5 * ((x - 20.0) / 0.5) ** 2)
    centers = np.linspace(1.0, 39.0, 950)  # cells of 0.04
    scans = rng.poisson(expected, (300, len(x))).astype(float)
    spread = np.std([cell_means(x, y, centers) for y in scans], axis=0)
    estimate = np.mean([cell_noise(x, y, centers) for y in scans[:5]], axis=0)
    background = np.abs(centers - 20.0) > 4.0
    ratio = np.median(estimate[background] / spread[background])
    # Half-way between coarse points two are averaged, which is not counted: at most sqrt(2) off.
    assert 0.9 < ratio < 1.42


@pytest.mark.parametrize("step", [0.005, 0.02, 0.05])
@pytest.mark.parametrize("wavelength", [1.54184, 0.71073])
def test_peaks_land_at_their_q_with_their_area_whatever_the_step(step, wavelength):
    # Two peaks of the same area in q, one at low and one at high angle, on a sloping background.
    grid = Grid()
    q = grid_q(grid)
    low, high = two_theta_from_q(np.array([1.0, 5.95]), wavelength)
    two_theta = np.arange(low, high, step)
    at = q_from_two_theta(two_theta, wavelength)
    peaks = [2.0, 5.0]
    sigma = 0.02
    density = sum(np.exp(-0.5 * ((at - center) / sigma) ** 2) for center in peaks)
    counts_per_degree = (density + 0.02 * (7 - at)) * np.cos(np.deg2rad(two_theta / 2)) * 1e5
    placed = on_grid(clean_scan(two_theta, counts_per_degree, wavelength, "two peaks"), grid)
    assert placed.pattern.dtype == np.float32
    assert placed.mask.dtype == np.bool_ and placed.mask.all()
    assert placed.pattern.max() == 1.0
    areas = []
    for center in peaks:
        near = np.abs(q - center) < 5 * sigma
        weight = placed.pattern[near] * np.gradient(q)[near]
        areas.append(weight.sum())
        assert np.sum(weight * q[near]) / areas[-1] == pytest.approx(center, abs=2e-3)
    assert areas[0] == pytest.approx(areas[1], rel=0.05)
    assert areas[0] == pytest.approx(sigma * np.sqrt(2 * np.pi), rel=0.08)
    far = np.min(np.abs(q[:, None] - np.array(peaks)[None, :]), axis=1) > 6 * sigma
    assert placed.pattern[far].max() < 0.02


def peak_scan(low: float, high: float, gap: tuple[float, float] = (0.0, 0.0)):
    two_theta = np.arange(low, high, 0.02)
    two_theta = two_theta[(two_theta < gap[0]) | (two_theta > gap[1])]
    rng = np.random.default_rng(2)
    shape = sum(np.exp(-0.5 * ((two_theta - at) / 0.15) ** 2) for at in range(10, 100, 7))
    return clean_scan(two_theta, rng.poisson(100 + 5000 * shape).astype(float), 1.54184, "peaks")


def test_what_was_not_measured_is_zero_and_masked():
    grid = Grid()
    angle = two_theta_from_q(grid_q(grid), 1.54184)
    placed = on_grid(peak_scan(20.0, 70.0, gap=(40.0, 45.0)), grid)
    inside = (angle > 20.0) & (angle < 69.97) & ~((angle > 40.0) & (angle < 45.0))
    np.testing.assert_array_equal(placed.mask, inside)
    assert not placed.pattern[~inside].any()
    assert np.count_nonzero(placed.pattern) > 100


def test_counting_time_does_not_matter():
    scan = peak_scan(15.0, 90.0)
    pattern = on_grid(scan, Grid()).pattern
    longer = on_grid(scan._replace(counts=64.0 * scan.counts), Grid()).pattern
    np.testing.assert_allclose(longer, pattern, rtol=1e-5, atol=1e-7)


def test_noise_between_the_peaks_is_zero():
    grid = Grid()
    angle = two_theta_from_q(grid_q(grid), 1.54184)
    pattern = on_grid(peak_scan(15.0, 90.0), grid).pattern
    distance = np.min(np.abs(angle[:, None] - np.arange(10.0, 100.0, 7.0)[None, :]), axis=1)
    assert np.mean(pattern[distance > 1.0] > 0) < 0.05
    assert pattern[distance < 0.1].min() > 0.5


def test_wrong_range_is_refused_with_the_ranges_named():
    with pytest.raises(UserError, match="peaks: covers q from 0.36 to 1.06.*1.10 to 5.90"):
        on_grid(peak_scan(5.0, 15.0), Grid())


@pytest.mark.parametrize("noisy", [False, True])
def test_scan_without_peaks_is_refused(noisy):
    angles = np.arange(15.0, 90.0, 0.02)
    counts = 400.0 + 300.0 * np.exp(-angles / 30.0)
    if noisy:
        counts = np.random.default_rng(5).poisson(counts).astype(float)
    with pytest.raises(UserError, match="glass: nothing rises"):
        on_grid(clean_scan(angles, counts, 1.54184, "glass"), Grid())


# --- writing ---------------------------------------------------------------------------------


def test_written_pattern_reads_back_and_has_its_peak_in_place(tmp_path):
    grid = Grid()
    placed = on_grid(peak_scan(20.0, 70.0), grid)
    path = tmp_path / "new" / "refined.xy"
    write_refined(path, placed.pattern, placed.mask, grid, 1.54184, "peaks.xy")
    scan = read_scan(path, 1.54184)
    angle = two_theta_from_q(grid_q(grid), 1.54184)
    np.testing.assert_allclose(scan.two_theta, angle[placed.mask], atol=1e-5)
    assert scan.counts.max() == pytest.approx(100.0)
    # Per degree again: what was made equal in q falls with cos(theta).
    expected = placed.pattern[placed.mask] * np.cos(np.deg2rad(0.5 * angle[placed.mask]))
    np.testing.assert_allclose(scan.counts, 100 * expected / expected.max(), atol=1e-4)
    assert path.read_text().startswith("# refined from peaks.xy; wavelength 1.54184 angstrom\n# ")


def test_unwritable_target_is_named(tmp_path):
    placed = on_grid(peak_scan(20.0, 70.0), Grid())
    (tmp_path / "file").write_text("")
    target = tmp_path / "file" / "refined.xy"
    with pytest.raises(UserError, match="refined.xy: cannot write"):
        write_refined(target, placed.pattern, placed.mask, Grid(), 1.54184, "x")


# --- measured data ---------------------------------------------------------------------------


def test_measured_scans_are_read_and_placed():
    folder = os.environ.get("IMITATION_REFINEMENT_DATA")
    if not folder:
        pytest.skip("IMITATION_REFINEMENT_DATA does not name a folder of measured patterns")
    manifest = Path(folder) / "xrd_experimental" / "manifest.csv"
    rows = list(csv.DictReader(manifest.read_text().splitlines()))
    rows = [row for row in rows if row["file"].endswith(".xy")]
    assert len(rows) > 100
    for row in rows[::5]:
        scan = read_scan(manifest.parent / row["file"], row["wavelength_A"])
        assert scan.two_theta[0] == pytest.approx(float(row["two_theta_min"]), abs=0.01)
        assert scan.two_theta[-1] == pytest.approx(float(row["two_theta_max"]), abs=0.01)
        placed = on_grid(scan, Grid())
        assert placed.pattern.max() == 1.0
        assert 0.001 < np.mean(placed.pattern > 0.05) < 0.9
