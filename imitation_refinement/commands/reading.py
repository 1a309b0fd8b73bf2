"""One input read and placed on a grid, in whatever process.

Belongs here: what becomes of the bytes of a file or of the rows of a stack, trouble included. It
imports nothing that takes long: a process that only reads begins within a second. Who reads what
when is `read_ahead`'s; what is entered where is `inputs`'.
"""

from pathlib import Path
from typing import NamedTuple

from imitation_refinement.commands.ledger import in_a_line
from imitation_refinement.errors import UserError
from imitation_refinement.xrd.formats import Record, read_records, read_row_records
from imitation_refinement.xrd.grid import Grid
from imitation_refinement.xrd.scans import PlacedScan, on_grid


class Wanted(NamedTuple):
    """What is to be read; see `inputs.Input` for the fields."""

    path: Path
    wavelength: str | float | None
    trouble: str
    data: bytes | None
    rows: tuple[int, int] | None


class Placed(NamedTuple):
    """One pattern.

    Attributes:
        record: of its file.
        row: its own, of a stack.
        scan: on the grid; None if it cannot be used, or none was asked for.
        trouble: why it cannot be placed; empty if it can.
    """

    record: Record
    row: int | None = None
    scan: PlacedScan | None = None
    trouble: str = ""


class Reading(NamedTuple):
    """All that was in one input.

    Attributes:
        found: its patterns, in order.
        reason: why there are no more, one line; empty if that is all.
    """

    found: list[Placed]
    reason: str = ""


def read_one(wanted: Wanted, grid: Grid | None = None, *, look_only: bool = False) -> Reading:
    """Reads an input and places its patterns; whatever goes wrong is told in what is returned.

    Args:
        wanted: the input.
        grid: to place patterns on; None leaves them where they are.
        look_only: see `formats.read_records`.
    """
    found: list[Placed] = []
    path = wanted.path
    try:
        if wanted.trouble:
            raise UserError(wanted.trouble)
        if wanted.rows:
            for row, record in read_row_records(
                path, wanted.rows, wanted.wavelength, look_only=look_only
            ):
                found.append(_placed(path, Placed(record, row), grid))
            return Reading(found)
        if wanted.data is None and path.is_dir():
            raise UserError(f"{path}: no file in this folder looks like a pattern")
        records = read_records(path, wanted.wavelength, look_only=look_only, data=wanted.data)
        return Reading([_placed(path, Placed(record), grid) for record in records])
    except Exception as error:
        return Reading(found, in_a_line(path, error))


def _placed(path: Path, one: Placed, grid: Grid | None) -> Placed:
    if grid is None or one.record.scan is None:
        return one
    try:
        return one._replace(scan=on_grid(one.record.scan, grid))
    except Exception as error:
        return one._replace(trouble=in_a_line(path, error))
