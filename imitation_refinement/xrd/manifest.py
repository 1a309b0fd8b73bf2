"""Manifests of measured patterns: a CSV file with one line per pattern and what is known of it.

Belongs here: reading the table and the patterns it names. Columns, of which only `file` must be
there (an empty field means not known):

| column | meaning |
| --- | --- |
| file, row | path relative to the manifest; row of the table of an .npz file, counted from 0 |
| source, sample, group | collection; name of the sample; what is drawn together in resampling |
| kind | `labelled` (one phase, system known), `mixture`, `unlabelled`; empty: by crystal_system |
| formula, crystal_system, space_group_number | the label |
| wavelength_A | in angstrom |
| cif | structure files relative to the manifest, separated by semicolons |
"""

import csv
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from imitation_refinement.errors import UserError
from imitation_refinement.xrd.crystals import CRYSTAL_SYSTEMS
from imitation_refinement.xrd.formats import read_scan
from imitation_refinement.xrd.formats.columns import Columns, angles
from imitation_refinement.xrd.formats.table import read_npz_patterns
from imitation_refinement.xrd.scans import Scan, clean_scan
from imitation_refinement.xrd.wavelengths import parse_wavelength

KINDS = ("labelled", "mixture", "unlabelled")


class Entry(NamedTuple):
    """One line of a manifest.

    Attributes:
        file: path of the pattern.
        row: row of an .npz table, None for other files.
        source: collection, '' if none.
        sample: its name; the file's stem (and row) where the manifest has none.
        kind: one of KINDS.
        formula: '' if not known.
        system: index into CRYSTAL_SYSTEMS, None if not known.
        space_group: 1..230, None if not known.
        wavelength: angstrom, None if not given.
        cifs: structure files.
        group: what the pattern is resampled with: column `group`, else source and formula, else
            source and sample.
        line: of the manifest, for messages.
    """

    file: Path
    row: int | None
    source: str
    sample: str
    kind: str
    formula: str
    system: int | None
    space_group: int | None
    wavelength: float | None
    cifs: tuple[Path, ...]
    group: str
    line: str


def read_manifest(path: str | Path, troubles: list[str] | None = None) -> list[Entry]:
    """Reads a manifest; the files that it names are not opened.

    Args:
        path: the table.
        troubles: takes what is wrong with a line, which is then passed over; None to raise it.

    Raises:
        UserError: it cannot be read, has no column `file` or no line, or a field has a value that
            it cannot have; the message names the line.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise UserError(f"{path}: cannot be read ({reason})") from error
    lines = csv.DictReader(text.splitlines())
    if "file" not in (lines.fieldnames or ()):
        raise UserError(f"{path}: no column `file`; the first line must name the columns")
    entries = []
    try:
        for row in lines:
            try:
                entries.append(_entry(path.parent, f"{path}:{lines.line_num}", row))
            except UserError as error:
                if troubles is None:
                    raise
                troubles.append(str(error))
    except csv.Error as error:
        raise UserError(f"{path}:{lines.line_num}: {error}") from error
    if not entries and not troubles:
        raise UserError(f"{path}: names no pattern")
    return entries


def read_entry(entry: Entry, wavelength: str | float | None = None) -> Scan:
    """Reads the pattern that a line names.

    A row of an .npz table is the pattern of this number; `formats.table` says what the arrays are.

    Args:
        entry: of `read_manifest`.
        wavelength: where the manifest has none, see `scans.parse_wavelength`.

    Raises:
        UserError: see `formats.read_scan`; the table lacks an array or the row.
    """
    wavelength = wavelength if entry.wavelength is None else entry.wavelength
    if entry.row is None:
        return read_scan(entry.file, wavelength)
    patterns = _table(entry.file)
    if entry.row >= len(patterns):
        raise UserError(f"{entry.line}: row {entry.row}, but {entry.file} has {len(patterns)}")
    columns = patterns[entry.row]
    angstrom = parse_wavelength(columns.wavelength if wavelength is None else wavelength)
    two_theta = angles(columns.x, columns.unit, angstrom)
    source = f"{entry.file}[{entry.row}]"
    return clean_scan(two_theta, columns.counts, angstrom, entry.sample, source=source)


@lru_cache(maxsize=1)  # the rows of one table follow each other
def _table(path: Path) -> list[Columns]:
    try:
        return read_npz_patterns(path.read_bytes(), str(path))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error


def _entry(folder: Path, line: str, row: dict[str, str | None]) -> Entry:
    def text(column: str) -> str:
        return (row.get(column) or "").strip()

    def number(column: str, low: float, high: float) -> float | None:
        if not text(column):
            return None
        try:
            value = float(text(column))
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            raise UserError(
                f"{line}: {column} {text(column)!r} is not a number from {low:g} to {high:g}"
            )
        return value

    if not text("file"):
        raise UserError(f"{line}: no file")
    file, index = folder / text("file"), number("row", 0, 1e9)
    space_group, system = number("space_group_number", 1, 230), text("crystal_system").lower()
    if system and system not in CRYSTAL_SYSTEMS:
        raise UserError(
            f"{line}: crystal_system {system!r} is none of {', '.join(CRYSTAL_SYSTEMS)}"
        )
    kind = text("kind") or ("labelled" if system else "unlabelled")
    if kind not in KINDS:
        raise UserError(f"{line}: kind {kind!r} is none of {', '.join(KINDS)}")
    own = file.stem if index is None else f"{file.stem}-{int(index)}"
    sample = text("sample") or own
    group = text("group") or f"{text('source')}/{text('formula') or sample}"
    return Entry(
        file=file,
        row=None if index is None else int(index),
        source=text("source"),
        sample=sample,
        kind=kind,
        formula=text("formula"),
        system=CRYSTAL_SYSTEMS.index(system) if system else None,
        space_group=None if space_group is None else int(space_group),
        wavelength=number("wavelength_A", 0.01, 10.0),
        cifs=tuple(folder / name.strip() for name in text("cif").split(";") if name.strip()),
        group=group,
        line=line,
    )
