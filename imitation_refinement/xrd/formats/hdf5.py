"""NeXus and other HDF5 files of azimuthally integrated patterns, read by h5py (extra `formats`).

Belongs here: the one door to h5py, and which groups are patterns: NXdata with one signal over one
axis that is 2 theta, q or d (several frames too). Works on bytes; opens no files.
"""

import io
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from imitation_refinement.errors import UserError
from imitation_refinement.xrd.formats.columns import INSTALL, MAX_BYTES, Columns, left_out
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
    try:
        import h5py
    except ImportError as error:
        raise UserError(f"{source}: HDF5 files need h5py; {INSTALL}") from error
    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            lines = list(_radiation(file))
            found = [item for group in _groups(file) for item in _of_group(group, source)]
    except UserError:
        raise
    except Exception as error:  # a damaged file makes HDF5 raise whatever its layers meet
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{source}: damaged, or no HDF5 ({reason})") from error
    if all(item.left_out for item in found):
        reason = found[0].left_out if found else f"no NXdata group with a {_NEEDED}"
        raise UserError(f"{source}: {reason}")
    header = read_header(lines)._replace(axis=None)
    if len(found) == 1:
        found = [found[0]._replace(name="")]
    return [i if i.left_out else with_header(i, header, (), source) for i in found]


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


def _of_group(group: Any, source: str) -> list[Columns]:
    """Returns the patterns of a group; one that is over another axis is left out by design."""
    try:
        return _patterns(group, source)
    except UserError as error:
        reason = str(error).removeprefix(f"{source}: ")
        return [left_out(_name(group), reason, by_design=reason.startswith("its axis"))]


def _name(group: Any) -> str:
    return str(group.name).strip("/").replace("/", "_") or "data"


def _patterns(group: Any, source: str) -> list[Columns]:
    name = _name(group)
    counts = _signal(group)
    names = [n for n in _axes(group, counts) if getattr(group.get(n), "ndim", 0) == 1]
    axes = {name: _axis(group[name]) for name in names}
    usable = [name for name, axis in axes.items() if axis is not None and axis.usable]
    if not names or counts.ndim not in (1, 2):
        return [left_out(name, f"{group.name}: no {_NEEDED}", by_design=True)]
    at = (usable or names)[-1]
    axis, data = axes[at], group[at]
    if 8 * counts.size > MAX_BYTES:
        return [left_out(name, f"{group.name}: {counts.size} numbers, too many")]
    others = [axes[other] for other in names if other != at]
    angles = [o for o in others if o is not None and (o.usable or o.kind.startswith("another"))]
    if axis is None or angles:
        what = f"a cake (over two angles); {_FIRST}" if axis else f"its axis is {at}"
        return [left_out(name, f"{group.name}: {what}", by_design=True)]
    x, notes = over_axis(np.asarray(data[()], np.float64), axis, _label(data), source)
    frames = np.atleast_2d(np.asarray(counts[()], np.float64))
    if counts.ndim == 2 and _words(group.attrs.get("axes"))[:1] == [at]:
        frames = frames.T
    if len(x) == frames.shape[1] + 1:
        x, notes = 0.5 * (x[1:] + x[:-1]), [*notes, "the axis has edges of bins: centers taken"]
    if len(x) != frames.shape[1]:
        return [left_out(name, f"{group.name}: {counts.shape} numbers over {len(x)}")]
    said = counts.name.rpartition("/")[2] + " " + _word(counts.attrs.get("long_name"))
    linear_frames = [linear(frame, said, source) for frame in frames]
    return [
        Columns(
            x, frame, axis.kind, notes=(*notes, *undone), axis=_label(data),
            name=name if len(frames) == 1 else f"{name}_frame{i}",
        )
        for i, (frame, undone) in enumerate(linear_frames)
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
