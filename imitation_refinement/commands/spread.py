"""Reading a composition-spread library: its patterns on a grid, and their compositions.

Compositions, if there are any, come from an array of the .npz file whose name begins with
`composition` (`[n, elements]`; what follows, as in `composition_fe_ga_pd`, names the elements), or
from a table `composition.csv` beside the patterns: a line with the names of the elements, then one
line for each pattern. A first column `file` says which; without it lines and files are taken in
order, scan_2 before scan_10.
"""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from imitation_refinement.commands.inputs import COMPOSITIONS, Input, list_inputs, read_each
from imitation_refinement.commands.ledger import LeftOut, Notes, in_a_line
from imitation_refinement.errors import UserError
from imitation_refinement.xrd.formats import Record
from imitation_refinement.xrd.formats.readers import base_name
from imitation_refinement.xrd.grid import Grid
from imitation_refinement.xrd.scans import on_grid

_NAMES = ("file", "name", "sample")  # of the column that says which pattern a line is of


class Spread(NamedTuple):
    """A library on a grid.

    Attributes:
        names: of n patterns.
        pattern: without background, maximum 1, float32 `[n, L]`.
        mask: bool `[n, L]`, true where measured.
        composition: float64 `[n, e]`, None if not known.
        elements: e names; empty if not known.
        wavelength: of the first pattern, in angstrom.
        failures: what could not be used, one sentence each.
        left_out: what was never a pattern, and why.
        notes: on compositions and on the patterns, for the user, each kind once.
    """

    names: list[str]
    pattern: np.ndarray
    mask: np.ndarray
    composition: np.ndarray | None
    elements: list[str]
    wavelength: float
    failures: list[str]
    left_out: list[LeftOut]
    notes: list[str]


def read_spread(inputs: Sequence[str], grid: Grid, wavelength: str | float | None) -> Spread:
    """Reads a library of which inputs are named; see `read_listed`."""
    return read_listed(*list_inputs(inputs, wavelength), grid, wavelength)


def read_listed(
    listed: Iterable[Input],
    left: Sequence[LeftOut],
    grid: Grid,
    wavelength: str | float | None,
) -> Spread:
    """Reads the patterns of a library and its compositions, and puts them on a grid.

    Args:
        listed: at least one file, of `list_inputs`.
        left: likewise.
        grid: to place the patterns on.
        wavelength: that was given for all files, to say if it had no use.

    Raises:
        UserError: nothing could be read, or the compositions do not fit the patterns.
    """
    files, left = list(listed), list(left)
    table = next((one.path for one in files if one.path.name == COMPOSITIONS), None)
    files = [one for one in files if one.path.name != COMPOSITIONS]
    read = list(read_each(files, left))
    records = [record for _, record in read]
    told = _compositions([one.path for one in files], records, table)
    used, placed, failures, notes = [], [], [], Notes()
    for index, (one, record) in enumerate(read):
        try:
            if record.scan is None:
                raise UserError(record.reason)
            if index in told.missing:
                raise UserError(f"{one.path}: {told.missing[index]}")
            placed.append(on_grid(record.scan, grid))
        except Exception as error:  # whatever it is, it is this pattern's trouble alone
            failures.append(in_a_line(one.path, error))
            continue
        used.append(index)
        notes.add(record.scan.notes)
    if not placed:
        raise UserError(failures[0] if failures else f"{table}: no pattern beside it was named")
    scans = [scan for index in used if (scan := records[index].scan)]
    own = [scan for scan in scans if scan.wavelength_source == "file"]
    if wavelength is not None and len(own) == len(scans):
        notes.add(["--wavelength had no effect: every file states its own"])
    return Spread(
        [scan.name for scan in scans],
        np.stack([item.pattern for item in placed]),
        np.stack([item.mask for item in placed]),
        None if told.values is None else told.values[used],
        told.elements,
        scans[0].wavelength,
        failures,
        [one for one in left if one.path.name != COMPOSITIONS],
        [*told.notes, *notes.told()],
    )


class _Compositions(NamedTuple):
    """Compositions of n records: `[n, e]` or None, names of elements, notes, why one has none."""

    values: np.ndarray | None
    elements: list[str]
    notes: list[str]
    missing: dict[int, str]


def _compositions(
    files: Sequence[Path], records: Sequence[Record], table: Path | None
) -> _Compositions:
    """The composition of each pattern."""
    count = len(records)
    if len(files) == 1 and files[0].suffix.lower() == ".npz":
        with np.load(files[0], allow_pickle=False) as archive:
            for name in archive.files:
                values = archive[name]
                if name.startswith("composition") and values.ndim == 2 and len(values) == count:
                    said = [part.capitalize() for part in name.split("_")[1:]]
                    fits = len(said) == values.shape[1]
                    elements = said if fits else [f"element {i + 1}" for i in range(len(values.T))]
                    return _Compositions(values.astype(np.float64), elements, [], {})
    beside = files[0].parent / COMPOSITIONS if files else None
    table = table or (beside if beside and beside.exists() else None)
    if table is None:
        return _Compositions(None, [], [], {})
    try:
        head, *lines = csv.reader(table.read_text(encoding="utf-8-sig").splitlines())
        lines = [line for line in lines if any(field.strip() for field in line)]
        named = head[0].strip().casefold() in _NAMES
        values = np.array([line[named:] for line in lines], np.float64)
        elements = [text.strip() for text in head[named:]]
    except (OSError, ValueError, IndexError) as error:
        raise UserError(f"{table}: not a line of names and lines of numbers ({error})") from error
    if values.ndim != 2 or values.shape[1] != len(elements):
        raise UserError(f"{table}: {len(elements)} names above lines of numbers of another length")
    if named:
        return _by_name(table, [line[0].strip() for line in lines], values, elements, records)
    meant = list(range(count))
    if len(values) != count:  # there may be no lines for files that cannot be read
        meant = [index for index, record in enumerate(records) if record.scan is not None]
    if len(values) != len(meant):
        raise UserError(
            f"{table}: {len(values)} lines of numbers for {len(meant)} patterns; say in a first"
            " column `file` which line is of which"
        )
    of_each = np.full((count, len(elements)), np.nan)
    of_each[meant] = values
    order = ", ".join(records[index].name for index in meant[:3])
    note = (
        f"{table}: has no column 'file', so its lines were given to {order}"
        f"{', ...' if len(meant) > 3 else ''} in this order"
    )
    return _Compositions(of_each, elements, [note], {})


def _by_name(
    table: Path,
    names: Sequence[str],
    values: np.ndarray,
    elements: list[str],
    records: Sequence[Record],
) -> _Compositions:
    """The composition of each pattern, by the name of its file with or without its ending."""
    known: dict[str, int] = {}
    for row, name in enumerate(names):
        if known.setdefault(name, row) != row:
            raise UserError(f"{table}: two lines for {name}")
    short = {base_name(name): row for name, row in known.items()}
    rows = [known.get(record.name, short.get(record.name)) for record in records]
    missing = {
        index: f"{table.name} has no line for {records[index].name}"
        for index, row in enumerate(rows)
        if row is None
    }
    if len(missing) == len(records):
        raise UserError(f"{table}: no line for {records[0].name}, nor for any other pattern")
    notes = []
    if spare := sorted(set(range(len(names))) - set(rows), key=lambda row: row or 0):
        notes.append(
            f"{table}: lines that name no pattern: {len(spare)} (first: {names[spare[0]]})"
        )
    return _Compositions(values[[row or 0 for row in rows]], elements, notes, missing)
