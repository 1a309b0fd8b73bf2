import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from imitation_refinement.errors import UserError
from imitation_refinement.runtime import files

ARRAYS = {"pattern": np.linspace(0, 1, 40, dtype=np.float32).reshape(4, 10), "n": np.int64(3)}


def test_json_round_trip_with_numpy_values(tmp_path):
    path = tmp_path / "deep" / "er" / "a.json"
    value = {"a": np.float32(0.5), "b": np.arange(3), "c": "é", "d": [None, True]}
    files.atomic_write_json(path, value)
    assert files.read_json(path) == {"a": 0.5, "b": [0, 1, 2], "c": "é", "d": [None, True]}


def test_npz_round_trip_keeps_dtype_and_shape(tmp_path):
    files.atomic_write_npz(tmp_path / "a.npz", ARRAYS)
    back = files.read_npz(tmp_path / "a.npz")
    assert back.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert (back[name].dtype, back[name].shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(back[name], array)


def test_any_flipped_bit_of_an_npz_is_found_or_harmless(tmp_path):
    path = tmp_path / "a.npz"
    files.atomic_write_npz(path, ARRAYS)
    good = path.read_bytes()
    start = good.index(ARRAYS["pattern"].tobytes())
    found = []
    for position in range(len(good)):
        bad = bytearray(good)
        bad[position] ^= 1 << (position % 8)
        path.write_bytes(bad)
        try:
            back = files.read_npz(path)
        except UserError as error:
            assert str(path) in str(error)
            found.append(position)
            continue
        # What is not noticed (dates, attributes) must not matter.
        assert back.keys() == ARRAYS.keys()
        for name, array in ARRAYS.items():
            assert back[name].tobytes() == array.tobytes()
    assert set(range(start, start + ARRAYS["pattern"].nbytes)) <= set(found)


@pytest.mark.parametrize("length", [0, 10, 200, -1])
def test_truncated_files_are_damaged(tmp_path, length):
    npz, json_path = tmp_path / "a.npz", tmp_path / "a.json"
    files.atomic_write_npz(npz, ARRAYS)
    files.atomic_write_json(json_path, {"a": [1] * 200})
    for path, read in ((npz, files.read_npz), (json_path, files.read_json)):
        path.write_bytes(path.read_bytes()[:-3] if length < 0 else path.read_bytes()[:length])
        with pytest.raises(UserError, match="damaged .*; delete it"):
            read(path)


def test_missing_files_are_named(tmp_path):
    for read in (files.read_npz, files.read_json):
        with pytest.raises(UserError, match=r"gone: No such file"):
            read(tmp_path / "gone")


def test_pickled_arrays_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.array([{}], dtype=object))
    with pytest.raises(UserError, match="damaged"):
        files.read_npz(tmp_path / "a.npz")


def test_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "a.txt"
    files.atomic_write_text(path, "old")
    with pytest.raises(ZeroDivisionError), files.atomic_file(path) as file:
        file.write(b"new")
        raise ZeroDivisionError
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]
    assert path.read_text() == "old"


def test_unwritable_place_is_a_user_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/a\.json: cannot write \("):
        files.atomic_write_json(tmp_path / "file" / "a.json", {})


def test_full_disk_is_a_user_error_and_leaves_the_old_file(tmp_path):
    files.atomic_write_text(tmp_path / "a.txt", "old")
    program = """
import pathlib, resource, sys
from imitation_refinement import errors
from imitation_refinement.runtime import files
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    files.atomic_write_text(pathlib.Path(sys.argv[1]), "x" * 5000)
except errors.UserError as error:
    print(error)
"""
    run = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "a.txt")],
        check=True, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert run.stdout.startswith(f"{tmp_path / 'a.txt'}: cannot write (File too large)")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"
