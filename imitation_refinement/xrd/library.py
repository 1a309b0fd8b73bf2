"""Simulated composition-spread libraries: patterns of a ternary thin film and the phases in it.

Belongs here: the phase diagram (tie-triangles, lever rule, solubility, alloying), the diffraction
of each point with texture, widths, background and noise, and background subtraction as a
beamline's software does it. What is done with the patterns afterwards is in `unmix`.
"""

from typing import NamedTuple

import numpy as np
from scipy.spatial import Delaunay

from imitation_refinement.xrd import imperfections as effects
from imitation_refinement.xrd.background import snip
from imitation_refinement.xrd.crystals import Crystal, strained, system_preserving
from imitation_refinement.xrd.diffraction import merge_lines, reflection_q, reflections
from imitation_refinement.xrd.grid import Grid
from imitation_refinement.xrd.ideal import Q_MARGIN
from imitation_refinement.xrd.profiles import ideal_pattern, normalize_max, render
from imitation_refinement.xrd.ranges import Imperfection, Options

GRID_STEPS = 10  # composition points lie at multiples of 1/10: 66 of them
MIN_SEPARATION = 0.22  # between the compositions of phases; the triangle's side is 1
SNIP_SHARE = 0.025  # of the pattern's length: largest clipping distance, 50 of 2000 points
TEXTURE_AXES = np.array([(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, 1, 1)], float)
_CORNERS = np.array([(0.0, 0.0), (1.0, 0.0), (0.5, np.sqrt(0.75))])


class Diffraction(NamedTuple):
    """How lines are simulated.

    Attributes:
        grid: axis of the patterns.
        b_iso: displacement parameter, angstrom^2.
    """

    grid: Grid
    b_iso: float = 0.5


class Library(NamedTuple):
    """One library of p points and k phases.

    Attributes:
        composition: float64 [p, 3], shares of the three end members.
        fraction: float64 [p, k], phase fractions, each row summing to 1.
        axial: float64 [p, k, 3], strain of a, b, c of each phase at each point.
        raw: float32 [p, L], counts over those of the median pattern's maximum.
        pattern: float32 [p, L], the same after background subtraction, not negative.
        truth: float32 [k, L], ideal pattern of each phase on its mean lattice, maximum 1.
    """

    composition: np.ndarray
    fraction: np.ndarray
    axial: np.ndarray
    raw: np.ndarray
    pattern: np.ndarray
    truth: np.ndarray


# --- Phase diagram -------------------------------------------------------------------------------


def composition_grid(steps: int = GRID_STEPS) -> np.ndarray:
    """Returns the points of a ternary diagram at multiples of 1/steps, float64 [p, 3]."""
    points = [(i, j, steps - i - j) for i in range(steps + 1) for j in range(steps + 1 - i)]
    return np.array(points, float) / steps


def phase_compositions(rng: np.random.Generator, phases: int) -> np.ndarray:
    """Returns the three corners and `phases` - 3 interior points, float64 [phases, 3].

    Interior points are drawn from a Dirichlet distribution (1.2) until each is at least 0.22
    from the others.

    Raises:
        ValueError: fewer than 3 phases, or more than 6, for which there may be no room.
    """
    if not 3 <= phases <= 6:
        raise ValueError(f"{phases} phases: a library has 3 to 6")
    while True:
        compositions = np.eye(3)
        for _ in range(100):
            if len(compositions) == phases:
                return compositions
            drawn = rng.dirichlet(np.full(3, 1.2))
            distance = np.linalg.norm((compositions - drawn) @ _CORNERS, axis=1)
            if distance.min() >= MIN_SEPARATION:
                compositions = np.concatenate([compositions, drawn[None]])


def phase_fractions(
    points: np.ndarray, compositions: np.ndarray, solubility: float = 0.0
) -> np.ndarray:
    """Returns phase fractions by the lever rule in the tie-triangles, float64 [p, k].

    The tie-triangles are the Delaunay triangulation of the phases' compositions, so at most three
    phases coexist (Gibbs). Shares below the solubility s dissolve: w' = clip((w - s)/(1 - 2s), 0,
    1), scaled to sum 1, which opens one- and two-phase fields.

    Args:
        points: [p, 3], shares of the end members.
        compositions: [k, 3], of the phases; the corners are among them.
        solubility: s, below 1/3.
    """
    triangles = Delaunay(compositions @ _CORNERS).simplices
    # Shares in every triangle; a point is inside the one where the smallest is largest.
    shares = np.einsum("pc,tcv->ptv", points, np.linalg.inv(compositions[triangles]))
    own = np.argmax(shares.min(axis=-1), axis=1)
    rows = np.arange(len(points))
    inside = np.clip((shares[rows, own] - solubility) / (1.0 - 2.0 * solubility), 0.0, 1.0)
    fraction = np.zeros((len(points), len(compositions)))
    fraction[rows[:, None], triangles[own]] = inside
    return fraction / fraction.sum(axis=1, keepdims=True)


