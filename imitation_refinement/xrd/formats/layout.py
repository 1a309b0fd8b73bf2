"""What the columns of a table are: axes, observed intensities, and what is neither.

Belongs here: the way from a table of numbers and the names of its columns to patterns, for text,
spreadsheets and any other table. What names say is in `names`; values only tell what no name does:
a row number, pairs of columns, a matrix.
"""

import csv
import re
from collections.abc import Sequence

import numpy as np

from imitation_refinement.errors import UserError
from imitation_refinement.xrd.formats import names as grammar
from imitation_refinement.xrd.formats.columns import Columns
from imitation_refinement.xrd.formats.factors import are_errors, one_scale
from imitation_refinement.xrd.formats.names import Axis, axis_of, plain, role_of, scale_of

MATRIX = 20  # columns; a table with so many is a matrix of patterns
_UNITS = re.compile(
    r"[\[(]?\s*(deg\.?|degrees?|°|rad|radians?|mrad|1/nm|nm\^?-1|/nm|1/a|a\^?-1|1/angstrom|"
    r"angstrom\^?-1|/angstrom|angstroms?|a|nm|counts?|cts|cps|counts/s|s\^?-1|a\.? ?u\.?|arb\.?|"
    r"arb\. ?units?|%|ms|us|kev|ev|inverse \w+|)\s*[\])]?"
)


_LIST = re.compile(
    r"(columns?|col|labels?|fields?|names|field names|headers?|format|data|(field )?units)"
    r"\s*[:=]\s*[\[(]?(?=.*\S)", re.I
)  # fmt: skip
_NUMBERED = re.compile(
    r"(?:(?:\bcol(?:umn)?|\bfield)[\s_]*(\d)|(\d)(?:st|nd|rd|th)\s+column|^[\s#!%;*/]*([xy]))"
    r"\s*[:=]\s*([^;]+)", re.I
)  # fmt: skip
_OTHER_AXIS = re.compile(
    r"(?<![a-z\d])1/(nm|a|angstrom)(?![a-z])|(?<![a-z])(nm|a|angstrom)\s?(\^|\*\*)?\s?-1(?!\d)|"
    r"inverse (nm|nano|ang)|(?<![a-z])d[\s_-]?spacings?(?![a-z])|radians|(?<![a-z])tof(?![a-z])|"
    r"time[\s_-]of[\s_-]flight|momentum transfer|scattering vector|axis is theta|"
    r"^\W*(photon |x-ray )?energy\W{1,3}k?ev(?![a-z])(?!\W*\d)|not (2|two)[\s_*-]*theta"
)
_OTHER_SCALE = re.compile(
    r"(?:intensit\w*|counts|(?<![a-z])y)[\s_-]+(?:axis|scale|values?|is|are|in|[:=\s])*"
    r"[\s:=]*(?:log10|log|ln)(?![a-z])"
)
_KEY = re.compile(r"\*[A-Z]+_[A-Z_\d]+\s")  # `*SCAN_AXIS`, a setting of an instrument


def patterns_of(
    table: np.ndarray,
    names: Sequence[str],
    source: str,
    axis: Axis | None = None,
    labels: Sequence[str] = (),
) -> list[Columns]:
    """Returns the patterns in a table of numbers.

    Args:
        table: float64 `[n, columns]`.
        names: of the columns, with their units; empty if they have none.
        source: what to name in errors.
        axis: what the header says of the axis, if it does.
        labels: of the rows, for a matrix; may be empty.

    Raises:
        UserError: the table is no scan, or over an axis that no pattern is drawn over.
    """
    if names:
        return _named(table, list(names), source, axis)
    return _unnamed(table, source, axis, labels)


def over_axis(x: np.ndarray, axis: Axis, name: str, source: str) -> tuple[np.ndarray, list[str]]:
    """Returns positions in the unit of `axis.kind`, and notes on what was converted.

    Raises:
        UserError: no pattern is drawn over this axis.
    """
    if not axis.usable:
        raise UserError(
            f"{source}: its axis ({name.strip() or 'first column'}) is {axis.kind}; a pattern over"
            " 2 theta, q or d is needed, export that"
        )
    notes = []
    if axis.kind == "two_theta" and axis.scale != 1.0:
        unit = "theta" if axis.scale == 2.0 else "radians"
        notes.append(f"2 theta in degrees computed from {unit} ({name.strip()})")
    if axis.kind in ("q", "d") and not axis.said:
        unit = "1/angstrom" if axis.kind == "q" else "angstrom"
        notes.append(f"unit of {name.strip()} not said: taken in {unit}")
    return axis.scale * x, notes


