"""Simulated scans: from reflections of a crystal to counts over 2 theta, as a laboratory has them.

Belongs here: what happens between a crystal and the file that a diffractometer writes. The scan
is not yet on the grid: `xrd.scans.on_grid` puts it there as it does with a user's file, so that
what is learned on these scans has seen background subtraction and noise floor as they are. What is
the same on any grid (texture, displacement, both K-alpha lines) comes from `xrd.imperfections`.
The random numbers come from `samples`.

Angles are 2 theta in degrees, q = 2 pi / d in 1/angstrom.
"""

from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter1d, uniform_filter1d

from imitation_refinement.phases.samples import (
    COPPER,
    TUBES,
    Sample,
    Treatment,
    Tube,
    draw_sample,
    draw_treatment,
)
from imitation_refinement.phases.samples import Laboratory as Laboratory
from imitation_refinement.xrd.background import snip
from imitation_refinement.xrd.crystals import CRYSTAL_SYSTEMS
from imitation_refinement.xrd.diffraction import merge_lines
from imitation_refinement.xrd.grid import two_theta_from_q
from imitation_refinement.xrd.imperfections import displaced, log_uniform, march_dollase
from imitation_refinement.xrd.profiles import scherrer_fwhm
from imitation_refinement.xrd.scans import Scan

TAIL = 12.0  # half widths of the window in which a peak is drawn, in full widths
FINEST = 0.004  # degrees; no peak is narrower
AXES = 12  # reflections of smallest q among which the axis of texture is drawn


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
    axis: int,
) -> np.ndarray:  # fmt: skip
    """Returns intensities of a sample with a preferred orientation along one direction.

    Args:
        lattice: vectors as rows, `[3, 3]`.
        hkl: int `[m, 3]`.
        q: `[m]`.
        intensity: `[m]`.
        march: see `march_dollase`.
        axis: along the reflection of which place in the order of q.
    """
    direction = hkl @ np.linalg.inv(lattice).T
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    return intensity * march_dollase(march, direction @ direction[np.argsort(q)[axis]])


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
    left = np.clip(np.ceil((position - TAIL * fwhm - two_theta[0]) / step), 0, len(two_theta))
    right = np.clip(np.ceil((position + TAIL * fwhm - two_theta[0]) / step), 0, len(two_theta))
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
    tube = TUBES[rng.choice(len(TUBES), p=[tube.share for tube in TUBES])]
    if rng.random() < laboratory.textured:
        march, axis = log_uniform(rng, laboratory.march), int(rng.choice(min(AXES, len(q))))
        intensity = textured(lattice, hkl, q, intensity, march, axis)
    q, intensity = merge_lines(q, intensity)
    sample = draw_sample(rng, laboratory, tube, q, None if impurity is None else impurity[0])
    two_theta, profile, background = expected_scan(q, intensity, tube, sample, impurity)
    counts = rng.poisson((profile + background) * sample.strongest).astype(np.float64)
    treatment = draw_treatment(rng, laboratory, sample.stripped)
    return treated(two_theta, counts, profile * sample.strongest, tube, sample.step, treatment)


