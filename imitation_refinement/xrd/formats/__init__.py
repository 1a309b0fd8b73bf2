"""Files of measured powder patterns: which are read, and how.

Belongs here: what holds for all formats: the wavelength, the names, scans that follow each other in
the same columns, and the check of what was read. Which reader reads a file is in `readers`; only
this module opens files. The table of formats is in `docs/formats.md`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from imitation_refinement.errors import UserError
from imitation_refinement.xrd.formats.columns import MAX_BYTES, Columns, angles
from imitation_refinement.xrd.formats.readers import SUFFIXES, base_name, read_bytes
from imitation_refinement.xrd.formats.stacks import read_rows
from imitation_refinement.xrd.scans import MIN_POINTS, STRAY, Scan, clean_scan, parts
from imitation_refinement.xrd.wavelengths import LONGEST, SHORTEST, WAVELENGTHS, parse_wavelength

__all__ = ["SUFFIXES", "Record", "read_patterns", "read_records", "read_row_records", "read_scan"]

_AXES = {"two_theta": "2 theta (degrees)", "q": "q (1/angstrom)", "d": "d (angstrom)"}
_AGREE = 3e-3  # relative; K alpha 1 and the mean of the doublet differ by less


class Record(NamedTuple):
    """What became of one pattern of a file.

    Attributes:
        name: of the pattern: the file, and what tells it from the others of the file.
        scan: None if it cannot be used.
        reason: why not, one line that names file and place; empty if it can.
        by_design: whether it was never a pattern over 2 theta (a tilt scan, a list of peaks): left
            out rather than failed.
        format: what the file was recognised as, in words.
        axis: what the numbers stand over, as the file names it, else in words.
        seconds: counting time of a point, None where the file does not say it.
    """

    name: str
    scan: Scan | None
    reason: str = ""
    by_design: bool = False
    format: str = ""
    axis: str = ""
    seconds: float | None = None


def read_records(
    path: str | Path,
    wavelength: str | float | None,
    *,
    look_only: bool = False,
    data: bytes | None = None,
) -> list[Record]:
    """Reads a file of any known kind; every pattern of it gets its record, in order.

    The wavelength that the file states is used; `wavelength` is for files that state none. Both
    given, they must agree. Points are checked by `clean_scan`. Where one scan follows another in
    the same columns (angles begin anew) each is a record.

    Args:
        path: the file.
        wavelength: see `parse_wavelength`; None if it is to come from the file.
        look_only: whether a scan over 2 theta may do without a wavelength, which is then NaN and
            its source empty.
        data: the file's bytes, if they are here already; then no file is opened, and `path` is
            but its name.

    Returns:
        At least one record; rows of a matrix keep their places.

    Raises:
        UserError: the file cannot be read, or is of no known kind.
    """
    path = Path(path)
    given = None if wavelength is None else parse_wavelength(wavelength)
    with np.errstate(all="ignore"):  # what overflows is no count; clean_scan finds it
        found = read_bytes(_bytes(path) if data is None else data, path.name, str(path))
        return _checked(found, given, path, look_only)


def read_row_records(
    path: Path,
    rows: tuple[int, int],
    wavelength: str | float | None,
    *,
    look_only: bool = False,
) -> Iterator[tuple[int, Record]]:
    """Yields number and record of the patterns in some rows of a stack, as `read_records` does.

    Args:
        path: the stack; see `stacks`.
        rows: the first, and the one after the last.
        wavelength: see `read_records`.
        look_only: see there.

    Raises:
        UserError: the stack cannot be read.
    """
    given = None if wavelength is None else parse_wavelength(wavelength)
    with np.errstate(all="ignore"):
        for number, columns in enumerate(read_rows(path, *rows), start=rows[0]):
            for record in _checked([columns], given, path, look_only):
                yield number, record


def _checked(
    found: list[Columns], given: float | None, path: Path, look_only: bool
) -> list[Record]:
    """Returns the record of each pattern of a file.

    Raises:
        UserError: there is none.
    """
    if not found:
        raise UserError(f"{path}: no pattern in it")
    records = []
    for columns in found:
        source = f"{path} ({columns.name})" if columns.name else str(path)
        name = base_name(path.name) + (f"_{columns.name}" if columns.name else "")
        if columns.left_out:
            reason = f"{source}: {columns.left_out}"
            records.append(Record(name, None, reason, columns.by_design, columns.format))
            continue
        try:
            pieces = _records(columns, given, name, source, look_only)
        except UserError as error:
            pieces = [Record(name, None, str(error))]
        axis = columns.axis or _AXES[columns.unit]
        records += [
            piece._replace(format=columns.format, axis=axis, seconds=columns.seconds)
            for piece in pieces
        ]
    return records


def read_patterns(path: str | Path, wavelength: str | float | None) -> list[Scan]:
    """Reads all patterns of a file; see `read_records`.

    A pattern that cannot be used is left out with a note, if the file has others.

    Returns:
        At least one scan, named by the file, and by the pattern where there are several.

    Raises:
        UserError: the file cannot be read, is of no known kind, has no pattern that can be used, or
            states no wavelength and none is given, or one that contradicts the one given.
    """
    records = read_records(path, wavelength)
    scans = [record.scan for record in records if record.scan is not None]
    lost = [record.reason for record in records if record.scan is None]
    if not scans:
        raise UserError(lost[0])
    if lost:
        note = f"{len(lost)} patterns of the file left out (first: {lost[0]})"
        scans[0] = scans[0]._replace(notes=(*scans[0].notes, note))
    return scans


def read_scan(path: str | Path, wavelength: str | float | None) -> Scan:
    """Reads a file that has one pattern; see `read_patterns`.

    Raises:
        UserError: as `read_patterns`, or the file has several patterns.
    """
    scans = read_patterns(path, wavelength)
    if len(scans) > 1:
        raise UserError(f"{path}: has {len(scans)} patterns where one is expected")
    return scans[0]


def _records(
    columns: Columns, given: float | None, name: str, source: str, look_only: bool
) -> list[Record]:
    """Returns the records of one pair of columns: one, or one for each scan in it."""
    if look_only and given is None and columns.wavelength is None and columns.unit == "two_theta":
        used, origin, notes = float("nan"), "", list[str]()
    else:
        used, origin, notes = _wavelength(columns, given, source)
    notes += columns.notes
    if columns.unit != "two_theta":
        notes.append(f"2 theta computed from {columns.unit}")
    two_theta = angles(columns.x, columns.unit, used)
    lost = np.count_nonzero(np.isfinite(columns.x) & ~np.isfinite(two_theta))
    if lost > 0.1 * len(two_theta):
        raise UserError(
            f"{source}: {columns.unit} from {np.nanmin(columns.x):.4g} to"
            f" {np.nanmax(columns.x):.4g} {'1/angstrom' if columns.unit == 'q' else 'angstrom'}"
            f" cannot be diffracted at {used:g} angstrom; say the unit in the column's name, or"
            " check the wavelength"
        )
    if lost:
        notes.append(f"{lost} points beyond what {used:g} angstrom can diffract dropped")
        there = np.isfinite(two_theta)
        two_theta, columns = two_theta[there], columns._replace(counts=columns.counts[there])
    pieces = _scans_in(two_theta)
    records = []
    for number, piece in enumerate(pieces, start=1):
        several = len(pieces) > 1
        part = f"{name}_part{number}" if several else name
        said = f"{source} part {number}" if several else source
        try:
            scan = clean_scan(
                two_theta[piece], columns.counts[piece], used, part, source=said, notes=notes
            )
        except UserError as error:
            records.append(Record(part, None, str(error)))
            continue
        if several:
            scan = scan._replace(
                notes=(*scan.notes, f"scan {number} of {len(pieces)} in its columns")
            )
        records.append(
            Record(part, scan._replace(wavelength_source=origin, k_alpha2=columns.k_alpha2))
        )
    return records


def _scans_in(two_theta: np.ndarray) -> list[slice]:
    """Returns the scans that follow each other in a column; the whole column if it is not so."""
    finite = np.where(np.isfinite(two_theta), two_theta, 0.0)
    pieces = [piece for piece in parts(finite) if piece.stop - piece.start >= MIN_POINTS]
    inside = sum(piece.stop - piece.start for piece in pieces)
    if len(pieces) < 2 or inside < (1.0 - STRAY) * len(two_theta):
        return [slice(0, len(two_theta))]
    return pieces


def _wavelength(columns: Columns, given: float | None, source: str) -> tuple[float, str, list[str]]:
    """Returns the wavelength to use, where it is from, and notes."""
    said, notes = columns.wavelength, []
    if said is not None and not SHORTEST <= said <= LONGEST:
        if given is None:
            raise UserError(
                f"{source}: states a wavelength of {said:g} angstrom, which is not between"
                f" {SHORTEST:g} and {LONGEST:g}; name the right one with --wavelength"
            )
        notes.append(f"wavelength {said:g} in the file not used, it must be in angstrom")
        said = None
    if said is not None and given is not None and abs(said / given - 1.0) > _AGREE:
        raise UserError(
            f"{source}: the file states a wavelength of {said:g} angstrom and --wavelength says"
            f" {given:g}; leave the option out for this file, or correct the file"
        )
    used = said if said is not None else given
    if used is None:
        raise UserError(
            f"{source}: states no wavelength and none was given; name it with --wavelength, one of"
            f" {', '.join(WAVELENGTHS)} or a number in angstrom"
        )
    return used, "option" if said is None else "file", notes


def _bytes(path: Path) -> bytes:
    """Returns the content of a regular file of a size that a pattern can have."""
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"{path}: cannot be read (not a file)")
        if path.stat().st_size > MAX_BYTES:
            raise UserError(
                f"{path}: larger than {MAX_BYTES // 10**6} MB; a powder pattern is much smaller"
            )
        return path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: cannot be read ({reason})") from error
