"""Matching: of all prototypes the few that may explain a scan, each with its probability.

Belongs here: the way from patterns on the grid through coarse choice, exact cosines and evidence
to probabilities, and the same on what one phase leaves of a mixture. Each step is in a file of its
own: `prototypes`, `scores`, `evidence`, `posterior`. No formula and no space group is known here.
"""

from typing import NamedTuple

import numpy as np

from imitation_refinement.phases.evidence import FEATURES, weigh
from imitation_refinement.phases.posterior import Posterior, probabilities
from imitation_refinement.phases.prototypes import (
    Prototypes,
    draw_shifted,
    scan_roots,
)
from imitation_refinement.phases.scores import best_of, coarse_choice
from imitation_refinement.phases.side_by_side import side_by_side

BEST = 60  # prototypes whose evidence is weighed


class Match(NamedTuple):
    """The k likeliest prototypes of n scans, likeliest first.

    Attributes:
        entry: which prototypes, int64 `[n, k]`.
        score: ln of the odds against the others before they are normalised, float64 `[n, k]`.
        cosine: of root patterns at the best fit, float64 `[n, k]`.
        shift: change of ln q from prototype to scan, float64 `[n, k]`; the scan's cell is smaller
            by it.
        displacement: h / R of the sample at the best fit, float64 `[n, k]`.
        explained: share of the scan's peaks, by height, that lie on lines, float64 `[n, k]`.
        missing: share of the prototype that should be seen and is not, float64 `[n, k]`.
        left_over: share of the scan that is not explained, float64 `[n, k]`.
        log_probability: that this prototype's phase is the scan's, float64 `[n, k]`.
        vote: share in what the symmetry is if the phase is none of them, float64 `[n, k]`.
        not_in_library: probability that none of the prototypes is, float64 `[n]`.
    """

    entry: np.ndarray
    score: np.ndarray
    cosine: np.ndarray
    shift: np.ndarray
    displacement: np.ndarray
    explained: np.ndarray
    missing: np.ndarray
    left_over: np.ndarray
    log_probability: np.ndarray
    vote: np.ndarray
    not_in_library: np.ndarray


def match(
    patterns: np.ndarray,
    masks: np.ndarray,
    prototypes: Prototypes,
    posterior: Posterior,
    *,
    allowed: np.ndarray | None = None,
    best: int = BEST,
) -> Match:
    """Returns the likeliest prototypes of some scans and the probability that it is none of them.

    Args:
        patterns: of `on_grid`, float `[n, L]`.
        masks: bool `[n, L]`.
        prototypes: N of them, of the same grid.
        posterior: what turns evidence into probabilities.
        allowed: which prototypes may be, bool `[N]` or `[n, N]`; all without it. Those that may
            not be have probability 0.
        best: k, at most N; fewer are cheaper and lose right ones.

    Raises:
        ValueError: no patterns, or shapes do not agree with each other or with the grid.
    """
    patterns, masks = np.asarray(patterns, np.float32), np.asarray(masks, bool)
    if patterns.ndim != 2 or not len(patterns) or patterns.shape[1] != prototypes.grid.length:
        raise ValueError(
            f"expected patterns [n, {prototypes.grid.length}], n > 0, got {list(patterns.shape)}"
        )
    if masks.shape != patterns.shape:
        raise ValueError(f"expected masks {list(patterns.shape)}, got {list(masks.shape)}")
    size = prototypes.size
    if allowed is not None:
        allowed = np.broadcast_to(np.asarray(allowed, bool), (len(patterns), size))
    roots, measured = scan_roots(patterns, masks)
    fine, fine_measured = scan_roots(patterns, masks, 1)
    chosen = coarse_choice(roots, measured, prototypes, allowed=allowed)

    def row(i: int) -> tuple[np.ndarray, ...]:
        found = chosen[i]
        possible = np.ones(len(found), bool) if allowed is None else allowed[i, found]
        others, found = found[~possible], found[possible]
        scan = _Scan(fine[i], fine_measured[i], roots[i], measured[i])
        return _row(scan, prototypes, posterior, found, others, min(best, size))

    rows = side_by_side(row, range(len(patterns)))
    return Match(*(np.stack(column) for column in zip(*rows, strict=True)))


