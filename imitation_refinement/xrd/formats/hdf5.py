"""NeXus and other HDF5 files of azimuthally integrated patterns, read by h5py (extra `formats`).

Belongs here: the one door to h5py, and which groups are patterns: NXdata with one signal over one
axis that is 2 theta, q or d (several frames too). Works on bytes and opens no files, but for stacks
of frames, which are read by rows.
"""

import io
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
from imitation_refinement.xrd.formats.layout import over_axis
from imitation_refinement.xrd.formats.names import axis_of

_WAVELENGTHS = ("wavelength", "incident_wavelength", "energy", "incident_energy")


def read_hdf5(data: bytes, source: str) -> list[Columns]:
    """Returns the patterns of all NXdata groups that have one.

    Raises:
        UserError: damaged, no such group, or h5py is not installed.
    """
    with _opened(io.BytesIO(data), source) as file:
        lines = list(_radiation(file))
        found = [item for group in _groups(file) for item in _patterns(group, source)]
    usable = [item for item in found if not item.left_out]
    if not usable:
        reason = found[0].left_out if found else "no NXdata group with a signal over one axis"
        raise UserError(f"{source}: {reason}; integrate the images over the azimuth first")
    header = read_header(lines)._replace(axis=None)
    if len(usable) == 1:
        usable = [usable[0]._replace(name="")]
    return [with_header(item, header, (), source) for item in usable]


def count_frames(path: Path) -> int:
    """Returns the frames of the one group with several patterns; 0 if there is none, or more.

    Raises:
        UserError: damaged, or h5py is not installed.
    """
    with _opened(path, str(path)) as file:
        found = [_signal(group) for group in _with_data(file)]
        return found[0].shape[0] if len(found) == 1 and found[0].ndim == 2 else 0


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


def _signal(group: Any) -> Any:
    """The data set that is the signal of a group."""
    signal = _word(group.attrs.get("signal"))
    if signal not in group:
        signal = next(key for key in group if "signal" in getattr(group.get(key), "attrs", ()))
    return group[signal]


def _groups(file: Any) -> Iterator[Any]:
    """Yields each group with a signal: named by its attribute, or by one of a data set (old)."""
    groups: list[Any] = []
    file.visititems(lambda _, item: groups.append(item) if hasattr(item, "keys") else None)
    for group in [file, *groups]:
        if _word(group.attrs.get("signal")) in group or any(
            "signal" in getattr(group.get(key), "attrs", ()) for key in group
        ):
            yield group


def _word(value: Any) -> str:
    """Returns a text attribute as text, of several the last; empty if there is none."""
    if value is None:
        return ""
    last = np.ravel(np.asarray(value, dtype=object))[-1]
    return last.decode("utf-8", errors="replace") if isinstance(last, bytes) else str(last)


def _patterns(group: Any, source: str, rows: slice = slice(None)) -> list[Columns]:
    name = group.name.strip("/").replace("/", "_") or "data"
    counts, attributes = _signal(group), group.attrs
    axes = attributes.get("axes", counts.attrs.get("axes"))
    named = _word(axes).split(":")[-1].split(",")[-1].strip(" []")
    if named not in group or counts.ndim not in (1, 2) or group[named].ndim != 1:
        return [left_out(name, f"{group.name}: no signal over one axis", by_design=True)]
    axis_data = group[named]
    first, last, _ = rows.indices(counts.shape[0])
    held = 8 * (last - first) * (counts.shape[-1] if counts.ndim == 2 else 1)
    if held > MAX_BYTES or counts.shape[-1] != axis_data.shape[0]:
        return [left_out(name, f"{group.name}: {counts.shape} numbers over {axis_data.shape}")]
    label = f"{named} [{_word(axis_data.attrs.get('units'))}]"
    axis = axis_of(label) or axis_of(_word(axis_data.attrs.get("long_name")))
    outer = np.ravel(np.asarray(axes, dtype=object))[0]
    outer_axis = axis_of(_word(outer)) if counts.ndim == 2 else None
    if axis is None or (outer_axis is not None and outer_axis.kind.startswith("another angle")):
        what = "a cake (over two angles)" if axis else f"its axis is {named}"
        return [left_out(name, f"{group.name}: {what}", by_design=True)]
    x, notes = over_axis(np.asarray(axis_data[()], np.float64), axis, label, source)
    frames = np.atleast_2d(np.asarray(counts[rows], np.float64))
    return [
        Columns(
            x, frame, axis.kind, notes=tuple(notes),
            name=name if counts.ndim == 1 or len(counts) == 1 else f"{name}_frame{i}",
        )
        for i, frame in enumerate(frames, start=first if counts.ndim == 2 else 0)
    ]  # fmt: skip


def _radiation(file: Any) -> Iterator[str]:
    """Yields `wavelength = number unit` for each data set that states it."""
    found: list[str] = []

    def visit(path: str, item: Any) -> None:
        key = path.rpartition("/")[2].lower()
        if key in _WAVELENGTHS and hasattr(item, "shape") and item.size == 1:
            unit = _word(item.attrs.get("units")).lower().replace("å", "angstrom")
            kind = "energy" if "energy" in key else "wavelength"
            found.append(f"{kind} = {float(np.ravel(item[()])[0])!r} {unit}")

    file.visititems(visit)
    yield from dict.fromkeys(found)
