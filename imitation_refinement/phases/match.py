"""Matching: of all prototypes the few that may explain a scan, each with its probability.

Belongs here: the way from patterns on the grid through coarse choice, exact cosines and evidence
to probabilities. Each step is in a file of its own: `prototypes`, `scores`, `evidence`,
`posterior`. No formula and no space group is known here.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from imitation_refinement.phases.evidence import FEATURES, Evidence, weigh
from imitation_refinement.phases.posterior import Posterior, Probabilities, probabilities
from imitation_refinement.phases.prototypes import Prototypes, scan_roots
from imitation_refinement.phases.scores import best_of, coarse_choice
from imitation_refinement.phases.side_by_side import side_by_side

BEST = 60  # prototypes whose evidence is weighed
_NOTHING = Probabilities(*(np.zeros(0),) * 2, np.ones(()), np.zeros(0))  # where none may be


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
        size_nm: that gives the scan's widths, float64 `[n, k]`, the same of one look.
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
    size_nm: np.ndarray
    log_probability: np.ndarray
    vote: np.ndarray
    not_in_library: np.ndarray


class Weighed(NamedTuple):
    """The k best prototypes of one look at a scan, best first, and what speaks for them.

    Attributes:
        entry: which, int64 `[k]`.
        evidence: see there.
    """

    entry: np.ndarray
    evidence: Evidence


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
    [found] = match_looks([patterns], masks, prototypes, posterior, allowed=allowed, best=best)
    return found


def match_looks(
    looks: Sequence[np.ndarray],
    masks: np.ndarray,
    prototypes: Prototypes,
    posterior: Posterior,
    *,
    allowed: np.ndarray | None = None,
    best: int = BEST,
) -> list[Match]:
    """Returns `match` of each look at the same scans, as measured and refined, see `weighed`.

    Args:
        looks: patterns float `[n, L]` of each.
        masks: see `match`, as all others.
        prototypes: N of them.
        posterior: see `match`.
        allowed: see `match`.
        best: k.
    """
    best = min(best, prototypes.size)
    of_scans = weighed(looks, masks, prototypes, allowed=allowed, best=best)
    told = iter(_told([own for of_scan in of_scans for own in of_scan], posterior))
    rows = [[_row(own, next(told), best) for own in of_scan] for of_scan in of_scans]
    return [
        Match(*(np.stack(column) for column in zip(*of_look, strict=True)))
        for of_look in zip(*rows, strict=True)
    ]


def weighed(
    looks: Sequence[np.ndarray],
    masks: np.ndarray,
    prototypes: Prototypes,
    *,
    allowed: np.ndarray | None = None,
    best: int = BEST,
) -> list[list[Weighed]]:
    """Returns the best prototypes of each look at each scan.

    The last look chooses some hundreds, of which each look has its own best: refined patterns show
    more of the right ones, and what they choose is also better for patterns as measured.

    Args: see `match_looks`.
    """
    masks = np.asarray(masks, bool)
    looks = [np.asarray(patterns, np.float32) for patterns in looks]
    for patterns in looks:
        if patterns.ndim != 2 or not len(patterns) or patterns.shape[1] != prototypes.grid.length:
            raise ValueError(
                f"expected patterns [n, {prototypes.grid.length}], n > 0,"
                f" got {list(patterns.shape)}"
            )
        if masks.shape != patterns.shape:
            raise ValueError(f"expected masks {list(patterns.shape)}, got {list(masks.shape)}")
    if allowed is not None:
        allowed = np.broadcast_to(np.asarray(allowed, bool), (len(masks), prototypes.size))
    halves = [scan_roots(patterns, masks) for patterns in looks]
    wholes = [scan_roots(patterns, masks, 1) for patterns in looks]
    chosen = coarse_choice(*halves[-1], prototypes, allowed=allowed)

    def of_scan(i: int) -> list[Weighed]:
        found = chosen[i] if allowed is None else chosen[i][allowed[i, chosen[i]]]
        drawn, own = prototypes.roots(found), list[Weighed]()
        roots = np.stack([half[i] for half, _ in halves])
        orders = best_of(roots, halves[0][1][i], prototypes, found, drawn, best)
        for order, half, whole in zip(orders, halves, wholes, strict=True):
            own.append(
                Weighed(
                    found[order],
                    weigh(
                        whole[0][i], whole[1][i], half[0][i], half[1][i], prototypes,
                        found[order], drawn[order],
                    ),
                )
            )  # fmt: skip
        return own

    return side_by_side(of_scan, range(len(masks)))


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


def _told(every: Sequence[Weighed], posterior: Posterior) -> list[Probabilities]:
    """What the evidence says of each look at a scan; those with equally many prototypes at once."""
    found = [_NOTHING] * len(every)
    counts = np.array([len(one.entry) for one in every])
    for count in np.unique(counts[counts > 0]):
        rows = np.flatnonzero(counts == count).tolist()
        features = np.stack([every[row].evidence.features for row in rows])
        for row, one in zip(
            rows, zip(*probabilities(features, posterior), strict=True), strict=True
        ):
            found[row] = Probabilities(*one)
    return found


def _row(own: Weighed, told: Probabilities, best: int) -> tuple[np.ndarray, ...]:
    """The fields of `Match` for one scan; where fewer than `best` may be, others fill the row."""
    entry, (shift, displacement, features) = own
    empty = best - len(entry)
    others = np.setdiff1d(np.arange(best), entry)[:empty] if empty else np.zeros(0, int)
    if not entry.size:
        zeros = np.zeros(best)
        never = np.full(best, -np.inf)
        even = np.full(best, 1.0 / best)
        return (others, *(zeros,) * 8, never, even, told.none)
    column = dict(zip(FEATURES, features.T, strict=True))
    order = np.argsort(-told.log, kind="stable")

    def filled(values: np.ndarray, value: float = 0.0) -> np.ndarray:
        return np.concatenate([values[order], np.full(empty, value)])

    return (
        np.concatenate([entry[order], others]),
        filled(told.score, -np.inf),
        filled(column["cosine"]),
        filled(shift),
        filled(displacement),
        filled(column["peaks_explained"]),
        filled(column["missing"]),
        filled(column["left_over"]),
        filled(np.exp(column["log_size"])),
        filled(told.log, -np.inf),
        filled(told.vote),
        told.none,
    )
