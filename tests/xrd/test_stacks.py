"""Stacks of patterns: Parquet, Zarr and HDF5, read by rows."""

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr

from imitation_refinement.commands.inputs import Input, list_inputs, read_each, with_rows
from imitation_refinement.errors import UserError
from imitation_refinement.xrd.formats import read_records, read_row_records, stacks
from imitation_refinement.xrd.formats.stacks import count_rows, is_stack, read_rows

ANGLE = 15.0 + 0.05 * np.arange(600)
COUNTS = np.random.default_rng(0).poisson(50.0, (7, 600)).astype(float)


def write_parquet(path, counts=COUNTS, group=3, **columns):
    table = {"two_theta": [ANGLE] * len(counts), "intensity": list(counts)} | columns
    pq.write_table(pa.table(table), path, row_group_size=group)
    return path


def write_zarr(path, **attributes):
    group = zarr.open_group(path, mode="w", attributes=attributes)
    group.create_array("two_theta", data=ANGLE)
    group.create_array("counts", data=COUNTS, chunks=(2, 600))
    return path


def write_hdf5(path):
    with h5py.File(path, "w") as file:
        data = file.create_group("entry/data")
        data.attrs.update({"NX_class": "NXdata", "signal": "I", "axes": [".", "two_theta"]})
        data["I"] = COUNTS
        data["two_theta"] = ANGLE
        data["two_theta"].attrs["units"] = "deg"
        file["entry/wavelength"] = 1.5406
        file["entry/wavelength"].attrs["units"] = "angstrom"
    return path


def assert_rows(found, first, last):
    assert len(found) == last - first
    for row, columns in zip(range(first, last), found, strict=True):
        np.testing.assert_array_equal(columns.x, ANGLE)
        np.testing.assert_array_equal(columns.counts, COUNTS[row])


@pytest.mark.parametrize(("first", "last"), [(0, 7), (0, 1), (2, 4), (5, 7)])
def test_any_rows_of_any_stack(tmp_path, first, last):
    # Row groups of 3 and chunks of 2 do not divide what is asked for.
    for path in (write_parquet(tmp_path / "a.parquet"), write_zarr(tmp_path / "a.zarr"),
                 write_hdf5(tmp_path / "a.h5")):  # fmt: skip
        assert count_rows(path) == len(COUNTS)
        assert_rows(read_rows(path, first, last), first, last)


def test_names_and_wavelengths_are_those_of_the_rows(tmp_path):
    path = write_parquet(
        tmp_path / "a.parquet", name=[f"sample {i}" for i in range(7)],
        wavelength=[1.5406, None, 0.7093, 1.5406, 1.5406, 1.5406, 1.5406],
    )  # fmt: skip
    records = dict(read_row_records(path, (0, 3), None))
    assert [records[0].name, records[2].name] == ["a_sample 0", "a_sample 2"]
    assert records[0].scan.wavelength == 1.5406 and records[2].scan.wavelength == 0.7093
    assert records[1].scan is None and "no wavelength" in records[1].reason
    ((number, record),) = read_row_records(write_zarr(tmp_path / "b.zarr"), (4, 5), "CuKa")
    assert number == 4 and record.name == "b_row4" and record.scan.wavelength == 1.54184
    zarr_file = write_zarr(tmp_path / "c.zarr", wavelength=0.7093)
    assert next(read_row_records(zarr_file, (0, 1), None))[1].scan.wavelength == 0.7093


def test_an_hdf5_stack_gives_what_the_whole_file_gives(tmp_path):
    path = write_hdf5(tmp_path / "a.h5")
    whole = read_records(path, None)
    by_rows = [record for _, record in read_row_records(path, (0, 7), None)]
    assert [record.name for record in by_rows] == [record.name for record in whole]
    for one, other in zip(by_rows, whole, strict=True):
        np.testing.assert_array_equal(one.scan.counts, other.scan.counts)
        assert one._replace(scan=None) == other._replace(scan=None)
        assert one.scan.wavelength == other.scan.wavelength == 1.5406


