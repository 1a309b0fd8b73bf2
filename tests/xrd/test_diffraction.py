import cmath
import itertools
import math

import numpy as np
import pytest
from pymatgen.analysis.diffraction.xrd import XRDCalculator
from pymatgen.core import Lattice, Structure
from reference_crystals import REFERENCE, arrays_of, reference_structure
from reference_patterns import lorentz_polarization, peaks_two_theta

from imitation_refinement.xrd.crystals import CRYSTAL_SYSTEMS, random_prototype
from imitation_refinement.xrd.diffraction import (
    merge_lines,
    reflection_q,
    reflections,
    scattering_factor,
)

WAVELENGTH = 1.54184
RANGE = {"wavelength": WAVELENGTH, "two_theta_min": 5.0, "two_theta_max": 90.0}
Q_LIMITS = 4 * np.pi / WAVELENGTH * np.sin(np.radians([2.5, 45.0]))
Q_RANGE = {"q_min": Q_LIMITS[0], "q_max": Q_LIMITS[1], "wavelength": WAVELENGTH, "b_iso": 0.0}


def small_crystal(system):
    """A generated crystal with few enough lines that none coincide by accident."""
    for i in itertools.count():
        crystal = random_prototype(0, i, system).crystal
        if abs(np.linalg.det(crystal.lattice)) < 250.0:
            return crystal.lattice, crystal.positions, crystal.numbers


def merged(crystal, **changes):
    found = reflections(*crystal, **{**Q_RANGE, **changes})
    q, intensity = merge_lines(found.q, found.intensity, min_relative=1e-5)
    return q, intensity / intensity.max()


def assert_same_lines(left, right, rtol=1e-9):
    np.testing.assert_allclose(left[0], right[0], rtol=1e-10)
    np.testing.assert_allclose(left[1], right[1], rtol=rtol, atol=1e-12)


def assert_matches_pymatgen(crystal):
    structure = Structure(Lattice(crystal[0]), crystal[2], crystal[1])
    oracle = XRDCalculator(WAVELENGTH).get_pattern(structure, two_theta_range=(5, 90))
    two_theta, intensity = peaks_two_theta(*crystal, **RANGE)
    assert len(two_theta) == len(oracle.x)
    np.testing.assert_allclose(two_theta, oracle.x, rtol=0, atol=1e-6)
    np.testing.assert_allclose(intensity, oracle.y, rtol=1e-6)


@pytest.mark.parametrize("name", REFERENCE)
def test_tabulated_reference_peaks(name):
    crystal = arrays_of(reference_structure(name))
    two_theta, intensity = peaks_two_theta(*crystal, **RANGE)
    assert len(two_theta) == REFERENCE[name]["peak_count"]
    for position, height in REFERENCE[name]["peaks"]:
        nearest = np.argmin(np.abs(two_theta - position))
        assert two_theta[nearest] == pytest.approx(position, abs=1e-3)
        assert intensity[nearest] == pytest.approx(height, abs=0.05)


@pytest.mark.parametrize("name", REFERENCE)
def test_reference_crystals_agree_with_pymatgen_peak_by_peak(name):
    assert_matches_pymatgen(arrays_of(reference_structure(name)))


@pytest.mark.parametrize("system", range(7), ids=CRYSTAL_SYSTEMS)
def test_generated_crystals_agree_with_pymatgen_peak_by_peak(system):
    assert_matches_pymatgen(small_crystal(system))


@pytest.mark.parametrize("system", range(7), ids=CRYSTAL_SYSTEMS)
def test_fast_path_agrees_with_the_direct_sum(system):
    crystal = small_crystal(system)
    two_theta, exact = peaks_two_theta(*crystal, **RANGE)
    q, fast = merged(crystal)
    np.testing.assert_allclose(
        q, 4 * np.pi / WAVELENGTH * np.sin(np.radians(two_theta / 2)), rtol=1e-10
    )
    np.testing.assert_allclose(fast, exact / 100.0, rtol=0, atol=1e-5)


