"""The prototypes that lead: the likeliest two of both looks, and how a scan deviates from them.

Belongs here: which they are, the same where a calibration is fitted and where it is used, and their
`deviations`. Cells that these fit on the way are kept for who tells them.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from imitation_refinement.phases.cell_fit import CellFit, fit_cell
from imitation_refinement.phases.deviations import FIGURES, deviations
from imitation_refinement.phases.library import Library
from imitation_refinement.phases.match import Match
from imitation_refinement.phases.named import Moved
from imitation_refinement.phases.prototypes import Prototypes, scan_roots
from imitation_refinement.phases.side_by_side import side_by_side
from imitation_refinement.xrd.scans import PlacedScan
from imitation_refinement.xrd.structures.settings import operations

LEADERS = 2

Cells = dict[int, CellFit | None]  # of a scan, fitted for some entries


class Leaders(NamedTuple):
    """The likeliest two prototypes of n scans, as the look that finds each likelier has it.

    Attributes:
        entry: which, int64 `[n, 2]`, -1 where there are fewer.
        shift: change of ln q from prototype to scan, float64 `[n, 2]`.
        displacement: h / R, float64 `[n, 2]`.
        size_nm: that gives the scan's widths, float64 `[n, 2]`.
    """

    entry: np.ndarray
    shift: np.ndarray
    displacement: np.ndarray
    size_nm: np.ndarray


def leaders_of(first: Match, second: Match) -> Leaders:
    """Returns the leaders of n scans by both looks.

    Args:
        first: of n scans.
        second: of the same scans with the same prototypes, refined patterns.
    """
    names = ("log_probability", *Leaders._fields)
    both = (np.concatenate([getattr(of, name) for of in (first, second)], axis=1) for name in names)
    rows = [leading(*of_one) for of_one in zip(*both, strict=True)]
    return Leaders(*(np.stack(column) for column in zip(*rows, strict=True)))


def leading(
    log_probability: np.ndarray,
    entry: np.ndarray,
    shift: np.ndarray,
    displacement: np.ndarray,
    size_nm: np.ndarray,
) -> Leaders:
    """Returns the leaders of one scan, of what both looks have, in any order, `[2]` each.

    Args:
        log_probability: ln of that of each prototype in one of the looks, `[K]`.
        entry: which prototype, int `[K]`; most occur twice, and lead by their sum.
        shift: see `Leaders`, as the next two, `[K]`.
        displacement: `[K]`.
        size_nm: `[K]`.
    """
    order = np.argsort(-log_probability, kind="stable")
    entries, place, number = np.unique(entry[order], return_index=True, return_inverse=True)
    total = np.bincount(number, np.exp(log_probability[order]))
    best = np.argsort(-total, kind="stable")[:LEADERS]
    best = best[total[best] > 0.0]
    place, empty = order[place[best]], (0, LEADERS - len(best))
    found = (np.pad(values[place], empty) for values in (shift, displacement, size_nm))
    return Leaders(np.pad(entries[best], empty, constant_values=-1), *found)


def deviations_of(
    placed: Sequence[PlacedScan], leaders: Leaders, library: Library, prototypes: Prototypes
) -> tuple[np.ndarray, list[Cells]]:
    """Returns how n scans deviate from their leaders.

    Args:
        placed: the scans, as measured.
        leaders: of them.
        library: of the entries.
        prototypes: of the library.

    Returns:
        (`deviations.FIGURES` of each leader, 0 where there is none, float64 `[n, 22]`; the cells
        of the leaders of each scan).
    """

    def of_one(row: int) -> tuple[np.ndarray, Cells]:
        scan, cells = placed[row], Cells()
        figures = np.zeros((LEADERS, len(FIGURES)))
        root = scan_roots(scan.pattern[None], scan.mask[None], 1)[0][0]
        for number, entry in enumerate(leaders.entry[row].tolist()):
            if entry < 0:
                continue
            shift, displacement, size = (float(each[row, number]) for each in leaders[1:])
            one = Moved(entry, shift, displacement)
            cells[entry] = fitted_cell(one, root, library, prototypes)
            figures[number] = deviations(scan, cells[entry], one, library, prototypes, size)
        return figures.ravel(), cells

    figures, cells = zip(*side_by_side(of_one, range(len(placed))), strict=True)
    return np.stack(figures), list(cells)


def fitted_cell(
    one: Moved, root: np.ndarray, library: Library, prototypes: Prototypes
) -> CellFit | None:
    """Returns the cell of a prototype, `fit_cell` to a scan.

    Args:
        one: the prototype, as it was found.
        root: the scan's pattern, of `scan_roots` with fold 1, `[L]`.
        library: of the entry.
        prototypes: of the library.
    """
    own = slice(prototypes.offsets[one.entry], prototypes.offsets[one.entry + 1])
    return fit_cell(
        library.cell[one.entry].astype(np.float64),
        operations(int(library.hall[one.entry]))[:, :, :3],
        prototypes.q[own], prototypes.height[own], root,
        shift=one.shift, displacement=one.displacement,
    )  # fmt: skip
