"""The sketch: coarse root patterns in fewer numbers, which choose what is compared in full.

Belongs here: principal components of the coarse patterns, the norms of parts of the range, and the
choice of some thousands of prototypes by them. Cosines from a sketch differ from those of the
coarse patterns by some hundredths; `scores` computes the latter for those that are chosen here.
"""

from typing import NamedTuple

import numpy as np

from imitation_refinement.phases.compiled import best_scores
from imitation_refinement.phases.side_by_side import side_by_side

COMPONENTS = 96  # of 250 points; with 64, one in a hundred of the best ten is lost
PARTS = 25  # of the range, whose norms are known
LIKELY = 2000  # prototypes chosen: all of the sixty that are weighed were among them
_SAMPLE = 20000  # patterns that the components are found from
_ROWS = 512  # prototypes in one matrix product
_TASK = 64 * _ROWS  # prototypes in one piece of work
_STRIDE = 16  # one in so many is looked at for the level above which the likely ones lie


class Sketch(NamedTuple):
    """Coarse patterns of N prototypes in D numbers.

    Attributes:
        basis: principal components, float32 `[Q, D]`.
        rows: float32 `[N, D]`.
        power: squared norms in equal parts of the range, float32 `[N, PARTS]`.
    """

    basis: np.ndarray
    rows: np.ndarray
    power: np.ndarray


def sketch_of(coarse: np.ndarray) -> Sketch:
    """Returns the sketch of coarse patterns int8 `[N, Q]`."""
    count, points = coarse.shape
    sample = coarse[:: max(1, count // _SAMPLE)].astype(np.float32)
    sample /= np.maximum(np.linalg.norm(sample, axis=1, keepdims=True), 1.0)
    basis = np.linalg.eigh(sample.T @ sample)[1][:, -COMPONENTS:].astype(np.float32)
    rows = np.empty((count, basis.shape[1]), np.float32)
    power = np.empty((count, PARTS), np.float32)

    def draw(start: int) -> None:
        part = slice(start, start + _ROWS)
        block = coarse[part].astype(np.float32)
        rows[part] = block @ basis
        power[part] = np.add.reduceat(np.square(block), _starts(points), axis=1)

    side_by_side(draw, range(0, count, _ROWS))
    return Sketch(basis, rows, power)


def likely(
    sketch: Sketch,
    scans: np.ndarray,
    inside: np.ndarray,
    penalty: np.ndarray,
    kind: np.ndarray,
    allowed: np.ndarray | None = None,
    count: int = LIKELY,
) -> list[np.ndarray]:
    """Returns about `count` prototypes that are most like each of n scans, int64 arrays.

    Where few more are allowed, all that are.

    Args:
        sketch: of N prototypes.
        scans: coarse patterns of norm 1 at each of S shifts, `[S, n, Q]`.
        inside: where they were measured, 0 to 1, `[n, Q]`.
        penalty: on each shift, for each kind of source, `[S, 3]`.
        kind: of each prototype, `[N]`.
        allowed: bool `[n, N]`.
        count: see above.
    """
    every = np.arange(len(kind))
    own = [every] * len(inside) if allowed is None else [np.flatnonzero(row) for row in allowed]
    many = [i for i, rows in enumerate(own) if len(rows) > 2 * count]
    if not many:
        return own
    scores = _scores(sketch, scans[:, many], inside[many], penalty, kind)

    def choose(i: int) -> np.ndarray:
        rows = own[many[i]]
        score = scores[i] if allowed is None else scores[i, rows]
        some = score[::_STRIDE]
        rank = min(len(some), count // _STRIDE)
        return rows[score >= np.partition(some, len(some) - rank)[len(some) - rank]]

    for i, rows in zip(many, side_by_side(choose, range(len(many))), strict=True):
        own[i] = rows
    return own


def _scores(
    sketch: Sketch, scans: np.ndarray, inside: np.ndarray, penalty: np.ndarray, kind: np.ndarray
) -> np.ndarray:
    """About the cosine of each scan with each prototype at its best shift, float32 `[n, N]`."""
    shifts, n, points = scans.shape
    seen = scans.reshape(-1, points) @ sketch.basis
    starts = _starts(points)
    share = np.add.reduceat(inside, starts, axis=1) / np.diff(starts, append=points)
    share = share.astype(np.float32)
    scores = np.empty((n, len(kind)), np.float32)

    def score(first: int) -> None:
        product = np.empty((shifts * n, _ROWS), np.float32)  # used again: new memory costs time
        for start in range(first, min(first + _TASK, len(kind)), _ROWS):
            block = sketch.rows[start : start + _ROWS]
            part, width = slice(start, start + len(block)), len(block)
            np.matmul(seen, block.T, out=product[:, :width])
            factor = 1.0 / np.sqrt(np.maximum(share @ sketch.power[part].T, 1.0))
            own = product.reshape(shifts, n, _ROWS)
            best_scores(own, factor, penalty, kind[part], scores[:, part])

    side_by_side(score, range(0, len(kind), _TASK))
    return scores


def _starts(points: int) -> np.ndarray:
    return np.arange(PARTS) * points // PARTS
