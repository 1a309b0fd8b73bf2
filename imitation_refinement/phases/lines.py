"""The line list of a structure: what the library keeps of its pattern.

Belongs here: choosing, merging and relating the lines. Structure factors are in `xrd.diffraction`.
An amplitude is the root of |F|^2 summed over all reflections of one line, without the
Lorentz-polarization factor, which depends on the wavelength; relative to the largest.
"""

import numpy as np

from imitation_refinement.xrd import symmetry
from imitation_refinement.xrd.diffraction import lorentz_polarization, reflections

Q_MIN, Q_MAX = 0.4, 6.3  # 1/angstrom; 5.6 to 101 degrees with copper
LINES = 100  # of each structure; the strongest as copper shows them
B_ISO = 0.5  # angstrom^2, as in training
CHOICE_WAVELENGTH = 1.54184  # angstrom, copper K-alpha, at which lines are strong or weak
# Relative difference of q below which lines are one: cells come with five digits, which splits
# what symmetry makes equal; 16 bits of ln q are as coarse.
SAME_Q = 5e-5


def line_list(
    lattice: np.ndarray,
    positions: np.ndarray,
    numbers: np.ndarray,
    occupancies: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The strongest lines of a structure between Q_MIN and Q_MAX.

    Args:
        lattice: [3, 3] vectors as rows, angstrom.
        positions: [n, 3], fractional.
        numbers: int [n], atomic numbers; elements that share a site are several atoms.
        occupancies: [n]; None is 1.

    Returns:
        (q, amplitude), float32 [m], m <= LINES; q ascending, 1/angstrom; the largest amplitude is
        1. A line of several q closer than SAME_Q has their mean, weighted by intensity.

    Raises:
        ValueError: the cell is absurdly large, or no line is in the range.
    """
    basis = symmetry.reduced_basis(lattice)
    found = reflections(
        basis @ lattice,
        positions @ np.linalg.inv(basis),
        numbers,
        occupancies,
        q_min=Q_MIN,
        q_max=Q_MAX,
        wavelength=CHOICE_WAVELENGTH,
        b_iso=B_ISO,
    )
    if len(found.q) == 0:
        raise ValueError(f"no line between q = {Q_MIN} and {Q_MAX} 1/angstrom")
    order = np.argsort(found.q)
    q, intensity = found.q[order], found.intensity[order]
    first = np.concatenate([[0], 1 + np.flatnonzero(np.diff(q) > SAME_Q * q[1:])])
    total = np.add.reduceat(intensity, first)
    center = np.add.reduceat(intensity * q, first) / total
    strongest = np.sort(np.argsort(-total, kind="stable")[:LINES])
    q, total = center[strongest], total[strongest]
    two_theta = 2.0 * np.degrees(np.arcsin(q * CHOICE_WAVELENGTH / (4.0 * np.pi)))
    amplitude = np.sqrt(total / lorentz_polarization(two_theta))
    return q.astype(np.float32), (amplitude / amplitude.max()).astype(np.float32)
