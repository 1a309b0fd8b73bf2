"""Text formats of instruments that say what each number is: Rigaku, Bruker, PANalytical.

Belongs here: `.ras` and `.asc` (Rigaku), `.uxd` (Bruker, Siemens) and `.udf` (Philips), recognised
by their keys, not by their endings. Works on lines; opens no files.
"""

import re
from collections.abc import Sequence

import numpy as np

from imitation_refinement.errors import UserError
from imitation_refinement.xrd.formats.columns import Columns, left_out, named, of_format, ramp
from imitation_refinement.xrd.formats.headers import read_header, with_header
from imitation_refinement.xrd.formats.layout import over_axis
from imitation_refinement.xrd.formats.names import goniometer_axis

_PAIR = re.compile(r"[\s*_#]*([\w-]+(?: [\w-]+)*?)\s*(?:[=:,]|\s(?=[\"'\d.+-]))\s*(.*)")
_UXD_DATA = re.compile(r"_(2THETA)?_?(COUNTS|CPS|INTENSITY)(TIME)?\s*(=\s*\d+)?\s*$", re.I)


def read_vendor_text(
    lines: Sequence[str], head: Sequence[str], source: str
) -> list[Columns] | None:
    """Returns the patterns of a file in one of these formats, None for other files.

    Args:
        lines: of the file.
        head: those that may tell the format: all, or those before rows of numbers to the end.
        source: what to name in errors.

    Raises:
        UserError: damaged, cut short, or no scan over 2 theta in it.
    """
    # Each begins with one of these; most lines are numbers.
    marks = [
        line.strip().upper() for line in head[:2000] if line.lstrip()[:1] in ("*", "_", "R", "r")
    ]
    try:
        if any(mark.startswith("*RAS_INT_START") for mark in marks):
            found = of_format("Rigaku .ras", _ras(lines, source))
        elif any(re.match(r"\*(BEGIN|START\s*=)", mark) for mark in marks):
            found = of_format("Rigaku .asc", _asc(lines, source))
        elif any(_UXD_DATA.match(mark) for mark in marks):
            found = of_format("Bruker .uxd", _uxd(lines, source))
        elif any(mark.startswith("RAWSCAN") for mark in marks):
            found = of_format("Philips .udf", _udf(lines, source))
        else:
            return None
    except (ValueError, KeyError, OverflowError) as error:
        reason = f"no {error.args[0]}" if isinstance(error, KeyError) else error
        raise UserError(f"{source}: damaged or cut short ({reason}); export it again") from error
    if not any(not item.left_out for item in found):
        reason = found[0].left_out if found else "no scan in it"
        raise UserError(f"{source}: {reason}; export a scan over 2 theta")
    return found


def pairs(lines: Sequence[str]) -> dict[str, str]:
    """Returns key and value of each line that has both, keys in lower case, quotes removed."""
    found: dict[str, str] = {}
    for line in lines:
        if match := _PAIR.match(line.strip()):
            found.setdefault(match[1].lower(), match[2].strip(" \"',/"))
    return found


def numbers(lines: Sequence[str]) -> np.ndarray:
    """Returns all numbers of lines in which blanks, commas or slashes separate them.

    Raises:
        ValueError: something else is in them.
    """
    return np.array(re.sub(r"[,;/]", " ", " ".join(lines)).split(), np.float64)


def listed(counts: np.ndarray, start: float, stop: float | None, step: float) -> np.ndarray:
    """Returns the angles of listed counts, float64 `[n]`.

    Raises:
        ValueError: their number does not fit the range.
    """
    x = ramp(start, step, len(counts))
    if stop is not None and abs(x[-1] - stop) > 1.001 * abs(step):
        expected = round((stop - start) / step) + 1
        raise ValueError(f"{expected} points announced, {len(counts)} there")
    return x


def _ras(lines: Sequence[str], source: str) -> list[Columns]:
    """Rigaku `.ras`: header and rows (2 theta, counts, attenuation) of each measurement in turn."""
    found: list[Columns] = []
    head: list[str] = []
    rows: list[str] | None = None
    for line in [*lines, "*RAS_INT_END"]:
        mark = line.strip().upper()
        if mark.startswith("*RAS_INT_START"):
            rows = []
        elif mark.startswith("*RAS_INT_END"):
            if rows:
                found.append(_ras_scan(head, rows, source))
            rows, head = None, []
        elif rows is not None:
            rows.append(line)
        else:
            head.append(line)
    return named(found, "scan")


def _ras_scan(head: list[str], rows: list[str], source: str) -> Columns:
    keys = pairs(head)
    axis = goniometer_axis(keys.get("meas_scan_axis_x", ""))
    if axis.kind != "two_theta":
        return left_out("", f"measured over {keys['meas_scan_axis_x']}", by_design=True)
    bad = 0
    table = []
    for line in rows:
        values = line.split()
        try:
            table.append([float(value) for value in values[:3]])
        except ValueError:
            bad += 1
    width = min((len(row) for row in table), default=0)
    if width < 2 or bad > 0.1 * len(rows):
        raise ValueError(f"{bad} of {len(rows)} lines are no rows of numbers")
    data = np.array([row[:width] for row in table])
    counts = data[:, 1] * (data[:, 2] if width > 2 else 1.0)
    notes = (f"{bad} unreadable lines skipped",) if bad else ()
    header = read_header([line for line in head if "WAVE_TYPE" not in line.upper()])
    item = with_header(Columns(data[:, 0], counts), header, notes, source)
    only_first = keys.get("meas_cond_xg_wave_type", "").lower() in ("ka1", "kalpha1")
    first = re.search(r"([\d.]+)", keys.get("hw_xg_wave_length_alpha1", ""))
    if only_first and first:
        return item._replace(wavelength=float(first[1]), k_alpha2="stripped")
    return item


