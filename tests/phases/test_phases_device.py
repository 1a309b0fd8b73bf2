"""Scans simulated within `jit` against those of NumPy, given the same random numbers."""

from functools import partial

import jax
import numpy as np
import pytest

from imitation_refinement.phases import device_grid, device_scans
from imitation_refinement.phases.device_draws import (
    Draw,
    draw_sample,
    free_strain,
    strained_lines,
    structures_of,
)
from imitation_refinement.phases.device_grid import Axis, window_medians
from imitation_refinement.phases.device_pairs import placed_scan
from imitation_refinement.phases.device_scans import Bounds, Lines
from imitation_refinement.phases.fitting import Atoms
from imitation_refinement.phases.pairs import true_pattern
from imitation_refinement.phases.samples import TUBES, Laboratory, Sample, draw_treatment
from imitation_refinement.phases.samples import draw_sample as draw_sample_numpy
from imitation_refinement.phases.simulated import expected_scan, strained, textured, treated
from imitation_refinement.xrd.background import snip
from imitation_refinement.xrd.crystals import CRYSTAL_SYSTEMS
from imitation_refinement.xrd.diffraction import merge_lines, reflections
from imitation_refinement.xrd.grid import Grid
from imitation_refinement.xrd.scans import on_grid

pytestmark = pytest.mark.usefixtures("quick_compilation")
TRICLINIC = CRYSTAL_SYSTEMS.index("triclinic")
GRID = Grid(0.65, 5.65, 2000)
BOUNDS = Bounds(points=16384, drawn=1_000_000)
IMPURITY = np.array([1.4, 2.9, 4.4]), np.array([1.0, 0.5, 0.7])
# A triclinic cell of four atoms: 180 lines.
LATTICE = np.array([[4.1, 0, 0], [0.3, 4.5, 0], [-0.6, 0.4, 3.9]])
ATOMS = np.random.default_rng(1).random((4, 3)), np.array([26, 8, 14, 12])


@pytest.fixture(scope="module")
def lines():
    found = reflections(LATTICE, *ATOMS, q_min=0.3, q_max=6.6, wavelength=1.5418, b_iso=0.5)
    return merge_lines(found.q, found.intensity)


def padded(q, intensity, size):
    return Lines(
        np.pad(q, (0, size - len(q)), constant_values=1.0), np.pad(intensity, (0, size - len(q)))
    )


def same_numbers(sample, q, tube, size):
    """Widths of the peaks that are reached, and grains, at the places of padded lines."""
    every = np.concatenate([q, np.ones(size - len(q)), IMPURITY[0]])
    there = np.concatenate([np.arange(size) < len(q), np.full(3, sample.impurity > 0.0)])
    there &= tube.reached(every)
    widths = np.zeros((2, len(every)))
    widths[: 1 if sample.stripped else 2, there] = sample.widths.reshape(-1, there.sum())
    return sample._replace(grains=np.pad(sample.grains, (0, size - len(q))), widths=widths)


def both_ways(lines, seed, kind):
    """Returns NumPy's measurement and its place on the grid, and what the device makes of it."""
    rng, laboratory = np.random.default_rng(seed), Laboratory(counts=(20.0, 3e4))
    number = seed % len(TUBES)
    tube, (q, intensity) = TUBES[number], lines
    sample = draw_sample_numpy(rng, laboratory, tube, q, IMPURITY[0])
    two_theta, profile, background = expected_scan(q, intensity, tube, sample, IMPURITY)
    counts = rng.poisson((profile + background) * sample.strongest).astype(float)
    treatment = draw_treatment(rng, laboratory, sample.stripped)
    measured = treated(two_theta, counts, profile * sample.strongest, tube, sample.step, treatment)
    placed = on_grid(measured.scan, GRID)
    truth = true_pattern(measured, placed, GRID)

    cast = partial(
        jax.tree.map,
        lambda leaf: np.asarray(leaf, kind if np.asarray(leaf).dtype.kind == "f" else None),
    )
    own = cast(same_numbers(sample, q, tube, 200))
    wavelengths = cast(jax.tree.map(lambda column: column[number], device_scans.tubes()))
    counts = np.pad(counts, (0, BOUNDS.points - len(counts))).astype(kind)
    found = PROGRAM(
        cast(padded(q, intensity, 200)),
        cast(Lines(*IMPURITY)),
        wavelengths,
        own,
        counts,
        cast(treatment),
    )
    return (two_theta, profile, background, measured, placed, truth), jax.tree.map(
        np.asarray, found
    )