def expected_scan(
    q: np.ndarray,
    intensity: np.ndarray,
    tube: Tube,
    sample: Sample,
    impurity: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the axis of a scan, its peaks and its background, float64 `[n]` each.

    Both are relative to the strongest point of the peaks.

    Args:
        q: of the lines, `[m]`.
        intensity: `[m]`.
        tube: of the diffractometer.
        sample: what was drawn.
        impurity: (q, intensity) of the second phase, if `sample.impurity` is above 0.
    """
    intensity = intensity * np.exp(sample.grains)
    intensity = intensity / intensity.max()
    if impurity is not None and sample.impurity > 0.0:
        q = np.concatenate([q, impurity[0]])
        intensity = np.concatenate([intensity, sample.impurity / impurity[1].max() * impurity[1]])

    # The range of a laboratory with another tube covers the same q.
    limits = np.array([sample.first, sample.last])
    sine = np.minimum(np.sin(np.radians(limits / 2.0)) * tube.mean / COPPER, 0.95)
    begin, end = 2.0 * np.degrees(np.arcsin(sine))
    step = sample.step * tube.mean / COPPER
    two_theta = np.arange(begin, end, step)
    inside = tube.reached(q)
    q, intensity = q[inside], intensity[inside]

    wavelengths = (tube.first,) if sample.stripped else (tube.first, tube.second)
    shares = (1.0,) if sample.stripped else (2.0 / 3.0, 1.0 / 3.0)
    position = np.concatenate(
        [
            two_theta_from_q(displaced(q, sample.displacement, length), length)
            for length in wavelengths
        ]
    )
    position += sample.zero
    area = np.concatenate([share * intensity for share in shares])

    theta = np.radians(0.5 * position)
    size = scherrer_fwhm(sample.size_nm)
    per_q = np.degrees(tube.mean / (2.0 * np.pi)) / np.cos(theta)  # d(2 theta) / dq
    broad = size * per_q, np.degrees(4.0 * sample.strain) * np.tan(theta)
    instrument = sample.instrument * (1.0 + 0.6 * np.tan(theta) ** 2)
    fwhm = np.sqrt(instrument**2 + broad[0] ** 2 + broad[1] ** 2)
    fwhm *= np.exp(sample.widths)
    fwhm = np.maximum(fwhm, max(FINEST, step))
    axial = sample.axial * np.exp(-position / 20.0)
    profile = peaks(two_theta, position, area, fwhm, sample.eta, axial)
    profile /= max(profile.max(), np.finfo(np.float64).tiny)
    return two_theta, profile, _background(two_theta / (tube.mean / COPPER), sample)


def _background(two_theta: np.ndarray, sample: Sample) -> np.ndarray:
    """Scattering by air, a constant, and one broad hump, relative to the strongest peak, `[n]`."""
    amorphous = np.exp(-0.5 * ((two_theta - sample.center) / sample.width) ** 2)
    air = np.exp(-(two_theta - two_theta[0]) / sample.decay)
    return sample.air * air + sample.constant + sample.hump * amorphous


def treated(
    two_theta: np.ndarray,
    counts: np.ndarray,
    expected: np.ndarray,
    tube: Tube,
    step: float,
    treatment: Treatment,
) -> Measurement:
    """Returns a scan as a laboratory hands it on.

    Args:
        two_theta: degrees, `[n]`.
        counts: `[n]`.
        expected: counts of the peaks alone, `[n]`.
        tube: of the diffractometer.
        step: as for copper, degrees.
        treatment: what is done.
    """
    step = step * tube.mean / COPPER
    if treatment.smoothing > 0.0:
        width = treatment.smoothing / step
        counts, expected = (gaussian_filter1d(each, width) for each in (counts, expected))
    if treatment.subtracted:
        counts = _subtracted(counts, step, treatment.level)
    stated = tube.first if treatment.first_line else tube.mean
    scan = Scan(two_theta, counts, stated, "simulated")
    return Measurement(scan, expected, not (treatment.smoothing > 0.0 or treatment.subtracted))


def _subtracted(counts: np.ndarray, step: float, deviations: float) -> np.ndarray:
    """What a laboratory's program leaves of counts when it takes the background off, `[n]`."""
    window = max(3, round(0.4 / step))
    smooth = uniform_filter1d(counts, window, mode="nearest")
    stride = max(1, round(0.1 / step))  # SNIP's window is in points: 0.1 degrees each here
    coarse = snip(np.maximum(smooth[::stride], 0.0))
    places = np.arange(len(counts))
    background = np.interp(places, places[::stride], coarse)
    level = background + deviations * np.sqrt(np.maximum(background, 1.0))
    return np.maximum(counts - level, 0.0)
