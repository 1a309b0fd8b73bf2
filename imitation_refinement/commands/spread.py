"""Reading a composition-spread library: its patterns on a grid, and their compositions.

Compositions, if there are any, come from an array of the .npz file whose name begins with
`composition` (`[n, elements]`; what follows, as in `composition_fe_ga_pd`, names the elements), or
from a table `composition.csv` beside the patterns: a line with the names of the elements, then one
line for each pattern. A first column `file` says which; without it lines and files are taken in
order, scan_2 before scan_10.
"""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from imitation_refinement.commands.inputs import list_inputs
from imitation_refinement.errors import UserError
from imitation_refinement.xrd.formats import Record, read_records
from imitation_refinement.xrd.formats.readers import base_name
from imitation_refinement.xrd.grid import Grid
from imitation_refinement.xrd.scans import on_grid

TABLE = "composition.csv"
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
        note: on compositions, for the user; may be empty.
    """

    names: list[str]
    pattern: np.ndarray
    mask: np.ndarray
    composition: np.ndarray | None
    elements: list[str]
    wavelength: float
    failures: list[str]
    note: str = ""


def read_spread(inputs: Sequence[str], grid: Grid, wavelength: str | float | None) -> Spread:
    """Reads the patterns of a library and its compositions, and puts them on a grid.

    Raises:
        UserError: nothing could be read, or the compositions do not fit the patterns.
    """
    files, _ = list_inputs(inputs, wavelength)
    table = next((one.path for one in files if one.path.name == TABLE), None)
    files = [one for one in files if one.path.name != TABLE]
    records: list[Record] = []
    for one in files:
        try:
            found = read_records(one.path, one.wavelength)
        except UserError as error:
            found = [Record(one.path.stem, None, str(error))]
        records += [record for record in found if not record.by_design]
    composition, elements, note = _compositions([one.path for one in files], records, table)
    used, placed, failures = [], [], []
    for index, record in enumerate(records):
        try:
            if record.scan is None:
                raise UserError(record.reason)
            placed.append(on_grid(record.scan, grid))
        except UserError as error:
            failures.append(str(error))
            continue
        used.append(index)
    if not placed:
        raise UserError(failures[0] if failures else f"{', '.join(inputs)}: no pattern")
    scans = [scan for index in used if (scan := records[index].scan)]
    return Spread(
        [scan.name for scan in scans],
        np.stack([item.pattern for item in placed]),
        np.stack([item.mask for item in placed]),
        None if composition is None else composition[used],
        elements,
        scans[0].wavelength,
        failures,
        note,
    )


def _compositions(
    files: Sequence[Path], records: Sequence[Record], table: Path | None
) -> tuple[np.ndarray | None, list[str], str]:
    """The composition of each pattern, the elements' names, and what a user should know of it."""
    count = len(records)
    if len(files) == 1 and files[0].suffix.lower() == ".npz":
        with np.load(files[0], allow_pickle=False) as archive:
            for name in archive.files:
                values = archive[name]
                if name.startswith("composition") and values.ndim == 2 and len(values) == count:
                    said = [part.capitalize() for part in name.split("_")[1:]]
                    fits = len(said) == values.shape[1]
                    numbered = [f"element {i + 1}" for i in range(values.shape[1])]
                    return values.astype(np.float64), said if fits else numbered, ""
    beside = files[0].parent / TABLE if files else None
    table = table or (beside if beside and beside.exists() else None)
    if table is None:
        return None, [], ""
    try:
        head, *lines = csv.reader(table.read_text(encoding="utf-8-sig").splitlines())
        named = head[0].strip().casefold() in _NAMES
        values = np.array([line[named:] for line in lines], np.float64)
        elements = [text.strip() for text in head[named:]]
    except (OSError, ValueError, IndexError) as error:
        raise UserError(f"{table}: not a line of names and lines of numbers ({error})") from error
    if values.ndim != 2 or values.shape[1] != len(elements):
        raise UserError(f"{table}: {len(elements)} names above lines of numbers of another length")
    if named:
        return _by_name(table, [line[0].strip() for line in lines], values, records), elements, ""
    if len(values) != count:
        raise UserError(f"{table}: {len(values)} lines of numbers for {count} patterns")
    order = ", ".join(record.name for record in records[:3])
    note = f"{table}: has no column 'file', so its lines were given to {order}, ... in this order"
    return values, elements, note


def _by_name(
    table: Path, names: Sequence[str], values: np.ndarray, records: Sequence[Record]
) -> np.ndarray:
    """The composition of each pattern, by the name of its file with or without its ending."""
    known = {key: row for row, name in enumerate(names) for key in (name, base_name(name))}
    rows = [known.get(record.name) for record in records]
    if None in rows:
        raise UserError(f"{table}: no line for {records[rows.index(None)].name}")
    return values[np.array(rows, int)]
