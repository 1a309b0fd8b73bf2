"""What a batch is given: files, folders, globs, lists and manifests; what is left out and why.

Belongs here: from the words of --input to a list of files with what is known of each, and to the
records of their patterns. Every file, row and column that was named ends as a record or among what
is left out. How a file is read is `formats`'s.
"""

import contextlib
import csv
import glob
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from imitation_refinement.commands.ledger import LeftOut
from imitation_refinement.commands.reading import Placed, Reading, Wanted, read_one
from imitation_refinement.commands.scan_outputs import ENDINGS
from imitation_refinement.errors import UserError
from imitation_refinement.phases.compositions import Elements, parse_elements
from imitation_refinement.xrd.formats import Record
from imitation_refinement.xrd.formats.readers import SUFFIXES, base_name
from imitation_refinement.xrd.formats.stacks import PARQUET, ZARR, count_rows, is_stack
from imitation_refinement.xrd.wavelengths import parse_wavelength

MANIFEST = ("file", "wavelength_A", "elements")  # columns of a manifest; the first must be there
ROWS = 256  # of a stack that are read together
COMPOSITIONS = "composition.csv"  # beside the patterns of a composition spread; see `spread`
_OURS = "named as results of this program are; name it by itself to have it read"
_CIF = "a CIF file, compared with the scan of its name; name it by itself if it is a scan"
_TABLES = (
    "summary.csv", "candidates.csv", "results.json", "inspect.csv", "activations.csv",
    "summary.parquet", "spreads.csv",
)  # fmt: skip


class Input(NamedTuple):
    """A file to read.

    Attributes:
        path: of the file.
        wavelength: for it, where it does not say its own; see `scans.parse_wavelength`.
        elements: what is known of its composition; None for nothing.
        sure: whether it was named, or has the ending of a pattern; one that is not and cannot be
            read is left out rather than failed.
        trouble: why it cannot be read, from a row of a manifest; empty if it can.
        data: its bytes, where they are in memory; no file is opened then.
        rows: of a stack, the first and the one after the last; None for a file that is read whole.
    """

    path: Path
    wavelength: str | float | None = None
    elements: Elements | None = None
    sure: bool = True
    trouble: str = ""
    data: bytes | None = None
    rows: tuple[int, int] | None = None


def list_inputs(
    names: Sequence[str],
    wavelength: str | float | None = None,
    elements: Elements | None = None,
) -> tuple[list[Input], list[LeftOut]]:
    """Returns the files that paths, folders, glob patterns and manifests name, each once, in order.

    Files of a folder come in natural order (scan_2 before scan_10), folders below it are not
    entered. What names nothing is returned as it stands, for its own line of error, and so is a
    row of a manifest that cannot be understood. What a manifest says of a file holds wherever else
    the file is named.

    Args:
        names: as given; `@list` stands for the lines of a file, `stack.parquet[17]` for a row.
        wavelength: for all but those of manifests that state one.
        elements: likewise.

    Raises:
        UserError: a list cannot be read.
    """
    inputs: dict[tuple[Path, str], Input] = {}
    told: set[Path] = set()  # of which a manifest tells
    left: dict[tuple[Path, str], LeftOut] = {}
    for path, reason in _named(names):
        if reason:
            left.setdefault((path, ""), LeftOut(path, reason))
            continue
        rows = _manifest(path)
        sure = bool(path.suffix) or str(path) in names
        for one in rows or [_of_stack(path) or Input(path, sure=sure)]:
            key = (path, "") if one.rows else (one.path, one.trouble)
            full = one._replace(
                wavelength=one.wavelength or wavelength, elements=one.elements or elements
            )
            if not rows:
                inputs.setdefault(key, full)
            elif one.path in told and not one.trouble:
                again = f"named a second time in {path}; the first counts"
                left.setdefault((one.path, again), LeftOut(one.path, again))
            else:
                inputs[key] = full
                told.add(one.path)
    named = {path for path, _ in inputs} | {Path(name) for name in names}
    troubled = {path for path, why in inputs if why}
    return (
        [one for (path, why), one in inputs.items() if why or path not in troubled],
        [one for (path, why), one in left.items() if why or path not in named],
    )