@jax.jit
def PROGRAM(lines, impurity, tube, sample, counts, treatment):
    expected = device_scans.expected_scan(lines, impurity, tube, sample, BOUNDS)
    drawn = Draw(lines, impurity, tube, sample, treatment)
    scan = placed_scan(expected, counts, drawn, GRID)
    return expected, scan.counts, scan.placed, scan.truth


def test_in_float64_a_scan_is_that_of_numpy(lines):
    with jax.enable_x64():
        for seed in range(9):
            (two_theta, profile, background, measured, placed, truth), found = both_ways(
                lines, seed, np.float64
            )
            expected, strongest, on_device, true = found
            count = len(two_theta)
            assert expected.axis.count == count
            np.testing.assert_allclose(expected.profile[:count], profile, atol=1e-9)
            np.testing.assert_allclose(expected.background[:count], background, atol=1e-9)
            assert strongest == pytest.approx(measured.scan.counts.max(), rel=1e-9)
            np.testing.assert_array_equal(on_device.mask, placed.mask)
            for name in ("noise", "background", "excess", "pattern"):
                own, other = getattr(on_device, name), getattr(placed, name)
                np.testing.assert_allclose(own, other, atol=1e-6, err_msg=name)
            assert on_device.scale == pytest.approx(placed.scale, rel=1e-9)
            np.testing.assert_allclose(true, truth, atol=1e-8)


def test_in_float32_it_differs_by_less_than_noise(lines):
    for seed in range(9):
        (two_theta, profile, *_, placed, truth), found = both_ways(lines, seed, np.float32)
        expected, _, on_device, true = found
        assert abs(int(expected.axis.count) - len(two_theta)) <= 1
        np.testing.assert_allclose(expected.profile[: len(profile)], profile, atol=1e-3)
        assert np.mean(on_device.mask != placed.mask) <= 1e-3
        both = on_device.mask & placed.mask
        np.testing.assert_allclose(on_device.noise[both], placed.noise[both], rtol=0.02, atol=1e-5)
        for name in ("background", "excess"):
            own, other = getattr(on_device, name)[both], getattr(placed, name)[both]
            np.testing.assert_allclose(own, other, atol=3e-3, err_msg=name)
        np.testing.assert_allclose(true[both], truth[both], atol=2e-3)
        # A cell at the floor of noise may fall to either side of it.
        assert np.mean(np.abs(on_device.pattern - placed.pattern)[both] > 3e-3) <= 5e-3


@pytest.mark.parametrize("size", [3, 201])
def test_medians_of_windows(size):
    rng = np.random.default_rng(size)
    values = rng.integers(0, 40, 1000).astype(np.float32)  # many are equal
    start = rng.integers(0, 1000 - size + 1, 300)
    found = jax.jit(window_medians, static_argnums=2)(values, start, size)
    expected = [np.median(values[first : first + size]) for first in start]
    np.testing.assert_array_equal(found, expected)


def test_snip_of_a_stretch_is_that_of_the_stretch_alone():
    values = np.random.default_rng(0).gamma(1.0, 100.0, 500)
    with jax.enable_x64():
        found = jax.jit(device_grid.snip)(values, 100, 400)
    np.testing.assert_allclose(found[100:400], snip(values[100:400]), rtol=1e-9)