def test_a_batch_reads_stacks_in_parts_and_says_the_row_of_each_pattern(tmp_path, monkeypatch):
    write_parquet(tmp_path / "a.parquet")
    write_zarr(tmp_path / "b.zarr")
    write_hdf5(tmp_path / "c.h5")
    monkeypatch.setattr(stacks, "_HDF5_STACK", 0)
    files, left = list_inputs([str(tmp_path)], 1.54)
    assert [one.path.name for one in files] == ["a.parquet", "b.zarr", "c.h5"] and not left
    parts = list(with_rows(files, 3))
    assert [one.rows for one in parts] == 3 * [(0, 3), (3, 6), (6, 7)]
    assert list(with_rows(parts, 2)) == parts  # what has rows is left as it is
    found = list(read_each(files[:2], []))
    assert [one.rows for one, _ in found] == 2 * [(i, i + 1) for i in range(7)]
    for place, (_, record) in enumerate(found):
        np.testing.assert_array_equal(record.scan.counts, COUNTS[place % 7])
    assert [one.path.name for one in list_inputs([str(tmp_path / "*.zarr")])[0]] == ["b.zarr"]


def test_a_small_hdf5_file_is_read_whole(tmp_path):
    path = write_hdf5(tmp_path / "a.h5")
    assert not is_stack(path)
    assert list(with_rows([Input(path)])) == [Input(path)]


def damaged(tmp_path):
    (tmp_path / "text.parquet").write_text("no table")
    pq.write_table(pa.table({"two_theta": [[1.0]]}), tmp_path / "half.parquet")
    pq.write_table(pa.table({"x": [1]}), tmp_path / "other.parquet")
    write_parquet(tmp_path / "none.parquet", COUNTS[:0])
    zarr.open_group(tmp_path / "empty.zarr", mode="w")
    group = zarr.open_group(tmp_path / "shape.zarr", mode="w")
    group.create_array("two_theta", data=ANGLE)
    group.create_array("counts", data=COUNTS[:, :9])
    return {
        "text.parquet": "damaged, or no parquet", "half.parquet": "no column named intensity or",
        "other.parquet": "no column named two_theta, q or d", "none.parquet": "no pattern in it",
        "empty.zarr": "no array named two_theta, q or d", "shape.zarr": "[patterns, points]",
        "missing.parquet": "there is no such file",
    }  # fmt: skip


def test_what_is_no_stack_is_told_in_one_line_that_names_it(tmp_path):
    for name, words in damaged(tmp_path).items():
        ((one, record),) = read_each([Input(tmp_path / name, 1.54)], [])
        assert record.scan is None and one.path.name == name
        assert words in record.reason and name in record.reason and "\n" not in record.reason


def test_a_row_that_cannot_be_used_fails_alone(tmp_path):
    angles = [ANGLE, ANGLE[:5], None, ANGLE]
    counts = [COUNTS[0], COUNTS[1], COUNTS[2], COUNTS[3]]
    pq.write_table(pa.table({"two_theta": angles, "counts": counts}), tmp_path / "a.parquet")
    found = [record for _, record in read_each([Input(tmp_path / "a.parquet", 1.54)], [])]
    assert [record.scan is not None for record in found] == [True, False, False, True]
    assert "row 1: 5 numbers in two_theta and 600 in counts" in found[1].reason
    assert "row 2: 0 numbers" in found[2].reason


def test_a_row_group_that_cannot_be_held_is_refused_with_the_mend(tmp_path, monkeypatch):
    monkeypatch.setattr(stacks, "MAX_BYTES", 1000)
    path = write_parquet(tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"a\.parquet: a row group .*row_group_size=1000"):
        read_rows(path, 0, 1)


def test_a_list_stands_for_its_lines(tmp_path):
    for name in ("b.xy", "a 1.xy", "c.xy"):
        (tmp_path / name).write_text("")
    (tmp_path / "list.txt").write_text("\ufeffb.xy\r\n\na 1.xy\n*.xy\n", encoding="utf-8")
    files, _ = list_inputs([f"@{tmp_path / 'list.txt'}"])
    assert [one.path.name for one in files] == ["b.xy", "a 1.xy", "c.xy"]
    with pytest.raises(UserError, match=r"none\.txt: cannot be read"):
        list_inputs([f"@{tmp_path / 'none.txt'}"])