def _of_stack(path: Path) -> Input | None:
    """What `stack.parquet[17]` names; None for other paths."""
    found = re.fullmatch(r"(.+\.\w+)\[(\d{1,12})\]", path.name)
    if not found or os.path.lexists(path):
        return None
    return Input(path.with_name(found[1]), rows=(int(found[2]), int(found[2]) + 1))


def read_each(
    files: Iterable[Input], left: list[LeftOut], *, look_only: bool = False
) -> Iterator[tuple[Input, Record]]:
    """Yields the record of each pattern of each file, in order; what failed takes its place.

    What is left out by design, such as a tilt scan beside a pattern, is added to `left`. Whatever
    goes wrong with a file is that file's trouble alone. A pattern of a stack comes with an input
    whose `rows` are its own row.

    Args:
        files: of `list_inputs` or `with_rows`.
        left: is added to.
        look_only: see `formats.read_records`.
    """
    for one in with_rows(files):
        for each, found in entered(one, read_one(wanted(one), look_only=look_only), left):
            yield each, found.record


def wanted(one: Input) -> Wanted:
    """Returns what another process needs to know of an input to read it."""
    return Wanted(one.path, one.wavelength, one.trouble, one.data, one.rows)


def entered(one: Input, reading: Reading, left: list[LeftOut]) -> Iterator[tuple[Input, Placed]]:
    """Yields each pattern of an input, and what failed in its place.

    Args:
        one: the input; a pattern of a stack comes with that of its own row.
        reading: what is in it.
        left: what was left out by design, or looks like no pattern, is added to it.
    """
    for found in reading.found:
        if found.row is not None:
            yield one._replace(rows=(found.row, found.row + 1)), found
        elif found.record.by_design:
            left.append(LeftOut(one.path, _without(one.path, found.record.reason)))
        else:
            yield one, found
    if reading.reason and one.sure:
        yield one, Placed(Record(base_name(one.path.name), None, reading.reason))
    elif reading.reason:
        left.append(LeftOut(one.path, _without(one.path, reading.reason)))


def with_rows(files: Iterable[Input], size: int = ROWS) -> Iterator[Input]:
    """Yields inputs in order, stacks among them in parts of so many rows.

    Args:
        files: of `list_inputs`.
        size: rows of a part; the last of a stack may have fewer.
    """
    for one in files:
        count = 0
        in_memory = one.data is not None
        if not one.trouble and not one.rows and not in_memory and is_stack(one.path):
            try:
                count = count_rows(one.path)
            except UserError as error:
                one = one._replace(trouble=str(error))
        for first in range(0, count, size):
            yield one._replace(rows=(first, min(first + size, count)))
        if not count:
            yield one


def _without(path: Path, reason: str) -> str:
    """A reason without the name of the file, but with the place in it."""
    return reason.removeprefix(str(path)).lstrip(": ")


def natural(path: Path) -> list[tuple[int, int, str]]:
    """Returns a key by which scan_2 comes before scan_10."""
    parts = re.split(r"(\d+)", path.name.casefold())
    return [(1, int(part), part) if part.isdecimal() else (0, 0, part) for part in parts]