# --- names of columns ------------------------------------------------------------------------


def find_names(head: Sequence[str], width: int, rows: int) -> list[str]:
    """Returns the names of the columns, with units, from the lines before the first row.

    Names, units and comments may stand on a line each (Origin), or one below the other before the
    number of rows (Fit2D). Empty if there are none.
    """
    lines = [line for line in head if line.strip(" \t\r,;#")]
    counted = len(lines) >= 3 and re.fullmatch(rf"\s*{rows}(\s+\d+)?\s*", lines[-1])
    if not counted and len(lines) == 3:  # the number of rows looked like a row
        lines, counted = [*lines, ""], re.fullmatch("intensity", lines[2].strip(), re.I)
    if counted and width == 2 and axis_of(lines[-3]) is not None:
        return [lines[-3].strip(), lines[-2].strip()]
    if one_by_one := _numbered_names(lines, width):
        return one_by_one
    units: list[str] = []
    for line in reversed(lines[-8:]):
        bare = re.sub(r"^[\s#!%;*/]+(L(?=\s))?", "", line).rstrip(" \t\r,;").replace("\0", "")
        bare = _LIST.sub("", bare).rstrip("])") if _LIST.match(bare) else bare
        states = re.match(r"[\w .()/-]{2,40}[:=]\s*\S", bare) or _KEY.match(line.strip())
        for fields, separated in _splits(bare):
            if len(fields) != width or not any(fields):
                continue
            if not units and all(_UNITS.fullmatch(plain(field)) for field in fields):
                units = fields
                break
            if _are_names(fields, separated) and not states:
                if units:
                    return [f"{a} [{b.strip(' []()')}]" for a, b in zip(fields, units, strict=True)]
                return fields
    return units if units and axis_of(units[0]) is not None else []


def _numbered_names(lines: Sequence[str], width: int) -> list[str]:
    """Returns names that are told one by one: `Column 1: q (1/nm)`, `1st column: q`, `X: q`."""
    found: dict[int, str] = {}
    for line in lines:
        for item in _NUMBERED.finditer(line):
            at = int(item[1] or item[2]) if item[1] or item[2] else "xy".index(item[3].lower()) + 1
            found.setdefault(at, item[4].strip(" ,;"))
    return [found.get(i, "") for i in range(1, width + 1)] if found.get(1) and found.get(2) else []


def check_mentions(head: Sequence[str], names: Sequence[str], source: str) -> None:
    """Raises UserError if prose speaks of another axis or scale and nothing says of which column.

    Args:
        head: the lines before the first row.
        names: of the columns that were found, empty if none.
        source: what to name in errors.
    """
    for number, line in enumerate(head, start=1):
        text = plain(line)
        axis = not names and _OTHER_AXIS.search(text)
        scale = not any(map(scale_of, names)) and _OTHER_SCALE.search(text)
        if axis or scale:
            raise UserError(
                f"{source}: line {number} ({line.strip()[:50]!r}) speaks of another"
                f" {'axis' if axis else 'scale'} and no name of a column says so; name the columns"
                " before the first row, such as `q (1/nm), intensity` or `2theta, log10(I)`"
            )


def unknown_names(head: Sequence[str], row: str) -> list[str]:
    """Returns the fields of the last line of a header if they are separated like those of a row."""
    line = next((line for line in reversed(head) if line.strip(" \t\r,;#")), "")
    if re.match(r"[\s#!%;*/]*[\w .()/-]{2,40}[:=]\s*\S", line):
        return []
    line, row = (re.sub(r"^[\s#!%;*/]+", "", text).rstrip(" \t\r,;") for text in (line, row))
    for (fields, separated), (values, _) in zip(_splits(line), _splits(row), strict=True):
        if separated and len(fields) == len(values) > 1:
            return fields if all(re.search(r"[^\W\d_]", field) for field in fields) else []
    return []


def _splits(line: str) -> list[tuple[list[str], bool]]:
    """Returns the ways to split a line into names, and whether at more than blanks."""
    ways = [
        (re.split(r"[;\t]", line), True),
        (next(csv.reader([line], skipinitialspace=True)), True),
    ]
    ways += [(re.split(pattern, line), True) for pattern in (r"\s*\|\s*", r"\s{2,}")]
    ways += [(re.findall(r"'([^']*)'", line), True), (re.split(r"\s+", line), False)]
    ways += [(re.findall(r"[^\s\[(]+(?:\s*[\[(][^\])]*[\])])?", line), False)]
    return [([field.strip().strip("\"'<>").strip() for field in way], sure) for way, sure in ways]


