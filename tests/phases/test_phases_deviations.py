"""Figures of how a scan deviates from a candidate: worked out by hand, planted, and unchanged."""

from pathlib import Path

import numpy as np
import pytest

from imitation_refinement.phases.build import make_library
from imitation_refinement.phases.cell_fit import CellFit
from imitation_refinement.phases.deviations import (
    FIGURES,
    Peaks,
    axis_terms,
    cell_shape,
    deviations,
    find_peaks,
    intensities,
)
from imitation_refinement.phases.leading import fitted_cell
from imitation_refinement.phases.named import Moved
from imitation_refinement.phases.pairs import atoms_of
from imitation_refinement.phases.prototypes import GRID, build_prototypes, log_axis, scan_roots
from imitation_refinement.phases.simulated import Laboratory, simulate_measurement
from imitation_refinement.xrd.diffraction import reflections
from imitation_refinement.xrd.imperfections import march_dollase
from imitation_refinement.xrd.scans import on_grid

EXAMPLES = Path(__file__).parents[2] / "examples"

TETRAGONAL = np.array([4.0, 4.0, 6.0, 90.0, 90.0, 90.0])
SHAPE = len(FIGURES) - 9


def figure(values: np.ndarray, name: str) -> float:
    return float(values[FIGURES.index(name) - SHAPE])


def q_of(*lines: tuple[int, int, int]) -> np.ndarray:
    return np.array([2.0 * np.pi * np.hypot(np.hypot(h, k) / 4.0, l / 6.0) for h, k, l in lines])  # noqa: E741


def test_terms_of_a_tetragonal_cell_by_hand():
    # About 001; about any other axis they are this times a constant, which is smaller than 1.
    for lines in ([(0, 0, 1), (1, 0, 0), (1, 0, 1)], [(1, 0, 0), (0, 0, 2), (1, 0, 1)]):
        [terms] = axis_terms(TETRAGONAL, q_of(*lines))
        normals = np.array(lines) / [4.0, 4.0, 6.0]
        cosine = normals[:, 2] / np.linalg.norm(normals, axis=1)
        np.testing.assert_allclose(terms, 3.0 * cosine**2 - 1.0, atol=1e-9)
    # Without it about 100 or 110: of four equivalent lines two are along it and two across.
    [terms] = axis_terms(TETRAGONAL, q_of((1, 0, 0), (1, 1, 0)))
    np.testing.assert_allclose(terms, 0.5, atol=1e-9)


def test_terms_of_an_orthorhombic_cell_by_hand():
    cell = np.array([4.0, 5.0, 6.0, 90.0, 90.0, 90.0])
    lines = 2.0 * np.pi / np.array([6.0, 5.0, 4.0])  # 001, 010, 100
    terms = axis_terms(cell, np.append(lines, 2.0))  # no line of the cell
    np.testing.assert_allclose(terms, np.c_[3.0 * np.eye(3) - 1.0, np.zeros(3)], atol=1e-9)


def test_a_cubic_crystal_has_no_axis_of_its_own():
    cell = np.array([4.0, 4.0, 4.0, 90.0, 90.0, 90.0])
    lines = 0.5 * np.pi * np.sqrt([1.0, 2.0, 3.0, 4.0, 5.0])
    assert axis_terms(cell, lines).shape == (0, 5)


def test_terms_are_the_slope_of_march_and_dollase():
    cosine = np.linspace(0.0, 1.0, 11)
    slope = (
        np.log(march_dollase(np.exp(1e-5), cosine)) - np.log(march_dollase(np.exp(-1e-5), cosine))
    ) / 2e-5
    np.testing.assert_allclose(slope, -1.5 * (3.0 * cosine**2 - 1.0), atol=1e-6)


def test_a_large_cell_has_no_axes():
    large = np.array([60.0, 60.0, 60.0, 90.0, 90.0, 90.0])
    assert axis_terms(large, np.array([1.0, 5.0])).shape == (0, 2)
    assert axis_terms(TETRAGONAL, np.zeros(0)).shape == (0, 0)