def alloying(points: np.ndarray, composition: np.ndarray, solubility: float) -> np.ndarray:
    """Returns how far a phase has moved in composition, over s, in the plane, float64 [p, 2].

    The distance from the ideal composition stops at the solubility s, where the neighbour
    begins: the length of a row is at most 1. Lattice parameters are linear in it (Vegard).

    Args:
        points: [p, 3].
        composition: [3], of the pure phase.
        solubility: s, positive.
    """
    offset = (points - composition) @ _CORNERS
    distance = np.linalg.norm(offset, axis=1, keepdims=True)
    return offset / np.maximum(distance, solubility)


# --- Diffraction ---------------------------------------------------------------------------------


class _Phase(NamedTuple):
    crystal: Crystal
    hkl: np.ndarray
    intensity: np.ndarray
    scale: float  # from summed intensity to a maximum of 1 in the ideal pattern


def _simulated(crystal: Crystal, diffraction: Diffraction) -> _Phase | None:
    grid = diffraction.grid
    found = reflections(
        crystal.lattice,
        crystal.positions,
        crystal.numbers,
        q_min=Q_MARGIN[0] * grid.q_min,
        q_max=Q_MARGIN[1] * grid.q_max,
        wavelength=grid.wavelength,
        b_iso=diffraction.b_iso,
    )
    if len(found.q) == 0:
        return None
    kept = found.intensity >= 1e-5 * found.intensity.max()
    hkl, q, intensity = (array[kept] for array in found)
    top = render(q, intensity, grid, size_nm=30.0).max()
    return _Phase(crystal, hkl, intensity, 1.0 / float(top)) if top > 0.0 else None


