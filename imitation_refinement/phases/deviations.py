"""How a scan deviates from a candidate, line by line: as a sample of the phase may, or otherwise.

Belongs here: figures of the first few candidates by which known phases are told from isotypes. A
sample's cell differs from another determination's, but little in its shape; its intensities differ
by texture, which depends on the angle to one axis, and by vibration, which is smooth in q. Another
phase of the same structure type has axes in another ratio, and intensities that follow no axis.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from imitation_refinement.phases.cell_fit import CellFit
from imitation_refinement.phases.compiled_lines import (
    axis_sums,
    line_axes,
    peak_sums,
    smooth_and_about,
)
from imitation_refinement.phases.leftover import moved_lines
from imitation_refinement.phases.library import Library
from imitation_refinement.phases.named import Moved
from imitation_refinement.phases.prototypes import Prototypes, draw_roots, log_axis
from imitation_refinement.phases.reflections import indices_below, members, reflections
from imitation_refinement.xrd.grid import Grid
from imitation_refinement.xrd.scans import PlacedScan
from imitation_refinement.xrd.symmetry import lattice_vectors

FIGURES = (
    "cell_lines",  # ln of 1 + the lines that the cell was fitted to
    "cell_shape",  # ln of the deviation of the three principal strains, which a scale leaves at 0
    "lines",  # ln of 1 + the peaks whose intensities are compared
    "intensity",  # ln of the deviation of ln(measured / predicted)
    "unlike",  # share of all peaks that differ by three deviations and a tenth of their heights
    "skew",  # of ln(measured / predicted): peaks that are missing against peaks too strong
    "angle",  # change of it with (q / 4 pi)^2, as of other vibrations or form factors
    "angle_explains",  # share of its variance that this explains
    "texture",  # change of it with 3 cos^2 - 1 about the axis that explains most
    "texture_explains",  # share of the variance that is left
    "axes",  # ln of 1 + the axes that were tried
)
UNKNOWN_SHAPE = (0.0, -7.0)  # where no cell could be fitted
AXES = 12  # lines of smallest q whose normals may be the axis, as in `simulated`
_SAME = 1.5e-4  # relative difference of q of a line and its reflections
_MOST = 60_000  # reflections of a cell; of larger ones no axis is tried
_NEAR = 0.03  # of a peak, from which on points belong to it
_SEEN = 4.0  # standard deviations, from which on a peak's intensity is compared
_WEAK = 1e-4  # share of all intensity, from which on a peak counts
_LEAST = 0.03  # of what is predicted: nothing is seen to be weaker
_INEXACT = 0.05  # deviation of ln(measured / predicted) of the strongest peaks
_RIDGE = 1e-9
_SMALLEST = (0.02, 2e-4)  # deviations of intensity and of shape that are told apart


class Peaks(NamedTuple):
    """A scan's m peaks, of which a candidate predicts one or more lines each.

    Attributes:
        predicted, measured: intensities, in one unit, float64 `[m]` each.
        deviation: of these, standard, by counting, float64 `[m]`.
        q: their centers, 1/angstrom, float64 `[m]`.
        peak: which of them each line is in, -1 for none, int `[lines]`.
    """

    predicted: np.ndarray
    measured: np.ndarray
    deviation: np.ndarray
    q: np.ndarray
    peak: np.ndarray


def deviations(
    scan: PlacedScan,
    fitted: CellFit | None,
    one: Moved,
    library: Library,
    prototypes: Prototypes,
    size_nm: float,
) -> np.ndarray:
    """Returns FIGURES of one candidate of a scan, float64 `[11]`.

    Args:
        scan: with its excess and noise.
        fitted: the candidate's cell, fitted to the scan.
        one: the candidate, as it was found.
        library: of the candidate.
        prototypes: of the library, of the scan's grid.
        size_nm: that gives the scan's widths, see `evidence`.
    """
    own = slice(prototypes.offsets[one.entry], prototypes.offsets[one.entry + 1])
    cell, still = library.cell[one.entry].astype(np.float64), prototypes.q[own]
    q, height = moved_lines(prototypes, one)
    lit = height > 0.0
    q, height, still = q[lit], height[lit], still[lit].astype(np.float64)
    peaks = find_peaks(scan.excess, scan.noise, scan.mask, q, height, prototypes.grid, size_nm)
    terms = _terms(cell.tobytes(), still.tobytes())
    return np.concatenate([cell_shape(cell, fitted), intensities(peaks, height, terms)])


@lru_cache(maxsize=1024)
def _terms(cell: bytes, q: bytes) -> np.ndarray:
    """`axis_terms` of float64 numbers, kept: scans of one laboratory are of the same structures."""
    terms = axis_terms(np.frombuffer(cell), np.frombuffer(q))
    terms.flags.writeable = False
    return terms


def cell_shape(cell: np.ndarray, fitted: CellFit | None) -> np.ndarray:
    """Returns the first two of FIGURES, float64 `[2]`.

    The principal strains are half the logarithms of the eigenvalues of one metric in terms of the
    other; lengths that change together change all of them alike.

    Args:
        cell: of the candidate, a, b, c in angstrom, alpha, beta, gamma in degrees, `[6]`.
        fitted: to the scan.
    """
    if fitted is None:
        return np.array(UNKNOWN_SHAPE)
    before, after = (lattice_vectors(np.asarray(c, np.float64)) for c in (cell, fitted.cell))
    strain = 0.5 * np.log(np.linalg.eigvalsh(_relative(before @ before.T, after @ after.T)))
    return np.array([math.log1p(fitted.lines), math.log(max(strain.std(), _SMALLEST[1]))])


def _relative(metric: np.ndarray, other: np.ndarray) -> np.ndarray:
    """`other` in the axes in which `metric` is the unit matrix, `[3, 3]`."""
    root = np.linalg.inv(np.linalg.cholesky(metric))
    return np.asarray(root @ other @ root.T)


def find_peaks(
    excess: np.ndarray,
    noise: np.ndarray,
    mask: np.ndarray,
    q: np.ndarray,
    height: np.ndarray,
    grid: Grid,
    size_nm: float,
) -> Peaks:
    """Adds up a scan's intensities over the peaks that lines predict.

    Args:
        excess: of a placed scan, `[L]`.
        noise: of it, `[L]`.
        mask: of it, bool `[L]`.
        q: lines where the scan has them, 1/angstrom, ascending, float64 `[lines]`.
        height: of these, `[lines]`.
        grid: of the scan, uniform in ln q.
        size_nm: that gives the scan's widths.
    """
    axis = log_axis(grid, 1)
    step, points = axis[1] - axis[0], np.exp(axis)
    offsets, chosen = np.array([0, len(q)]), np.array([0])
    drawn = draw_roots(q, height, offsets, chosen, grid, size_nm=size_nm, fold=1)[0]
    (predicted, measured, variance, center), number = peak_sums(
        drawn, excess, noise, mask, points, step, _NEAR, _WEAK
    )
    place = np.rint((np.log(q) - axis[0]) / step).astype(int)
    inside = (place >= 0) & (place < len(axis))
    peak = np.where(inside, number[np.clip(place, 0, len(axis) - 1)], -1)
    return Peaks(predicted, measured, np.sqrt(variance), center, peak)


def axis_terms(cell: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Returns 3 cos^2 - 1 of lines about possible axes of texture, float64 `[axes, lines]`.

    Means over the reflections of each line. An axis is the normal of a line of small q; a line of
    no reflection has 0. Axes that tell the same are one, see `line_axes`: a crystal of one
    principal axis has one, a cubic one none. It is -2/3 the slope of the logarithm of
    `march_dollase` in that of its coefficient, where there is no texture.

    Args:
        cell: as the library has it, `[6]`.
        q: its lines, 1/angstrom, ascending, `[lines]`.
    """
    if not len(q) or np.prod(2 * indices_below(cell, q.max()) + 1) > _MOST:
        return np.zeros((0, len(q)))
    _, normal, log_q = reflections(cell, q.max())
    first, last = members(log_q, q, _SAME)
    return line_axes(normal / np.linalg.norm(normal, axis=0), first, last, AXES)


