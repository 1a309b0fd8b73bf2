"""The reflections of a cell, and which of them make up the lines of a library.

Belongs here: the list of all up to a length, by their length, and the members of each line of it.
A library keeps lines by q alone; whoever asks how a line moves, or about which axis its planes
turn, needs its indices.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from imitation_refinement.xrd.symmetry import lattice_vectors

_FURTHER = 1.0003  # how much further than the last line the list goes


class Reflections(NamedTuple):
    """One of each pair hkl, -h-k-l, but for 000, in the order of their q.

    Attributes:
        hkl: float64 `[3, n]`.
        log_q: ln of q, in 1/angstrom, ascending, float64 `[n]`.
    """

    hkl: np.ndarray
    log_q: np.ndarray


class Members(NamedTuple):
    """Reflections of those lines that have some, m of them.

    Attributes:
        line: which, int `[m]`.
        size: reflections of each, int `[m]`.
        begin: place of the first of each in `own`, int `[m]`.
        own: the reflections, line after line, places in the list; two lines may share some.
    """

    line: np.ndarray
    size: np.ndarray
    begin: np.ndarray
    own: np.ndarray


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
    axes = (np.arange(-m, m + 1.0) for m in indices_below(cell, q_max))
    hkl = np.stack(np.meshgrid(*axes, indexing="ij")).reshape(3, -1)
    hkl = hkl[:, : hkl.shape[1] // 2]  # no -h, no 0
    normals = np.linalg.inv(lattice_vectors(cell)) @ hkl
    square = (normals * normals).sum(axis=0)
    low = np.flatnonzero(square < (q_max * _FURTHER / (2.0 * np.pi)) ** 2)
    order = low[np.argsort(square[low])]
    found = Reflections(hkl[:, order], 0.5 * np.log(square[order]) + np.log(2.0 * np.pi))
    for array in found:
        array.flags.writeable = False
    return found


def members(log_q: np.ndarray, q: np.ndarray, same: float) -> Members:
    """Returns which reflections make up each line.

    Args:
        log_q: of `Reflections`, `[n]`.
        q: of the lines, 1/angstrom, `[lines]`.
        same: largest difference of ln q of a line and its reflections.
    """
    first, last = (np.searchsorted(log_q, np.log(q) + off) for off in (-same, same))
    line = np.flatnonzero(last > first)
    size = (last - first)[line]
    begin = np.cumsum(size) - size
    own = np.arange(size.sum()) + np.repeat(first[line] - begin, size)
    return Members(line, size, begin, own)
