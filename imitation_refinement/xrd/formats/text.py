"""Text files with columns of numbers.

Belongs here: finding the rows, the separator and the meaning of the columns in text that nobody
specified. Works on bytes; opens no files.

A row is a line with the commonest count of numbers, at least two. Columns are separated by
semicolons, blanks, tabs or commas; where it is not ambiguous decimals may have a comma. What stands
before the first row is a header: it may state the wavelength and name the columns. Without names
the first column is 2 theta in degrees, the second the counts, and further ones are ignored; with
names, q or d may stand for 2 theta and several intensities are several patterns. Twenty columns or
more are a matrix: angles in the first row (then each row is a pattern) or in the first column.
"""

import re
import warnings
from collections import Counter

import numpy as np

from imitation_refinement.errors import UserError
from imitation_refinement.xrd.formats.columns import Columns, decode, wavelength_said
from imitation_refinement.xrd.scans import MIN_POINTS

MAX_LINES = 3_000_000  # a scan has some 10,000
_MAX_SKIPPED = 0.1  # share of the lines after the first data line that may be unreadable
_COMMENT = "#!%*;'\"/"
_HEADER_LINES = 2000  # a header is not longer
_SURE = 50  # lines with the same count of numbers are rows
_MATRIX = 20  # columns; a table with so many is a matrix of patterns

_ANGLE = re.compile(r"2[\s_*-]*(th|θ|ϑ)|two[\s_-]*th|tth|ttheta|^angle|^°|^deg|^winkel", re.I)
_Q = re.compile(r"^q(?![a-z])|^s?cattering vector", re.I)
_D = re.compile(r"^d$|^d[\s_-]?(sp|val)|^d[\s_]*[\[(]", re.I)
_NO_INTENSITY = re.compile(
    r"sig|err|esd|std|unc|weight|calc|fit|back|bkg|bgr|diff|resid|time|hkl|phase|theta|θ|energy|"
    r"^(no|nr|n|#|index|point|q|d|h|k|l)\.?$",
    re.I,
)
_INTENSITY = re.compile(r"int|count|cps|obs|signal|^y|^i$|^i[\s_(\[]|det|psd", re.I)


def read_text(data: bytes, source: str) -> list[Columns]:
    """Returns the patterns of a text file.

    Args:
        data: the file's bytes.
        source: what to name in errors.

    Raises:
        UserError: too long, no text, or not enough rows of numbers.
    """
    if max(data.count(b"\n"), data.count(b"\r")) > MAX_LINES:
        raise UserError(
            f"{source}: more than {MAX_LINES:,} lines; a powder pattern is much shorter, split the"
            " file into one per pattern"
        )
    lines = decode(data, source).splitlines()
    first, width = _first_row(lines)
    head = lines[:first]
    table = _fast_rows(lines[first:]) if width else None
    notes: list[str] = []
    if table is None:
        table, notes = _slow_rows(lines, source)
    if max(table.shape) < MIN_POINTS:
        raise UserError(
            f"{source}: {len(table)} lines with two numbers, at least {MIN_POINTS} are needed;"
            " export the scan as text with two columns, 2 theta in degrees and counts"
        )
    wavelength, k_alpha2 = wavelength_said(head[:_HEADER_LINES])
    found = _patterns(table, _names(head, table.shape[1]))
    if head and head[0].startswith("*RAS") and table.shape[1] > 2:  # Rigaku: the attenuation
        found = [item._replace(counts=item.counts * table[:, 2]) for item in found[:1]]
    return [
        item._replace(wavelength=wavelength, k_alpha2=k_alpha2, notes=(*notes, *item.notes))
        for item in found
    ]


# --- rows ------------------------------------------------------------------------------------


def _first_row(lines: list[str]) -> tuple[int, int]:
    """Returns the index of the first row and its count of numbers; (0, 0) if none comes soon."""
    first: dict[int, int] = {}
    seen = Counter[int]()
    for index, line in enumerate(lines[:_HEADER_LINES]):
        width = len(_numbers(line))
        if width >= 2:
            first.setdefault(width, index)
            seen[width] += 1
            if seen[width] == _SURE:
                break
    if not seen:
        return 0, 0
    width = seen.most_common(1)[0][0]
    return first[width], width


def _fast_rows(lines: list[str]) -> np.ndarray | None:
    """Returns the rows if all lines are rows in one plain form, float64 `[n, columns]`, or None."""
    comma = "," in lines[0]
    delimiter = "," if comma and not re.search(r"[\s;]", lines[0].strip()) else None
    if comma and delimiter is None:
        return None
    try:
        with warnings.catch_warnings():  # empty input: the slow way says it better
            warnings.simplefilter("error")
            table = np.loadtxt(lines, delimiter=delimiter, ndmin=2, comments=None)
    except (ValueError, UserWarning):
        return None
    return table if table.shape[1] >= 2 else None


