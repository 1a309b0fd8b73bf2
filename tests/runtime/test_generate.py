import errno
import functools
import json
import operator
import os

import numpy as np
import pytest

from imitation_refinement.errors import UserError
from imitation_refinement.runtime import generate
from imitation_refinement.runtime.generate import cached_arrays, parallel_map

square = functools.partial(pow, exp=2)


def arrays():
    return {
        "x": np.arange(1000, dtype=np.float32),
        "none": np.zeros((0, 3), np.int8),
    }


def folder_of(cache_dir):
    (folder,) = [path for path in cache_dir.iterdir() if path.is_dir()]
    return folder


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_results_come_in_the_order_of_the_items(workers):
    found = list(parallel_map(square, range(40), workers=workers, describe="squares"))
    assert found == [i * i for i in range(40)]


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_the_function_reaches_the_caller(workers):
    with pytest.raises(ZeroDivisionError):
        list(parallel_map(functools.partial(operator.truediv, 1), [1, 0], workers=workers,
                          describe="x"))  # fmt: skip


def test_a_killed_worker_is_a_user_error():
    with pytest.raises(UserError, match="exits: a worker process was killed.*memory"):
        list(parallel_map(os._exit, [3, 3, 3], workers=2, describe="exits"))


def test_workers_use_one_blas_thread_and_the_parent_keeps_its_own(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    names = ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"]
    assert list(parallel_map(os.getenv, names, workers=2, describe="x")) == ["1", "1", "1"]
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "MKL_NUM_THREADS" not in os.environ


def test_progress_names_the_work_and_the_time_left(monkeypatch):
    lines = []
    monkeypatch.setattr(generate, "_PROGRESS_SECONDS", 0.0)
    monkeypatch.setattr(generate.logging, "info", lambda text, *args: lines.append(text % args))
    list(parallel_map(square, [1, 2, 3], workers=1, describe="squares"))
    assert [line.split(",")[0] for line in lines[:2]] == ["squares: 1 of 3", "squares: 2 of 3"]
    assert lines[0].endswith("s left")
    assert lines[2].startswith("squares: 3 of 3 in ")


def test_arrays_are_built_once_and_come_back_mapped_and_read_only(tmp_path):
    calls = []

    def build():
        calls.append(1)
        return arrays()

    for _ in range(2):
        found = cached_arrays(tmp_path / "new" / "cache", "set", {"seed": 1}, build)
        for name, expected in arrays().items():
            assert found[name].dtype == expected.dtype
            np.testing.assert_array_equal(found[name], expected)
            with pytest.raises(ValueError, match="read-only"):
                found[name][...] = 0
    assert calls == [1]
    assert isinstance(found["x"], np.memmap)


def test_key_name_and_generator_version_choose_the_folder(tmp_path, monkeypatch):
    cached_arrays(tmp_path, "set", {"seed": 1, "b": [1, 2.5]}, arrays)
    cached_arrays(tmp_path, "set", {"b": [1, 2.5], "seed": 1}, arrays)
    assert len(list(tmp_path.iterdir())) == 1
    cached_arrays(tmp_path, "set", {"seed": 2, "b": [1, 2.5]}, arrays)
    cached_arrays(tmp_path, "other", {"seed": 1, "b": [1, 2.5]}, arrays)
    monkeypatch.setattr(generate, "GENERATOR_VERSION", generate.GENERATOR_VERSION + 1)
    cached_arrays(tmp_path, "set", {"seed": 1, "b": [1, 2.5]}, arrays)
    assert len(list(tmp_path.iterdir())) == 4


def test_manifest_records_what_the_arrays_are(tmp_path):
    cached_arrays(tmp_path, "set", {"seed": 1}, arrays)
    manifest = json.loads((folder_of(tmp_path) / "manifest.json").read_text())
    assert manifest["key"] == {"seed": 1}
    assert manifest["generator_version"] == generate.GENERATOR_VERSION
    assert manifest["arrays"]["none"]["shape"] == [0, 3]
    assert manifest["arrays"]["x"]["dtype"] == "<f4"


def flip_last_byte(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.parametrize("damage", [flip_last_byte, truncate, os.remove])
@pytest.mark.parametrize("file", ["x.npy", "manifest.json"])
def test_a_damaged_file_is_named_with_the_mend(tmp_path, damage, file):
    cached_arrays(tmp_path, "set", {}, arrays)
    folder = folder_of(tmp_path)
    damage(folder / file)
    with pytest.raises(UserError) as error:
        cached_arrays(tmp_path, "set", {}, arrays)
    assert str(folder / file) in str(error.value)
    assert f"delete the folder {folder}" in str(error.value)


def test_an_unwritable_place_fails_before_the_work(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UserError, match="cannot write the data cache"):
        cached_arrays(tmp_path / "file" / "cache", "set", {}, lambda: pytest.fail("was built"))


def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(UserError, match="the disk is full"):
        cached_arrays(tmp_path, "set", {}, arrays)
    assert list(tmp_path.iterdir()) == []


def test_of_two_builders_the_first_to_end_wins(tmp_path):
    def slow_build():
        cached_arrays(tmp_path, "set", {}, arrays)  # another process, faster than this one
        return {"x": np.zeros(1)}

    found = cached_arrays(tmp_path, "set", {}, slow_build)
    np.testing.assert_array_equal(found["x"], arrays()["x"])
    assert len(list(tmp_path.iterdir())) == 1
