"""A scan's phases in words: what is told of each candidate, and of the scan.

Belongs here: the two values that callers get, and from where in library and match their fields are.
"""

from typing import NamedTuple

import numpy as np

from imitation_refinement.phases.candidates import Answer, Candidate
from imitation_refinement.phases.cell_fit import CellFit
from imitation_refinement.phases.library import Library
from imitation_refinement.phases.match import Match
from imitation_refinement.xrd.crystals import CRYSTAL_SYSTEMS
from imitation_refinement.xrd.structures.cif import space_group_symbol


class Moved(NamedTuple):
    """A structure as a scan has it: entry, change of ln q of its lines, and h / R of the sample."""

    entry: int
    shift: float
    displacement: float


class Named(NamedTuple):
    """A candidate phase of a scan, in words.

    Attributes:
        candidate: see `candidates.Candidate`; its entry is an index into the library.
        formula, mineral: of its likeliest structure; the mineral may be ''.
        space_group_number: as the source states it.
        space_group: its short Hermann-Mauguin symbol.
        system: crystal system.
        source, source_id: where the structure is from.
        members: identifiers of the structures that no powder pattern tells from it.
        cosine, explained, missing, left_over: see `match.Match`.
        shift: change of the cell's lengths from the library to the scan, a fraction.
        displacement: of the sample over the goniometer's radius.
        cell: of the sample, fitted in what the crystal system leaves free, for the first few
            candidates of a scan; None where it was not, or too few lines stand alone.
    """

    candidate: Candidate
    formula: str
    mineral: str
    space_group_number: int
    space_group: str
    system: str
    source: str
    source_id: str
    members: tuple[str, ...]
    cosine: float
    explained: float
    missing: float
    left_over: float
    shift: float
    displacement: float
    cell: CellFit | None = None

    @property
    def moved(self) -> Moved:
        """Where the scan has its lines."""
        return Moved(self.candidate.entry, float(-np.log1p(self.shift)), self.displacement)


class Identified(NamedTuple):
    """What the library says of one scan.

    Attributes:
        answer: verdict, crystal systems, space groups.
        candidates: likeliest first.
        further: for a scan that no one phase explains, the likeliest phases of what the first
            leaves, and of what these two leave; one list each.
        shares: of the intensity that the first of `candidates` and of each further list together
            predict; of mass it says nothing. Empty where no further phase is proposed.
        left: q of the peaks that these do not explain, 1/angstrom, strongest first, float64
            `[p]`; None where no further phase is proposed.
        refined: by which the answer was given beside the pattern as it is, float32 `[L]`; None
            where that one alone was asked.
        denoised: the scan as if it were counted longer, for looking at, float32 `[L]`; None where
            `refined` is.
    """

    answer: Answer
    candidates: tuple[Named, ...]
    further: tuple[tuple[Named, ...], ...] = ()
    shares: tuple[float, ...] = ()
    left: np.ndarray | None = None
    refined: np.ndarray | None = None
    denoised: np.ndarray | None = None


def named(found: Match, row: int, candidate: Candidate, library: Library) -> Named:
    """Returns what is told of a candidate, without its cell.

    Args:
        found: of some scans.
        row: which scan.
        candidate: of `candidates.answers` on this match.
        library: whose entries were matched.
    """
    entry, place = candidate.entry, (row, candidate.place)
    return Named(
        candidate,
        str(library.composition[entry]) or str(library.formula[entry]),
        str(library.mineral[entry]),
        candidate.space_group,
        space_group_symbol(candidate.space_group),
        CRYSTAL_SYSTEMS[candidate.system],
        library.sources[int(library.source[entry])].name,
        str(library.source_id[entry]),
        tuple(dict.fromkeys(str(library.source_id[other]) for other in candidate.members)),
        float(found.cosine[place]),
        float(found.explained[place]),
        float(found.missing[place]),
        float(found.left_over[place]),
        float(np.expm1(-found.shift[place])),
        float(found.displacement[place]),
    )