def _are_names(fields: list[str], separated: bool) -> bool:
    """Returns whether fields of a line are names of columns; `separated` by more than blanks."""
    if not any(re.search(r"[^\W\d_]|[#°√σθ]", field) for field in fields):
        return False
    if fields[0].startswith("{"):  # JSON in a comment
        return False
    first = axis_of(fields[0])
    numbers = [bool(re.fullmatch(r"[-+]?[\d.,]+(e[-+]?\d+)?", field, re.I)) for field in fields]
    # `step 0.02` is a setting; `2theta 300 350` are patterns at two temperatures.
    if first is not None and first.usable:
        return True
    if any(numbers):
        return False
    if first is not None and (separated or grammar.no_pattern(fields)):
        return True
    axis = any((found := axis_of(name)) is not None and found.usable for name in fields)
    return axis or any(role_of(name, fields) == grammar.OBSERVED for name in fields[1:])


# --- tables with names -----------------------------------------------------------------------


def _named(table: np.ndarray, names: list[str], source: str, stated: Axis | None) -> list[Columns]:
    if what := grammar.no_pattern(names):
        raise UserError(
            f"{source}: {what} (columns {_listed(names)}), not a scan; give the scan itself,"
            " 2 theta and counts at every step"
        )
    axes = [axis_of(name) for name in names]
    if stated is not None and re.match(r"(x|angle|pos|deg)", plain(names[0])):
        axes[0] = axes[0] if stated.usable and plain(names[0]) != "x" else stated
    usable = {
        i: axis
        for i, axis in enumerate(axes)
        if axis is not None and axis.usable and (not i or _rises(table[:, i]))
    }
    if not usable:
        if axes[0] is None:
            raise UserError(
                f"{source}: its first column is called {names[0]!r}, which is no axis of a pattern"
                " known here; name it 2theta, q or d, with its unit"
            )
        over_axis(table[:, 0], axes[0], names[0], source)
    kinds = {axis.kind for axis in usable.values()}
    preferred = next(kind for kind in ("two_theta", "q", "d") if kind in kinds)
    at = [i for i, axis in usable.items() if axis.kind == preferred]
    groups = [range(a + 1, b) for a, b in zip(at, [*at[1:], len(names)], strict=True)]
    if len(at) == 1 or not all(any(not axes[i] for i in group) for group in groups):
        at, groups = at[:1], [range(len(names))]
    found: list[Columns] = []
    ignored: list[str] = []
    for axis_at, group in zip(at, groups, strict=True):
        others = [i for i in group if i != axis_at and i not in usable]
        chosen, notes = _intensities(others, names, axes, source)
        ignored += [names[i] for i in group if i not in chosen and i != axis_at]
        x, converted = over_axis(table[:, axis_at], usable[axis_at], names[axis_at], source)
        there = np.isfinite(x) if len(at) > 1 else np.full(len(x), True)
        for i in chosen:
            counts, undone = linear(table[there, i], names[i], source)
            beside = {names[j]: table[there, j] for j in others if j not in chosen}
            counts, scaled = one_scale(counts, beside)
            found.append(
                Columns(
                    x[there], counts, preferred, name=names[i], axis=names[axis_at],
                    notes=(*converted, *undone, *scaled, *notes),
                )
            )  # fmt: skip
    if ignored:
        note = f"columns ignored: {', '.join(ignored)}"
        found[0] = found[0]._replace(notes=(*found[0].notes, note))
    if len(found) == 1:
        return [found[0]._replace(name="")]
    return _distinct(found)


def _intensities(
    columns: list[int], names: list[str], axes: list[Axis | None], source: str
) -> tuple[list[int], tuple[str, ...]]:
    """Returns which columns are the patterns, and notes."""
    roles = {i: role_of(names[i], names) for i in columns}
    observed = [i for i in columns if roles[i] == grammar.OBSERVED]
    if observed:
        corrected = [names[i] for i in observed if re.search("lorentz", plain(names[i]))]
        notes = tuple(f"intensities are not as counted ({name})" for name in corrected)
        return observed, notes
    samples = [i for i in columns if not roles[i] and (axes[i] is None or _is_a_sample(names[i]))]
    if samples:
        return samples, ()
    calculated = [i for i in columns if roles[i] == grammar.CALCULATED]
    if calculated:
        return calculated, ("the intensity is called calculated, not measured",)
    raise UserError(
        f"{source}: no column of intensities among {_listed(names)}; name one intensity or counts"
    )


def _is_a_sample(name: str) -> bool:
    """Returns whether a name that begins like an axis is more: `Temperature 300`, `k`."""
    bare = re.sub(r"[\[(].*", "", plain(name)).strip()
    return len(bare) == 1 or len(bare.split()) > 2 or bool(re.search(r"\d", bare))