def _slow_rows(lines: list[str], source: str) -> tuple[np.ndarray, list[str]]:
    """Returns the rows among lines of any kind, float64 `[n, columns]`, and notes."""
    numbers = {
        number: _numbers(line)
        for number, line in enumerate(lines, start=1)
        if line.strip() and line.strip()[0] not in _COMMENT
    }
    widths = Counter(len(values) for values in numbers.values() if len(values) >= 2)
    if not widths:
        return np.zeros((0, 2)), []
    width = widths.most_common(1)[0][0]
    rows = [values for values in numbers.values() if len(values) == width]
    first = next(number for number, values in numbers.items() if len(values) == width)
    skipped = [n for n, values in numbers.items() if n > first and len(values) != width]
    if len(skipped) > _MAX_SKIPPED * len(rows) and len(rows) >= MIN_POINTS:
        raise UserError(
            f"{source}: {len(skipped)} lines among the data are not {width} numbers (first: line"
            f" {skipped[0]}); export the scan as text with two columns"
        )
    notes = []
    if skipped:
        notes.append(f"{len(skipped)} unreadable lines skipped (first: line {skipped[0]})")
    return np.array(rows, np.float64), notes


def _numbers(line: str) -> list[float]:
    """Returns the numbers of a line, empty if it is a comment or has anything else."""
    line = line.strip()
    if not line or line[0] in _COMMENT:
        return []
    try:
        return [float(field) if field else np.nan for field in _fields(line)]
    except ValueError:
        return []


def _fields(line: str) -> list[str]:
    """Splits a line at semicolons, else at blanks, else at commas.

    In the first two cases a comma left inside a field is a decimal comma. Empty fields count,
    except at the end.
    """
    if ";" in line:
        fields = [field.strip() for field in line.split(";")]
    else:
        fields = re.sub(r",\s+|\s+,", " ", line).split()
        if len(fields) == 1:
            fields = line.split(",")
            while fields and not fields[-1]:
                fields.pop()
            return fields
    while fields and not fields[-1]:
        fields.pop()
    return [field.replace(",", ".") for field in fields]


# --- columns ---------------------------------------------------------------------------------


def _names(head: list[str], width: int) -> list[str]:
    """Returns the names of the columns if the last line of the header has them, else nothing."""
    for line in reversed(head[-5:]):
        line = line.strip().lstrip("#!%;*/").strip()
        if not line:
            continue
        for separator in (r"[;\t]", ",", r"\s{2,}", r"\s+"):
            names = [name.strip(" \"'") for name in re.split(separator, line)]
            if len(names) == width and any(_axis(name) for name in names):
                return names
        return []
    return []


def _axis(name: str) -> str:
    """Returns the unit of an axis of this name: two_theta, q or d; empty if it is none."""
    if _ANGLE.search(name):
        return "two_theta"
    return "q" if _Q.search(name) else "d" if _D.search(name) else ""


def _patterns(table: np.ndarray, names: list[str]) -> list[Columns]:
    """Returns the patterns in a table of numbers `[n, columns]`, by the names of its columns."""
    width = table.shape[1]
    if not names:
        if width < _MATRIX:
            notes = (f"{width - 2} further columns ignored",) if width > 2 else ()
            return [Columns(table[:, 0], table[:, 1], notes=notes)]
        if _is_axis(table[0]) and not _is_axis(table[:, 0]):
            return [
                Columns(table[0], row, name=f"row{i}") for i, row in enumerate(table[1:], start=1)
            ]
        return [Columns(table[:, 0], table[:, i], name=f"column{i + 1}") for i in range(1, width)]
    units = [_axis(name) for name in names]
    at = next(units.index(unit) for unit in ("two_theta", "q", "d") if unit in units)
    scale = 0.1 if units[at] == "q" and "nm" in names[at].lower() else 1.0
    if units[at] == "d" and "nm" in names[at].lower():
        scale = 10.0
    others = [i for i in range(width) if not units[i] and not _NO_INTENSITY.search(names[i])]
    intensities = [i for i in others if _INTENSITY.search(names[i])] or others
    if not intensities:
        intensities = [i for i in range(width) if i != at][:1]
    left = [names[i] for i in range(width) if i != at and i not in intensities]
    notes = (f"columns ignored: {', '.join(left)}",) if left else ()
    several = len(intensities) > 1
    return [
        Columns(
            scale * table[:, at],
            table[:, i],
            units[at],
            name=(names[i] or f"column{i + 1}") if several else "",
            notes=notes,
        )
        for i in intensities
    ]


def _is_axis(values: np.ndarray) -> bool:
    return bool(np.all(np.diff(values) > 0) and values[0] >= 0 and values[-1] < 180)