def _named(names: Sequence[str]) -> Iterator[tuple[Path, str]]:
    """Yields each file that is named and why it is left out, or ''."""
    for name in _with_lists(names):
        # os.path answers where Path.exists raises: no permission, a name that is too long.
        if os.path.isdir(name) and not name.rstrip("/").lower().endswith(ZARR):
            with contextlib.suppress(OSError):
                files = sorted(Path(name).iterdir(), key=natural)
                told = [(file, _why_not(file)) for file in files]
                yield from told
                if not any(not reason for _, reason in told):
                    yield Path(name), ""
                continue
        matches: list[Path] = []
        if glob.has_magic(name) and not os.path.lexists(name):
            matches = [Path(match) for match in glob.glob(name, recursive=True)]
        if not matches:
            yield Path(name), ""
        for file in sorted(matches, key=lambda file: (file.parent, natural(file))):
            yield file, _OURS if _is_ours(file) else "a folder" if _is_folder(file) else ""


def but_for(output: Path, left: Iterable[LeftOut]) -> list[LeftOut]:
    """Returns what was left out but for the folder of the results.

    It may lie among the inputs, and is not there yet when the first shard lists them.
    """
    own = os.path.abspath(output)
    return [one for one in left if os.path.abspath(one.path) != own]


def folders_of(names: Sequence[str]) -> list[str]:
    """Returns the folders that glob patterns name, in natural order."""
    patterns = [name for name in _with_lists(names) if not os.path.lexists(name)]
    matches = [Path(match) for name in patterns for match in glob.glob(name, recursive=True)]
    folders = [match for match in matches if _is_folder(match)]
    return [str(one) for one in sorted(folders, key=lambda one: (one.parent, natural(one)))]


def _with_lists(names: Sequence[str]) -> Iterator[str]:
    """Yields names, in the place of `@list` the lines of that file, relative to where it is."""
    for name in names:
        if not name.startswith("@") or os.path.lexists(name):
            yield name
            continue
        try:
            with open(name[1:], encoding="utf-8-sig", errors="surrogateescape") as file:
                for line in file:
                    if told := line.rstrip("\r\n"):
                        yield os.path.join(os.path.dirname(name[1:]), told)
        except OSError as error:
            raise UserError(f"{name[1:]}: cannot be read ({error.strerror or error})") from error


def _is_folder(path: Path) -> bool:
    return path.is_dir() and path.suffix.lower() != ZARR


def _why_not(path: Path) -> str:
    """Why a file of a folder is not read; '' if it is."""
    if _is_folder(path):
        return "a folder in the folder; name it by itself"
    if _is_ours(path):
        return _OURS
    if path.name == COMPOSITIONS:
        return "compositions, which --mode=unmix reads"
    if path.suffix.lower() == ".cif":
        return _CIF
    name = path.name.lower()
    for packed in (".gz", ".xz", ".bz2"):
        name = name.removesuffix(packed)
    if Path(name).suffix not in (*SUFFIXES, PARQUET, ZARR, ""):
        return f"{path.suffix} is no ending of a pattern; name the file by itself to have it read"
    return ""


def _is_ours(path: Path) -> bool:
    written = path.name.endswith(ENDINGS) or re.search(r"\.candidate-\d+\.cif$", path.name)
    return bool(written) or path.name in _TABLES


def _manifest(path: Path) -> list[Input] | None:
    """Returns the rows of a manifest; None if a file is none."""
    if path.suffix.lower() != ".csv":
        return None
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = [str(name).strip() for name in reader.fieldnames or ()]
            if MANIFEST[0] not in columns or not set(columns) & set(MANIFEST[1:]):
                return None
            reader.fieldnames = columns
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error):
        return None  # its reader says what is wrong with it
    found = []
    for number, row in enumerate(rows, start=2):
        name, wavelength, known = ((row.get(column) or "").strip() for column in MANIFEST)
        if not name:
            found.append(Input(path, trouble=f"{path}: line {number}: column 'file' is empty"))
            continue
        try:
            elements = parse_elements(known) if known else None
            if wavelength:
                parse_wavelength(wavelength)
        except UserError as error:
            trouble = f"{path}: line {number}: {error}"
            found.append(Input(path.parent / name, trouble=trouble))
            continue
        found.append(Input(path.parent / name, wavelength or None, elements))
    return found