def test_shape_of_a_cell_by_hand():
    scaled, longer = 1.01 * TETRAGONAL, TETRAGONAL.copy()
    scaled[3:], longer[2] = 90.0, 6.06
    of = lambda cell: cell_shape(TETRAGONAL, CellFit(cell, np.zeros(6), 0.0, 7))  # noqa: E731
    np.testing.assert_allclose(of(scaled), [np.log(8.0), np.log(2e-4)])
    # Strains 0, 0 and ln 1.01: their deviation is sqrt(2) / 3 of it.
    np.testing.assert_allclose(of(longer)[1], np.log(np.sqrt(2.0) / 3.0 * np.log(1.01)))
    np.testing.assert_array_equal(cell_shape(TETRAGONAL, None), [0.0, -7.0])


def test_peaks_are_added_up():
    q, height = np.array([1.0, 1.5, 3.0, 3.004]), np.array([1.0, 2.0, 1.0, 1.0])
    axis = np.exp(log_axis(GRID, 1))
    width = 0.01  # 1/angstrom; what is drawn for 25 nm is about as wide
    made = height * np.array([1.0, 2.0, 1.0, 1.0])
    excess = (made[:, None] / width * np.exp(-0.5 * ((axis - q[:, None]) / width) ** 2)).sum(0)
    mask = axis > 0.9
    found = find_peaks(excess, np.full(len(axis), 0.1), mask, q, height, GRID, 25.0)
    np.testing.assert_array_equal(found.peak, [0, 1, 2, 2])
    np.testing.assert_allclose(found.q, [1.0, 1.5, 3.002], rtol=2e-3)
    ratio = found.measured / found.predicted
    np.testing.assert_allclose(ratio / ratio[0], [1.0, 2.0, 1.0], rtol=0.03)
    assert (found.deviation > 0.0).all()
    hidden = find_peaks(excess, np.full(len(axis), 0.1), axis > 1.2, q, height, GRID, 25.0)
    np.testing.assert_array_equal(hidden.peak, [-1, 0, 1, 1])


def planted(ratio: np.ndarray, noise: float = 1e-3) -> Peaks:
    predicted = np.linspace(1.0, 2.0, len(ratio))
    q = np.linspace(1.0, 5.0, len(ratio))
    deviation = np.full(len(ratio), noise)
    return Peaks(predicted, predicted * ratio, deviation, q, np.arange(len(ratio)))


def test_a_planted_texture_is_found_about_its_axis():
    rng = np.random.default_rng(0)
    terms = rng.uniform(-1.0, 2.0, (5, 20))
    height = np.ones(20)
    found = intensities(planted(3.0 * np.exp(0.2 * terms[3])), height, terms)
    assert figure(found, "texture") == pytest.approx(0.2, abs=1e-3)
    assert figure(found, "texture_explains") > 0.999
    assert figure(found, "lines") == pytest.approx(np.log(21.0))
    assert figure(found, "axes") == pytest.approx(np.log(6.0))
    other = intensities(planted(3.0 * np.exp(0.2 * rng.permutation(terms[3]))), height, terms)
    assert figure(other, "texture_explains") < 0.7


def test_a_planted_change_with_angle_is_found():
    peaks = planted(np.ones(20))
    ratio = np.exp(-0.8 * (peaks.q / (4.0 * np.pi)) ** 2)
    found = intensities(planted(ratio), np.ones(20), np.zeros((0, 20)))
    assert figure(found, "angle") == pytest.approx(-0.8, abs=0.01)
    assert figure(found, "angle_explains") > 0.999
    assert figure(found, "texture_explains") == 0.0


def test_the_axis_that_explains_most_is_the_one_of_a_slow_loop():
    rng = np.random.default_rng(4)
    peaks, height = planted(np.exp(rng.normal(0.0, 0.3, 12))), rng.uniform(0.5, 1.0, 20)
    peaks = peaks._replace(peak=np.sort(rng.integers(-1, 12, 20)))
    terms = rng.uniform(-1.0, 2.0, (4, 20))
    found = intensities(peaks, height, terms)
    weight = 1.0 / (0.05**2 + (peaks.deviation / peaks.predicted) ** 2)
    ratio, design = (
        np.log(peaks.measured / peaks.predicted),
        [np.ones(12), (peaks.q / 12.5664) ** 2],
    )
    left = []
    for term in terms:
        column = np.zeros(12)
        for number in range(12):
            own = peaks.peak == number
            if own.any():
                column[number] = np.average(term[own], weights=height[own])
        by = np.sqrt(weight)
        columns = np.stack([*design, column], axis=1) * by[:, None]
        solved = np.linalg.lstsq(columns, ratio * by, rcond=None)[0]
        left.append((np.sum((ratio * by - columns @ solved) ** 2), solved[2]))
    smooth = np.stack(design, axis=1) * by[:, None]
    before = np.sum((ratio * by - smooth @ np.linalg.lstsq(smooth, ratio * by, rcond=None)[0]) ** 2)
    least, slope = min(left)
    assert figure(found, "texture") == pytest.approx(slope, rel=1e-4)
    assert figure(found, "texture_explains") == pytest.approx((before - least) / before, rel=1e-4)


