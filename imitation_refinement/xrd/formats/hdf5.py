"""NeXus and other HDF5 files of azimuthally integrated patterns, read by h5py (extra `formats`).

Belongs here: the one door to h5py, and which groups are patterns: NXdata with one signal over one
axis that is 2 theta, q or d (several frames too). Works on bytes and opens no files, but for stacks
of frames, which are read by rows.
"""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from imitation_refinement.errors import UserError
from imitation_refinement.xrd.formats.columns import (
    INSTALL,
    MAX_BYTES,
    Columns,
    left_out,
    of_format,
)
from imitation_refinement.xrd.formats.headers import read_header, with_header
from imitation_refinement.xrd.formats.layout import linear, over_axis
from imitation_refinement.xrd.formats.names import Axis, axis_of

_JSON = re.compile(r"\"wavelength\"\s*:\s*(\d[\d.]*e-\d+)", re.I)
_FIRST = "integrate the images over the azimuth first"
_NEEDED = f"signal over one axis; {_FIRST}"
_WAVELENGTHS = ("wavelength", "incident_wavelength", "energy", "incident_energy")


def read_hdf5(data: bytes, source: str) -> list[Columns]:
    """Returns the patterns of all NXdata groups that have one.

    Raises:
        UserError: damaged, no such group, or h5py is not installed.
    """
    with _opened(io.BytesIO(data), source) as file:
        lines = list(_radiation(file))
        found = [item for group in _groups(file) for item in _of_group(group, source)]
    if all(item.left_out for item in found):
        reason = found[0].left_out if found else f"no NXdata group with a {_NEEDED}"
        raise UserError(f"{source}: {reason}")
    header = read_header(lines)._replace(axis=None)
    if len(found) == 1:
        found = [found[0]._replace(name="")]
    return [i if i.left_out else with_header(i, header, (), source) for i in found]


def count_frames(path: Path) -> int:
    """Returns the frames of the one group with several patterns; 0 if there is none, or more.

    Raises:
        UserError: damaged, or h5py is not installed.
    """
    with _opened(path, str(path)) as file:
        found = _with_data(file)
        if len(found) != 1 or _signal(found[0]).ndim != 2:
            return 0
        group, counts = found[0], _signal(found[0])
        at = _axis_of_scan(group, counts)
        return _frames(group, counts, at) if at else 0


def read_frames(path: Path, first: int, last: int) -> list[Columns]:
    """Returns frames [first, last) of a file for which `count_frames` is more; see `read_hdf5`."""
    with _opened(path, str(path)) as file:
        header = read_header(list(_radiation(file)))._replace(axis=None)
        (group,) = _with_data(file)
        found = _patterns(group, str(path), slice(first, last))
    if found[0].left_out:
        raise UserError(f"{path}: {found[0].left_out}")
    return of_format("HDF5", [with_header(item, header, (), str(path)) for item in found])


def _with_data(file: Any) -> list[Any]:
    """The groups whose signal is a data set; that of an outer group may be a group."""
    return [group for group in _groups(file) if hasattr(_signal(group), "ndim")]


@contextmanager
def _opened(place: Path | io.BytesIO, source: str) -> Iterator[Any]:
    try:
        import h5py
    except ImportError as error:
        raise UserError(f"{source}: HDF5 files need h5py; {INSTALL}") from error
    try:
        with h5py.File(place, "r") as file:
            yield file
    except UserError:
        raise
    except Exception as error:  # a damaged file makes HDF5 raise whatever its layers meet
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{source}: damaged, or no HDF5 ({reason})") from error


def _groups(file: Any) -> Iterator[Any]:
    """Yields each group with a signal: named by its attribute, or by one of a data set (old)."""
    groups: list[Any] = []
    file.visititems(lambda _, item: groups.append(item) if hasattr(item, "keys") else None)
    seen: list[Any] = []
    for group in [file, *groups]:
        signal = _signal(group)
        if signal is not None and signal not in seen:  # a data set may be linked twice
            seen.append(signal)
            yield group


def _signal(group: Any) -> Any:
    """Returns the data set that is the signal of a group, None if it has none."""
    named = _word(group.attrs.get("signal"))
    data = {key: group.get(key) for key in group}
    if named and hasattr(data.get(named), "shape"):
        return data[named]
    return next((d for d in data.values() if hasattr(d, "shape") and "signal" in d.attrs), None)


def _word(value: Any) -> str:
    """Returns a text attribute as text, of several the last; empty if there is none."""
    return (_words(value) or [""])[-1]


def _words(value: Any) -> list[str]:
    """Returns the texts of an attribute: of a list, or of one text with colons or commas."""
    if value is None:
        return []
    texts = [
        item.decode("utf-8", errors="replace") if isinstance(item, bytes) else str(item)
        for item in np.ravel(np.asarray(value, dtype=object))
    ]
    return [word.strip(" []") for text in texts for word in re.split(r"[:,]", text)]


def _axes(group: Any, counts: Any) -> list[str]:
    """Returns the names of the axes; those of old files may be told by an attribute `axis`."""
    named = _words(group.attrs.get("axes", counts.attrs.get("axes")))
    return named or [key for key in group if "axis" in getattr(group.get(key), "attrs", ())]


