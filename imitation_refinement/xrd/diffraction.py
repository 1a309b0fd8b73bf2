"""Kinematic powder diffraction: from a crystal to its reflections and merged lines.

Belongs here: scattering factors, structure factors, Lorentz-polarization, merging of equal d. No
peak has a width here. Units: lattice in angstrom, q = 2 pi / d in 1/angstrom, two_theta in degrees,
s = sin(theta) / wavelength = q / (4 pi), displacement parameters B in angstrom^2.

    F(hkl) = sum_j f_j(s) exp(-B s^2) exp(2 pi i h.x_j)
    I(hkl) = |F|^2 (1 + cos^2 2theta) / (sin^2 theta cos theta)

summed over all hkl, so no multiplicity appears. (Warren, X-ray Diffraction, chapters 3 and 4.)
"""

from functools import cache
from typing import NamedTuple

import numpy as np

from imitation_refinement.xrd.tables import element_tables

MOTT_BETHE = 41.78214  # 8 pi^2 Bohr radii in angstrom, of the Mott-Bethe formula
_STEPS_PER_S_SQUARED = 8192
# Relative difference of q below which two reflections share one line.
_SAME_Q = 1e-7
# Lattice points in the box around the sphere of reflections; a cell of 600,000 cubic angstrom has
# as many. What asks for more is a mistake in the cell and would take all memory.
_MAX_BOX = 5_000_000
# |F|^2 below this share of (sum f)^2 is a systematic absence plus rounding.
_ZERO = 1e-20


class Reflections(NamedTuple):
    """Reflections of half of reciprocal space; the other half (Friedel) is in the intensity.

    Attributes:
        hkl: int64 [m, 3], indices of the given (primitive) lattice.
        q: float64 [m].
        intensity: float64 [m], 2 |F|^2 LP, electrons squared.
    """

    hkl: np.ndarray
    q: np.ndarray
    intensity: np.ndarray


def reflections(
    lattice: np.ndarray,
    positions: np.ndarray,
    numbers: np.ndarray,
    weights: np.ndarray | None = None,
    /,
    *,
    q_min: float,
    q_max: float,
    wavelength: float,
    b_iso: float,
) -> Reflections:
    """All reflections with q_min <= q <= q_max and an intensity, in no particular order.

    The phases factorise over h, k and l, so the sum over atoms is a matrix product per element;
    scattering factors come from a table in steps of s^2 (error below 1e-5 of Z).

    Args:
        lattice: [3, 3] vectors as rows; fastest for a primitive, reduced one.
        positions: [n, 3], fractional.
        numbers: int [n], atomic numbers 1..98.
        weights: [n], occupancy of each atom, which multiplies its scattering factor; None is 1.
            The elements that share a site are several atoms at one position.
        q_min: smallest q.
        q_max: largest q; cut at the limiting sphere 4 pi / wavelength.
        wavelength: of the Lorentz-polarization factor.
        b_iso: isotropic displacement parameter of every atom.

    Raises:
        ValueError: q_max is beyond 4 pi, the end of the scattering-factor table, or the cell is so
            large that the reflections would not fit into memory.
    """
    q_max = min(q_max, 4.0 * np.pi / wavelength * (1.0 - 1e-9))
    if q_max > 4.0 * np.pi:
        raise ValueError(f"q_max {q_max:.3f} is beyond the tabulated 4 pi (1/angstrom)")
    # |h_i| = |a_i . g| <= |a_i| |g|: the box holds the sphere exactly.
    bounds = np.floor(q_max / (2.0 * np.pi) * np.sqrt(np.sum(lattice**2, axis=1)))
    if not (box := np.prod(2.0 * bounds + 1.0)) <= 2.0 * _MAX_BOX:
        raise ValueError(f"a cell so large that {box:.1e} reflections would have to be tried")
    h_max, k_max, l_max = bounds.astype(int)
    h, k, l = np.arange(h_max + 1), np.arange(-k_max, k_max + 1), np.arange(-l_max, l_max + 1)  # noqa: E741
    reciprocal = np.linalg.inv(lattice).T
    metric = reciprocal @ reciprocal.T
    g_squared = (
        (metric[0, 0] * h**2)[:, None, None]
        + (metric[1, 1] * k**2)[:, None]
        + metric[2, 2] * l**2
        + 2.0 * metric[0, 1] * (h[:, None] * k)[:, :, None]
        + 2.0 * metric[0, 2] * (h[:, None] * l)[:, None, :]
        + 2.0 * metric[1, 2] * (k[:, None] * l)
    )
    inside = (g_squared >= (q_min / (2.0 * np.pi)) ** 2) & (
        g_squared <= (q_max / (2.0 * np.pi)) ** 2
    )
    # One of each Friedel pair: h > 0, or h = 0 and k > 0, or h = k = 0 and l > 0.
    inside[0, :k_max] = False
    inside[0, k_max, : l_max + 1] = False
    chosen = np.flatnonzero(inside)
    indices = np.unravel_index(chosen, inside.shape)
    hkl = np.stack([h[indices[0]], k[indices[1]], l[indices[2]]], axis=1)
    g_squared = g_squared.ravel()[chosen]

    table_position = g_squared * (0.25 * _STEPS_PER_S_SQUARED)
    step = table_position.astype(int)
    fraction = table_position - step
    structure_factor = np.zeros(len(chosen), np.complex128)
    forward = np.zeros(len(chosen))
    if weights is None:
        weights = np.ones(len(numbers))
    for number in np.unique(numbers):
        own = numbers == number
        x, y, z = positions[own].T
        first = np.exp(2j * np.pi * np.multiply.outer(h, x))
        second = np.exp(2j * np.pi * np.multiply.outer(k, y))
        third = weights[own, None] * np.exp(2j * np.pi * np.multiply.outer(z, l))
        phases = (first[:, None] * second).reshape(-1, len(x)) @ third
        table = _scattering_table(int(number))
        factor = table[step] + fraction * (table[step + 1] - table[step])
        structure_factor += factor * phases.ravel()[chosen]
        forward += weights[own].sum() * factor
    squared = structure_factor.real**2 + structure_factor.imag**2
    present = squared > _ZERO * forward**2
    g_squared, squared = g_squared[present], squared[present]
    q = 2.0 * np.pi * np.sqrt(g_squared)
    sin_squared = g_squared * (0.25 * wavelength**2)
    polarization = 1.0 + (1.0 - 2.0 * sin_squared) ** 2
    lorentz = sin_squared * np.sqrt(1.0 - sin_squared)
    damping = np.exp(-0.5 * b_iso * g_squared)  # exp(-B s^2) squared, s^2 = g^2 / 4
    return Reflections(hkl[present], q, 2.0 * squared * damping * polarization / lorentz)


