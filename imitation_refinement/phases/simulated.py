"""Simulated scans: from reflections of a crystal to counts over 2 theta, as a laboratory has them.

Belongs here: what happens between a crystal and the file that a diffractometer writes. The scan
is not yet on the grid: `xrd.scans.on_grid` puts it there as it does with a user's file, so that
what is learned on these scans has seen background subtraction and noise floor as they are. What is
the same on any grid (texture, displacement, both K-alpha lines) comes from `xrd.imperfections`.

Angles are 2 theta in degrees, q = 2 pi / d in 1/angstrom.
"""

from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter1d, uniform_filter1d

from imitation_refinement.xrd.background import snip
from imitation_refinement.xrd.crystals import CRYSTAL_SYSTEMS
from imitation_refinement.xrd.diffraction import merge_lines
from imitation_refinement.xrd.grid import two_theta_from_q
from imitation_refinement.xrd.imperfections import (
    K_ALPHA,
    displaced,
    log_uniform,
    march_dollase,
)
from imitation_refinement.xrd.profiles import scherrer_fwhm
from imitation_refinement.xrd.scans import Scan

_TAIL = 12.0  # half widths of the window in which a peak is drawn, in full widths
_FINEST = 0.004  # degrees; no peak is narrower
_AXES = 12  # reflections of smallest q among which the axis of texture is drawn
_COPPER = (2.0 * K_ALPHA[0] + K_ALPHA[1]) / 3.0
# (share of the laboratories, wavelength of K-alpha 1, of K-alpha 2); Bearden 1967.
_TUBES = ((0.9, *K_ALPHA), (0.06, 1.78897, 1.79285), (0.04, 0.70930, 0.71359))


class Laboratory(NamedTuple):
    """What simulated scans are drawn from; pairs are limits, log-uniform where positive.

    Attributes:
        first, last: of the scan, 2 theta of copper radiation, degrees, uniform.
        step: degrees.
        counts: expected at the strongest point, without background.
        background: of the strongest point, each of decay, constant, and hump.
        instrument: full width at half maximum at low angles, degrees.
        size_nm: of crystallites.
        strain: largest epsilon, quadratic towards 0.
        textured: share of the samples with a preferred orientation.
        march: March coefficient of these.
        grains: deviation of ln(intensity) of a line, uniform from 0: few grains, inexact atoms.
        displacement: h / R, standard deviation.
        zero: error of 2 theta, degrees, standard deviation.
        impure: share of the samples with a second phase.
        impurity: its strongest line.
        stripped: share of the scans without K-alpha 2.
        subtracted: share of the scans whose background the laboratory took off.
        smoothed: share of the scans that the laboratory smoothed.
        anisotropic: deviation of ln of a cell's axes against each other.
    """

    first: tuple[float, float] = (3.0, 20.0)
    last: tuple[float, float] = (55.0, 110.0)
    step: tuple[float, float] = (0.008, 0.06)
    counts: tuple[float, float] = (20.0, 30000.0)
    background: tuple[float, float] = (0.003, 0.25)
    instrument: tuple[float, float] = (0.04, 0.22)
    size_nm: tuple[float, float] = (12.0, 300.0)
    strain: float = 0.004
    textured: float = 0.6
    march: tuple[float, float] = (0.4, 1.3)
    grains: float = 0.5
    displacement: float = 3e-4
    zero: float = 0.015
    impure: float = 0.35
    impurity: tuple[float, float] = (0.01, 0.25)
    stripped: float = 0.3
    subtracted: float = 0.35
    smoothed: float = 0.25
    anisotropic: float = 0.0015


def strained(
    lattice: np.ndarray, system: int, scale: float, spread: float, rng: np.random.Generator
) -> np.ndarray:
    """Returns a lattice as another sample or temperature has it, float64 `[3, 3]`.

    The axes change together by `scale` and apart as the crystal system allows.

    Args:
        lattice: vectors as rows, in the standard orientation (c along z, b of monoclinic along y).
        system: index into CRYSTAL_SYSTEMS.
        scale: factor on all lengths.
        spread: standard deviation of each free component of the strain.
        rng: source of the draws.
    """
    name = CRYSTAL_SYSTEMS[system]
    strain = np.zeros((3, 3))
    x, y, z, shear_yz, shear_xz, shear_xy = rng.normal(0.0, spread, 6)
    if name in ("tetragonal", "trigonal", "hexagonal"):
        np.fill_diagonal(strain, (x, x, z))
    elif name != "cubic":
        np.fill_diagonal(strain, (x, y, z))
    if name in ("monoclinic", "triclinic"):
        strain[0, 2] = strain[2, 0] = shear_xz
    if name == "triclinic":
        strain[0, 1] = strain[1, 0] = shear_xy
        strain[1, 2] = strain[2, 1] = shear_yz
    return scale * lattice @ (np.eye(3) + strain)


