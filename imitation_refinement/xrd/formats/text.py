"""Text files with columns of numbers.

Belongs here: finding the rows, the separator and the decimals in text that nobody specified. Works
on bytes; opens no files. What the columns mean is in `layout`, what headers say in `headers`, and
text formats with a layout of their own in `vendor_text`, `listed` and `pdcif`.

A row is a line with the commonest count of numbers, at least two. Columns are separated by
semicolons, blanks, tabs or commas; where it is not ambiguous decimals may have a comma, and
thousands a comma, a point or an apostrophe. What stands before the first row is a header.
"""

import itertools
import re
import warnings
from collections import Counter
from typing import NamedTuple

import numpy as np

from imitation_refinement.errors import UserError
from imitation_refinement.xrd.formats.columns import Columns, decode, left_out, of_format
from imitation_refinement.xrd.formats.headers import read_header, with_header
from imitation_refinement.xrd.formats.layout import (
    MATRIX,
    check_mentions,
    find_names,
    patterns_of,
    unknown_names,
)
from imitation_refinement.xrd.formats.listed import read_listed
from imitation_refinement.xrd.formats.pdcif import is_cif, read_pdcif
from imitation_refinement.xrd.formats.plain import plain_rows
from imitation_refinement.xrd.formats.vendor_text import read_vendor_text
from imitation_refinement.xrd.scans import MIN_POINTS

MAX_LINES = 3_000_000  # a scan has some 10,000
_MAX_SKIPPED = 0.1  # share of the lines after the first data line that may be unreadable
_GARBLED = 2  # lines that may be
_COMMENT = "#!%*;'\"/"
_HEADER_LINES = 2000  # a header is not longer
_FOOT_LINES = 30  # likewise what follows the data
_SPELLED = str.maketrans({"−": "-", "’": "'", "\u00a0": " ", "\u202f": " ", "\u2009": " "})
_PLAIN = re.compile(r"[-+.\deE ]*", re.ASCII)  # only blanks can separate numbers in it
_SURE = 50  # lines with the same count of numbers are rows
_THOUSANDS = {
    mark: re.compile(rf"[-+]?\d{{1,3}}(?:{re.escape(mark)}\d{{3}})+(?:[{other}]\d+)?")
    for mark, other in ((",", "."), (".", ","))
}


def read_text(data: bytes, source: str) -> list[Columns]:
    """Returns the patterns of a text file.

    Args:
        data: the file's bytes.
        source: what to name in errors.

    Raises:
        UserError: too long, no text, not enough rows of numbers, or not a scan.
    """
    if max(data.count(b"\n"), data.count(b"\r")) > MAX_LINES:
        raise UserError(
            f"{source}: more than {MAX_LINES:,} lines; a powder pattern is much shorter, split the"
            " file into one per pattern"
        )
    text = decode(data, source)
    text = text if text.isascii() else text.translate(_SPELLED)
    lines = text.splitlines()
    rows = _plain_rows(lines, text)
    head = lines if rows.table is None else lines[: rows.first]  # marks of formats are no rows
    if is_cif(head):
        return of_format("powder CIF", read_pdcif(lines, source))
    for read in (read_vendor_text, read_listed):
        if (found := read(lines, head, source)) is not None:
            return found
    blocks = _spec_scans(lines) if "#S " in text else []
    if not blocks:
        return of_format("text, columns", _read_table(lines, rows, source))
    found = []
    for name, block in blocks:
        try:
            items = read_table(block, source)
        except UserError as error:
            if len(blocks) == 1:
                raise
            reason = str(error).removeprefix(f"{source}: ")
            items = [left_out("", reason, by_design=reason.startswith("its axis"))]
        found += [i._replace(name=f"{name}_{i.name}" if i.name else name) for i in items]
    return of_format("SPEC", found)


def read_table(lines: list[str], source: str) -> list[Columns]:
    """Returns the patterns of one table with what stands before it; see `read_text`."""
    return _read_table(lines, _plain_rows(lines, "\n".join(lines)), source)


class _Rows(NamedTuple):
    """The first row and its count of numbers, 0 and 0 if none comes soon; see `_fast_rows`."""

    first: int
    width: int
    table: np.ndarray | None


