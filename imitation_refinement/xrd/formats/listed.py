"""Text formats that list counts between a start and an end: JADE, JCAMP-DX, GSAS.

Belongs here: JADE's `.mdi`, Sietronics' `.cpi`, JCAMP-DX (all forms of ordinates, NTUPLES), GSAS
(`BANK` lines, all banks; constant wavelength); FullProf's are in `fullprof`. Recognised by content.
Works on lines; opens no files.

Sources: R. S. McDonald and P. A. Wilks, Appl. Spectrosc. 42, 151 (1988), for JCAMP-DX 4.24, and
5.00 for NTUPLES; GSAS manual, section on powder data files.
"""

import re
from collections.abc import Callable, Sequence

import numpy as np

from imitation_refinement.errors import UserError
from imitation_refinement.xrd.formats.columns import Columns, left_out, named, of_format, ramp
from imitation_refinement.xrd.formats.fullprof import read_fullprof
from imitation_refinement.xrd.formats.headers import read_header, with_header
from imitation_refinement.xrd.formats.layout import over_axis
from imitation_refinement.xrd.formats.names import axis_of
from imitation_refinement.xrd.formats.vendor_text import listed, numbers

_NUMBER = r"[-+]?\d*\.?\d+(?:[eE][-+]?\d+)?"
_MDI = re.compile(
    rf"\s*({_NUMBER})\s+({_NUMBER})\s+{_NUMBER}\s+([A-Za-z]{{2}})\s+({_NUMBER})\s+({_NUMBER})\s+"
    r"(\d+)\s*"
)
_MOST_REPEATS = 1e5  # of one value in JCAMP-DX


def read_listed(lines: Sequence[str], head: Sequence[str], source: str) -> list[Columns] | None:
    """Returns the patterns of a file in one of these formats, None for other files.

    Args:
        lines: of the file.
        head: see `read_vendor_text`.
        source: what to name in errors.

    Raises:
        UserError: damaged, cut short, or no scan in it.
    """
    if any(re.match(r"\s*##(TITLE|JCAMP-?DX)", line, re.I) for line in head[:20]):
        read: Callable[[Sequence[str], str], list[Columns] | None] = _jcamp
        name = "JCAMP-DX"
    elif any(re.match(r"BANK\s+\d", line) for line in head[:200]):
        read, name = _gsas, "GSAS"
    elif any(line.strip().upper() == "SCANDATA" for line in head[:60]):
        read, name = _cpi, "Sietronics .cpi"
    elif any(_MDI.fullmatch(line.rstrip()) for line in head[:5]):
        read, name = _mdi, "JADE .mdi"
    else:
        read, name = read_fullprof, "FullProf, counts listed"
    try:
        found = read(lines, source)
        return None if found is None else of_format(name, found)
    except (ValueError, KeyError, IndexError, OverflowError) as error:
        reason = f"no {error.args[0]}" if isinstance(error, KeyError) else error
        raise UserError(f"{source}: damaged or cut short ({reason}); export it again") from error


# --- JADE and Sietronics ----------------------------------------------------------------------


def _mdi(lines: Sequence[str], source: str) -> list[Columns]:
    """JADE `.mdi`: start, step, time, anode, wavelength, end and count on one line, then counts."""
    at, found = next(
        (i, match) for i, line in enumerate(lines[:5]) if (match := _MDI.fullmatch(line.rstrip()))
    )
    start, step, wavelength, stop = (float(found[group]) for group in (1, 2, 4, 5))
    counts = numbers(lines[at + 1 :])
    if len(counts) != int(found[6]):
        raise ValueError(f"{found[6]} points announced, {len(counts)} there")
    return [Columns(listed(counts, start, stop, step), counts, wavelength=wavelength)]


def _cpi(lines: Sequence[str], source: str) -> list[Columns]:
    """Sietronics `.cpi`: title, start, end, step, anode, wavelength; then `SCANDATA` and counts."""
    at = next(i for i, line in enumerate(lines) if line.strip().upper() == "SCANDATA")
    start, stop, step = (float(line) for line in lines[1:4])
    counts = numbers(lines[at + 1 :])
    x = listed(counts, start, stop, step)
    return [Columns(x, counts, wavelength=float(lines[5]))]


# --- JCAMP-DX --------------------------------------------------------------------------------

