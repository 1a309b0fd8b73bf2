"""Parquet tables: types, damage, and bytes that do not depend on the parts."""

from pathlib import Path

import numpy as np
import pytest
from fake_model import SYSTEMS
from made_records import record

from imitation_refinement.commands import tables
from imitation_refinement.commands.ledger import LeftOut
from imitation_refinement.commands.scan_results import Failed, columns
from imitation_refinement.commands.tables import (
    part_bytes,
    part_table,
    read_rows,
    read_table,
    table_row,
    verdicts,
    write_table,
)
from imitation_refinement.errors import UserError


def some(count: int, first: int = 0) -> list[dict]:
    return [table_row(record(f"scan{first + i}", confidence=0.5), i) for i in range(count)]


def part(rows: list[dict]):
    return part_table(part_bytes(rows, SYSTEMS))


def test_a_row_has_the_columns_of_the_summary_with_their_types():
    rows = [
        table_row(record("good", confidence=0.9123), 7),
        table_row(Failed("bad", Path("bad.xy"), "bad.xy: empty")),
        table_row(LeftOut(Path("tilt.xy"), "a tilt scan")),
        table_row(Failed("bytes", Path("b\udcff.xy"), "no text")),
    ]
    table = part(rows)
    assert set(table.column_names) == {*columns(SYSTEMS), "row", "candidates"}
    good, bad, tilt, raw = table.to_pylist()
    assert (good["name"], good["row"], good["confidence"]) == ("good", 7, 0.9123)
    assert isinstance(good["peaks"], int) and isinstance(good["raw_cubic"], float)
    assert good["candidates"] == [] and bad["candidates"] is None
    assert bad["verdict"] == "failed" and bad["error"] == "bad.xy: empty"
    assert bad["confidence"] is bad["row"] is bad["wavelength"] is None
    assert (tilt["name"], tilt["verdict"], tilt["error"]) == ("tilt", "left out", "a tilt scan")
    assert raw["input"] == "b\\udcff.xy"
    assert verdicts(table) == {"confident": 1, "failed": 2, "left out": 1}


@pytest.mark.parametrize("sizes", [(23,), (1,) * 23, (7, 9, 0, 7), (10, 10, 3), (20, 3)])
def test_bytes_of_a_table_do_not_depend_on_its_parts(tmp_path, monkeypatch, sizes):
    monkeypatch.setattr(tables, "GROUP", 10)
    whole = part(some(23))
    assert write_table(tmp_path / "whole.parquet", [whole]) == 23
    first, parts = 0, []
    for size in sizes:
        parts.append(part(some(23)[first : first + size]))
        first += size
    assert write_table(tmp_path / "parts.parquet", parts) == 23
    assert (tmp_path / "parts.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    groups = [group.num_rows for group in read_table(tmp_path / "parts.parquet")]
    assert groups == [10, 10, 3]
    names = [row["name"] for row in read_rows(tmp_path / "parts.parquet", ["name"])]
    assert names == [f"scan{i}" for i in range(23)]


def test_a_whole_number_of_groups_has_no_empty_one_and_no_parts_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "GROUP", 4)
    parts = [part(some(4))] * 2
    write_table(tmp_path / "t.parquet", parts)
    assert [group.num_rows for group in read_table(tmp_path / "t.parquet")] == [4, 4]
    assert write_table(tmp_path / "none.parquet", []) == 0
    assert not (tmp_path / "none.parquet").exists()


def test_damage_of_a_table_is_told_in_one_line(tmp_path):
    write_table(tmp_path / "t.parquet", [part(some(40))])
    content = bytearray((tmp_path / "t.parquet").read_bytes())
    content[100] ^= 255
    (tmp_path / "t.parquet").write_bytes(content)
    with pytest.raises(UserError, match=r"t\.parquet: damaged .*; delete it") as error:
        list(read_table(tmp_path / "t.parquet"))
    assert "\n" not in str(error.value)


def test_numbers_are_those_of_the_csv():
    one = record("a", confidence=1 / 3)
    (row,) = part([table_row(one)]).to_pylist()
    assert row["confidence"] == 0.3333
    np.testing.assert_allclose(row["change"], one.change, atol=5e-6)