def test_where_peaks_have_too_many_points_all_tails_are_shorter():
    axis = Axis(np.float32(10.0), np.float32(0.01), np.int32(7000))
    position = np.linspace(20.0, 70.0, 200).astype(np.float32)
    columns = (
        position,
        np.ones(200, np.float32),
        np.full(200, 0.1, np.float32),
        np.zeros(200, np.float32),
    )
    draw = jax.jit(device_scans.peaks, static_argnums=6)
    whole, cut = (
        np.asarray(draw(axis, *columns, np.float32(0.5), Bounds(8192, drawn)))
        for drawn in (60_000, 20_000)
    )
    # 200 peaks of 2.4 degrees need 48,000 points; a Gaussian ends long before.
    assert whole.sum() * 0.01 == pytest.approx(200.0, rel=0.02)
    assert 0.93 < cut.sum() / whole.sum() < 0.99
    assert np.all(cut <= whole + 1e-3)


@pytest.mark.parametrize("march", [1.0, 0.5])
def test_lines_of_a_strained_and_textured_sample(march):
    atoms = Atoms(LATTICE, ATOMS[1], ATOMS[0])
    held = jax.tree.map(lambda leaf: leaf[0], structures_of([atoms], [TRICLINIC], [0], 512))
    strain = np.eye(3) + np.array([[0.004, 0.001, 0], [0.001, -0.003, 0], [0, 0, 0.006]])
    found = jax.jit(strained_lines)(
        held, strain.astype(np.float32), np.float32(0.8), np.float32(march), np.int32(3)
    )
    lattice = LATTICE @ strain
    one = reflections(lattice, *ATOMS, q_min=0.3, q_max=6.7, wavelength=1.5418, b_iso=0.8)
    intensity = textured(lattice, one.hkl, one.q, one.intensity, march, 3)
    q, total = merge_lines(one.q, intensity, min_relative=1e-3)
    there = np.flatnonzero(np.asarray(found.intensity) > 0.0)
    own = there[np.abs(np.asarray(found.q)[there][None] - q[:, None]).argmin(axis=1)]
    inside = q < 6.4
    np.testing.assert_allclose(np.asarray(found.q)[own][inside], q[inside], rtol=2e-6)
    share = np.asarray(found.intensity)[own][inside] / total[inside]
    # Form factors are those of the structure without strain.
    np.testing.assert_allclose(share / np.median(share), 1.0, atol=0.02)


def test_only_strain_that_the_crystal_system_allows():
    for system in range(len(CRYSTAL_SYSTEMS)):
        expected = strained(np.eye(3), system, 1.0, 0.01, np.random.default_rng(5))
        deviates = np.random.default_rng(5).normal(0.0, 0.01, 6)
        found = np.eye(3) + (deviates @ free_strain(system)).reshape(3, 3)
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-12)


def test_draws_have_the_laboratory_s_distributions():
    keys = jax.random.split(jax.random.key(0), 4000)
    laboratory = Laboratory(counts=(10.0, 1000.0))
    found = jax.jit(jax.vmap(lambda key: draw_sample(key, laboratory, 3, 2, 16384)))(keys)
    rng = np.random.default_rng(0)
    tube, q = TUBES[0], np.array([1.0, 2.0, 3.0])
    drawn = [draw_sample_numpy(rng, laboratory, tube, q, q[:2]) for _ in range(4000)]
    for name in Sample._fields:
        if name == "widths":  # fewer where K-alpha 2 is stripped
            continue
        own = np.sort(np.asarray(getattr(found, name), float).ravel())
        other = np.sort(np.array([getattr(one, name) for one in drawn], float).ravel())
        both = np.union1d(own, other)
        ranks = [np.searchsorted(part, both, side="right") / len(part) for part in (own, other)]
        # Kolmogorov and Smirnov; of 20 such distances one in a thousand is larger.
        assert np.abs(ranks[0] - ranks[1]).max() < 2.2 * np.sqrt(2.0 / len(own)), name