def test_reflections_agree_with_loops_over_hkl_and_atoms():
    lattice = np.array([[4.1, 0.0, 0.0], [0.7, 5.2, 0.0], [-0.9, 1.1, 4.6]])
    positions = np.array([[0.1, 0.2, 0.3], [0.55, 0.71, 0.04], [0.33, 0.9, 0.61]])
    numbers, b_iso = np.array([8, 26, 8]), 0.7
    volume = np.linalg.det(lattice)
    star = [np.cross(lattice[(i + 1) % 3], lattice[(i + 2) % 3]) / volume for i in range(3)]
    expected = {}
    for hkl in itertools.product(range(-6, 7), repeat=3):
        g = math.sqrt(sum(sum(h * v[axis] for h, v in zip(hkl, star, strict=True)) ** 2
                          for axis in range(3)))  # fmt: skip
        if not 1.5 <= 2 * math.pi * g <= 4.0:
            continue
        amplitude = 0.0
        for number, position in zip(numbers, positions, strict=True):
            factor = float(scattering_factor(number, g * g / 4)) * math.exp(-b_iso * g * g / 4)
            phase = sum(h * x for h, x in zip(hkl, position, strict=True))
            amplitude += factor * cmath.exp(2j * math.pi * phase)
        theta = math.asin(WAVELENGTH * g / 2)
        lp = (1 + math.cos(2 * theta) ** 2) / (math.sin(theta) ** 2 * math.cos(theta))
        expected[hkl] = abs(amplitude) ** 2 * lp
    found = reflections(
        lattice, positions, numbers, q_min=1.5, q_max=4.0, wavelength=WAVELENGTH, b_iso=b_iso
    )
    assert 2 * len(found.q) == len(expected)
    for hkl, intensity in zip(found.hkl.tolist(), found.intensity, strict=True):
        friedel = expected[tuple(-h for h in hkl)]
        assert friedel == pytest.approx(expected[tuple(hkl)], rel=1e-12)
        assert intensity == pytest.approx(2 * friedel, rel=1e-5)
    np.testing.assert_allclose(found.q, reflection_q(lattice, found.hkl), rtol=1e-12)


def test_primitive_and_conventional_cells_give_the_same_lines():
    conventional = arrays_of(reference_structure("halite NaCl"))
    primitive = (
        np.array([[0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]]) @ conventional[0],
        np.array([[0.0, 0.0, 0.0], [0.5, 0.5, 0.5]]),
        np.array([11, 17]),
    )
    assert_same_lines(merged(primitive), merged(conventional))


def test_lines_do_not_depend_on_basis_origin_or_supercell():
    lattice, positions, numbers = small_crystal(0)
    expected = merged((lattice, positions, numbers))
    change = np.array([[1.0, 1.0, 0.0], [0.0, 1.0, -1.0], [0.0, 0.0, 1.0]])
    other_basis = (change @ lattice, positions @ np.linalg.inv(change), numbers)
    moved = (lattice, positions + np.array([0.123, -0.456, 0.789]), numbers)
    half = positions * np.array([0.5, 1.0, 1.0])
    doubled = (
        lattice * np.array([[2.0], [1.0], [1.0]]),
        np.concatenate([half, half + np.array([0.5, 0.0, 0.0])]),
        np.concatenate([numbers, numbers]),
    )
    for variant in (other_basis, moved, doubled):
        assert_same_lines(merged(variant), expected)


def test_scaling_the_lattice_shifts_ln_q():
    lattice, positions, numbers = small_crystal(3)
    scale = 1.03
    limits = {"q_min": Q_LIMITS[0] / scale, "q_max": Q_LIMITS[1] / scale}
    before = reflections(lattice, positions, numbers, **Q_RANGE)
    after = reflections(scale * lattice, positions, numbers, **{**Q_RANGE, **limits})
    np.testing.assert_array_equal(after.hkl, before.hkl)
    np.testing.assert_allclose(np.log(before.q / after.q), math.log(scale), rtol=1e-9)


def body_centred(h, k, l):  # noqa: E741
    return (h + k + l) % 2 == 0


def face_centred(h, k, l):  # noqa: E741
    return h % 2 == k % 2 == l % 2


def diamond(h, k, l):  # noqa: E741
    return face_centred(h, k, l) and (h % 2 == 1 or (h + k + l) % 4 == 0)


FACE = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])