def _long_axes(group: Any, counts: Any) -> list[str]:
    return [name for name in _axes(group, counts) if getattr(group.get(name), "ndim", 0) == 1]


def _axis_of_scan(group: Any, counts: Any) -> str:
    """Returns the name of the axis of the patterns, one that can be used if any; '' for none."""
    names = _long_axes(group, counts)
    usable = [name for name in names if (axis := _axis(group[name])) is not None and axis.usable]
    return ([""] + names + usable)[-1]


def _across(group: Any, at: str) -> bool:
    """Whether the patterns are the columns of a group's data."""
    return _words(group.attrs.get("axes"))[:1] == [at]


def _frames(group: Any, counts: Any, at: str) -> int:
    """Returns how many patterns a group's data hold."""
    return 1 if counts.ndim == 1 else counts.shape[1 if _across(group, at) else 0]


def _of_group(group: Any, source: str) -> list[Columns]:
    """Returns the patterns of a group; one that is over another axis is left out by design."""
    try:
        return _patterns(group, source)
    except UserError as error:
        reason = str(error).removeprefix(f"{source}: ")
        return [left_out(_name(group), reason, by_design=reason.startswith("its axis"))]


def _name(group: Any) -> str:
    return str(group.name).strip("/").replace("/", "_") or "data"


def _patterns(group: Any, source: str, rows: slice = slice(None)) -> list[Columns]:
    name, counts = _name(group), _signal(group)
    at = _axis_of_scan(group, counts)
    if not at or counts.ndim not in (1, 2):
        return [left_out(name, f"{group.name}: no {_NEEDED}", by_design=True)]
    axis, data, number = _axis(group[at]), group[at], _frames(group, counts, at)
    first, last, _ = rows.indices(number)
    if 8 * counts.size // max(number, 1) * (last - first) > MAX_BYTES:
        return [left_out(name, f"{group.name}: {counts.size} numbers, too many")]
    others = [_axis(group[other]) for other in _long_axes(group, counts) if other != at]
    angles = [o for o in others if o is not None and (o.usable or o.kind.startswith("another"))]
    if axis is None or angles:
        what = f"a cake (over two angles); {_FIRST}" if axis else f"its axis is {at}"
        return [left_out(name, f"{group.name}: {what}", by_design=True)]
    x, notes = over_axis(np.asarray(data[()], np.float64), axis, _label(data), source)
    if counts.ndim == 1:
        values = counts[()]
    else:
        values = counts[:, rows].T if _across(group, at) else counts[rows]
    frames = np.atleast_2d(np.asarray(values, np.float64))
    if len(x) == frames.shape[1] + 1:
        x, notes = 0.5 * (x[1:] + x[:-1]), [*notes, "the axis has edges of bins: centers taken"]
    if len(x) != frames.shape[1]:
        return [left_out(name, f"{group.name}: {counts.shape} numbers over {len(x)}")]
    said = counts.name.rpartition("/")[2] + " " + _word(counts.attrs.get("long_name"))
    linear_frames = [linear(frame, said, source) for frame in frames]
    return [
        Columns(
            x, frame, axis.kind, notes=(*notes, *undone), axis=_label(data),
            name=name if number == 1 else f"{name}_frame{i}",
        )
        for i, (frame, undone) in enumerate(linear_frames, start=first)
    ]  # fmt: skip


def _axis(data: Any) -> Axis | None:
    """Returns what a data set is as an axis, by its name, its long name and its units."""
    name = data.name.rpartition("/")[2]
    units = _word(data.attrs.get("units") or data.attrs.get("unit"))
    long = _word(data.attrs.get("long_name"))
    return axis_of(f"{name} [{units}]") or axis_of(f"{long} [{units}]")


def _label(data: Any) -> str:
    units = _word(data.attrs.get("units"))
    return data.name.rpartition("/")[2] + (f" [{units}]" if units else "")


def _radiation(file: Any) -> Iterator[str]:
    """Yields `wavelength = number unit` for each data set and attribute that states it.

    pyFAI's configuration is JSON, with the wavelength in metres.
    """
    found: list[str] = []

    def add(key: str, value: Any, unit: str) -> None:
        kind = "energy" if "energy" in key else "wavelength"
        found.append(
            f"{kind} = {float(np.ravel(value)[0])!r} {unit.lower().replace('å', 'angstrom')}"
        )

    def visit(path: str, item: Any) -> None:
        key = path.rpartition("/")[2].lower()
        for name in item.attrs:
            if name.lower() in _WAVELENGTHS and np.size(item.attrs[name]) == 1:
                add(name.lower(), item.attrs[name], "")
        if not hasattr(item, "shape") or item.size != 1 or "detector" in path.lower():
            return
        if key in _WAVELENGTHS:
            add(key, item[()], _word(item.attrs.get("units")))
        elif item.dtype.kind in "OS" and (said := _JSON.search(_text(item[()]))):
            add("wavelength", float(said[1]), "m")

    file.visititems(visit)
    yield from dict.fromkeys(found)


def _text(value: Any) -> str:
    first = np.ravel(np.asarray(value, dtype=object))[0]
    return first.decode("utf-8", errors="replace") if isinstance(first, bytes) else str(first)