def intensities(peaks: Peaks, height: np.ndarray, terms: np.ndarray) -> np.ndarray:
    """Returns FIGURES but for those of the cell, float64 `[9]`; zeros where too few peaks are seen.

    The logarithms of measured over predicted intensities are fitted by weighted least squares: a
    constant, (q / 4 pi)^2, and the `axis_terms` of the axis with which least is left.

    Args:
        peaks: of `find_peaks`.
        height: of the lines, `[lines]`.
        terms: of the lines, `[axes, lines]`.
    """
    predicted, measured, deviation, q, peak = peaks
    figures = np.zeros(len(FIGURES) - 2)
    if not len(predicted):
        return figures
    predicted = predicted * _scale(predicted, measured, deviation)
    off = (measured - predicted) / np.hypot(deviation, 0.1 * predicted)
    figures[2] = unlike = np.count_nonzero(np.abs(off) > 3.0) / len(off)
    seen = predicted > _SEEN * deviation
    count = int(np.count_nonzero(seen))
    if count < 3:
        return figures
    noise = deviation[seen] / predicted[seen]
    ratio = np.log(np.maximum(measured[seen] / predicted[seen], _LEAST)).clip(-3.0, 3.0)
    weight = 1.0 / (_INEXACT**2 + noise**2)
    weight /= weight.sum()
    mean = weight @ ratio
    variance = float(weight @ (ratio - mean) ** 2)
    skew = float(weight @ (ratio - mean) ** 3) / max(variance, 1e-6) ** 1.5
    sums, heights = axis_sums(peak, height, terms, len(predicted))
    about = sums[:, seen] / np.maximum(heights[seen], 1e-30)
    angle, left, texture, least = smooth_and_about(
        ratio, weight, np.square(q[seen] / (4.0 * np.pi)), about, _RIDGE
    )
    tiny = 1e-9
    figures[:] = (
        math.log1p(count),
        math.log(max(math.sqrt(variance), _SMALLEST[0])),
        unlike,
        min(max(skew, -4.0), 4.0),
        min(max(angle, -40.0), 40.0),
        (variance - left) / max(variance, tiny),
        min(max(texture, -1.0), 1.0),
        (left - least) / max(left, tiny),
        math.log1p(len(terms)),
    )
    return figures


def _scale(predicted: np.ndarray, measured: np.ndarray, deviation: np.ndarray) -> float:
    """What predicted intensities are multiplied by: a weighted median, then least squares."""
    order = np.argsort(measured / predicted)
    share = np.cumsum(np.sqrt(predicted)[order])
    middle = order[np.searchsorted(share, 0.5 * share[-1])]
    scale = max(float(measured[middle] / predicted[middle]), 1e-9)
    for _ in range(2):
        weight = 1.0 / (np.square(deviation) + np.square(0.25 * scale * predicted) + 1e-30)
        by = weight * predicted
        scale = max(float(by @ measured / (by @ predicted)), 1e-9)
    return scale