def match_residual(
    patterns: np.ndarray,
    masks: np.ndarray,
    prototypes: Prototypes,
    posterior: Posterior,
    first: Match,
    *,
    allowed: np.ndarray | None = None,
    best: int = BEST,
) -> tuple[np.ndarray, Match]:
    """Proposes a further phase: matches what the likeliest one does not explain.

    Call it again with its own patterns for a third phase.

    Args:
        patterns: see `match`, as all others.
        masks: bool `[n, L]`.
        prototypes: N of them.
        posterior: see `match`.
        first: of `match` on these patterns.
        allowed: see `match`.
        best: k.

    Returns:
        (what is left, float32 `[n, L]`, and its match).
    """
    left = np.stack(
        [
            residual(pattern, mask, prototypes, entry=int(entry), shift=float(shift))
            for pattern, mask, entry, shift in zip(
                np.asarray(patterns, np.float32), masks, first.entry[:, 0], first.shift[:, 0],
                strict=True,
            )
        ]
    )  # fmt: skip
    return left, match(left, masks, prototypes, posterior, allowed=allowed, best=best)


def pooled(first: Match, second: Match) -> Match:
    """Returns what two looks at the same scans say together: the mean of their probabilities.

    A linear opinion pool (M. Stone, Ann. Math. Statist. 32, 1339, 1961). The looks share counts,
    so that they are no independent evidence and a product of probabilities would be too sure; and
    a phase that one of them has lost keeps half of what the other gives it. A prototype that both
    have stands there twice, each time with half of one look's probability: sums over prototypes
    are the means of the sums.

    Args:
        first: of n scans.
        second: of the same scans with the same prototypes, patterns of another kind.
    """
    logs = np.concatenate([first.log_probability, second.log_probability], axis=1) - np.log(2.0)
    order = np.argsort(-logs, axis=1, kind="stable")

    def column(name: str) -> np.ndarray:
        values = np.concatenate([getattr(first, name), getattr(second, name)], axis=1)
        return np.take_along_axis(values, order, axis=1)

    columns = {name: column(name) for name in Match._fields if name != "not_in_library"}
    columns["log_probability"] = np.take_along_axis(logs, order, axis=1)
    columns["vote"] = 0.5 * columns["vote"]
    return Match(**columns, not_in_library=0.5 * (first.not_in_library + second.not_in_library))


def residual(
    pattern: np.ndarray, mask: np.ndarray, prototypes: Prototypes, *, entry: int, shift: float
) -> np.ndarray:
    """Returns what is left of a pattern where a prototype predicts little of it, float32 `[L]`.

    The prototype is scaled to the pattern by the median ratio on its strong points, and every
    point at which it reaches a fifth of the pattern is emptied: intensities of a phase that is
    textured are wrong, its positions are not.

    Args:
        pattern: `[L]`.
        mask: bool `[L]`.
        prototypes: N of them.
        entry: which one.
        shift: of its lines in ln q.
    """
    root = draw_shifted(prototypes, np.array([entry]), np.array([shift]), fold=1)[0]
    model = root**2 * np.asarray(mask, np.float32)
    strong = model > 0.1 * max(float(model.max()), 1e-12)
    if not strong.any():
        return pattern
    scale = float(np.median(pattern[strong] / model[strong]))
    left = np.where(scale * model > 0.2 * pattern, 0.0, pattern)
    top = float(left.max())
    return (left / top if top > 0.0 else left).astype(np.float32)


class _Scan(NamedTuple):
    """Root patterns of one scan on the full and the half grid, and where they were measured."""

    fine: np.ndarray
    fine_mask: np.ndarray
    root: np.ndarray
    mask: np.ndarray


def _row(
    scan: _Scan,
    prototypes: Prototypes,
    posterior: Posterior,
    found: np.ndarray,
    others: np.ndarray,
    best: int,
) -> tuple[np.ndarray, ...]:
    """The fields of `Match` for one scan; where fewer than `best` may be, others fill the row."""
    if not found.size:
        zeros = np.zeros(best)
        never = np.full(best, -np.inf)
        even = np.full(best, 1.0 / best)
        return (others[:best], *(zeros,) * 7, never, even, np.ones(()))
    drawn = prototypes.roots(found)
    order = best_of(scan.root, scan.mask, prototypes, found, drawn, best)
    found = found[order]
    shift, displacement, features = weigh(*scan, prototypes, found, drawn[order])
    weighed = probabilities(features[None], posterior)
    column = dict(zip(FEATURES, features.T, strict=True))
    order = np.argsort(-weighed.log[0], kind="stable")
    empty = best - len(order)

    def filled(values: np.ndarray, value: float = 0.0) -> np.ndarray:
        return np.concatenate([values[order], np.full(empty, value)])

    return (
        np.concatenate([found[order], others[:empty]]),
        filled(weighed.score[0], -np.inf),
        filled(column["cosine"]),
        filled(shift),
        filled(displacement),
        filled(column["peaks_explained"]),
        filled(column["missing"]),
        filled(column["left_over"]),
        filled(weighed.log[0], -np.inf),
        filled(weighed.vote[0]),
        weighed.none[0],
    )
