"""Matching: how well each prototype explains a scan, and by which change of its cell.

Belongs here: the coarse choice among all prototypes, the exact cosines of those chosen over shifts
of ln q, and the figures by which `candidates` tells the best of them apart. A shift is positive
where the scan's lines lie at larger q, its cell being smaller, than the prototype's; shifts are in
natural logarithms of q here and in points inside.
"""

from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.special import gammaln

from imitation_refinement.phases.prototypes import Prototypes, coarsened, log_axis, unit
from imitation_refinement.phases.side_by_side import side_by_side
from imitation_refinement.phases.sketch import likely

CHOSEN = (
    400  # prototypes that the coarse patterns choose: 99.7 % of the ten best exact ones are there
)
COARSE_SHIFTS = tuple(range(-12, 17, 4))  # points
SHIFTS = tuple(range(-12, 19))  # points; one is 0.22 % of the cell's lengths
FAR = max(abs(shift) for shift in SHIFTS)
_SCANS = 32  # scans in one matrix product


class Prior(NamedTuple):
    """Student's t distribution of the right entry's shift in ln q, by kind of source, `[3]` each.

    Heavy tails: cells that differ by more than two deviations are rare and still occur.
    """

    mean: tuple[float, float, float] = (0.0005, 0.0115, 0.006)
    scale: tuple[float, float, float] = (0.003, 0.009, 0.009)
    freedom: tuple[float, float, float] = (2.5, 4.0, 5.0)

    def log(self, shift: np.ndarray, kind: np.ndarray) -> np.ndarray:
        """Returns ln of the density at a shift over its largest value, same shape as `shift`."""
        mean, scale, freedom = (np.asarray(values)[kind] for values in self)
        return -0.5 * (freedom + 1.0) * np.log1p(((shift - mean) / scale) ** 2 / freedom)

    def log_peak(self, kind: np.ndarray) -> np.ndarray:
        """Returns ln of the largest density, `[...]`."""
        _, scale, freedom = (np.asarray(values)[kind] for values in self)
        constant = gammaln(0.5 * (freedom + 1.0)) - gammaln(0.5 * freedom)
        return constant - 0.5 * np.log(np.pi * freedom) - np.log(scale)


PRIOR = Prior()
_KINDS = np.arange(3)[:, None]  # of sources
PRIOR_WEIGHT = 0.01  # of ln(prior) against a cosine


def shifted(rows: np.ndarray, points: int) -> np.ndarray:
    """Returns rows `[..., P]` read `points` further on, zero beyond the ends."""
    moved = np.zeros_like(rows)
    if points > 0:
        moved[..., :-points] = rows[..., points:]
    elif points < 0:
        moved[..., -points:] = rows[..., :points]
    else:
        moved[...] = rows
    return moved


def coarse_choice(
    roots: np.ndarray,
    masks: np.ndarray,
    prototypes: Prototypes,
    *,
    allowed: np.ndarray | None = None,
    count: int = CHOSEN,
    prior: Prior = PRIOR,
) -> np.ndarray:
    """Returns the prototypes that are most like each scan, seen coarsely, int64 `[n, count]`.

    The cosine of coarse root patterns, the prototype's norm taken inside the scan's range, at its
    best shift less the prior's penalty, of those that the sketch finds likely. In no particular
    order.

    Args:
        roots: of `scan_roots`, `[n, P]`.
        masks: bool `[n, P]`.
        prototypes: N of them.
        allowed: bool `[N]` or `[n, N]`; others are chosen last.
        count: at most N.
        prior: on shifts.
    """
    count = min(count, prototypes.size)
    shifts = _step(prototypes) * np.array(COARSE_SHIFTS)
    penalty = PRIOR_WEIGHT * prior.log(shifts[:, None], np.arange(3))
    if allowed is not None:
        allowed = np.broadcast_to(allowed, (len(roots), prototypes.size))
    found = np.empty((len(roots), count), np.int64)

    def choose(scan: tuple[np.ndarray, np.ndarray, np.ndarray]) -> np.ndarray:
        rows, moved, inside = scan  # [m], [S, P / 4], [P / 4]
        if len(rows) <= count:
            others = np.ones(prototypes.size, bool)
            others[rows] = False
            return np.concatenate([rows, np.flatnonzero(others)[: count - len(rows)]])
        block = prototypes.coarse[rows].astype(np.float32)
        product = block @ moved.T
        np.square(block, out=block)
        product /= np.sqrt(np.maximum(block @ inside, 1.0))[:, None]
        product += penalty.astype(np.float32).T[prototypes.kind[rows]]
        return rows[np.argpartition(-product.max(axis=1), count - 1)[:count]]

    for first in range(0, len(roots), _SCANS):
        part = slice(first, first + _SCANS)
        moved = np.stack([coarsened(shifted(roots[part], points)) for points in COARSE_SHIFTS])
        scans = unit(moved.reshape(-1, moved.shape[2])).reshape(moved.shape)
        inside = coarsened(masks[part].astype(np.float32))
        rows = likely(
            prototypes.sketch, scans, inside, penalty.astype(np.float32), prototypes.kind,
            None if allowed is None else allowed[part],
        )  # fmt: skip
        of_each = zip(rows, scans.swapaxes(0, 1), inside, strict=True)
        found[part] = side_by_side(choose, of_each)
    return found