def linear(counts: np.ndarray, name: str, source: str) -> tuple[np.ndarray, list[str]]:
    """Returns intensities on a linear scale, and notes.

    Raises:
        UserError: the name of the column says that it is a function that is not undone.
    """
    scale = scale_of(name)
    if not scale:
        return counts, []
    if scale == "function":
        raise UserError(
            f"{source}: column {name.strip()!r} is a function of the intensity that is not undone"
            " here; export the intensity itself"
        )
    if scale == "log":
        raise UserError(
            f"{source}: column {name.strip()!r} is a logarithm of a base that is not said; export"
            " the intensity itself, or write log10 or ln"
        )
    with np.errstate(over="ignore", invalid="ignore"):
        linear = (
            counts**2 if scale == "square root" else (10.0 if scale == "log10" else np.e) ** counts
        )
    return linear, [f"{scale} undone ({name.strip()})"]


def _distinct(found: list[Columns]) -> list[Columns]:
    """Returns patterns with names that differ."""
    seen: dict[str, int] = {}
    result = []
    for i, item in enumerate(found, start=1):
        name = item.name or f"column{i}"
        seen[name] = seen.get(name, 0) + 1
        result.append(item._replace(name=name if seen[name] == 1 else f"{name}_{seen[name]}"))
    return result


def _listed(names: Sequence[str], most: int = 6) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


# --- tables without names --------------------------------------------------------------------


def _unnamed(
    table: np.ndarray, source: str, stated: Axis | None, labels: Sequence[str]
) -> list[Columns]:
    axis = stated or Axis("two_theta")
    width = table.shape[1]
    labelled = width > 2 and np.isnan(table[:, 0]).all()
    if width >= MATRIX:
        names = list(labels[1:]) if labelled and len(labels) == len(table) else []
        across = table[:, 1:] if labelled else table
        down = not labelled and _is_axis(table[:, 0])
        if _is_axis(across[0]) and not (down and len(table) > width):
            names = names or [f"row{i}" for i in range(1, len(table))]
            rows = [(across[0], row, name) for row, name in zip(across[1:], names, strict=True)]
        else:
            rows = [(table[:, 0], table[:, i], f"column{i + 1}") for i in range(1, width)]
        return _distinct([_one(x, counts, name, axis, source) for x, counts, name in rows])
    first = 0
    if _counts_rows(table[:, 0]) and stated is None:
        if width > 2 and _is_axis(table[:, 1]):
            first = 1
        else:
            raise UserError(
                f"{source}: its first column counts the rows (1, 2, 3, ...) and the second is no 2"
                " theta; export 2 theta and counts"
            )
    at = list(range(first, width - 1, 2))
    if len(at) > 1 and (width - first) % 2 == 0 and all(_is_axis(table[:, i]) for i in at):
        pairs = [_one(table[:, i], table[:, i + 1], f"column{i + 2}", axis, source) for i in at]
        return [
            item._replace(x=item.x[there], counts=item.counts[there])
            for item in pairs
            if (there := np.isfinite(item.x)).any()
        ]
    beside = [table[:, first + i] for i in (1, 2)] if width == first + 3 else []
    swapped = bool(beside) and are_errors(*beside)
    item = _one(table[:, first], table[:, first + 1 + swapped], "", axis, source)
    notes = [*item.notes, *["the second column has the errors of the third"] * swapped]
    if first:
        notes.append("the first column counts the rows: ignored")
    if width - first > 2:
        notes.append(f"{width - first - 2} further columns ignored")
    return [item._replace(notes=tuple(notes))]


def _one(x: np.ndarray, counts: np.ndarray, name: str, axis: Axis, source: str) -> Columns:
    positions, notes = over_axis(x, axis, "", source)
    return Columns(positions, counts, axis.kind, name=name, notes=tuple(notes))


def _rises(values: np.ndarray) -> bool:
    """Returns whether values keep rising or keep falling, mostly strictly; NaN are passed over."""
    values = values[np.isfinite(values)]
    steps = np.diff(values)
    if not steps.size:
        return False
    rising, falling = np.count_nonzero(steps > 0), np.count_nonzero(steps < 0)
    return bool(max(rising, falling) >= 0.9 * steps.size > 100 * min(rising, falling) * 0.9)


def _is_axis(values: np.ndarray) -> bool:
    finite = values[np.isfinite(values)]
    return bool(_rises(values) and finite.min() >= 0 and finite.max() < 180)


def _counts_rows(values: np.ndarray) -> bool:
    return bool(values[0] in (0.0, 1.0) and np.all(np.diff(values) == 1.0))