def _plain_rows(lines: list[str], text: str) -> _Rows:
    first, width = _first_row(lines)
    if not width:
        return _Rows(first, width, None)
    begin = 0
    for line in lines[:first]:
        begin = text.index(line, begin) + len(line)
    return _Rows(first, width, _fast_rows(lines[first:], text[begin:].lstrip("\r\n")))


def _read_table(lines: list[str], rows: _Rows, source: str) -> list[Columns]:
    first, width, table = rows
    head = lines[:first]
    notes: list[str] = []
    labels: list[str] = []
    if table is None:
        table, notes, labels = _slow_rows(lines, source)
    names = find_names(head[-_HEADER_LINES:], table.shape[1], len(table)) if len(table) else []
    if max(table.shape) < MIN_POINTS:
        middle = len(lines) // 2
        seen = f" (line {middle + 1} is {lines[middle].strip()[:40]!r})" if lines else ""
        raise UserError(
            f"{source}: {len(table)} lines with two numbers, at least {MIN_POINTS} are needed"
            f"{seen}; export the scan as text with two columns, 2 theta in degrees and counts"
        )
    _check_decimals(table, lines[first : first + 200], source)
    if not names and width and (unknown := unknown_names(head[-_HEADER_LINES:], lines[first])):
        if re.search(r"[\[(][^\])]+[\])]$", unknown[0]):  # it has a unit: `Field (Oe)`
            names = unknown
        else:
            notes.append(
                f"columns called {', '.join(unknown[:4])}: taken for 2 theta and intensity"
            )
    foot = [line for line in lines[-_FOOT_LINES:] if not _fields(line)]
    header = read_header([*head[:_HEADER_LINES], *foot])
    if header.axis is None or names:
        check_mentions(head[-_HEADER_LINES:], names, source)
    found = patterns_of(table, names, source, header.axis, labels)
    return [with_header(item, header, tuple(notes), source) for item in found]


def _spec_scans(lines: list[str]) -> list[tuple[str, list[str]]]:
    """Returns (name, lines) of each scan of a SPEC file; nothing for other files.

    Spectra of a multichannel analyzer (`@A`), which may go on over several lines, are left out, and
    the name is empty if there is one scan.
    """
    marked = [i for i, line in enumerate(lines) if line.startswith("#S ")]
    starts = [i for i in marked if re.match(r"#S \d+", lines[i])]
    if not starts:
        return []
    inside, kept = False, []
    for line in lines:
        inside = inside or line.startswith("@")
        kept.append("" if inside else line)
        inside = inside and line.rstrip().endswith("\\")
    head, several = kept[: starts[0]], len(starts) > 1
    return [
        (f"scan{kept[a].split()[1]}" if several else "", [*head, *kept[a:b]])
        for a, b in itertools.pairwise([*starts, len(kept)])
    ]


# --- rows ------------------------------------------------------------------------------------


def _first_row(lines: list[str]) -> tuple[int, int]:
    """Returns the index of the first row and its count of numbers; (0, 0) if none comes soon."""
    first: dict[int, int] = {}
    seen = Counter[int]()
    for index, line in enumerate(lines[:_HEADER_LINES]):
        width = len(_fields(line))
        if width >= 2:
            first.setdefault(width, index)
            seen[width] += 1
            if seen[width] == _SURE:
                break
    if not seen:
        return 0, 0
    width = seen.most_common(1)[0][0]
    return first[width], width


def _fast_rows(lines: list[str], text: str) -> np.ndarray | None:
    """Returns the rows if all lines are rows in one plain form, float64 `[n, columns]`, or None.

    Args:
        lines: from the first row on.
        text: the same, not yet split.
    """
    comma = "," in lines[0]
    delimiter = "," if comma and not re.search(r"[\s;]", lines[0].strip()) else None
    if (comma and delimiter is None) or re.search(r"\t.*\d \d{3}(?!\d)", lines[0]):
        return None
    table = plain_rows(text)
    try:
        with warnings.catch_warnings():  # empty input: the slow way says it better
            warnings.simplefilter("error")
            if table is None:
                table = np.loadtxt(lines, delimiter=delimiter, ndmin=2, comments=None)
    except (ValueError, UserWarning):
        return None
    return table if table.shape[1] >= 2 else None