_SQZ = {c: str(d) for d, c in enumerate("@ABCDEFGHI")} | {
    c: f"-{d}" for d, c in enumerate("abcdefghi", start=1)
}
_DIF = {c: str(d) for d, c in enumerate("%JKLMNOPQR")} | {
    c: f"-{d}" for d, c in enumerate("jklmnopqr", start=1)
}
_DUP = {c: str(d) for d, c in enumerate("STUVWXYZs", start=1)}
# An exponent has its sign: E alone is a squeezed 5.
_ORDINATE = re.compile(r"([@A-Ia-i%J-Rj-rS-Zs]|[-+])?\s*(\d*\.?\d*(?:E[-+]\d+)?)")


def _jcamp(lines: Sequence[str], source: str) -> list[Columns]:
    found: list[Columns] = []
    head: list[str] = []
    labels: dict[str, str] = {}
    data: list[str] | None = None
    form = ""
    for line in [*lines, "##END="]:
        text = line.split("$$")[0].rstrip()
        match = re.match(r"\s*##([^=]*)=(.*)", text)
        if not match:
            if data is not None and text.strip():
                data.append(text)
            continue
        if data is not None:
            found.append(_jcamp_data(form, data, labels, head, source))
            data = None
        label = re.sub(r"[\s_/-]", "", match[1]).upper()
        if label == "TITLE":
            labels, head = {}, []
        if label in ("XYDATA", "XYPOINTS", "PEAKTABLE", "PEAKASSIGNMENTS", "DATATABLE"):
            data, form = [], label + "".join(match[2].split()).upper()
            if label == "DATATABLE":
                labels = labels | _of_page(form, labels)
        else:
            labels[label] = match[2].strip()
            head.append(f"{match[1].strip(' $')} = {match[2].strip()}")
    if not found:
        raise ValueError("no XYDATA in it")
    usable = [item for item in found if not item.left_out]
    if not usable:
        raise UserError(f"{source}: {found[0].left_out}; export the scan itself")
    return named(found, "block")


def _of_page(form: str, labels: dict[str, str]) -> dict[str, str]:
    """Returns the labels of an ordinary block for a page of NTUPLES: `DATATABLE(X++(Y..Y)),...`."""
    symbols = re.match(r"DATATABLE\((\w)(?:\+\+\()?(\w)\.\.", form)
    if symbols is None or "SYMBOL" not in labels:
        raise ValueError("a DATA TABLE without its SYMBOL")
    lists = {name: [item.strip() for item in text.split(",")] for name, text in labels.items()}
    found = {}
    for axis, symbol in zip("XY", symbols.groups(), strict=True):
        at = [item.upper() for item in lists["SYMBOL"]].index(symbol)
        for name, own in (("FACTOR", f"{axis}FACTOR"), ("UNITS", f"{axis}UNITS"),
                          ("FIRST", f"FIRST{axis}"), ("LAST", f"LAST{axis}"),
                          ("VARDIM", "NPOINTS")):  # fmt: skip
            if len(lists.get(name, ())) > at and lists[name][at]:
                found[own] = lists[name][at]
    return found | {name: labels[name] for name in ("NPOINTS",) if name in labels}


def _jcamp_data(
    form: str, data: list[str], labels: dict[str, str], head: list[str], source: str
) -> Columns:
    if form.startswith("PEAK") or form.endswith("PEAKS"):
        return left_out("", "a list of peaks, not a scan")
    x_factor, y_factor = (float(labels.get(f"{axis}FACTOR", "1")) for axis in "XY")
    if "X++" in form:
        values = y_factor * _ordinates(data)
        first, count = float(labels["FIRSTX"]), int(float(labels.get("NPOINTS", len(values))))
        step = float(labels.get("DELTAX", "nan"))
        last = float(labels.get("LASTX", first + step * (count - 1)))
        if count != len(values):
            raise ValueError(f"{count} points announced, {len(values)} there")
        x = np.linspace(first, last, count)
        ramp(first, (last - first) / max(count - 1, 1), count)
    else:
        table = numbers(data).reshape(-1, 2)
        x, values = x_factor * table[:, 0], y_factor * table[:, 1]
    unit = labels.get("XUNITS", "2THETA")
    axis = axis_of(unit)
    if axis is None:
        raise UserError(f"{source}: XUNITS={unit} is no axis of a powder pattern")
    x, notes = over_axis(x, axis, f"XUNITS={unit}", source)
    header = read_header([line for line in head if not line.lower().startswith("xunits")])
    return with_header(Columns(x, values, axis.kind), header, tuple(notes), source)


