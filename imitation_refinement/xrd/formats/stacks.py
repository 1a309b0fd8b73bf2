"""Stacks: many patterns in one Parquet, Zarr or HDF5 file, read by rows, whatever its size.

Belongs here: the doors to pyarrow and zarr for input, and which columns or arrays are the axis and
the intensities. HDF5 is `hdf5`'s. A row is a pattern; never more than the rows asked for are held,
and of Parquet the row groups that they are in.

Parquet: a column `two_theta` (degrees), `q` (1/angstrom) or `d` (angstrom) and a column `intensity`
or `counts`, a list of numbers in each row; `name` and `wavelength` (angstrom) if there are. Zarr: a
group with an array `two_theta`, `q` or `d` `[m]` and an array `intensity` or `counts` `[n, m]`; the
attribute `wavelength` if it has one.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from imitation_refinement.errors import UserError
from imitation_refinement.xrd.formats.columns import MAX_BYTES, Columns
from imitation_refinement.xrd.formats.hdf5 import count_frames, read_frames

PARQUET, ZARR = ".parquet", ".zarr"
HDF5 = (".h5", ".hdf5", ".nxs", ".nx", ".hdf")
_HDF5_STACK = 8_000_000  # bytes; a smaller file is read whole
_AXES = ("two_theta", "q", "d")
_INTENSITIES = ("intensity", "counts")
_INSTALL = "from the checkout: .venv/bin/pip install '.[scale]'"


def is_stack(path: Path) -> bool:
    """Returns whether a path may be a stack, by its ending, and for HDF5 its size too."""
    suffix = path.suffix.lower()
    if suffix in HDF5:
        return path.is_file() and path.stat().st_size >= _HDF5_STACK
    return suffix in (PARQUET, ZARR)


def count_rows(path: Path) -> int:
    """Returns how many patterns a stack has; 0 for an HDF5 file that is none.

    Raises:
        UserError: missing, damaged, not laid out as a stack, or its library is not installed.
    """
    suffix = path.suffix.lower()
    if suffix in HDF5:
        return count_frames(path)
    with _told(path):
        count = _parquet(path).metadata.num_rows if suffix == PARQUET else _arrays(path)[1].shape[0]
    if not count:
        raise UserError(f"{path}: no pattern in it")
    return count


def read_rows(path: Path, first: int, last: int) -> list[Columns]:
    """Returns the patterns of the rows [first, last) of a stack, one each, named by row.

    Raises:
        UserError: as `count_rows`; a row group of Parquet that is too large to be held.
    """
    suffix = path.suffix.lower()
    if suffix in HDF5:
        return read_frames(path, first, last)
    with _told(path):
        read = _parquet_rows if suffix == PARQUET else _zarr_rows
        return read(path, first, last)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turns what the libraries raise, which is of many kinds, into a line about the file."""
    try:
        yield
    except UserError:
        raise
    except ImportError as error:
        raise UserError(f"{path}: needs {error.name}; {_INSTALL}") from error
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such file or folder") from error
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{path}: damaged, or no {path.suffix[1:]} ({reason})") from error


def _first_of(names: tuple[str, ...], there: Any, path: Path, what: str) -> str:
    found = [name for name in names if name in there]
    if not found:
        raise UserError(f"{path}: no {what} named {', '.join(names[:-1])} or {names[-1]}")
    return found[0]


# --- Parquet ---------------------------------------------------------------------------------


def _parquet(path: Path) -> Any:
    import pyarrow.parquet

    return pyarrow.parquet.ParquetFile(path, page_checksum_verification=True)


def _parquet_rows(path: Path, first: int, last: int) -> list[Columns]:
    file = _parquet(path)
    there = file.schema_arrow.names
    unit = _first_of(_AXES, there, path, "column")
    counts = _first_of(_INTENSITIES, there, path, "column")
    wanted = [unit, counts, *(name for name in ("name", "wavelength") if name in there)]
    found, begin = [], 0
    for group in range(file.num_row_groups):
        about = file.metadata.row_group(group)
        end = begin + about.num_rows
        if begin < last and end > first:
            if about.total_byte_size > MAX_BYTES:
                raise UserError(
                    f"{path}: a row group of {about.total_byte_size // 10**6} MB; write it with at"
                    f" most {MAX_BYTES // 10**6} MB in each (row_group_size=1000, say)"
                )
            own = slice(max(first - begin, 0), min(last, end) - begin)
            table = file.read_row_group(group, columns=wanted).slice(
                own.start, own.stop - own.start
            )
            found += [
                _parquet_row(row, begin + own.start + place, unit, counts)
                for place, row in enumerate(_rows(table))
            ]
        begin = end
    return found


def _rows(table: Any) -> Iterator[dict[str, Any]]:
    """Yields the rows of a table by column; lists as arrays, without a Python object a number."""
    columns = [
        column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
        for column in table.columns
    ]
    for place in range(table.num_rows):
        row = {}
        for name, column in zip(table.column_names, columns, strict=True):
            value = column[place]
            is_list = hasattr(value, "values") and value.is_valid
            row[name] = value.values.to_numpy(zero_copy_only=False) if is_list else value.as_py()
        yield row


def _parquet_row(row: dict[str, Any], number: int, unit: str, counts: str) -> Columns:
    name = str(row.get("name") or f"row{number}")
    x, y = (np.asarray(row[key] if row[key] is not None else (), float) for key in (unit, counts))
    if len(x) != len(y) or not len(x):
        reason = f"row {number}: {len(x)} numbers in {unit} and {len(y)} in {counts}"
        return Columns(np.zeros(0), np.zeros(0), name=name, left_out=reason)
    wavelength = row.get("wavelength")
    known = None if wavelength is None else float(wavelength)
    return Columns(x, y, unit, known, name=name, format="Parquet")


# --- Zarr ------------------------------------------------------------------------------------


def _arrays(path: Path) -> tuple[Any, Any, str, float | None]:
    """Axis `[m]`, intensities `[n, m]`, unit and wavelength of a group."""
    import zarr

    group: Any = zarr.open_group(path, mode="r")
    unit = _first_of(_AXES, group, path, "array")
    counts = group[_first_of(_INTENSITIES, group, path, "array")]
    axis = group[unit]
    if axis.ndim != 1 or counts.ndim != 2 or counts.shape[1] != axis.shape[0]:
        raise UserError(
            f"{path}: {counts.path} has shape {list(counts.shape)} and {unit}"
            f" {list(axis.shape)}; [patterns, points] and [points] are expected"
        )
    wavelength = group.attrs.get("wavelength")
    return axis, counts, unit, None if wavelength is None else float(wavelength)


def _zarr_rows(path: Path, first: int, last: int) -> list[Columns]:
    axis, counts, unit, wavelength = _arrays(path)
    x = np.asarray(axis[:], np.float64)
    rows = np.asarray(counts[first:last], np.float64)
    return [
        Columns(x, row, unit, wavelength, name=f"row{first + place}", format="Zarr")
        for place, row in enumerate(rows)
    ]