@pytest.mark.parametrize(
    ("positions", "numbers", "rule"),
    [
        (np.array([[0, 0, 0], [0.5, 0.5, 0.5]]), [26, 26], body_centred),
        (np.concatenate([FACE, FACE + 0.5]), [11] * 4 + [17] * 4, face_centred),
        (np.concatenate([FACE, FACE + 0.25]), [14] * 8, diamond),
    ],
    ids=["bcc", "rock salt", "diamond"],
)
def test_systematic_absences(positions, numbers, rule):
    a = 5.5
    found = reflections(np.eye(3) * a, positions, np.array(numbers), **Q_RANGE)
    present = {tuple(hkl) for hkl in found.hkl.tolist()}
    bound = int(Q_LIMITS[1] * a / (2 * math.pi))
    allowed = set()
    for hkl in itertools.product(range(-bound, bound + 1), repeat=3):
        q = 2 * math.pi * math.sqrt(sum(h * h for h in hkl)) / a
        if Q_LIMITS[0] <= q <= Q_LIMITS[1] and rule(*hkl) and hkl > (0, 0, 0):
            allowed.add(hkl)
    assert present == allowed


def test_q_of_cubic_and_hexagonal_reflections():
    hkl = np.array([[1, 0, 0], [1, 1, 0], [2, -1, 3]])
    cubic = 2 * np.pi * np.sqrt([1, 2, 14]) / 4.0
    np.testing.assert_allclose(reflection_q(4.0 * np.eye(3), hkl), cubic, rtol=1e-12)
    a, c = 3.2, 5.1
    hexagonal = np.array([[a, 0, 0], [-a / 2, a * math.sqrt(0.75), 0], [0, 0, c]])
    # 1/d^2 = 4/3 (h^2 + hk + k^2)/a^2 + l^2/c^2
    inverse = np.array([4 / 3 / a**2, 4 / a**2, 4 / a**2 + 9 / c**2])
    np.testing.assert_allclose(
        reflection_q(hexagonal, hkl), 2 * np.pi * np.sqrt(inverse), rtol=1e-12
    )


def test_lorentz_polarization_by_hand():
    # 2theta = 90: 1 / (1/2 * sqrt(1/2)); 60: (1 + 1/4) / (1/4 * sqrt(3)/2)
    np.testing.assert_allclose(
        lorentz_polarization(np.array([90.0, 60.0])), [2.8284271, 5.7735027], rtol=1e-7
    )


def test_scattering_factors():
    every = np.arange(1, 99)
    np.testing.assert_array_equal(scattering_factor(every, np.zeros(98)), every)
    np.testing.assert_allclose(
        scattering_factor(np.array([8, 14, 26]), 0.25), [2.3395, 6.2702, 11.5625], atol=5e-5
    )
    s_squared = np.linspace(0.0, 0.42, 50)
    assert np.all(scattering_factor(every[:, None], s_squared[None]) > 0.0)


def test_displacement_factor_damps_by_q_squared():
    crystal = small_crystal(6)
    still = reflections(*crystal, **Q_RANGE)
    moving = reflections(*crystal, **{**Q_RANGE, "b_iso": 0.8})
    # exp(-2 B s^2) with s = q / (4 pi)
    expected = np.exp(-2 * 0.8 * (still.q / (4 * np.pi)) ** 2)
    np.testing.assert_allclose(moving.intensity / still.intensity, expected, rtol=1e-12)


def test_merging_adds_equal_lines_and_drops_weak_ones():
    q = np.array([3.0, 1.0, 2.0, 1.0 + 1e-12, 4.0])
    intensity = np.array([5.0, 40.0, 0.009, 60.0, 0.011])
    merged_q, total = merge_lines(q, intensity, min_relative=1e-4)
    np.testing.assert_allclose(merged_q, [1.0, 3.0, 4.0], rtol=1e-9)
    np.testing.assert_allclose(total, [100.0, 5.0, 0.011], rtol=1e-12)
    assert [len(array) for array in merge_lines(np.zeros(0), np.zeros(0))] == [0, 0]


def test_limits_of_q():
    lattice, positions, numbers = np.eye(3) * 4.0, np.zeros((1, 3)), np.array([26])
    wide = {"q_min": 1.0, "b_iso": 0.0}
    found = reflections(lattice, positions, numbers, q_max=99.0, wavelength=1.54184, **wide)
    assert 0.0 < found.q.max() < 4 * np.pi / 1.54184
    assert np.all(np.isfinite(found.intensity))
    with pytest.raises(ValueError, match="q_max"):
        reflections(lattice, positions, numbers, q_max=99.0, wavelength=0.7, **wide)