def _step(prototypes: Prototypes) -> float:
    axis = log_axis(prototypes.grid)
    return float(axis[1] - axis[0])


def exact_cosines(roots: np.ndarray, mask: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Returns the cosine of a scan with drawn prototypes at each of `SHIFTS`, float32 `[C, S]`.

    Both norms are taken inside the range that the scan and the shifted prototype share. Of several
    looks at the scan `[R, P]` they are `[R, C, S]`.

    Args:
        roots: of `scan_roots`, `[P]`.
        mask: bool `[P]`.
        drawn: of `draw_roots`, `[C, P]`.
    """
    read, known = _padded(np.atleast_2d(roots)), _padded(np.asarray(mask, np.float32)[None])
    found = cosines(drawn, read, known)
    return found[:, 0] if roots.ndim == 1 else found.swapaxes(0, 1)


def _padded(rows: np.ndarray) -> np.ndarray:
    return np.pad(rows, ((0, 0), (FAR, FAR)))


def cosines(drawn: np.ndarray, read: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Returns the cosines of prototypes with scans at each of `SHIFTS`, `[C, D, S]`.

    Both norms are taken inside the range that a scan and the shifted prototype share.

    Args:
        drawn: `[C, P]`.
        read: scans, zero where not measured, `[D, P + 2 FAR]`.
        known: where they were measured, 0 or 1, `[D, P + 2 FAR]`, or `[1, P + 2 FAR]` for all.
    """
    scans = _windows(read, drawn.shape[1])
    count, shifts, points = scans.shape
    product = (drawn @ scans.reshape(-1, points).T).reshape(len(drawn), count, shifts)
    own = _window_sums(np.square(read, dtype=np.float64), points).astype(product.dtype)
    power = _power(drawn, known)
    product /= np.sqrt(np.maximum(power, 1e-6)) * np.sqrt(np.maximum(own, 1e-12))
    return product


def _windows(rows: np.ndarray, points: int) -> np.ndarray:
    """Rows `[D, P + 2 FAR]` read at each of SHIFTS, `[D, S, P]`, a view."""
    first, last = FAR + SHIFTS[0], FAR + SHIFTS[-1]
    return sliding_window_view(rows, points, axis=1)[:, first : last + 1]


def _window_sums(rows: np.ndarray, points: int) -> np.ndarray:
    """The sums over `_windows`, `[D, S]`."""
    sums = np.cumsum(np.pad(rows, ((0, 0), (1, 0))), axis=1)
    whole = sums[:, points:] - sums[:, :-points]
    return whole[:, FAR + SHIFTS[0] : FAR + SHIFTS[-1] + 1]


def _power(drawn: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Squared norms of rows `[C, P]` inside what is known `[D, P + 2 FAR]`, `[C, D, S]`.

    Most points are in all windows or in none.
    """
    squares, inside = np.square(drawn), _windows(known, drawn.shape[1])
    least, most = inside.min(axis=(0, 1)), inside.max(axis=(0, 1))
    some = np.flatnonzero(least != most)
    others = (inside[:, :, some] - least[some]).reshape(-1, len(some))
    power = (squares @ least)[:, None] + squares[:, some] @ others.T
    return power.reshape(len(drawn), *inside.shape[:2])


def best_of(
    roots: np.ndarray,
    mask: np.ndarray,
    prototypes: Prototypes,
    chosen: np.ndarray,
    drawn: np.ndarray,
    best: int,
    prior: Prior = PRIOR,
) -> np.ndarray:
    """Returns the places in `chosen` of the largest cosines less the prior's penalty, `[R, best]`.

    Args:
        roots: of `scan_roots`, R looks at one scan, `[R, P]`.
        mask: of the scan, bool `[P]`.
        prototypes: N of them.
        chosen: of `coarse_choice`, int `[C]`.
        drawn: of `draw_roots`, `[C, P]`.
        best: how many, best first.
        prior: on shifts.
    """
    shifts = _step(prototypes) * np.asarray(SHIFTS)
    penalty = PRIOR_WEIGHT * prior.log(shifts, _KINDS)[prototypes.kind[chosen]]
    score = (exact_cosines(roots, mask, drawn) + penalty).max(axis=2)
    return np.argsort(-score, axis=1, kind="stable")[:, :best]