def test_the_unit_of_intensity_does_not_matter():
    rng = np.random.default_rng(1)
    peaks, terms = planted(np.exp(rng.normal(0.0, 0.3, 20))), rng.uniform(-1.0, 2.0, (3, 20))
    more = peaks._replace(measured=70.0 * peaks.measured, deviation=70.0 * peaks.deviation)
    one, other = (intensities(each, np.ones(20), terms) for each in (peaks, more))
    np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-9)


def test_peaks_that_are_not_seen_say_nothing():
    none = intensities(planted(np.ones(5), noise=10.0), np.ones(5), np.zeros((0, 5)))
    np.testing.assert_array_equal(none, 0.0)
    empty = Peaks(*(np.zeros(0),) * 4, np.zeros(0, int))
    np.testing.assert_array_equal(intensities(empty, np.zeros(0), np.zeros((0, 0))), 0.0)


QUIET = Laboratory(
    counts=(1e5, 1.001e5), background=(0.001, 0.002), step=(0.02, 0.021), first=(5.0, 5.1),
    last=(100.0, 100.1), textured=0.0, grains=0.0, displacement=0.0, zero=0.0, impure=0.0,
    stripped=1.0, subtracted=0.0, smoothed=0.0, size_nm=(60.0, 60.1), strain=0.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def rutile(tmp_path_factory):
    library = make_library([EXAMPLES / "rutile.cif"], tmp_path_factory.mktemp("rutile") / "l.npz")
    return library.library


def figures_of_rutile(library, stretch: np.ndarray, laboratory: Laboratory) -> np.ndarray:
    """Of a scan of rutile with other lengths of its cell, seen as the library's rutile."""
    prototypes = build_prototypes(
        library.q, library.amplitude, library.offsets, library.computed, GRID
    )
    atoms = atoms_of(library, 0)
    lattice = atoms.lattice @ np.diag(stretch)
    found = reflections(
        lattice, atoms.positions, atoms.numbers, q_min=0.3, q_max=6.6, wavelength=1.5418, b_iso=0.5
    )
    rng = np.random.default_rng(3)
    scan = on_grid(
        simulate_measurement(
            lattice, found.hkl, found.q, found.intensity, rng, laboratory
        ).scan, GRID,
    )  # fmt: skip
    root = scan_roots(scan.pattern[None], scan.mask[None], 1)[0][0]
    one = Moved(0, 0.0, 0.0)
    return deviations(
        scan, fitted_cell(one, root, library, prototypes), one, library, prototypes, 45.0
    )


def test_a_sample_of_the_phase_deviates_by_its_texture_and_little_else(rutile):
    name = FIGURES.index
    same = figures_of_rutile(rutile, np.ones(3), QUIET)
    assert np.exp(same[name("cell_shape")]) < 4e-4 and np.exp(same[name("intensity")]) < 0.2
    assert abs(same[name("texture")]) < 0.1 and same[name("texture_explains")] < 0.2
    textured = figures_of_rutile(rutile, np.ones(3), QUIET._replace(textured=1.0, march=(0.6, 0.6)))
    assert np.exp(textured[name("intensity")]) > 0.3
    # Lines that lie close share a peak, and the slope of ln(March) is no constant.
    assert abs(textured[name("texture")]) > 0.3 and textured[name("texture_explains")] > 0.4
    assert np.exp(textured[name("cell_shape")]) < 4e-4


def test_a_cell_of_another_shape_is_told(rutile):
    longer = figures_of_rutile(rutile, np.array([1.0, 1.0, 1.006]), QUIET)
    expected = np.log(np.sqrt(2.0) / 3.0 * np.log(1.006))
    assert longer[FIGURES.index("cell_shape")] == pytest.approx(expected, abs=0.15)