def _ordinates(data: list[str]) -> np.ndarray:
    """Returns the ordinates of `(X++(Y..Y))`: plain, packed, squeezed, differences, repeats."""
    values: list[float] = []
    differences = False  # whether the last line ended in a difference: then one value is a check
    for line in data:
        abscissa = re.match(r"\s*[-+]?\d*\.?\d+(?:E[-+]\d+)?", line)
        rest = line[abscissa.end() :] if abscissa else line
        last = 0.0
        for number, (mark, digits) in enumerate(_ORDINATE.findall(rest.replace(",", " "))):
            if not mark and not digits:
                continue
            if mark in _DUP and mark:
                repeats = float(_DUP[mark] + digits)
                if not repeats < _MOST_REPEATS:
                    raise ValueError(f"{line.strip()[:20]!r} repeats a value {repeats:g} times")
                for _ in range(int(repeats) - 1):
                    values.append(values[-1] + last if differences else values[-1])
                continue
            if mark in _DIF and mark:
                last = float(_DIF[mark] + digits)
                values.append(values[-1] + last)
                differences = True
                continue
            value = float((_SQZ[mark] if mark in _SQZ else mark.replace("+", "")) + digits)
            if differences and not number:
                if value != values[-1]:
                    raise ValueError(f"check of ordinates failed at {line.strip()[:20]!r}")
            else:
                values.append(value)
            differences = False
    return np.array(values, np.float64)


# --- GSAS ------------------------------------------------------------------------------------


_BINNINGS = {"EDS": "energy", "CONQ": "steps of q", "COND": "steps of d"}


def _gsas(lines: Sequence[str], source: str) -> list[Columns]:
    starts = [i for i, line in enumerate(lines) if re.match(r"BANK\s+\d", line)]
    header = read_header(lines[: starts[0]])._replace(axis=None)
    found = []
    for first, last in zip(starts, [*starts[1:], len(lines)], strict=True):
        words = lines[first].split()
        if len(words) < 7:
            raise ValueError(f"line {first + 1} has no range of angles")
        count, binning = int(float(words[2])), words[4].upper()
        form = words[-1].upper() if not re.fullmatch(_NUMBER, words[-1]) else "STD"
        if not binning.startswith("CONS") or form == "ALT":
            what = _BINNINGS.get(binning, "time of flight")
            found.append(left_out("", f"a bank in {what} ({binning} {form}), not over 2 theta"))
            continue
        rows = [line for line in lines[first + 1 : last] if not line.startswith("#")]
        x, counts = _bank(rows, form, count, *(0.01 * float(word) for word in words[5:7]))
        found.append(with_header(Columns(x, counts), header, (), source))
    if all(item.left_out for item in found):
        raise UserError(f"{source}: {found[0].left_out}; give a scan at one wavelength")
    return named(found, "bank")


def _bank(
    rows: list[str], form: str, count: int, start: float, step: float
) -> tuple[np.ndarray, np.ndarray]:
    """Returns 2 theta and counts of a bank; in the file angles are in hundredths of a degree."""
    if form in ("FXY", "FXYE"):
        columns = len(form) - 1
        values = numbers(rows)
        table = values[: columns * (values.size // columns)].reshape(-1, columns)[:count]
        if len(table) < count:
            raise ValueError(f"{count} points announced, {len(table)} there")
        scale = 1.0 if abs(table[0, 0] - start) < 0.5 * step else 0.01
        return scale * table[:, 0], table[:, 1]
    if form not in ("STD", "ESD"):
        raise ValueError(f"bank of the form {form}, not STD, ESD, FXY or FXYE")
    fields = [line[i : i + 8] for line in rows for i in range(0, min(len(line.rstrip()), 80), 8)]
    if form == "STD":
        values = np.array([field[2:] for field in fields if field[2:].strip()], np.float64)
    else:
        values = np.array([field for field in fields if field.strip()], np.float64)[::2]
    if len(values) < count:
        raise ValueError(f"{count} points announced, {len(values)} there")
    return listed(values[:count], start, None, step), values[:count]