def _slow_rows(lines: list[str], source: str) -> tuple[np.ndarray, list[str], list[str]]:
    """Returns the rows among lines of any kind, float64 `[n, columns]`, notes and labels."""
    fields = {
        at: _fields(line)
        for at, line in enumerate(lines, start=1)
        if line.strip() and (line.strip()[0] not in _COMMENT or line.strip()[0] in "\"'")
    }
    widths = Counter(len(values) for values in fields.values() if len(values) >= 2)
    if not widths:
        return np.zeros((0, 2)), [], []
    width = widths.most_common(1)[0][0]
    first = next(at for at, values in fields.items() if len(values) == width)
    remarked = {
        at: leading
        for at, values in fields.items()
        if not values and at > first and (leading := _before_words(lines[at - 1], width))
    }
    fields |= remarked
    longer = [at for at, values in fields.items() if at > first and len(values) > width]
    if longer and sum(widths.values()) >= MIN_POINTS:
        comma = "," in lines[longer[0] - 1] and not re.search(r"[;\t]", lines[longer[0] - 1])
        hint = "a comma for thousands or decimals between columns that commas separate?"
        raise UserError(
            f"{source}: line {longer[0]} has {len(fields[longer[0]])} numbers where others have"
            f" {width} ({hint if comma else 'columns missing elsewhere?'}); export the scan with"
            " tabs or semicolons between columns"
        )
    rows = [at for at, values in fields.items() if len(values) == width]
    short = [at for at, values in fields.items() if at > first and 2 <= len(values) < width]
    padded = [at for at in short if re.search("[,;\t]", lines[at - 1])]
    if width >= 4 and padded:  # pairs of columns of different lengths
        rows = sorted(rows + padded)
    _check_skipped(lines, fields, rows, source)
    known = set(rows)
    skipped = [at for at in fields if at > first and at not in known]
    if len(skipped) > _MAX_SKIPPED * len(rows) and len(rows) >= MIN_POINTS:
        raise UserError(
            f"{source}: {len(skipped)} lines among the data are not {width} numbers (first: line"
            f" {skipped[0]}); export the scan as text with two columns"
        )
    notes = []
    if remarked:
        notes.append(f"words after the numbers of {len(remarked)} lines left out")
    if skipped:
        notes.append(f"{len(skipped)} unreadable lines skipped (first: line {skipped[0]})")
    text = [fields[at] + [""] * (width - len(fields[at])) for at in rows]
    labels = []
    if width >= MATRIX and any(row[0] and not _is_number(row[0]) for row in text):
        labels = [row[0] for row in text]
        text = [["", *row[1:]] for row in text]
    return _decimals(text, source), notes, labels


def _check_skipped(
    lines: list[str], fields: dict[int, list[str]], rows: list[int], source: str
) -> None:
    """Raises UserError if lines between rows are rows that could not be read: `29.1;1 234`.

    They are often those of the highest counts. A number that stands for itself, or before a word
    such as `---`, is a point without a count; one or two garbled lines are an accident.
    """
    known, first, last = set(rows), rows[0], rows[-1]
    lost = []
    for at in fields:
        text = lines[at - 1].strip()
        parts = re.split(r"[\s,;]+", text.strip(" ,;"))
        if at in known or not first < at < last or not _is_number(parts[0]):
            continue
        touching = len(parts) == 1 and len(text) >= len(lines[first - 1].strip())
        if touching or any(re.match(r"[-+]?[\d.]*\d(?!.*#)", part) for part in parts[1:]):
            lost += [at] * (_GARBLED + 1 if touching else 1)
    if len(lost) > _GARBLED:
        raise UserError(
            f"{source}: line {lost[0]} ({lines[lost[0] - 1].strip()[:40]!r}) begins like a row and"
            " cannot be read as one; write plain numbers, separated, without thousands"
        )


