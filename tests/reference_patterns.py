"""Lines and profiles by direct sums, slow and plain: what the fast forms are held against."""

import numpy as np
from scipy.special import voigt_profile

from imitation_refinement.xrd.diffraction import (
    lorentz_polarization,
    reflection_q,
    scattering_factor,
)
from imitation_refinement.xrd.grid import Grid, grid_q
from imitation_refinement.xrd.profiles import SIGMA_PER_FWHM, scherrer_fwhm

# pymatgen merges lines closer than this and drops those weaker than 1e-3 (of 100).
TWO_THETA_TOLERANCE = 1e-5
SCALED_INTENSITY_TOLERANCE = 1e-3


def peaks_two_theta(
    lattice: np.ndarray,
    positions: np.ndarray,
    numbers: np.ndarray,
    *,
    wavelength: float,
    two_theta_min: float,
    two_theta_max: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Peaks by the direct sum over atoms with exact scattering factors, slow and plain.

    Follows pymatgen's XRDCalculator: no displacement factor, lines within 1e-5 degrees are merged,
    those below 1e-3 % of the strongest dropped. The oracle of `reflections`.

    Returns:
      (two_theta, intensity), float64 [peaks], degrees and percent of the strongest.
    """
    g_min, g_max = 2.0 * np.sin(np.radians([two_theta_min, two_theta_max]) / 2.0) / wavelength
    bounds = np.floor(g_max * np.linalg.norm(lattice, axis=1) + 1e-9).astype(int)
    box = np.stack(
        np.meshgrid(*(np.arange(-bound, bound + 1) for bound in bounds), indexing="ij"), axis=-1
    ).reshape(-1, 3)
    g = reflection_q(lattice, box) / (2.0 * np.pi)
    inside = (g > 0.0) & (g >= g_min) & (g <= g_max)
    hkl, g = box[inside], g[inside]
    factors = scattering_factor(np.asarray(numbers)[None], (g[:, None] / 2.0) ** 2)
    structure_factor = np.sum(factors * np.exp(2j * np.pi * (hkl @ positions.T)), axis=1)
    two_theta = 2.0 * np.degrees(np.arcsin(wavelength * g / 2.0))
    intensity = np.abs(structure_factor) ** 2 * lorentz_polarization(two_theta)

    order = np.argsort(two_theta)
    two_theta, intensity = two_theta[order], intensity[order]
    first, start = [], 0
    while start < len(two_theta):
        first.append(start)
        start = int(np.searchsorted(two_theta, two_theta[start] + TWO_THETA_TOLERANCE))
    intensity = np.add.reduceat(intensity, first) if first else intensity
    scaled = 100.0 * intensity / intensity.max(initial=1e-300)
    kept = scaled > SCALED_INTENSITY_TOLERANCE
    return two_theta[first][kept], scaled[kept]


def render_exact(
    q_lines: np.ndarray,
    intensity: np.ndarray,
    grid: Grid,
    *,
    size_nm: float,
    microstrain: float = 0.0,
    eta: float = 0.0,
    instrument_fwhm: float = 0.0,
) -> np.ndarray:
    """Returns what `render` does, by summing peak functions line by line, float64 `[L]`.

    Slow and plain: the oracle of `render`. Microstrain is a Gaussian in q of FWHM 2 epsilon q here
    and one in ln q there; they agree to first order in epsilon.
    """
    fwhm = np.hypot(scherrer_fwhm(size_nm), instrument_fwhm)
    pattern = np.zeros(grid.length)
    for line, height in zip(q_lines, intensity, strict=True):
        offset = grid_q(grid) - line
        strain_sigma = SIGMA_PER_FWHM * 2.0 * microstrain * line
        sigma = np.hypot(SIGMA_PER_FWHM * fwhm, strain_sigma)
        peak = (1.0 - eta) * voigt_profile(offset, sigma, 0.0)
        if eta > 0.0:
            peak += eta * voigt_profile(offset, strain_sigma, 0.5 * fwhm)
        pattern += height * peak
    return pattern
