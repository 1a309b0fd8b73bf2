"""Files of measured powder patterns: which are read, and how.

Belongs here: choosing the reader, the limits on files, and what holds for all formats: the
wavelength, the names, and the check of what was read. Only this module opens files.

| files | read by | wavelength in the file |
| --- | --- | --- |
| `.xy .xye .csv .txt .dat .asc .chi .ras .uxd` and other text | `text.py` | in a header line |
| `.xrdml` (PANalytical), several scans too | `xrdml.py` | yes |
| `.rasx` (Rigaku), several profiles too | `rasx.py` | yes |
| `.raw`: Bruker and Siemens 1, 2, 3 (RAW1.01) and 4, several ranges too | `raw.py` | yes |
| `.raw`: Stoe RAW_1.06 | `raw.py` | if it is a K alpha line |
| `.raw`: Rigaku `FI` (after descriptions, no file to try was at hand) | `raw.py` | yes |
| `.npz` with a matrix of patterns | `table.py` | array `wavelength` |
| `.brml` (Bruker), GSAS (`.gsas .gsa .gda .fxye .xra .gss`) | geddes (extra `formats`) | no |

The kind is found from the content where that has a mark, else from the ending.
"""

from pathlib import Path

import numpy as np

from imitation_refinement.errors import UserError
from imitation_refinement.xrd.formats.columns import MAX_BYTES, Columns, angles
from imitation_refinement.xrd.formats.rasx import read_rasx
from imitation_refinement.xrd.formats.raw import read_raw
from imitation_refinement.xrd.formats.table import read_npz_patterns
from imitation_refinement.xrd.formats.text import read_text
from imitation_refinement.xrd.formats.xrdml import read_xrdml
from imitation_refinement.xrd.scans import (
    LONGEST,
    SHORTEST,
    WAVELENGTHS,
    Scan,
    clean_scan,
    parse_wavelength,
)

_TEXT = frozenset({".xy", ".xye", ".csv", ".txt", ".dat", ".asc", ".chi", ".ras", ".uxd"})
_GEDDES = frozenset({".brml", ".gsas", ".gsa", ".gda", ".fxye", ".xra", ".gss"})
SUFFIXES = _TEXT | _GEDDES | {".xrdml", ".rasx", ".raw", ".npz"}
_AGREE = 5e-3  # relative; K alpha 1 and the mean of the doublet differ by less


def read_patterns(path: str | Path, wavelength: str | float | None) -> list[Scan]:
    """Reads all patterns of a file of any kind in the table above.

    The wavelength that the file states is used; `wavelength` is for files that state none. Where
    both are given and differ, the file wins and a note says so. Points are cleaned by `clean_scan`.
    A pattern that cannot be used is left out with a note, if the file has others.

    Args:
        path: the file.
        wavelength: see `parse_wavelength`; None if it is to come from the file.

    Returns:
        At least one scan, named by the file, and by the pattern where there are several.

    Raises:
        UserError: the file cannot be read, is of no known kind, has no pattern that can be used, or
            states no wavelength and none is given.
    """
    path = Path(path)
    given = None if wavelength is None else parse_wavelength(wavelength)
    scans: list[Scan] = []
    left_out: list[UserError] = []
    for columns in _read(path):
        source = f"{path} ({columns.name})" if columns.name else str(path)
        try:
            scans.append(_scan(columns, given, path, source))
        except UserError as error:
            left_out.append(error)
    if not scans:
        raise left_out[0] if left_out else UserError(f"{path}: no pattern in it")
    if left_out:
        note = f"{len(left_out)} patterns of the file left out (first: {left_out[0]})"
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


def _scan(columns: Columns, given: float | None, path: Path, source: str) -> Scan:
    """Returns a checked scan from raw columns and the wavelength that was given, if any."""
    notes = list(columns.notes)
    said = columns.wavelength
    if said is not None and not SHORTEST <= said <= LONGEST:
        notes.append(f"wavelength {said:g} in the file not used, it must be in angstrom")
        said = None
    used = said if said is not None else given
    if used is None:
        raise UserError(
            f"{source}: states no wavelength and none was given; name it with --wavelength, one of"
            f" {', '.join(WAVELENGTHS)} or a number in angstrom"
        )
    if said is not None and given is not None and abs(said / given - 1.0) > _AGREE:
        notes.append(f"the file says {said:g} angstrom; the wavelength given, {given:g}, not used")
    if columns.unit != "two_theta":
        notes.append(f"2 theta computed from {columns.unit}")
    with np.errstate(over="ignore", invalid="ignore"):
        scan = clean_scan(
            angles(columns.x, columns.unit, used),
            columns.counts,
            used,
            f"{path.stem}_{columns.name}" if columns.name else path.stem,
            source=source,
            notes=notes,
        )
    origin = "option" if said is None else "file"
    return scan._replace(wavelength_source=origin, k_alpha2=columns.k_alpha2)


def _read(path: Path) -> list[Columns]:
    source, data, ending = str(path), _bytes(path), path.suffix.lower()
    if not data:
        raise UserError(f"{path}: empty")
    if data.startswith((b"RAW", b"FI")) and b"\0" in data[:4096]:
        return read_raw(data, source)
    if data.startswith(b"PK\3\4") or ending in (".npz", ".rasx"):
        return read_rasx(data, source) if ending == ".rasx" else _zipped(data, path)
    head = data[:4096].replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe \r\n\t")
    if ending == ".xrdml" or (head.startswith(b"<") and b"xrdMeasurement" in head):
        return read_xrdml(data, source)
    if ending in _GEDDES or (head.find(b"\nBANK ") >= 0 and b" CONST " in head):
        return _read_with_geddes(data, path)
    return read_text(data, source)


def _zipped(data: bytes, path: Path) -> list[Columns]:
    if path.suffix.lower() == ".brml":
        return _read_with_geddes(data, path)
    return read_npz_patterns(data, str(path))


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


def _read_with_geddes(data: bytes, path: Path) -> list[Columns]:
    try:
        import geddes
    except ImportError as error:
        raise UserError(
            f"{path}: {path.suffix} files need geddes; pip install 'imitation-refinement[formats]'"
        ) from error
    name = path.name if path.suffix.lower() in _GEDDES else f"{path.stem}.gsas"
    if path.suffix.lower() in (".xra", ".gss"):
        name = f"{path.stem}.gsas"
    try:
        pattern = geddes.read_bytes(data, name)
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: {str(error).splitlines()[0]}; export it as text") from error
    return [Columns(np.asarray(pattern.x, np.float64), np.asarray(pattern.y, np.float64))]
