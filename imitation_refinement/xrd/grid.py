"""The axis of a pattern: points in momentum transfer q, and conversions between q, d and 2 theta.

q = 2 pi / d = 4 pi sin(theta) / lambda; q in 1/angstrom, d and lambda in angstrom, 2 theta in
degrees.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

Q_LABEL = "q (1/Å)"


class Grid(NamedTuple):
    """Where the points of a pattern lie.

    Attributes:
        q_min: first point, 1/angstrom.
        q_max: last point, 1/angstrom.
        length: number of points L.
        axis: uniform in what: `geometric_q` (ln q, on which a change of the cell's size is a pure
            shift; AgileFD's choice), `q` or `two_theta` (at `wavelength`).
        wavelength: angstrom.
    """

    q_min: float = 1.1
    q_max: float = 5.9
    length: int = 2000
    axis: str = "geometric_q"
    wavelength: float = 1.54184


@lru_cache(maxsize=64)
def grid_q(grid: Grid) -> np.ndarray:
    """Returns q of each point, float64 `[L]`, increasing; computed once, not to be written to.

    Raises:
        ValueError: unknown axis, or q_max cannot be reached at the wavelength.
    """
    if grid.axis == "geometric_q":
        q = np.geomspace(grid.q_min, grid.q_max, grid.length)
    elif grid.axis == "q":
        q = np.linspace(grid.q_min, grid.q_max, grid.length)
    elif grid.axis == "two_theta":
        first, last = two_theta_from_q(np.array([grid.q_min, grid.q_max]), grid.wavelength)
        two_theta = np.linspace(first, last, grid.length)
        q = q_from_two_theta(two_theta, grid.wavelength)
    else:
        raise ValueError(f"axis {grid.axis!r} is none of geometric_q, q, two_theta")
    q.flags.writeable = False
    return q


def two_theta_from_q(q: np.ndarray, wavelength: float) -> np.ndarray:
    """Returns the scattering angle in degrees.

    Raises:
        ValueError: q is beyond 4 pi / wavelength, where nothing is diffracted.
    """
    sine = np.asarray(q, np.float64) * wavelength / (4.0 * np.pi)
    if np.any(sine > 1.0):
        raise ValueError(
            f"q up to {np.max(q):.3f} 1/angstrom cannot be reached at {wavelength} angstrom: "
            f"the limit is {4.0 * np.pi / wavelength:.3f}"
        )
    return 2.0 * np.degrees(np.arcsin(sine))


def q_from_two_theta(two_theta: np.ndarray, wavelength: float) -> np.ndarray:
    """Returns q in 1/angstrom of scattering angles in degrees."""
    return 4.0 * np.pi / wavelength * np.sin(np.radians(np.asarray(two_theta, np.float64)) / 2.0)


def d_from_q(q: np.ndarray) -> np.ndarray:
    """Returns d-spacings in angstrom."""
    return 2.0 * np.pi / np.asarray(q, np.float64)