def textured(
    lattice: np.ndarray, hkl: np.ndarray, q: np.ndarray, intensity: np.ndarray, march: float,
    rng: np.random.Generator,
) -> np.ndarray:  # fmt: skip
    """Returns intensities of a sample with a preferred orientation along one low-index direction.

    Args:
        lattice: vectors as rows, `[3, 3]`.
        hkl: int `[m, 3]`.
        q: `[m]`.
        intensity: `[m]`.
        march: see `march_dollase`.
        rng: draws the axis.
    """
    direction = hkl @ np.linalg.inv(lattice).T
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    axis = direction[rng.choice(np.argsort(q)[:_AXES])]
    return intensity * march_dollase(march, direction @ axis)


def peaks(
    two_theta: np.ndarray,
    position: np.ndarray,
    area: np.ndarray,
    fwhm: np.ndarray,
    eta: float,
    asymmetry: np.ndarray,
) -> np.ndarray:
    """Returns the sum of split pseudo-Voigt peaks, per degree, float64 `[n]`.

    The half to lower angles is wider by 1 + a, the other narrower by 1 - a, as axial divergence
    makes them; the area stays. Beyond 12 full widths a peak is not drawn.

    Args:
        two_theta: uniform axis, `[n]`.
        position: of the peaks, `[m]`.
        area: `[m]`.
        fwhm: `[m]`.
        eta: Lorentzian share.
        asymmetry: a, `[m]`, 0 to below 1.
    """
    step = two_theta[1] - two_theta[0]
    left = np.clip(np.ceil((position - _TAIL * fwhm - two_theta[0]) / step), 0, len(two_theta))
    right = np.clip(np.ceil((position + _TAIL * fwhm - two_theta[0]) / step), 0, len(two_theta))
    count = (right - left).astype(np.int64)
    line = np.repeat(np.arange(len(position)), count)
    begin = np.cumsum(count) - count
    point = np.arange(count.sum()) - begin[line] + left.astype(np.int64)[line]
    offset = two_theta[point] - position[line]
    width = fwhm[line] * (1.0 - np.sign(offset) * asymmetry[line])
    u = (offset / width) ** 2
    gaussian = np.exp(-4.0 * np.log(2.0) * u) * (2.0 * np.sqrt(np.log(2.0) / np.pi))
    lorentzian = (2.0 / np.pi) / (1.0 + 4.0 * u)
    values = area[line] / fwhm[line] * ((1.0 - eta) * gaussian + eta * lorentzian)
    return np.bincount(point, values, len(two_theta))


class Measurement(NamedTuple):
    """A simulated scan and what an endless one without background would have shown.

    Attributes:
        scan: of n points.
        expected: counts of the peaks alone, without noise, float64 `[n]`; smoothed where the scan
            is.
        raw: whether the counts are as the detector had them, not smoothed and nothing taken off.
    """

    scan: Scan
    expected: np.ndarray
    raw: bool