def texture_cosines(crystal: Crystal, hkl: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """Returns cosines between scattering vectors and a plane normal, float64 [m].

    Args:
        crystal: whose primitive cell hkl refers to.
        hkl: int [m, 3].
        axis: [3], indices of the plane in the conventional cell.
    """
    normal = np.linalg.inv(np.linalg.inv(crystal.primitive) @ crystal.lattice) @ axis
    vectors = hkl @ np.linalg.inv(crystal.lattice).T
    return vectors @ normal / (np.linalg.norm(vectors, axis=1) * np.linalg.norm(normal))


def has_lines(crystal: Crystal, diffraction: Diffraction) -> bool:
    """Returns whether the crystal has a peak on the grid."""
    return _simulated(crystal, diffraction) is not None


def truth_pattern(crystal: Crystal, diffraction: Diffraction) -> np.ndarray:
    """Returns the ideal pattern of a crystal: 30 nm, no texture, maximum 1, float32 [L]."""
    phase = _simulated(crystal, diffraction)
    if phase is None:
        return np.zeros(diffraction.grid.length, np.float32)
    q = reflection_q(crystal.lattice, phase.hkl)
    return ideal_pattern(*merge_lines(q, phase.intensity), diffraction.grid)


def simulate_library(
    crystals: list[Crystal],
    diffraction: Diffraction,
    rng: np.random.Generator,
    ranges: Imperfection,
    options: Options = Options(),  # noqa: B008 (immutable)
) -> Library:
    """Simulates a library with one phase per crystal.

    Args:
        crystals: 3 to 6, each with a peak on the grid.
        diffraction: axis, wavelength, displacement parameter.
        rng: source of the draws.
        ranges: of the imperfections.
        options: further imperfections.

    Raises:
        ValueError: a crystal has no peak on the grid, or there are too few or too many.
    """
    grid = diffraction.grid
    spread = effects.spread_factor(rng, ranges.spread)
    composition = composition_grid()
    compositions = phase_compositions(rng, len(crystals))
    solubility = rng.uniform(0.05, 0.18)
    fraction = phase_fractions(composition, compositions, solubility)
    distortion = _Distortion(
        zero_error=float(rng.normal(0.0, ranges.zero_error)),
        displacement=float(rng.normal(0.0, options.displacement)),
        k_alpha2=options.k_alpha2 > 0.0 and rng.random() < options.k_alpha2,
        lorentzian=effects.lorentzian_share(rng, options),
        instrument_fwhm=rng.uniform(*effects.INSTRUMENT_FWHM),
    )
    signal = np.zeros((len(composition), grid.length), np.float32)
    axial = np.zeros((*fraction.shape, 3))
    truth = np.zeros((len(crystals), grid.length), np.float32)
    for k, crystal in enumerate(crystals):
        phase = _simulated(crystal, diffraction)
        if phase is None:
            raise ValueError(f"phase {k} has no peak between q = {grid.q_min} and {grid.q_max}")
        moved = alloying(composition, compositions[k], solubility)
        largest = min(effects.log_uniform(rng, ranges.strain) * spread, effects.MAX_STRAIN)
        axial[:, k] = _axial_strain(rng, moved, largest, crystal.system)
        _add_phase(
            signal, phase, fraction[:, k], axial[:, k], grid, rng, ranges, spread, distortion
        )
        mean = np.average(axial[:, k], axis=0, weights=fraction[:, k])
        truth[k] = truth_pattern(strained(crystal, mean), diffraction)
    if options.impurity > 0.0:
        q, height = effects.impurity_lines(rng, grid, options.impurity)
        foreign = normalize_max(render(q, height, grid, size_nm=30.0)) * np.float32(height.max())
        signal += rng.random((len(signal), 1), np.float32) * foreign
    signal *= np.exp(rng.normal(0.0, 0.1, (len(signal), 1))).astype(np.float32)
    window = effects.covered(rng, grid.length, options.coverage)
    raw, pattern = _measured(rng, signal, grid, ranges, spread, options)
    if window is not None:
        raw, pattern = raw * window, pattern * window
        truth = np.stack([normalize_max(one) for one in truth * window])
    return Library(composition, fraction, axial, raw, pattern, truth)


def _axial_strain(
    rng: np.random.Generator, moved: np.ndarray, largest: float, system: int
) -> np.ndarray:
    """Strain of a, b, c [p, 3]: an isotropic part along one direction, 0.3 of it anisotropic."""
    angle = rng.uniform(0.0, 2.0 * np.pi, 2)
    along, across = (moved @ np.array([np.cos(a), np.sin(a)]) for a in angle)
    shape = system_preserving(rng.uniform(-1.0, 1.0, 3), system)
    return largest * (along[:, None] + 0.3 * across[:, None] * shape)


class _Distortion(NamedTuple):
    """What the instrument does to the lines of every phase alike."""

    zero_error: float
    displacement: float
    k_alpha2: bool
    lorentzian: float
    instrument_fwhm: float


def _add_phase(
    signal: np.ndarray,
    phase: _Phase,
    fraction: np.ndarray,
    axial: np.ndarray,
    grid: Grid,
    rng: np.random.Generator,
    ranges: Imperfection,
    spread: float,
    distortion: _Distortion,
) -> None:
    """Adds the patterns of one phase to `signal` [p, L], in place."""
    scale = phase.scale * float(np.exp(rng.normal(0.0, 0.4)))
    size_nm = rng.uniform(*ranges.size_nm)
    microstrain = rng.uniform(0.0, ranges.microstrain)
    march = float(np.exp(rng.normal(0.0, ranges.texture * spread)))
    axis = TEXTURE_AXES[rng.integers(len(TEXTURE_AXES))]
    cosines = texture_cosines(phase.crystal, phase.hkl, axis)
    wobble = np.exp(rng.normal(0.0, 0.04, len(signal))) if ranges.texture > 0.0 else 1.0
    marches = np.clip(march * wobble * np.ones(len(signal)), *effects.MARCH_RANGE)
    for point in np.flatnonzero(fraction > 0.0):
        q = reflection_q(strained(phase.crystal, axial[point]).lattice, phase.hkl)
        q = q * np.exp(distortion.zero_error)
        if distortion.displacement != 0.0:
            q = effects.displaced(q, distortion.displacement, grid.wavelength)
        height = phase.intensity * effects.march_dollase(marches[point], cosines)
        if distortion.k_alpha2:
            q, height = effects.k_alpha_doublet(q, height)
        pattern = render(
            q,
            height,
            grid,
            size_nm=size_nm,
            microstrain=microstrain,
            eta=distortion.lorentzian,
            instrument_fwhm=distortion.instrument_fwhm,
        )
        signal[point] += np.float32(scale * fraction[point]) * pattern


def _measured(
    rng: np.random.Generator,
    signal: np.ndarray,
    grid: Grid,
    ranges: Imperfection,
    spread: float,
    options: Options,
) -> tuple[np.ndarray, np.ndarray]:
    """Puts background and noise on noise-free patterns [p, L], and takes the background off.

    Returns:
        (raw, pattern), both over the median maximum, float32 [p, L].
    """
    points = len(signal)
    typical = float(np.median(signal.max(axis=1)))
    background = effects.draw_background(rng, grid, ranges, spread, options)
    level = 1.0 + rng.normal(0.0, 0.08, (points, 1)).clip(-0.5, 0.5).astype(np.float32)
    expected = signal / np.float32(typical) + level * background
    counts = np.float32(effects.log_uniform(rng, ranges.counts))
    measured = effects.poisson_counts(rng, counts * expected)
    if options.spikes > 0.0:
        measured += counts * effects.spikes(rng, measured.shape, options.spikes)
    bridged = measured
    if options.missing > 0.0:
        present = effects.missing_regions(rng, grid.length, options.missing)
        measured = measured * present
        # The estimate must not fall into a gap, or background would be left beside it.
        x = np.arange(grid.length)
        bridged = np.stack([np.interp(x, x[present], row[present]) for row in measured])
    estimate = snip(bridged, max(1, round(SNIP_SHARE * grid.length))).astype(np.float32)
    left = np.float32(1.0 - ranges.residual * rng.random())
    net = measured - left * estimate
    sigma = np.sqrt(np.maximum(estimate, 1.0))
    pattern = effects.sigma_floor(net, sigma, ranges.floor)
    return measured / counts, pattern / counts
