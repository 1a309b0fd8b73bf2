"""Checking, placing and writing measured scans."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest

from imitation_refinement.errors import UserError
from imitation_refinement.xrd.cells import cell_means, cell_noise, spacing
from imitation_refinement.xrd.formats import read_scan
from imitation_refinement.xrd.grid import Grid, grid_q, q_from_two_theta, two_theta_from_q
from imitation_refinement.xrd.scans import (
    Scan,
    clean_scan,
    on_grid,
    q_per_radian,
    write_refined,
)
from imitation_refinement.xrd.wavelengths import WAVELENGTHS, parse_wavelength

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


@pytest.mark.parametrize("value", ["0.154056 nm", "1.54056 A", "1.54056e-10 m", "154.056 pm"])
def test_wavelength_with_a_unit(value):
    assert parse_wavelength(value) == pytest.approx(1.54056)


def test_wavelength_by_energy():
    # 12.39841984 keV angstrom
    assert parse_wavelength("12.39841984 keV") == pytest.approx(1.0)
    assert parse_wavelength("24796.83968 eV") == pytest.approx(0.5)


@pytest.mark.parametrize("value", [None, "", "  "])
def test_wavelength_has_no_default(value):
    with pytest.raises(UserError, match="wavelength: not given.*CuKa.*angstrom"):
        parse_wavelength(value)


@pytest.mark.parametrize(
    "value", ["Kα", "XyKa", "nan", "0", "-1.5", "154.056", "inf", "0.04", "3.1", "1.5 mm", "0 keV"]
)
def test_wrong_wavelengths_are_refused(value):
    with pytest.raises(UserError, match="^wavelength: "):
        parse_wavelength(value)


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


def test_spacing_is_the_gradient_by_number():
    assert spacing(np.array([1.0, 2.0, 4.0, 8.0])).tolist() == [1.0, 1.5, 3.0, 4.0]
    assert spacing(np.array([1.0, 3.0])).tolist() == [2.0, 2.0]
    x = np.cumsum(np.random.default_rng(0).random(50))
    np.testing.assert_array_equal(spacing(x), np.gradient(x))


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


@pytest.mark.parametrize(
    ("stretch", "lost", "count"),
    [
        ((40.0, 40.06), (39.98, 40.08), 10),  # from the last point before to the first after it
        ((10.0, 20.02), (20.0, 20.02), 2),
        ((69.96, 80.0), (69.94, 69.98), 4),
        ((10.0, 15.0), (0.0, 0.0), 0),
        ((80.0, 85.0), (0.0, 0.0), 0),
    ],
)
def test_what_the_detector_left_out_is_masked_up_to_the_next_points(stretch, lost, count):
    two_theta = np.round(np.arange(20.0, 70.0, 0.02), 2)
    two_theta = two_theta[(two_theta < 40.0) | (two_theta > 40.06)]
    counts = 100.0 + 50.0 * np.cos(two_theta) ** 20
    scan = Scan(two_theta, counts, 1.54184, "short", unmeasured=(stretch,))
    ends = q_from_two_theta(np.array([20.005, 69.975]), 1.54184)
    cells = 20.005 + 0.01 * np.arange(4998)
    placed = on_grid(scan, Grid(*ends, len(cells), "two_theta", 1.54184))
    np.testing.assert_array_equal(placed.mask, (cells < lost[0]) | (cells > lost[1]))
    assert np.count_nonzero(~placed.mask) == count
    assert not placed.pattern[~placed.mask].any() and not placed.background[~placed.mask].any()


def test_several_stretches_are_masked_and_the_holes_stay():
    scan = peak_scan(20.0, 70.0, gap=(40.0, 45.0))
    hole = on_grid(scan, Grid()).mask
    both = on_grid(scan._replace(unmeasured=((30.0, 31.0), (50.0, 51.0))), Grid()).mask
    angle = two_theta_from_q(grid_q(Grid()), 1.54184)
    inside = np.zeros(len(angle), bool)
    for first, last in ((30.0, 31.0), (50.0, 51.0)):
        inside |= (angle > first - 0.02) & (angle < last + 0.02)
    np.testing.assert_array_equal(both, hole & ~inside)


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
    # 4 pi / 1.54184 times the sines of 1 and 5.5 degrees.
    narrow = Scan(np.arange(2.0, 12.0), np.ones(10), 1.54184, "narrow")
    with pytest.raises(UserError) as caught:
        on_grid(narrow, Grid(length=30))
    assert str(caught.value) == (
        "narrow: covers q from 0.14 to 0.78 1/angstrom and the model needs 1.10 to 5.90; check the "
        "wavelength (1.54184 angstrom) or measure a wider range"
    )


def test_a_tenth_of_the_grid_is_enough():
    first, last = two_theta_from_q(np.array([1.0, 1.2]), 1.54184)
    scan = Scan(np.linspace(first, last, 40), np.full(40, 9.0), 1.54184, "narrow")
    assert on_grid(scan, Grid(length=10)).mask.tolist() == [True] + [False] * 9
    with pytest.raises(UserError, match="narrow: covers q from 1.00 to 1.20"):
        on_grid(scan, Grid(length=11))


def test_pattern_background_and_scale_give_the_counts_back():
    grid = Grid()
    two_theta = np.arange(10.0, 100.0, 0.02)
    shape = sum(np.exp(-0.5 * ((two_theta - at) / 0.15) ** 2) for at in range(10, 100, 7))
    counts = 300.0 + 4000.0 * np.exp(-two_theta / 20.0) + 5000.0 * shape
    scan = clean_scan(two_theta, counts, 1.54184, "noise-free")
    placed = on_grid(scan, grid)
    angle = two_theta_from_q(grid_q(grid), 1.54184)
    assert placed.background.dtype == np.float32
    rebuilt = (placed.pattern + placed.background) * placed.scale * q_per_radian(angle, 1.54184)
    # Means over cells of up to 0.09 degrees: the flanks of peaks differ a little.
    np.testing.assert_allclose(rebuilt, np.interp(angle, two_theta, counts), rtol=0.05)
    between = np.abs((angle - 10.0) % 7.0 - 3.5) < 1.0
    expected = (300.0 + 4000.0 * np.exp(-angle / 20.0)) / q_per_radian(angle, 1.54184)
    np.testing.assert_allclose(
        placed.background[between] * placed.scale, expected[between], rtol=0.03
    )


def test_scan_without_peaks_comes_back_with_the_reason():
    angles = np.arange(15.0, 90.0, 0.02)
    counts = np.random.default_rng(5).poisson(400.0 + 300.0 * np.exp(-angles / 30.0)).astype(float)
    placed = on_grid(clean_scan(angles, counts, 1.54184, "glass"), Grid())
    assert placed.signal == "nothing rises above background and noise"
    assert placed.mask.any()
    # What is drawn as background is still the scan's, in its own unit.
    inside = placed.background[placed.mask] * placed.scale
    angle = two_theta_from_q(grid_q(Grid())[placed.mask], 1.54184)
    expected = (400.0 + 300.0 * np.exp(-angle / 30.0)) / q_per_radian(angle, 1.54184)
    assert np.median(inside / expected) == pytest.approx(0.95, abs=0.06)


@pytest.mark.parametrize(("at", "reason"), [(10.0, "nothing"), (120.0, "nothing"), (40.0, "")])
def test_peaks_beyond_the_grid_are_no_signal(at, reason):
    angles = np.arange(5.0, 130.0, 0.02)
    expected = 200.0 + 20_000.0 * np.exp(-0.5 * ((angles - at) / 0.15) ** 2)
    counts = np.random.default_rng(6).poisson(expected).astype(float)
    placed = on_grid(clean_scan(angles, counts, 1.54184, "one peak"), Grid())
    assert placed.signal.startswith(reason) and bool(placed.signal) == bool(reason)


@pytest.mark.parametrize("at", [1.13, 5.75])
def test_a_peak_between_the_last_two_points_of_a_coarse_grid_is_a_signal(at):
    angles = np.arange(5.0, 130.0, 0.02)
    center = two_theta_from_q(np.array(at), 1.54184)
    counts = np.round(200.0 + 20_000.0 * np.exp(-0.5 * ((angles - center) / 0.15) ** 2))
    placed = on_grid(Scan(angles, counts, 1.54184, "one peak"), Grid(length=30))
    assert placed.signal == "" and placed.strongest == counts.max()


@pytest.mark.parametrize("strongest", [0, -1])
def test_points_of_the_scan_at_the_ends_of_the_grid_and_of_a_stretch_belong_to_it(strongest):
    two_theta = np.linspace(*two_theta_from_q(np.array([1.1, 5.9]), 1.54184), 400)
    counts = np.full(400, 9.0)
    counts[strongest] = 70.0
    stretch = two_theta[100] + 0.01, two_theta[102] - 0.01
    scan = Scan(two_theta, counts, 1.54184, "as the grid", unmeasured=(stretch,))
    placed = on_grid(scan, Grid(length=400, axis="two_theta"))
    assert placed.strongest == 70.0
    assert np.flatnonzero(~placed.mask).tolist() == [0, 101]  # none is measured before the first


def test_the_background_of_a_straight_line_at_its_ends():
    grid = Grid(length=100, axis="q")
    two_theta = np.arange(15.0, 100.0, 0.01)
    density = 100.0 + 40.0 * (q_from_two_theta(two_theta, 1.54184) - 1.1)
    counts = density * q_per_radian(two_theta, 1.54184)
    placed = on_grid(Scan(two_theta, counts, 1.54184, "line"), grid)
    # Of nine cells around the first five are the first itself, then come 1 to 4 steps.
    step = 40.0 * 4.8 / 99
    ends = 100.0 + 10 / 9 * step, 100.0 + (99 - 10 / 9) * step
    np.testing.assert_allclose(placed.background[[0, -1]] * placed.scale, ends, rtol=1e-4)


def test_no_background_is_made_of_nothing():
    angles = np.arange(15.0, 90.0, 0.02)
    peaks = sum(np.exp(-0.5 * ((angles - at) / 0.15) ** 2) for at in range(20, 90, 7))
    placed = on_grid(Scan(angles, np.where(peaks > 1e-3, 5000 * peaks, 0), 1.54184, "a"), Grid())
    away = np.ones(2000, bool)
    for at in range(20, 90, 7):
        away &= abs(two_theta_from_q(grid_q(Grid()), 1.54184) - at) > 2.0
    assert np.count_nonzero(away & placed.mask) > 500
    np.testing.assert_allclose(placed.background[away], 0.0, atol=1e-6)
    nothing = on_grid(Scan(angles, np.zeros(len(angles)), 1.54184, "zeros"), Grid())
    assert nothing.scale == 1.0 and nothing.signal
    assert not nothing.pattern.any() and not nothing.background.any()


@pytest.mark.parametrize("factor", [1e-25, 1e25])
def test_the_unit_of_counts_does_not_matter(factor):
    scan = peak_scan(15.0, 90.0)
    expected = on_grid(scan, Grid())
    placed = on_grid(scan._replace(counts=factor * scan.counts), Grid())
    np.testing.assert_allclose(placed.pattern, expected.pattern, rtol=1e-5, atol=1e-7)
    assert placed.scale == pytest.approx(factor * expected.scale, rel=1e-6)


# --- cleaning --------------------------------------------------------------------------------


def test_impossible_values_are_dropped_and_angles_that_are_one_are_merged():
    angles = np.sort(np.append(np.linspace(10.0, 20.0, 50), [15.1234561, 15.1234562, 11.0001]))
    counts = np.full(len(angles), 5.0)
    counts[np.searchsorted(angles, [15.1234561, 15.1234562, 11.0001])] = [6.0, 8.0, 1e300]
    scan = clean_scan(angles, counts, 1.5, "x")
    assert scan.counts[np.searchsorted(scan.two_theta, 15.123)] == 7.0
    assert scan.counts.max() == 7.0
    assert scan.notes == ("1 repeated angles averaged", "1 points that are not numbers dropped")


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
        if not placed.signal:
            assert 0.001 < np.mean(placed.pattern > 0.05) < 0.9