def _fields(line: str) -> list[str]:
    """Returns the numbers of a line as text, empty if it is a comment or has anything else.

    Splits at semicolons, else at tabs and blanks, else at commas; a comma inside a field is left
    for `_decimals`. Empty fields count, except at the end. In a row of a matrix the first field may
    be a name.
    """
    if _PLAIN.fullmatch(line):
        fields = line.split()
        numbers = fields[1:] if len(fields) >= MATRIX else fields
        return fields if all(map(_is_number, numbers)) else []
    line = re.sub(r"\"([^\"]*)\"", lambda found: _unquoted(found[1]), line.strip().rstrip(", "))
    if not line or line[0] in _COMMENT:
        return []
    line = re.sub(r"(?<=[\d.])[dD](?=[-+]\d)", "e", line)  # Fortran's double precision
    if ";" in line:
        fields = [_closed_up(field.strip()) for field in line.split(";")]
    elif "\t" in line and all(
        _is_number(field) for part in line.split("\t") if (field := _closed_up(part.strip()))
    ):
        fields = [_closed_up(field.strip()) for field in line.split("\t")]
    else:
        blanks = re.split(r"\t", line) if re.search(r"\t\s*\t|^\t", line) else None
        fields = [f.strip() for f in blanks] if blanks else re.sub(r",\s+|\s+,", " ", line).split()
        if len(fields) == 1 or (line.count(",") >= MATRIX and "\t" not in line):
            fields = [field.strip() for field in line.split(",")]
    while fields and not fields[-1]:
        fields.pop()
    numbers = fields[1:] if len(fields) >= MATRIX else fields
    return fields if all(not field or _is_number(field) for field in numbers) else []


def _closed_up(text: str) -> str:
    """Returns a number without the blanks between its thousands."""
    return text.replace(" ", "") if re.fullmatch(r"[-+]?\d{1,3}( \d{3})+([.,]\d+)?", text) else text


def _before_words(line: str, width: int) -> list[str]:
    """Returns the numbers of a row that words follow, such as a remark; empty if it is not so."""
    parts = re.split(r"[;,\t]|\s+", line.strip())
    parts = [part for part in parts if part]
    at = next((i for i, part in enumerate(parts) if not _is_number(part)), len(parts))
    if at != width or at == len(parts) or re.match(r"[-+.\d(]", parts[at]):
        return []
    return _fields(line[: line.index(parts[at])])


def _unquoted(text: str) -> str:
    return text.replace(",", "") if _THOUSANDS[","].fullmatch(text) else text


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return bool(re.fullmatch(r"[-+]?[\d.,']*\d[\d.,']*(?:[eE][-+]?\d+)?", field))
    return True


def _decimals(rows: list[list[str]], source: str) -> np.ndarray:
    """Returns the numbers of rows of text, float64 `[n, columns]`: decimal commas and thousands.

    Raises:
        UserError: commas and points contradict each other.
    """
    flat = [re.sub(r"(?<=\d)'(?=\d{3})", "", field) for row in rows for field in row]
    commas = [field for field in flat if "," in field]
    points = [field for field in flat if "." in field]
    thousands = ""
    if commas:
        first = [row[0] for row in rows]
        if all(_THOUSANDS[","].fullmatch(field) for field in commas):
            if points and not any("," in field for field in first):
                thousands = ","
            elif not any("," in field for field in first):
                raise UserError(
                    f"{source}: {commas[0]} may be {commas[0].replace(',', '')} or"
                    f" {commas[0].replace(',', '.')}; write decimals with a point and no thousands"
                )
        if not thousands and points:
            european = not any("." in field for field in first)
            if not european or not all(_THOUSANDS["."].fullmatch(field) for field in points):
                raise UserError(
                    f"{source}: decimals with a comma ({commas[0]}) and with a point ({points[0]});"
                    " write decimals with a point"
                )
            thousands = "."
    if thousands:
        flat = [field.replace(thousands, "") for field in flat]
    try:
        values = [float(field.replace(",", ".")) if field else np.nan for field in flat]
    except ValueError as error:
        raise UserError(f"{source}: {error}; write decimals with a point") from error
    return np.array(values, np.float64).reshape(len(rows), -1)


def _check_decimals(table: np.ndarray, lines: list[str], source: str) -> None:
    """Raises UserError if a comma stands for the decimals and between the columns: `15,2,61`."""
    text = "".join(lines)
    if "," not in text or re.search(r"[.;\t]", text) or not 3 <= table.shape[1] <= 4:
        return
    repeats = np.count_nonzero(np.diff(table[:, 0]) == 0)
    if repeats >= 0.3 * len(table) and np.array_equal(table, np.round(table)):
        raise UserError(
            f"{source}: a decimal comma in columns that commas separate ({lines[0].strip()}); write"
            " decimals with a point, or separate columns by tabs or semicolons"
        )
