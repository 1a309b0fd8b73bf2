"""What is known of a sample's elements, and what it says about the entries of a library.

Belongs here: the words that users write, which entries may be and which have all that was named;
and matching under it.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp

from imitation_refinement.errors import UserError
from imitation_refinement.phases.formulas import elements
from imitation_refinement.phases.library import Library
from imitation_refinement.phases.match import Match, match_looks
from imitation_refinement.phases.posterior import Posterior
from imitation_refinement.phases.prototypes import Prototypes
from imitation_refinement.xrd.formula import SYMBOLS

# Ln of the odds by which a phase of all elements that were named is preferred to one of some. On
# simulated scans whose elements are named exactly 1.5 is likeliest; who names too many wants less.
COMPLETE = 1.0


class Elements(NamedTuple):
    """What is known of a sample's composition.

    Attributes:
        may: elements besides which none occurs; None for any.
        must: elements that occur.
        must_not: elements that do not.
    """

    may: frozenset[str] | None = None
    must: frozenset[str] = frozenset()
    must_not: frozenset[str] = frozenset()


def parse_elements(text: str) -> Elements:
    """Returns what `Ca C O` (no others), `+Fe` (must occur) and `-Cl` (must not) say together.

    Symbols are separated by spaces or commas. Without any plain symbol the others may occur.

    Raises:
        UserError: a word is no element, or one both must and must not occur.
    """
    groups: dict[str, set[str]] = {"": set(), "+": set(), "-": set()}
    for word in re.split(r"[\s,;]+", text.strip()):
        sign, symbol = (word[0], word[1:]) if word[:1] in "+-" and word else ("", word)
        if symbol not in SYMBOLS[1:]:
            raise UserError(
                f"elements: {word!r} is no element; write symbols such as 'Ca C O', +Fe for one "
                "that must occur, -Cl for one that must not"
            )
        groups[sign].add(symbol)
    both = sorted(groups["-"] & (groups["+"] | groups[""]))
    if both:
        raise UserError(f"elements: {both[0]} is named both as present and as absent")
    may = frozenset(groups[""]) if groups[""] else None
    return Elements(may, frozenset(groups["+"]), frozenset(groups["-"]))


class Compositions:
    """Which elements each of N entries of a library has."""

    def __init__(self, library: Library):
        self._number = {symbol: z for z, symbol in enumerate(SYMBOLS)}
        self._has = np.zeros((len(SYMBOLS), len(library)), bool)
        texts = zip(library.composition, library.formula, strict=True)
        for row, (composition, formula) in enumerate(texts):
            own = elements(str(composition) or str(formula))
            self._has[self._rows(own), row] = True

    def _rows(self, symbols: frozenset[str]) -> list[int]:
        return [self._number[symbol] for symbol in symbols if symbol in self._number]

    def allowed(
        self,
        may: frozenset[str] | None,
        must: frozenset[str] = frozenset(),
        must_not: frozenset[str] = frozenset(),
    ) -> np.ndarray:
        """Returns which entries agree with what is known, bool `[N]`; see `Elements`."""
        kept = np.ones(self._has.shape[1], bool)
        for symbol, has in zip(SYMBOLS, self._has, strict=True):
            if symbol in must:
                kept &= has
            outside = may is not None and symbol not in may | must
            if symbol in must_not or outside:
                kept &= ~has
        return kept

    def complete(self, named: frozenset[str]) -> np.ndarray:
        """Returns which entries have all of some elements, bool `[N]`; none if none is named."""
        if not named:
            return np.zeros(self._has.shape[1], bool)
        return np.asarray(self._has[self._rows(named)].all(axis=0))

    def known(self, samples: Sequence[Elements]) -> "Known":
        """Returns what the elements of n samples say of the entries.

        Where any element may be, no entry is known to be complete.
        """
        kinds = set(samples)
        may = {one: self.allowed(one.may, one.must, one.must_not) for one in kinds}
        none = frozenset[str]()
        has = {one: self.complete(none if one.may is None else one.may | one.must) for one in kinds}
        return Known(
            np.stack([may[one] for one in samples]), np.stack([has[one] for one in samples])
        )


class Known(NamedTuple):
    """What the elements of n samples say of N prototypes.

    Attributes:
        allowed: which may be, bool `[n, N]`.
        complete: which have all elements that were named, bool `[n, N]`.
    """

    allowed: np.ndarray
    complete: np.ndarray

    def of(self, rows: Sequence[int] | slice) -> "Known":
        """Returns what is known of some of the samples."""
        return Known(*(column[rows] for column in self))


def match_known(
    looks: Sequence[np.ndarray],
    masks: np.ndarray,
    prototypes: Prototypes,
    posterior: Posterior,
    *,
    known: Known | None,
) -> list[Match]:
    """Returns the match of scans of which elements are known, with the neighbours of all elements.

    Where the phase is none of those that may be, structures of other elements still tell its
    symmetry: half of the vote is theirs, a linear opinion pool as in `match.pooled`.

    Args:
        looks: see `match.match_looks`, as the next three.
        masks: bool `[n, L]`.
        prototypes: N of them.
        posterior: what turns evidence into probabilities.
        known: of the n samples; None where nothing is, of any.

    Returns:
        A match for each look, of twice as many prototypes if elements are known; the latter half
        are neighbours and have probability 0.
    """
    free = match_looks(looks, masks, prototypes, posterior)
    if known is None:
        return free
    found = match_looks(looks, masks, prototypes, posterior, allowed=known.allowed)
    return [
        _with_neighbours(preferring(own, known.complete), others)
        for own, others in zip(found, free, strict=True)
    ]


def _with_neighbours(found: Match, free: Match) -> Match:
    """A match among those that may be, with one among all, whose share is half of the vote."""
    never = np.full(free.score.shape, -np.inf)
    free = free._replace(score=never, log_probability=never, vote=0.5 * free.vote)
    found = found._replace(vote=0.5 * found.vote)
    both = {
        name: np.concatenate([getattr(found, name), getattr(free, name)], axis=1)
        for name in Match._fields
        if name != "not_in_library"
    }
    return Match(**both, not_in_library=found.not_in_library)


def preferring(found: Match, complete: np.ndarray) -> Match:
    """Returns a match in which complete prototypes are likelier by COMPLETE, likeliest first.

    Args:
        found: of n scans.
        complete: which of N prototypes are, bool `[n, N]`.
    """
    extra = COMPLETE * np.take_along_axis(complete, found.entry, axis=1)
    logs, none = preferred(found.log_probability, found.not_in_library, extra)
    order = np.argsort(-logs, axis=1, kind="stable")
    columns = found._replace(score=found.score + extra, log_probability=logs)._asdict()
    del columns["not_in_library"]
    moved = {name: np.take_along_axis(each, order, axis=1) for name, each in columns.items()}
    return Match(**moved, not_in_library=none)


def preferred(
    log_probability: np.ndarray, none: np.ndarray, extra: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns probabilities after odds of prototypes are multiplied, summing to 1 again.

    Args:
        log_probability: ln of each prototype's, `[n, k]`.
        none: probability that it is none of them, `[n]`.
        extra: ln of the factor of each, `[n, k]`.

    Returns:
        (ln of each prototype's `[n, k]`, that of none `[n]`).
    """
    logs = log_probability + extra
    total = np.logaddexp(logsumexp(logs, axis=1), np.log(np.maximum(none, 1e-300)))
    return logs - total[:, None], none / np.exp(total)
