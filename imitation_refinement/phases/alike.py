"""Structures that no powder pattern tells apart, and that are one phase whatever they are called.

Belongs here: finding the twins of an entry. Many a phase stands in a library under several names:
with hydrogen and without, in a group and in its enantiomorph or a subgroup, as two minerals. Who
has one of them has the others: they are no unknown phases to each other. Some share a name and no
more, polymorphs of one space group or members of a series: who has one has not the other.
"""

from collections.abc import Sequence

import numpy as np

from imitation_refinement.phases.candidates import TWIN
from imitation_refinement.phases.formulas import heavier_elements
from imitation_refinement.phases.prototypes import Prototypes, draw_roots
from imitation_refinement.phases.scores import shifted

SAME = 0.7  # cosine from which on entries of one name are one phase: of simulated scans whose phase
# stays as an entry that is less like them 42 % have it among the 60 that are weighed, of others 94
_FAR = 14  # points of a root pattern, 3 % of the cell: by more no two sources of one phase differ
_AT_ONCE = 256


class Twins:
    """The twins of each of N entries.

    Attributes:
        prototypes: of the entries.
    """

    def __init__(self, formulas: Sequence[str], prototypes: Prototypes):
        self.prototypes = prototypes
        numbers: dict[frozenset[str], int] = {}
        self._kind = np.array(
            [numbers.setdefault(heavier_elements(str(f)), len(numbers)) for f in formulas], int
        )
        self._order = np.argsort(self._kind, kind="stable")
        self._start = np.searchsorted(self._kind[self._order], np.arange(len(numbers) + 1))
        self._found: dict[int, np.ndarray] = {}

    def of(self, entry: int) -> np.ndarray:
        """Returns the twins of an entry, itself among them, int `[m]`.

        They have its elements, hydrogen aside, and root patterns with a cosine of 0.97 or more at
        the scale of the cell at which they are most alike.
        """
        if entry not in self._found:
            kind = self._kind[entry]
            rows = self._order[self._start[kind] : self._start[kind + 1]]
            self._found[entry] = rows[(self._cosines(entry, rows) >= TWIN) | (rows == entry)]
        return self._found[entry]

    def same(self, entry: int, named: np.ndarray) -> np.ndarray:
        """Returns the entries that are the phase of one, int `[m]`: its twins, and of those of its
        name those whose root patterns have a cosine of 0.7 or more.

        Args:
            entry: the one.
            named: those of its name, int.
        """
        return np.union1d(self.of(entry), named[self._cosines(entry, named) >= SAME])

    def _cosines(self, entry: int, rows: np.ndarray) -> np.ndarray:
        """Of root patterns with that of one entry, each at its best scale of the cell, `[m]`."""
        own = self._drawn(np.array([entry]))[0]
        moved = np.stack([shifted(own, points) for points in range(-_FAR, _FAR + 1)])
        parts = [rows[i : i + _AT_ONCE] for i in range(0, len(rows), _AT_ONCE)]
        return np.concatenate([(self._drawn(p) @ moved.T).max(axis=1) for p in parts])

    def _drawn(self, rows: np.ndarray) -> np.ndarray:
        library = self.prototypes
        return draw_roots(library.q, library.height, library.offsets, rows, library.grid)
