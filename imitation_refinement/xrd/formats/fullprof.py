"""FullProf's data files: counts between a start and an end, in the layouts of its `INS` numbers.

Belongs here: `INS` 0, 4, 5, 8 and 10 (a line of start, step and end, then counts, perhaps with
their errors), 1 (pairs of counters and counts), 3 (D1B and D20) and 6 (D1A and D2B). Recognised by
content: the number of counts decides. Works on lines; opens no files.

Source: FullProf manual, appendix on the formats of data files.
"""

import contextlib
import re
from collections.abc import Sequence

import numpy as np

from imitation_refinement.xrd.formats.columns import Columns, ramp
from imitation_refinement.xrd.formats.factors import one_scale, unlike_errors
from imitation_refinement.xrd.formats.headers import read_header, with_header
from imitation_refinement.xrd.formats.vendor_text import numbers
from imitation_refinement.xrd.scans import MIN_POINTS

_NUMBER = r"[-+]?\d*\.?\d+(?:[eE][-+]?\d+)?"
_RANGE = re.compile(rf"\s*({_NUMBER})[\s,]+({_NUMBER})[\s,]+({_NUMBER})(?![\d.])")
_HEAD = 12  # lines in which the range may stand
_PER_LINE = 10  # counts of the fixed layouts
_MOST_COUNTERS = 99  # I2
_MOST_TIMES = 30  # different ones in a scan
_END = -1000.0  # what stands after the last count of D1A and D2B


def read_fullprof(lines: Sequence[str], source: str) -> list[Columns] | None:
    """Returns the pattern of a file in one of these layouts, None for other files.

    Raises:
        ValueError: the file is plainly such a list, and cut short.
    """
    for at in range(len(lines[:_HEAD])):
        for layout in (_with_range, _d1b, _d1a):
            if (found := layout(lines, at)) is not None:
                header = read_header([line.rstrip() for line in lines[: at + 1]])._replace(
                    axis=None
                )
                return [with_header(found, header, (), source)]
    return None


def _with_range(lines: Sequence[str], at: int) -> Columns | None:
    """Start, step and end (or start, end and step) on a line, then the counts."""
    found = _RANGE.match(lines[at])
    if not found:
        return None
    first, second, third = (float(value) for value in found.groups())
    rows: list[str] = []
    for start, step, stop in ((first, second, third), (first, third, second)):
        if not (0 < step < 5 and step < stop - start and -180 <= start < stop <= 180):
            continue
        count = round((stop - start) / step) + 1
        if count < MIN_POINTS or abs((stop - start) / step + 1 - count) > 0.1:
            continue
        rows = rows or [row for row in _stripped(lines[at + 1 :]) if row and row[0] != "!"]
        counts = _counts(rows, count)
        if counts is not None:
            return Columns(ramp(start, step, count), counts)
        wide = [len(text.split()) for text in rows[:40]]
        like_it = len(lines[at].split()) in wide[:1]  # then it is a row among rows
        if wide and min(wide[:-1] or wide) >= 5 and len(set(wide[:-1])) <= 1 and not like_it:
            there = sum(len(text.split()) for text in rows)
            raise ValueError(f"{count} points announced, {there} there")
    return None


