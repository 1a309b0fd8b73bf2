"""Evidence: the figures that tell the right one among the best matched prototypes of a scan.

Belongs here: what speaks for and against each of some tens of prototypes, on the full grid, with
peaks as wide as the scan's, at the shift and displacement that fit best. `candidates` turns the
figures into one probability. How the prototypes are chosen is in `match`.
"""

from typing import NamedTuple

import numpy as np
from scipy.ndimage import maximum_filter1d, uniform_filter1d

from imitation_refinement.phases.prototypes import Prototypes, draw_roots, log_axis
from imitation_refinement.phases.scores import (
    PRIOR,
    PRIOR_WEIGHT,
    SHIFTS,
    Prior,
    cosines,
    shifted,
)
from imitation_refinement.xrd.imperfections import K_ALPHA

DISPLACEMENTS = (-8e-4, -4e-4, 0.0, 4e-4, 8e-4)  # h / R of `xrd.imperfections.displaced`
USUAL = 4e-4  # scale of Student's t of displacements, of 3 degrees of freedom
SIZES = (8.0, 14.0, 25.0, 45.0, 100.0)  # nm, of the peaks' widths
FINE = (-2, -1, 0, 1, 2)  # points of the grid, half of those of a root pattern, around the best
_JUDGES = 6  # best prototypes that choose the width
_WINDOWS = 10  # equally long parts of the grid in which the elastic cosine shifts for itself
_ELASTIC = (-4, -2, 0, 2, 4)  # points of the grid
_SEEN = 0.4  # of a peak's height in the scan that makes it explained

FEATURES = (
    "cosine",  # of root patterns at the best shift and displacement
    "cosine_first",  # on the half grid at 30 nm without displacement, by which it was chosen
    "cosine_intensity",  # of the squares of root patterns: strong lines
    "cosine_weak",  # of the roots of root patterns: weak lines
    "cosine_wide",  # of root patterns averaged over 17 points: any misfit of the cell
    "cosine_elastic",  # each tenth of the range shifted for itself: cells that differ in shape
    "correlation",  # of root patterns: what a dense pattern gets by chance is taken off
    "cosine_low",  # in the half of the common range at low q
    "cosine_high",  # in the other half
    "log_prior",  # of the shift by kind of source, over its largest value
    "log_prior_peak",  # its largest value
    "displacement",  # |h / R| in units of 4e-4
    "missing",  # share of the prototype that should be seen and is not
    "left_over",  # share of the scan that the prototype does not explain
    "worst_missing",  # the largest height that is missing, over the scan's largest
    "worst_left_over",
    "peaks_explained",  # share of the scan's separate peaks that lie on a line
    "richness",  # ln of the share of the range that the prototype fills
    "scan_richness",  # the same of the scan
    "older_computed",
    "newer_computed",
    "floor",  # root of the smallest value that the scan keeps, over its largest
    "covered",  # share of the grid that was measured
    "log_size",  # ln of the size in nm that gives the scan's widths
    "lead",  # cosine less the best cosine of all
)


class Evidence(NamedTuple):
    """What speaks for each of the best prototypes of one scan, K of them.

    Attributes:
        shift: change of ln q at the best fit, float64 `[K]`.
        displacement: h / R at the best fit, float64 `[K]`.
        features: float32 `[K, F]`, see FEATURES.
    """

    shift: np.ndarray
    displacement: np.ndarray
    features: np.ndarray


