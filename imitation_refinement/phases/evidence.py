"""Evidence: the figures that tell the right one among the best matched prototypes of a scan.

Belongs here: what speaks for and against each of some tens of prototypes, on the full grid, with
peaks as wide as the scan's, at the shift and displacement that fit best. `candidates` turns the
figures into one probability. How the prototypes are chosen is in `match`.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from imitation_refinement.phases.compiled import FARTHEST, shifted_products, sums
from imitation_refinement.phases.prototypes import FOLD, Prototypes, draw_roots, log_axis
from imitation_refinement.phases.scores import FAR, PRIOR, PRIOR_WEIGHT, SHIFTS, Prior, cosines
from imitation_refinement.xrd.grid import Grid
from imitation_refinement.xrd.imperfections import K_ALPHA

DISPLACEMENTS = (-8e-4, -4e-4, 0.0, 4e-4, 8e-4)  # h / R of `xrd.imperfections.displaced`
USUAL = 4e-4  # scale of Student's t of displacements, of 3 degrees of freedom
SIZES = (8.0, 14.0, 25.0, 45.0, 100.0)  # nm, of the peaks' widths
FINE = (-2, -1, 0, 1, 2)  # points of the grid, half of those of a root pattern, around the best
_KINDS = np.arange(3)  # of sources
_JUDGES = 6  # best prototypes that choose the width
_FAR = 2 * (FAR + max(FINE) + FARTHEST)

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
        chosen: K of them, best first; may be none.
        drawn: of `draw_roots`, `[K, P]`.
        prior: on shifts.
    """
    if not len(chosen):
        return Evidence(np.zeros(0), np.zeros(0), np.zeros((0, len(FEATURES)), np.float32))
    axis, grid = log_axis(prototypes.grid), prototypes.grid
    step = axis[1] - axis[0]
    shifts = step * np.asarray(SHIFTS)
    kind = prototypes.kind[chosen].astype(np.int64)
    rows = np.arange(len(chosen))

    # Shift and displacement on the half grid, then the shift again on the full one.
    penalty = PRIOR_WEIGHT * prior.log(shifts, _KINDS[:, None])[kind]
    found = cosines(drawn, *_displaced(root, mask, grid, FOLD, FAR))
    amount = np.asarray(DISPLACEMENTS) / USUAL
    doubt = PRIOR_WEIGHT * -2.0 * np.log1p(amount**2 / 3.0)
    total = found + penalty[:, None] + doubt[:, None]
    which, moved = np.divmod(total.reshape(len(rows), -1).argmax(axis=1), len(SHIFTS))
    still = found[:, len(DISPLACEMENTS) // 2]
    first = still[rows, (still + penalty).argmax(axis=1)]

    read = _displaced(fine, fine_mask, grid, 1, _FAR)
    begin = _FAR + 2 * np.asarray(SHIFTS)[moved]
    size = _width(read, prototypes, chosen, which, begin)
    lines = draw_roots(
        prototypes.q, prototypes.height, prototypes.offsets, chosen, grid, size_nm=size, fold=1
    )
    nearest = np.asarray(FINE)[_fine_cosines(read, lines, which, begin).argmax(axis=1)]
    shift = shifts[moved] + 0.5 * step * nearest
    begin = begin + nearest
    floor = _floor(fine)
    x = sums(read, lines, which, begin, floor, 2.0 * floor)
    cosine = _ratio(x.overlap, x.power * x.model_power)
    points, top = np.maximum(x.points, 1.0), np.maximum(x.top, 1e-9)
    model_power = (x.overlap / np.maximum(x.model_power, 1e-12)) ** 2 * x.model_power
    # Sums over what was measured, each less its mean over all.
    covariance = x.overlap - x.measured * x.model / points
    scan_variance = x.measured_power - (2.0 * x.measured - x.scan) * x.scan / points
    model_variance = x.model_power - x.model**2 / points
    columns = (
        cosine,
        first,
        _ratio(x.strong, x.power_strong * x.model_strong),
        _ratio(x.weak, x.scan * x.model),
        _ratio(x.wide, x.wide_power * x.wide_model_power),
        _ratio(x.elastic, x.power * x.model_power),
        _ratio(covariance, np.maximum(scan_variance, 0.0) * np.maximum(model_variance, 0.0)),
        _ratio(x.low, x.low_power * x.model_power),
        _ratio(x.overlap - x.low, (x.power - x.low_power) * x.model_power),
        prior.log(shift, kind),
        prior.log_peak(_KINDS)[kind],
        np.abs(amount[which]),
        x.missing / np.maximum(model_power, 1e-12),
        x.left_over / np.maximum(x.power, 1e-12),
        x.worst_missing / top,
        x.worst_left_over / top,
        x.peaks_explained / np.maximum(x.peaks, 1e-12),
        _log_richness(x.model, x.model_power, points),
        _log_richness(x.scan, x.power, points),
        kind == 1,
        kind == 2,
        floor / top,
        np.full(len(rows), fine_mask.mean()),
        np.full(len(rows), np.log(size)),
        cosine - cosine.max(),
    )
    features = np.stack(columns, axis=1).astype(np.float32)
    return Evidence(shift, np.asarray(DISPLACEMENTS)[which], features)


@lru_cache(maxsize=16)
def _places(grid: Grid, fold: int) -> tuple[np.ndarray, np.ndarray]:
    """Where in a scan, with each of DISPLACEMENTS, the points of one without it are.

    Returns:
        (the point before, or P for what lies beyond the ends; how far it is to the next one, of
        which the place is), int and float64 `[D, P]`.
    """
    axis = log_axis(grid, fold)
    points, step = np.arange(len(axis)), axis[1] - axis[0]
    places = points - np.multiply.outer(DISPLACEMENTS, _lever(axis)) / step
    before = np.floor(places)
    return np.where((places < 0.0) | (places > points[-1]), len(axis), before).astype(
        np.int64
    ), places - before


def _lever(axis: np.ndarray) -> np.ndarray:
    """cos^2(theta) / sin(theta) for copper: -d(ln q) / d(h / R) of a displaced sample."""
    mean = (2.0 * K_ALPHA[0] + K_ALPHA[1]) / 3.0
    sine = np.minimum(np.exp(axis) * mean / (4.0 * np.pi), 1.0)
    return (1.0 - sine**2) / sine


def _displaced(root: np.ndarray, mask: np.ndarray, grid: Grid, fold: int, far: int) -> np.ndarray:
    """The scan and its mask with each of DISPLACEMENTS taken out, float32 `[2, D, P + 2 far]`.

    `far` points of zeros are on both sides.
    """
    before, part = _places(grid, fold)
    read = np.zeros((2, len(DISPLACEMENTS), len(root) + 2 * far), np.float32)
    inner = read[:, :, far : far + len(root)]
    beyond = np.zeros(2)
    values = np.concatenate([root, beyond])
    low = values[before]
    inner[0] = low + part * (values[before + 1] - low)
    inner[1] = np.concatenate([mask, beyond])[before + (part > 0.5)]
    return read


def _fine_cosines(
    read: np.ndarray, lines: np.ndarray, which: np.ndarray, begin: np.ndarray
) -> np.ndarray:
    """The cosines of drawn prototypes `[K, L]` at each of FINE, `[K, len(FINE)]`."""
    return _ratio(*shifted_products(read, lines, which, begin, max(FINE)))


def _width(
    read: np.ndarray,
    prototypes: Prototypes,
    chosen: np.ndarray,
    which: np.ndarray,
    begin: np.ndarray,
) -> float:
    """The size of SIZES whose widths suit the scan: mean cosine of the best few prototypes."""
    few = min(_JUDGES, len(chosen))
    every = np.tile(np.arange(few), len(SIZES))
    lines = draw_roots(
        prototypes.q, prototypes.height, prototypes.offsets, chosen[every], prototypes.grid,
        size_nm=np.repeat(SIZES, few), fold=1,
    )  # fmt: skip
    scores = _fine_cosines(read, lines, which[every], begin[every]).max(axis=1)
    suits = np.sort(scores.reshape(len(SIZES), few), axis=1)[:, -3:].mean(axis=1)
    return SIZES[int(suits.argmax())]


def _floor(root: np.ndarray) -> float:
    """The height below which a scan shows nothing: a low quantile of what it shows."""
    seen = root[root > 0.0]
    if not seen.size:
        return 0.0
    at, rest = divmod(0.1 * (len(seen) - 1), 1.0)
    low = np.partition(seen, (int(at), min(int(at) + 1, len(seen) - 1)))[int(at) :][:2]
    return float(low[0] + rest * (low[-1] - low[0]))


def _ratio(product: np.ndarray, powers: np.ndarray) -> np.ndarray:
    """A cosine from a product and the product of squared norms, 0 where these are 0."""
    return product / np.maximum(np.sqrt(np.maximum(powers, 0.0)), 1e-12)


def _log_richness(total: np.ndarray, power: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Ln of (sum x)^2 / (n sum x^2), the share of n points that equal peaks would fill."""
    return np.log(np.maximum(total**2 / np.maximum(power, 1e-12) / points, 1e-6))