def _counts(rows: Sequence[str], count: int) -> np.ndarray | None:
    """Returns the counts if the rows have just that many, float64 `[count]`, else None."""
    with contextlib.suppress(ValueError):
        values = numbers(rows)
        if len(values) == count:
            return values
        pairs = _pairs(rows, 8, count)
        if pairs is not None:
            return pairs
        if len(values) == 2 * count:
            return _without_second(values, [len(row.split()) for row in rows])
    for width in (8, 7, 6):
        with contextlib.suppress(ValueError):
            values = _fixed(rows, width)
            if len(values) == count:
                return values
            if len(values) == 2 * count:
                return _without_second(values, [-(-len(row) // width) for row in rows])
    return None


def _fixed(rows: Sequence[str], width: int) -> np.ndarray:
    """Returns numbers of a fixed width that may touch, float64 `[n]`; else ValueError."""
    fields = [[row[i : i + width] for i in range(0, len(row), width)] for row in rows]
    if len({len(row) for row in fields[:-1]}) > 1 or min(map(len, fields[:1])) < 5:
        raise ValueError("rows of different lengths")
    return np.array([field for row in fields for field in row if field.strip()], np.float64)


def _pairs(rows: Sequence[str], width: int, count: int) -> np.ndarray | None:
    """Returns the counts of `10(I2,Fw)`, which follow how many counters saw each; None if not so.

    Counts stand for one counter already. Without any counters the columns are ordinary numbers.
    """
    fields = [row[i : i + width] for row in rows for i in range(0, len(row), width)]
    if len(fields) < count or max(map(len, rows), default=0) > _PER_LINE * width:
        return None
    counters = [field[:2].strip() for field in fields[:count]]
    try:
        seen = np.array([int(text) for text in counters if text], np.float64)
        counts = np.array([field[2:] for field in fields[:count]], np.float64)
    except ValueError:
        return None
    plain = len(seen) < 0.5 * count or np.count_nonzero(np.diff(seen)) > 0.3 * len(seen)
    return None if plain or seen.max() > _MOST_COUNTERS else counts


def _without_second(values: np.ndarray, widths: Sequence[int]) -> np.ndarray:
    """Returns the counts of two numbers for each point.

    Errors may follow all counts, stand on every second line, or beside each count; errors of counts
    go as their root, which tells which. Or a counting time stands before each count.

    Args:
        values: float64 `[2 n]`.
        widths: how many of them stand on each line.
    """
    half = len(values) // 2
    first, second = values[::2], values[1::2]
    times = len(np.unique(first))
    if np.all(first > 0) and 3 * times < len(np.unique(second)) and times <= _MOST_TIMES:
        return one_scale(second, {"time": first})[0]
    ways = [(values[:half], values[half:]), (first, second)]
    lines = np.split(values, np.cumsum(widths)[:-1])
    if len(lines) > 1 and [len(x) for x in lines[::2]] == [len(x) for x in lines[1::2]]:
        ways.append((np.concatenate(lines[::2]), np.concatenate(lines[1::2])))
    return min(ways, key=lambda way: unlike_errors(*way))[0]


def _d1b(lines: Sequence[str], at: int) -> Columns | None:
    """D1B and D20 (`INS` 3): monitor, start and step in fixed columns, a line with the number."""
    if at + 2 >= len(lines) or not re.fullmatch(r"\s*\d{2,5}\s*", lines[at + 1]):
        return None
    try:
        start, step = float(lines[at][23:31]), float(lines[at][76:85])
    except ValueError:
        return None
    if not 0 < step < 5:
        return None
    count = int(lines[at + 1])
    counts = _pairs(_stripped(lines[at + 2 : at + 2 + -(-count // _PER_LINE)]), 10, count)
    if counts is None:
        return None
    return Columns(ramp(start, step, count), counts)


def _d1a(lines: Sequence[str], at: int) -> Columns | None:
    """D1A and D2B (`INS` 6): step, start and monitors on three lines, then counts up to -1000."""
    if at + 4 >= len(lines):
        return None
    try:
        step, start = float(lines[at][16:24]), float(lines[at + 1][:8])
        float(lines[at + 2][:8])
    except ValueError:
        return None
    if not 0 < step < 5 or not -180 <= start < 180:
        return None
    rows = _stripped(lines[at + 3 :])
    end = next((i for i, row in enumerate(rows) if _is_end(row)), len(rows))
    rows = [row for row in rows[:end] if row]
    count = sum(-(-len(row) // 8) for row in rows)
    counts = _pairs(rows, 8, count) if count >= MIN_POINTS else None
    if counts is None:
        return None
    return Columns(ramp(start, step, count), counts)


def _stripped(lines: Sequence[str]) -> list[str]:
    return [line.rstrip() for line in lines]


def _is_end(row: str) -> bool:
    first = row.split()[:1]
    return (
        bool(first)
        and re.fullmatch(r"-?\d+\.?\d*", first[0]) is not None
        and (float(first[0]) <= _END)
    )
