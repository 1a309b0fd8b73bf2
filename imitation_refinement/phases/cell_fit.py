"""The cell of a sample: the lengths and angles that a candidate's crystal system leaves free.

Belongs here: least squares of line positions. Matching changes a cell by one scale; here its axes
change apart. q^2 = (2 pi)^2 h G h^T is linear in the reciprocal metric G, and what symmetry leaves
free of G is what the rotations of the structure's setting keep.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from imitation_refinement.phases.compiled_lines import forgiving_fit, line_slopes, peaks_near
from imitation_refinement.phases.prototypes import GRID, log_axis
from imitation_refinement.phases.reflections import indices_below, members, reflections
from imitation_refinement.xrd.imperfections import K_ALPHA, displaced
from imitation_refinement.xrd.symmetry import lattice_vectors

_COPPER = (2.0 * K_ALPHA[0] + K_ALPHA[1]) / 3.0  # angstrom, for which `evidence` fits displacements
_MOST = 200_000  # reflections of a cell; the largest cells are left as they are
_SAME = 1e-4  # relative difference of q of a line of the library and its reflection
_ALONE = 5  # points of the grid within which no line is a fifth as strong
_REACH = 4  # points of the grid within which a line is looked for
_HEIGHT = 0.03  # of the strongest line's root, from which on a line counts
_POINT = 3e-4  # standard deviation of ln q of a strong line
_STRAIN, _DISPLACEMENT = 0.01, 4e-4  # deviations expected of ln q by each component, and of h / R
_ROUNDS = 4
_UNSEEN = 1e-6  # of the largest slope, below which a component has no effect on a line


class CellFit(NamedTuple):
    """A cell fitted to a scan.

    Attributes:
        cell: a, b, c in angstrom, alpha, beta, gamma in degrees, float64 `[6]`.
        deviation: of each, standard, float64 `[6]`.
        displacement: h / R of the sample.
        lines: how many were used.
    """

    cell: np.ndarray
    deviation: np.ndarray
    displacement: float
    lines: int


def fit_cell(
    cell: np.ndarray,
    rotations: np.ndarray,
    q: np.ndarray,
    height: np.ndarray,
    root: np.ndarray,
    *,
    shift: float,
    displacement: float,
) -> CellFit | None:
    """Fits the free components of a cell to the places of a scan's peaks.

    Linear least squares with weak Gaussian priors and Cauchy weights, which forgive a foreign peak.
    A line takes part if it stands alone, its reflections move together, and a peak is near it.

    Args:
        cell: of the library, see `CellFit`.
        rotations: of its space group, in its basis, `[k, 3, 3]`.
        q: lines of the library, 1/angstrom, ascending, `[m]`.
        height: of these, `[m]`.
        root: of `scan_roots` with fold 1, on `GRID`, `[L]`.
        shift: of ln q from the library to the scan, found before.
        displacement: h / R, found before.

    Returns:
        None where fewer lines than two more than what is free can be used, none of them depends on
        one of what is free, or what fits is no cell.
    """
    lattice = lattice_vectors(cell)
    metric = np.linalg.inv(lattice @ lattice.T)
    free = invariant_metrics(rotations)
    q, height = np.asarray(q, np.float64), np.sqrt(np.asarray(height, np.float64) / np.asarray(q))
    slope, used = _slopes(cell, free, q)
    axis = log_axis(GRID, 1)
    step = axis[1] - axis[0]
    place = (np.log(displaced(q * np.exp(shift), displacement, _COPPER)) - axis[0]) / step
    found, peak = peaks_near(place, height, root, _REACH, float(_ALONE), _HEIGHT)
    used &= found >= 0.0
    if used.sum() < len(free) + 2:
        return None
    slope, q, peak = slope[used], q[used], peak[used]
    steepest = np.abs(slope).max(axis=0)
    if steepest.min() < _UNSEEN * steepest.max():
        return None
    lever = np.log(displaced(q, 1e-4, _COPPER) / q) / 1e-4
    design, scale = np.column_stack([slope, lever]), np.append(_STRAIN / steepest, _DISPLACEMENT)
    observed, spread = axis[0] + step * found[used] - np.log(q), _POINT * np.sqrt(root.max() / peak)
    solved, normal = forgiving_fit(design, observed, spread, scale, _ROUNDS)
    changed = metric + (solved[:-1] @ free.reshape(-1, 9)).reshape(3, 3)
    if np.linalg.eigvalsh(changed)[0] < 0.5 * np.linalg.eigvalsh(metric)[0]:
        return None
    # First-order propagation through the six numbers of the cell.
    steps = 1e-3 * scale[:-1]
    moved = steps[:, None, None] * free
    cells = _cells(np.concatenate([changed[None], changed + moved, changed - moved]))
    slopes = (cells[1 : len(free) + 1] - cells[len(free) + 1 :]) / (2.0 * steps[:, None])
    variance = (slopes * (np.linalg.inv(normal)[:-1, :-1] @ slopes)).sum(axis=0)
    return CellFit(cells[0], np.sqrt(variance), float(solved[-1]), len(q))


def invariant_metrics(rotations: np.ndarray) -> np.ndarray:
    """Returns a basis of the symmetric matrices G with R G R^T = G for all rotations, `[p, 3, 3]`.

    It is computed once for the same rotations, and not to be written to.

    p is 1 for cubic groups, 2 for tetragonal, trigonal and hexagonal ones, 3, 4 and 6 for
    orthorhombic, monoclinic and triclinic ones.
    """
    return _invariant(np.asarray(rotations, np.float64).tobytes())


@lru_cache(maxsize=1024)
def _invariant(packed: bytes) -> np.ndarray:
    rotations = np.frombuffer(packed).reshape(-1, 3, 3)
    units = np.zeros((6, 3, 3))
    for unit, (i, j) in zip(units, ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)), strict=True):
        unit[i, j] = unit[j, i] = 1.0
    kept = np.einsum("kab,ubc,kdc->uad", rotations, units, rotations) / len(rotations)
    _, sizes, rows = np.linalg.svd(kept.reshape(6, 9))
    basis: np.ndarray = rows[: int((sizes > 1e-6).sum())].reshape(-1, 3, 3)
    basis.flags.writeable = False
    return basis


def _slopes(cell: np.ndarray, free: np.ndarray, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """d(ln q) of each line by each free component, and whether its reflections move together."""
    if np.prod(2 * indices_below(cell, q.max()) + 1) > 2 * _MOST:
        return np.zeros((len(q), len(free))), np.zeros(len(q), bool)
    hkl, normal, log_q = reflections(cell, q.max())
    square = np.einsum("in,in->n", normal, normal)
    return line_slopes(hkl, square, *members(log_q, q, _SAME), _six(free))


def _six(metrics: np.ndarray) -> np.ndarray:
    """What the six products of a reflection are multiplied by, of metrics `[..., 3, 3]`."""
    return metrics[..., [0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]] * [1.0, 1.0, 1.0, 2.0, 2.0, 2.0]


def _cells(metrics: np.ndarray) -> np.ndarray:
    """a, b, c, alpha, beta, gamma of reciprocal metrics `[k, 3, 3]`, `[k, 6]`."""
    direct = np.linalg.inv(metrics)
    lengths = np.sqrt(np.diagonal(direct, axis1=1, axis2=2))
    first, second = [1, 0, 0], [2, 2, 1]
    cosines = direct[:, first, second] / (lengths[:, first] * lengths[:, second])
    return np.concatenate([lengths, np.degrees(np.arccos(np.clip(cosines, -1.0, 1.0)))], axis=1)