def _asc(lines: Sequence[str], source: str) -> list[Columns]:
    """Rigaku `.asc`: `*KEY = value` for each group, then counts, some on a line."""
    common: list[str] = []
    groups: list[tuple[list[str], list[str]]] = []
    inside = False
    for line in lines:
        text = line.strip()
        if re.match(r"\*BEGIN\b", text, re.I):
            groups.append(([], []))
            inside = True
        elif re.match(r"\*END\b", text, re.I):
            inside = False
        elif text.startswith("*"):
            (groups[-1][0] if inside else common).append(text)
        elif text and not inside and not groups:
            groups.append((list(common), [text]))
            inside = True
        elif text and inside:
            groups[-1][1].append(text)
    found = []
    for head, rows in groups:
        keys = pairs(common) | pairs(head)
        axis = goniometer_axis(keys.get("scan_axis", keys.get("axis", "")))
        if axis.kind != "two_theta":
            found.append(left_out("", f"measured over {axis.kind}", by_design=True))
            continue
        x, counts = _counts_or_rows(rows, keys)
        header = read_header([*common, *head])
        found.append(with_header(Columns(x, counts), header._replace(axis=None), (), source))
    return named(found, "group")


def _counts_or_rows(rows: list[str], keys: dict[str, str]) -> tuple[np.ndarray, np.ndarray]:
    """Returns angles and counts of listed counts, or of rows that have their angles."""
    values = numbers(rows)
    start, stop, step = (float(keys[name]) for name in ("start", "stop", "step"))
    if not values.size:
        raise ValueError("no counts")
    if len(values) == 2 * int(float(keys.get("count", "0"))) and values[0] == start:
        return values[::2], values[1::2]
    return listed(values, start, stop, step), values


def _uxd(lines: Sequence[str], source: str) -> list[Columns]:
    """Bruker `.uxd`: `_KEY=value`; after `_COUNTS`, `_CPS`, `_2THETACOUNTS`, ... the numbers."""
    common: list[str] = []
    ranges: list[tuple[list[str], str, list[str]]] = []
    head: list[str] = []
    data: list[str] | None = None
    for line in lines:
        text = line.strip()
        if _UXD_DATA.match(text):
            data = []
            ranges.append((head, text.upper(), data))
        elif text.startswith((";", "_")):
            if data is not None:
                data, head = None, []
            head.append(text)
            if not ranges and not re.match(r"_(START|STEP|DRIVE|2THETA|THETA)", text, re.I):
                common.append(text)
        elif text and data is not None:
            data.append(text)
    found = []
    for head, kind, rows in ranges:
        keys = pairs(common) | pairs(head)
        axis = goniometer_axis(keys.get("drive", ""))
        if axis.kind != "two_theta":
            found.append(left_out("", f"measured over {keys['drive']}", by_design=True))
            continue
        values = numbers(rows)
        columns = 1 + ("2THETA" in kind) + ("TIME" in kind)
        if not values.size or values.size % columns:
            raise ValueError(f"{values.size} numbers after {kind}")
        table = values.reshape(-1, columns)
        if "2THETA" in kind:
            x, counts = table[:, 0], table[:, 1]
        else:
            start = keys.get("start") or keys.get("2theta")
            if start is None or "stepsize" not in keys:
                raise ValueError("no _START and _STEPSIZE")
            x, counts = (
                listed(table[:, 0], float(start), None, float(keys["stepsize"])),
                table[:, 0],
            )
            if "stepcount" in keys and int(float(keys["stepcount"])) != len(counts):
                raise ValueError(f"{keys['stepcount']} points announced, {len(counts)} there")
        if "TIME" in kind and np.all(table[:, -1] > 0) and np.ptp(table[:, -1]):
            counts = counts * (np.median(table[:, -1]) / table[:, -1])
        header = read_header([*common, *head])._replace(axis=None)
        found.append(with_header(Columns(x, counts), header, (), source))
    return named(found, "range")


def _udf(lines: Sequence[str], source: str) -> list[Columns]:
    """Philips `.udf`: `Key,value,/`; after `RawScan` the counts up to a slash."""
    found = []
    head: list[str] = []
    rows: list[str] | None = None
    for line in [*lines, "/"]:
        if rows is None:
            rows = [] if line.strip().upper().startswith("RAWSCAN") else None
            head += [line] if rows is None else []
            continue
        counts, end, _ = line.partition("/")
        rows.append(counts)
        if end:
            found.append(_udf_scan(head, rows, source))
            rows, head = None, []
    return named(found, "scan")


def _udf_scan(head: list[str], rows: list[str], source: str) -> Columns:
    keys = pairs(head)
    angles = numbers([keys.get("dataanglerange", "")])
    if angles.size < 2 or "scanstepsize" not in keys:
        raise ValueError("no DataAngleRange and ScanStepSize")
    counts = numbers(rows)
    step = float(numbers([keys["scanstepsize"]])[0])
    x = listed(counts, float(angles[0]), float(angles[1]), step)
    x, notes = over_axis(x, goniometer_axis(keys.get("scanaxis", "")), "ScanAxis", source)
    header = read_header(head)._replace(axis=None)
    return with_header(Columns(x, counts), header, tuple(notes), source)
