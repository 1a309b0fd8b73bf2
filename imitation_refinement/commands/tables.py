"""Tables of many patterns in Parquet: a row for each, as in `summary.csv`, with its candidates.

Belongs here: the door to pyarrow for output; types of the columns, and putting parts together. The
bytes of a table depend on its rows alone, not on how they came in parts; every page has a CRC-32
that is checked on reading.
"""

import io
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from imitation_refinement.commands.ledger import LeftOut
from imitation_refinement.commands.scan_results import (
    Failed,
    Refined,
    candidate_record,
    columns,
    row,
)
from imitation_refinement.errors import UserError
from imitation_refinement.runtime.files import atomic_file
from imitation_refinement.xrd.formats.readers import base_name

LEFT_OUT = "left out"  # instead of a verdict
CANDIDATES = 5  # of a pattern
GROUP = 16384  # rows of a table that are held, and lie together in its file
_INTEGERS = ("row", "space_group_number", "peaks")
_NUMBERS = (
    "confidence", "second_probability", "phase_probability", "change", "wavelength",
    "two_theta_min", "two_theta_max", "covered", "cif_match",
)  # fmt: skip
_PER_CLASS = ("raw_", "refined_", "distance_")
_CANDIDATE = pa.struct([
    ("rank", pa.int32()), ("formula", pa.string()), ("space_group_number", pa.int32()),
    ("space_group", pa.string()), ("system", pa.string()), ("mineral", pa.string()),
    ("source", pa.string()), ("source_id", pa.string()), ("probability", pa.float64()),
    ("cosine", pa.float64()), ("explained", pa.float64()), ("missing", pa.float64()),
    ("left_over", pa.float64()), ("cell_change", pa.float64()), ("displacement", pa.float64()),
    ("members", pa.string()),
])  # fmt: skip


def schema(class_names: Sequence[str]) -> pa.Schema:
    """Returns the columns of a table: those of `summary.csv`, the row in a stack, candidates."""

    def kind(name: str) -> pa.DataType:
        if name in _INTEGERS:
            return pa.int64() if name == "row" else pa.int32()
        return pa.float64() if name in _NUMBERS or name.startswith(_PER_CLASS) else pa.string()

    first, second, *others = columns(class_names)
    names = [first, second, "row", *others]
    fields = [(name, kind(name)) for name in names]
    return pa.schema([*fields, ("candidates", pa.list_(_CANDIDATE))])


def table_row(result: Refined | Failed | LeftOut, number: int | None = None) -> dict[str, Any]:
    """Returns the row of a record by column; what is not known is left out.

    Args:
        result: the record, or what was left out by design.
        number: its row in the stack that it is of.
    """
    if isinstance(result, LeftOut):
        return {
            "name": base_name(result.path.name), "input": str(result.path),
            "verdict": LEFT_OUT, "error": result.reason,
        }  # fmt: skip
    values: dict[str, Any] = row(result) | {"row": number}
    if isinstance(result, Refined):
        values["candidates"] = [
            candidate_record(rank, one)
            for rank, one in enumerate(result.candidates[:CANDIDATES], start=1)
        ]
    return values


def part_bytes(rows: Sequence[dict[str, Any]], class_names: Sequence[str]) -> bytes:
    """Returns rows as a Parquet file.

    Args:
        rows: of `table_row`.
        class_names: the K classes.
    """
    like = schema(class_names)
    arrays = [
        pa.array(_typed([one.get(field.name) for one in rows], field.type), field.type)
        for field in like
    ]
    table = pa.table(arrays, schema=like)
    file = io.BytesIO()
    pq.write_table(table, file, compression="zstd")
    return file.getvalue()


def _typed(values: list[Any], kind: pa.DataType) -> list[Any]:
    if pa.types.is_string(kind):  # names of files may hold bytes that are no text
        return [
            None if value is None else str(value).encode(errors="backslashreplace").decode()
            for value in values
        ]
    own = list if pa.types.is_list(kind) else kind.to_pandas_dtype()
    return [None if value is None or value == "" else own(value) for value in values]


def part_table(content: bytes) -> pa.Table:
    """Returns the rows of `part_bytes`."""
    return pq.read_table(pa.BufferReader(content))


def verdicts(table: pa.Table) -> dict[str, int]:
    """Returns how many rows have each verdict."""
    return {one["values"]: one["counts"] for one in pc.value_counts(table["verdict"]).to_pylist()}


def read_rows(path: Path, only: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yields the rows of a table with some of its columns; see `read_table`."""
    for table in read_table(path, only):
        yield from table.to_pylist()


def read_table(path: Path, only: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """Yields the rows of a table, some at a time.

    Args:
        path: of the table.
        only: columns; all without it.

    Raises:
        UserError: missing or damaged.
    """
    try:
        file = pq.ParquetFile(path, page_checksum_verification=True)
        for group in range(file.num_row_groups):
            yield file.read_row_group(group, columns=None if only is None else list(only))
    except (OSError, pa.ArrowException) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{path}: damaged ({reason}); delete it and do it again") from error


def write_table(path: Path, parts: Iterable[pa.Table]) -> int:
    """Puts tables of the same columns one after the other into a file; returns the count of rows.

    Never more than GROUP rows and one part are held. Of no parts there is no file.

    Raises:
        UserError: it cannot be written.
    """
    total, coming = 0, iter(parts)
    for first in coming:
        with (
            atomic_file(path) as file,
            pq.ParquetWriter(
                file, first.schema, compression="zstd", write_page_checksum=True
            ) as writer,
        ):
            for group in _groups(itertools.chain([first], coming)):
                writer.write_table(group)
                total += group.num_rows
    return total


def _groups(parts: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Yields the rows of tables in tables of GROUP rows; the last may have fewer."""
    held: list[pa.Table] = []
    for part in parts:
        held.append(part)
        while sum(one.num_rows for one in held) >= GROUP:
            whole = pa.concat_tables(held)
            yield whole.slice(0, GROUP).combine_chunks()
            held = [whole.slice(GROUP).combine_chunks()]
    if sum(one.num_rows for one in held):
        yield pa.concat_tables(held).combine_chunks()