def weigh(
    fine: np.ndarray,
    fine_mask: np.ndarray,
    root: np.ndarray,
    mask: np.ndarray,
    prototypes: Prototypes,
    chosen: np.ndarray,
    drawn: np.ndarray,
    *,
    prior: Prior = PRIOR,
) -> Evidence:
    """Returns the figures of the best prototypes of one scan.

    Args:
        fine: of `scan_roots` with fold 1, `[L]`.
        fine_mask: bool `[L]`.
        root: of `scan_roots`, `[P]`.
        mask: bool `[P]`.
        prototypes: N of them.
        chosen: K of them, best first.
        drawn: of `draw_roots`, `[K, P]`.
        prior: on shifts.
    """
    axis = log_axis(prototypes.grid)
    step = axis[1] - axis[0]
    shifts = step * np.asarray(SHIFTS)
    kind = prototypes.kind[chosen].astype(np.int64)
    rows = np.arange(len(chosen))

    # Shift and displacement on the half grid, then the shift again on the full one.
    penalty = PRIOR_WEIGHT * prior.log(shifts, kind[:, None])
    scans, inside = _read_at(root, mask, axis, DISPLACEMENTS, SHIFTS)
    found = cosines(drawn, scans, inside).reshape(len(rows), len(DISPLACEMENTS), len(SHIFTS))
    amount = np.asarray(DISPLACEMENTS) / USUAL
    doubt = PRIOR_WEIGHT * -2.0 * np.log1p(amount**2 / 3.0)
    total = found + penalty[:, None] + doubt[:, None]
    which, moved = np.divmod(total.reshape(len(rows), -1).argmax(axis=1), len(SHIFTS))
    still = found[:, len(DISPLACEMENTS) // 2]
    first = still[rows, (still + penalty).argmax(axis=1)]

    size = _width(fine, fine_mask, prototypes, chosen, which, moved)
    lines = draw_roots(
        prototypes.q, prototypes.height, prototypes.offsets, chosen, prototypes.grid,
        size_nm=size, fold=1,
    )  # fmt: skip
    reach = max(abs(point) for point in (*FINE, *_ELASTIC)) * 2
    near = _read_for_each(fine, fine_mask, prototypes, which, moved, reach)
    scores = np.stack([_cosine(*_cut(near, lines, point, reach)) for point in FINE])
    nearest = np.asarray(FINE)[scores.argmax(axis=0)]
    scan, model, common = (np.empty_like(lines) for _ in range(3))
    for point in FINE:
        own = nearest == point
        scan[own] = near[0][own, reach + point : reach + point + lines.shape[1]]
        common[own] = near[1][own, reach + point : reach + point + lines.shape[1]]
    model = lines * common
    shift = shifts[moved] + 0.5 * step * nearest
    elastic = _elastic(near, lines, nearest, reach)

    cosine = _cosine(scan, model)
    top = np.maximum(scan.max(axis=1), 1e-9)
    floor = _floor(fine)
    # The scale that explains the scan best in least squares of roots.
    scale = (scan * model).sum(axis=1) / np.maximum(np.square(model).sum(axis=1), 1e-12)
    predicted = scale[:, None] * model
    visible = np.maximum(predicted - scan - floor, 0.0)
    surplus = np.maximum(scan - 1.25 * predicted, 0.0)
    middle = np.cumsum(common, axis=1) <= 0.5 * common.sum(axis=1, keepdims=True)
    points = np.maximum(common.sum(axis=1), 1.0)
    columns = (
        cosine,
        first,
        _cosine(scan**2, model**2),
        _cosine(np.sqrt(scan), np.sqrt(model)),
        _cosine(_wide(scan), _wide(model)),
        elastic,
        _correlation(scan, model, common),
        _cosine(scan * middle, model),
        _cosine(scan * ~middle, model),
        prior.log(shift, kind),
        prior.log_peak(kind),
        np.abs(amount[which]),
        np.square(visible).sum(axis=1) / np.maximum(np.square(predicted).sum(axis=1), 1e-12),
        np.square(surplus).sum(axis=1) / np.maximum(np.square(scan).sum(axis=1), 1e-12),
        visible.max(axis=1) / top,
        surplus.max(axis=1) / top,
        _peaks_explained(scan, predicted, floor),
        _log_richness(model, points),
        _log_richness(scan, points),
        kind == 1,
        kind == 2,
        floor / top,
        np.full(len(rows), fine_mask.mean()),
        np.full(len(rows), np.log(size)),
        cosine - cosine.max(),
    )
    features = np.stack(columns, axis=1).astype(np.float32)
    return Evidence(shift, np.asarray(DISPLACEMENTS)[which], features)


def _lever(axis: np.ndarray) -> np.ndarray:
    """cos^2(theta) / sin(theta) for copper: -d(ln q) / d(h / R) of a displaced sample."""
    mean = (2.0 * K_ALPHA[0] + K_ALPHA[1]) / 3.0
    sine = np.minimum(np.exp(axis) * mean / (4.0 * np.pi), 1.0)
    return (1.0 - sine**2) / sine


def _read_at(
    root: np.ndarray,
    mask: np.ndarray,
    axis: np.ndarray,
    displacements: tuple[float, ...],
    shifts: tuple[int, ...],
) -> tuple[np.ndarray, np.ndarray]:
    """The scan and its mask read at every displacement and shift, float32 `[D S, P]` each."""
    lines, inside = [], []
    for displacement in displacements:
        warped, known = _warped(root, mask, axis, displacement)
        lines += [shifted(warped, shift) for shift in shifts]
        inside += [shifted(known, shift) for shift in shifts]
    return np.stack(lines), np.stack(inside)


def _warped(
    root: np.ndarray, mask: np.ndarray, axis: np.ndarray, displacement: float
) -> tuple[np.ndarray, np.ndarray]:
    """The scan and its mask with a displacement taken out, float32 `[P]` each."""
    if displacement == 0.0:
        return root, mask.astype(np.float32)
    points = np.arange(len(axis))
    places = points - displacement * _lever(axis) / (axis[1] - axis[0])
    warped = np.interp(places, points, root, left=0.0, right=0.0)
    known = np.interp(places, points, mask.astype(np.float32), left=0.0, right=0.0)
    return warped.astype(np.float32), (known > 0.5).astype(np.float32)


def _read_for_each(
    fine: np.ndarray,
    mask: np.ndarray,
    prototypes: Prototypes,
    which: np.ndarray,
    moved: np.ndarray,
    reach: int,
) -> tuple[np.ndarray, np.ndarray]:
    """The scan and mask as each prototype has them, `reach` points more on both sides."""
    axis = log_axis(prototypes.grid, 1)
    far = reach + 2 * max(abs(shift) for shift in SHIFTS)
    padded = np.stack(
        [
            np.pad(np.stack(_warped(fine, mask, axis, displacement)), ((0, 0), (far, far)))
            for displacement in DISPLACEMENTS
        ]
    )
    start = far - reach + 2 * np.asarray(SHIFTS)[moved]
    columns = start[:, None] + np.arange(len(axis) + 2 * reach)
    return padded[which[:, None], 0, columns], padded[which[:, None], 1, columns]


def _cut(
    near: tuple[np.ndarray, np.ndarray], lines: np.ndarray, point: int, reach: int
) -> tuple[np.ndarray, np.ndarray]:
    """The scan `point` further on, and the lines inside its mask."""
    part = slice(reach + point, reach + point + lines.shape[1])
    return near[0][:, part], lines * near[1][:, part]


def _width(
    fine: np.ndarray,
    mask: np.ndarray,
    prototypes: Prototypes,
    chosen: np.ndarray,
    which: np.ndarray,
    moved: np.ndarray,
) -> float:
    """The size of SIZES whose widths suit the scan: mean cosine of the best few prototypes."""
    few = slice(0, _JUDGES)
    reach = max(FINE)
    near = _read_for_each(fine, mask, prototypes, which[few], moved[few], reach)
    suits = []
    for size in SIZES:
        lines = draw_roots(
            prototypes.q, prototypes.height, prototypes.offsets, chosen[few], prototypes.grid,
            size_nm=size, fold=1,
        )  # fmt: skip
        scores = [_cosine(*_cut(near, lines, point, reach)) for point in FINE]
        suits.append(np.sort(np.max(scores, axis=0))[-3:].mean())
    return SIZES[int(np.argmax(suits))]


def _elastic(
    near: tuple[np.ndarray, np.ndarray], lines: np.ndarray, nearest: np.ndarray, reach: int
) -> np.ndarray:
    """The cosine where each window of the range takes its own best shift, `[K]`."""
    length, far = lines.shape[1], max(_ELASTIC)
    starts = np.arange(_WINDOWS) * length // _WINDOWS
    columns = (reach + nearest - far)[:, None] + np.arange(length + 2 * far)
    around = np.take_along_axis(near[0], columns, axis=1)
    inside = np.take_along_axis(near[1], columns[:, far : far + length], axis=1)
    products = [
        np.add.reduceat(lines * around[:, far + point : far + point + length], starts, axis=1)
        for point in _ELASTIC
    ]
    scan = around[:, far : far + length]
    norm = np.sqrt(np.square(scan).sum(axis=1) * np.square(lines * inside).sum(axis=1))
    return np.max(products, axis=0).sum(axis=1) / np.maximum(norm, 1e-12)


def _floor(root: np.ndarray) -> float:
    """The height below which a scan shows nothing: a low quantile of what it shows."""
    seen = root[root > 0.0]
    return float(np.quantile(seen, 0.1)) if seen.size else 0.0


def _cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The cosine of the rows, the norm of a taken where b is defined or not, `[K]`."""
    norm = np.sqrt(np.square(a).sum(axis=1) * np.square(b).sum(axis=1))
    return (a * b).sum(axis=1) / np.maximum(norm, 1e-12)


def _correlation(a: np.ndarray, b: np.ndarray, inside: np.ndarray) -> np.ndarray:
    points = np.maximum(inside.sum(axis=1, keepdims=True), 1.0)
    a = (a - a.sum(axis=1, keepdims=True) / points) * inside
    b = (b - b.sum(axis=1, keepdims=True) / points) * inside
    return _cosine(a, b)


def _wide(rows: np.ndarray) -> np.ndarray:
    return uniform_filter1d(rows, 17, axis=1, mode="constant")


def _log_richness(rows: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Ln of (sum x)^2 / (n sum x^2), the share of n points that equal peaks would fill."""
    squared = np.maximum(np.square(rows).sum(axis=1), 1e-12)
    return np.log(np.maximum(rows.sum(axis=1) ** 2 / squared / points, 1e-6))


def _peaks_explained(scan: np.ndarray, predicted: np.ndarray, floor: float) -> np.ndarray:
    """Share of the scan's peaks, weighted by height, of which enough is predicted nearby."""
    peak = (scan == maximum_filter1d(scan, 7, axis=1, mode="constant")) & (scan > 2.0 * floor)
    near = maximum_filter1d(predicted, 5, axis=1, mode="constant")
    weight = np.where(peak, scan, 0.0)
    return np.where(near > _SEEN * scan, weight, 0.0).sum(axis=1) / np.maximum(
        weight.sum(axis=1), 1e-12
    )
