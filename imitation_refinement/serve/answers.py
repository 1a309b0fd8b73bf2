"""What the page is told of files, patterns and candidates: plain data for JSON.

Belongs here: pure functions of what is in memory. Numbers come from the code that refines batches,
see `commands`; their form is that of its page.
"""

from typing import Any, NamedTuple

import numpy as np

from imitation_refinement.commands.assess_scans import refine_one
from imitation_refinement.commands.batch_page import (
    laid_over,
    overlay_data,
    plot_data,
    table_row,
)
from imitation_refinement.commands.inputs import Input
from imitation_refinement.commands.inspect_page import picture
from imitation_refinement.commands.inspect_scans import described, in_words
from imitation_refinement.commands.scan_outputs import candidate_file
from imitation_refinement.commands.scan_results import Failed, Names, Refined, told_by
from imitation_refinement.errors import UserError
from imitation_refinement.model.model import Model
from imitation_refinement.phases.cif_text import cif_text
from imitation_refinement.phases.compositions import Elements
from imitation_refinement.phases.identify import SHOWN, Phases
from imitation_refinement.phases.named import Named
from imitation_refinement.phases.prototypes import GRID
from imitation_refinement.xrd.formats import Record
from imitation_refinement.xrd.scans import on_grid

LARGEST_CHANGE = 0.05  # of a cell's lengths, that can be tried
LARGEST_DISPLACEMENT = 2e-3  # h / R


class Chosen(NamedTuple):
    """One candidate of a pattern: of the first phase (0), or a further one, and its rank from 0."""

    phase: int
    rank: int


def inspected(one: Input, records: list[Record]) -> list[dict[str, Any]]:
    """Returns how each pattern of a file was read, with a small picture."""
    found = []
    for number, record in enumerate(records):
        told = described(one, record)
        reason = record.reason.removeprefix(f"{one.path}: ")
        found.append(
            told
            | {
                "number": number,
                "words": in_words(told) if record.scan else "",
                "reason": reason,
                "byDesign": record.by_design,
                "picture": picture(record.scan) if record.scan else None,
            }
        )
    return found


def refined(model: Model, phases: Phases | None, one: Input, record: Record) -> Refined | Failed:
    """Returns what is found out about a pattern; see `refine_one`.

    Raises:
        UserError: its wavelength is not known.
    """
    if record.scan is None:
        return Failed(record.name, one.path, record.reason)
    if not np.isfinite(record.scan.wavelength):
        raise UserError(f"{one.path}: states no wavelength; choose one")
    return refine_one(model, one, Names()(record.name), record.scan, phases)


def ranked(result: Refined, phases: Phases, elements: Elements | None) -> Refined:
    """Returns a record with the phases that these elements leave; nothing is refined again."""
    share = result.placed if len(result.refined) == GRID.length else None
    placed = share or on_grid(result.scan, GRID)
    (own,) = phases.identify([placed], [elements])
    return told_by(result, own)


def told(result: Refined | Failed, model: Model, phases: Phases | None) -> dict[str, Any]:
    """Returns the row of a record and its curves, as the page about a batch has them."""
    plot = plot_data(result, model.grid, phases, SHOWN) if isinstance(result, Refined) else None
    return {"row": table_row(result), "plot": plot}


def named(result: Refined, chosen: Chosen) -> Named:
    """Returns a candidate of a record.

    Raises:
        UserError: it has no such candidate.
    """
    further = result.identified.further if result.identified else ()
    lists = (result.candidates, *further)
    if not (0 <= chosen.phase < len(lists) and 0 <= chosen.rank < len(lists[chosen.phase])):
        raise UserError(f"{result.name}: has no such candidate; choose it anew")
    return lists[chosen.phase][chosen.rank]


def overlay(
    result: Refined,
    model: Model,
    phases: Phases,
    chosen: Chosen,
    cell: float | None = None,
    displacement: float | None = None,
    beside: Chosen | None = None,
) -> dict[str, Any]:
    """Returns a candidate laid over a pattern, its lines where a visitor moved them.

    Args:
        result: the record.
        model: that refined it.
        phases: that the candidates are of.
        chosen: which one.
        cell: change of its cell's lengths, a fraction; None for that of the fit.
        displacement: of the sample over the goniometer's radius; None for that of the fit.
        beside: another phase, whose pattern is taken off first.

    Raises:
        UserError: no such candidate, or too far away.
    """
    one = named(result, chosen)
    cell = one.shift if cell is None else cell
    displacement = one.displacement if displacement is None else displacement
    if not (abs(cell) <= LARGEST_CHANGE and abs(displacement) <= LARGEST_DISPLACEMENT):
        raise UserError(
            f"cell: change it by {LARGEST_CHANGE:.0%} at most,"
            f" and h / R by {LARGEST_DISPLACEMENT:g}"
        )
    first = None
    if beside is not None:
        (under,) = laid_over(result, model.grid, phases, [named(result, beside)])
        first = under.pattern
    moved = one._replace(shift=cell, displacement=displacement)
    (laid,) = laid_over(result, model.grid, phases, [moved], first)
    return overlay_data(result, model.grid, laid) | {"cell": cell, "displacement": displacement}


def cif(result: Refined, phases: Phases, chosen: Chosen) -> tuple[str, str]:
    """Returns name and text of a candidate's CIF file."""
    one = named(result, chosen)
    name = candidate_file(result.name, chosen.rank + 1)
    if chosen.phase:
        name = candidate_file(f"{result.name}.phase-{chosen.phase + 1}", chosen.rank + 1)
    return name, cif_text(phases.library, one.candidate.entry)