def simulate_measurement(
    lattice: np.ndarray,
    hkl: np.ndarray,
    q: np.ndarray,
    intensity: np.ndarray,
    rng: np.random.Generator,
    laboratory: Laboratory = Laboratory(),  # noqa: B008 (immutable)
    impurity: tuple[np.ndarray, np.ndarray] | None = None,
) -> Measurement:
    """Draws a scan of a sample of one phase, perhaps with a little of another, and its peaks.

    Args:
        lattice: vectors as rows, `[3, 3]`.
        hkl: of half of reciprocal space, int `[m, 3]`.
        q: `[m]`.
        intensity: with the Lorentz-polarisation factor, `[m]`.
        rng: source of the draws.
        laboratory: what is drawn from.
        impurity: (q, intensity) of the other phase; none is added without it.
    """
    tube = rng.choice(len(_TUBES), p=[share for share, *_ in _TUBES])
    first_line, second_line = _TUBES[tube][1:]
    mean = (2.0 * first_line + second_line) / 3.0
    if rng.random() < laboratory.textured:
        intensity = textured(lattice, hkl, q, intensity, log_uniform(rng, laboratory.march), rng)
    q, intensity = merge_lines(q, intensity)
    grains = rng.uniform(0.0, laboratory.grains) * rng.random()
    intensity = intensity * np.exp(rng.normal(0.0, grains, len(q)))
    intensity = intensity / intensity.max()
    if impurity is not None and rng.random() < laboratory.impure:
        share = log_uniform(rng, laboratory.impurity) / impurity[1].max()
        q = np.concatenate([q, impurity[0]])
        intensity = np.concatenate([intensity, share * impurity[1]])

    # The range of a laboratory with another tube covers the same q.
    limits = np.array([rng.uniform(*laboratory.first), rng.uniform(*laboratory.last)])
    sine = np.minimum(np.sin(np.radians(limits / 2.0)) * mean / _COPPER, 0.95)
    begin, end = 2.0 * np.degrees(np.arcsin(sine))
    step = log_uniform(rng, laboratory.step) * mean / _COPPER
    two_theta = np.arange(begin, end, step)
    inside = q * max(first_line, second_line) < 0.98 * 4.0 * np.pi
    q, intensity = q[inside], intensity[inside]

    stripped = rng.random() < laboratory.stripped
    wavelengths = (first_line,) if stripped else (first_line, second_line)
    shares = (1.0,) if stripped else (2.0 / 3.0, 1.0 / 3.0)
    displacement = rng.normal(0.0, laboratory.displacement)
    position = np.concatenate(
        [two_theta_from_q(displaced(q, displacement, length), length) for length in wavelengths]
    )
    position += rng.normal(0.0, laboratory.zero)
    area = np.concatenate([share * intensity for share in shares])

    theta = np.radians(0.5 * position)
    size = scherrer_fwhm(log_uniform(rng, laboratory.size_nm))
    strain = laboratory.strain * rng.random() ** 2
    per_q = np.degrees(mean / (2.0 * np.pi)) / np.cos(theta)  # d(2 theta) / dq
    broad = size * per_q, np.degrees(4.0 * strain) * np.tan(theta)
    instrument = log_uniform(rng, laboratory.instrument) * (1.0 + 0.6 * np.tan(theta) ** 2)
    fwhm = np.sqrt(instrument**2 + broad[0] ** 2 + broad[1] ** 2)
    # Broadening that differs from line to line: shapes of crystallites, stacking faults.
    fwhm *= np.exp(rng.normal(0.0, 0.15 * rng.random(), len(fwhm)))
    fwhm = np.maximum(fwhm, max(_FINEST, step))
    axial = rng.uniform(0.0, 0.3) * np.exp(-position / 20.0)
    profile = peaks(two_theta, position, area, fwhm, rng.uniform(0.0, 1.0), axial)
    profile /= max(profile.max(), np.finfo(np.float64).tiny)

    total = profile + _background(two_theta / (mean / _COPPER), rng, laboratory)
    strongest = log_uniform(rng, laboratory.counts)
    counts = rng.poisson(total * strongest).astype(np.float64)
    expected = profile * strongest
    smooth = rng.random() < laboratory.smoothed
    if smooth:
        width = log_uniform(rng, (0.02, 0.08)) / step
        counts, expected = (gaussian_filter1d(each, width) for each in (counts, expected))
    subtract = rng.random() < laboratory.subtracted
    if subtract:
        counts = _subtracted(counts, step, rng)
    stated = first_line if stripped and rng.random() < 0.7 else mean
    scan = Scan(two_theta, counts, stated, "simulated")
    return Measurement(scan, expected, raw=not (smooth or subtract))


def _background(
    two_theta: np.ndarray, rng: np.random.Generator, laboratory: Laboratory
) -> np.ndarray:
    """Scattering by air, a constant, and one broad hump, relative to the strongest peak, `[n]`."""
    decay, constant, hump = (log_uniform(rng, laboratory.background) for _ in range(3))
    center, width = rng.uniform(18.0, 32.0), rng.uniform(3.0, 9.0)
    amorphous = np.exp(-0.5 * ((two_theta - center) / width) ** 2)
    air = np.exp(-(two_theta - two_theta[0]) / rng.uniform(4.0, 20.0))
    return decay * air + constant + (hump * amorphous if rng.random() < 0.4 else 0.0)


def _subtracted(counts: np.ndarray, step: float, rng: np.random.Generator) -> np.ndarray:
    """What a laboratory's program leaves of counts when it takes the background off, `[n]`."""
    window = max(3, round(0.4 / step))
    smooth = uniform_filter1d(counts, window, mode="nearest")
    stride = max(1, round(0.1 / step))  # SNIP's window is in points: 0.1 degrees each here
    coarse = snip(np.maximum(smooth[::stride], 0.0))
    places = np.arange(len(counts))
    background = np.interp(places, places[::stride], coarse)
    level = background + rng.uniform(0.0, 1.0) * np.sqrt(np.maximum(background, 1.0))
    return np.maximum(counts - level, 0.0)
