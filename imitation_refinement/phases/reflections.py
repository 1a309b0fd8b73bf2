"""The reflections of a cell, and which of them make up the lines of a library.

Belongs here: the list of all up to a length, by their length, and the members of each line of it.
A library keeps lines by q alone; whoever asks how a line moves, or about which axis its planes
turn, needs its indices.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from imitation_refinement.phases.compiled_lines import listed
from imitation_refinement.xrd.symmetry import lattice_vectors

_FURTHER = 1.0003  # how much further than the last line the list goes


class Reflections(NamedTuple):
    """One of each pair hkl, -h-k-l, but for 000, in the order of their q.

    Attributes:
        hkl: float64 `[3, n]`.
        normal: of the planes, as long as one over their distance, 1/angstrom, float64 `[3, n]`.
        log_q: ln of q, in 1/angstrom, ascending, float64 `[n]`.
    """

    hkl: np.ndarray
    normal: np.ndarray
    log_q: np.ndarray


def indices_below(cell: np.ndarray, q_max: float) -> np.ndarray:
    """Returns the largest h, k and l of reflections up to q_max, int `[3]`.

    Args:
        cell: a, b, c in angstrom, alpha, beta, gamma in degrees, `[6]`.
        q_max: in 1/angstrom.
    """
    return np.floor(np.asarray(cell)[:3] * q_max / (2.0 * np.pi) * 1.001).astype(int)


def reflections(cell: np.ndarray, q_max: float) -> Reflections:
    """Returns the reflections of a cell up to a little beyond q_max; not to be written to.

    The last few lists are kept: a cell is asked for its lines' slopes, then for their axes.

    Args:
        cell: see `indices_below`.
        q_max: in 1/angstrom.
    """
    return _listed(np.asarray(cell, np.float64).tobytes(), float(q_max))


@lru_cache(maxsize=8)
def _listed(packed: bytes, q_max: float) -> Reflections:
    cell = np.frombuffer(packed)
    inverse = np.linalg.inv(lattice_vectors(cell))
    limit = (q_max * _FURTHER / (2.0 * np.pi)) ** 2
    hkl, square = listed(inverse, indices_below(cell, q_max), limit)
    order = np.argsort(square, kind="stable")
    hkl, log_q = hkl[:, order], 0.5 * np.log(square[order]) + np.log(2.0 * np.pi)
    found = Reflections(hkl, inverse @ hkl, log_q)
    for array in found:
        array.flags.writeable = False
    return found


def members(log_q: np.ndarray, q: np.ndarray, same: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns which reflections make up each line: two lines may share some.

    Args:
        log_q: of `Reflections`, `[n]`.
        q: of the lines, 1/angstrom, `[m]`.
        same: largest difference of ln q of a line and its reflections.

    Returns:
        (the first reflection of each line, one after the last), int `[m]` each.
    """
    at = np.log(q)
    return np.searchsorted(log_q, at - same), np.searchsorted(log_q, at + same)