def reflection_q(lattice: np.ndarray, hkl: np.ndarray) -> np.ndarray:
    """Scattering vector lengths, float64 [m], of hkl [m, 3] on a lattice [3, 3] (rows)."""
    return 2.0 * np.pi * np.sqrt(np.sum((hkl @ np.linalg.inv(lattice).T) ** 2, axis=1))


def lorentz_polarization(two_theta: np.ndarray) -> np.ndarray:
    """(1 + cos^2 2theta) / (sin^2 theta cos theta), unpolarised beam, no monochromator.

    Args:
        two_theta: degrees, inside (0, 180).
    """
    double = np.radians(two_theta)
    theta = 0.5 * double
    return (1.0 + np.cos(double) ** 2) / (np.sin(theta) ** 2 * np.cos(theta))


def scattering_factor(numbers: np.ndarray, s_squared: np.ndarray) -> np.ndarray:
    """f(s) = Z - 41.78214 s^2 sum_i a_i exp(-b_i s^2), electrons; numbers and s^2 broadcast.

    De Graef and McHenry, Structure of Materials (2007); f(0) = Z.
    """
    numbers = np.asarray(numbers)
    s_squared = np.asarray(s_squared, float)
    a, b = np.moveaxis(element_tables().scattering[numbers], -1, 0)
    electron = np.sum(a * np.exp(-b * s_squared[..., None]), axis=-1)
    return numbers - MOTT_BETHE * s_squared * electron


@cache
def _scattering_table(number: int) -> np.ndarray:
    s_squared = np.arange(_STEPS_PER_S_SQUARED + 2) / _STEPS_PER_S_SQUARED
    return scattering_factor(np.full_like(s_squared, number, dtype=int), s_squared)


def merge_lines(
    q: np.ndarray, intensity: np.ndarray, *, min_relative: float = 1e-4
) -> tuple[np.ndarray, np.ndarray]:
    """Adds up reflections of equal d and drops weak lines.

    Args:
        q: [m], any order.
        intensity: [m].
        min_relative: lines below this share of the strongest are dropped.

    Returns:
        (q, intensity), float64, sorted by q.
    """
    if len(q) == 0:
        return np.zeros(0), np.zeros(0)
    order = np.argsort(q)
    q, intensity = q[order], intensity[order]
    first = np.concatenate([[0], 1 + np.flatnonzero(np.diff(q) > _SAME_Q * q[1:])])
    total = np.add.reduceat(intensity, first)
    kept = total >= min_relative * total.max()
    return q[first][kept], total[kept]
