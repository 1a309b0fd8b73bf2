"""Files that no one meant to read as a pattern: one clear line for each, never a traceback."""

import io
import os
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from format_samples import ANGLES, COUNTS, SAMPLES, text

from imitation_refinement.errors import UserError
from imitation_refinement.xrd.formats import read_patterns
from imitation_refinement.xrd.grid import Grid
from imitation_refinement.xrd.scans import on_grid

GRID = Grid(length=300)


def rows(form: str, count: int = 60) -> bytes:
    return "".join(form.format(20 + 0.1 * i) for i in range(count)).encode()


CORPUS: dict[str, tuple[bytes, str]] = {
    "empty.xy": (b"", "empty"),
    "blank.xy": (b"\n" * 500, "0 lines with two numbers"),
    "spaces.csv": (b" ,; \t\n" * 500, "0 lines with two numbers"),
    "binary.xy": (bytes(range(256)) * 20, "binary file"),
    "zeros.raw": (bytes(5000), "binary file"),
    "random.raw": (np.random.default_rng(0).bytes(5000), "binary file|0 lines"),
    "unknown.raw": (b"RAW9.99\0" + bytes(5000), "unknown version"),
    "one_column.xy": (rows("{:.2f}\n"), "0 lines with two numbers"),
    "prose.txt": (b"Dear colleague,\nplease find the pattern below.\n" * 30, "0 lines"),
    "two_points.xy": (b"20 5\n21 6\n", "2 lines with two numbers"),
    "nan.xy": (rows("{:.2f} nan\n"), "only 0 points have a count"),
    "words.xy": (rows("{:.2f} 5\nno data\n"), "lines among the data"),
    "angles.xy": (b"".join(b"%d 5\n" % (10 * i) for i in range(1, 60)), "no angle below 180"),
    "negative.xy": (rows("{:.2f} -5\n"), "no count above zero"),
    "below.xy": (rows("-{:.2f} 5\n"), "only 0 distinct angles"),
    "huge.xy": (rows("{:.2f} 1e300\n"), "only 0 points have a count"),
    "one_angle.xy": (b"20.0 5\n" * 100, "only 1 distinct angles"),
    "cut.xrdml": (SAMPLES["scan.xrdml"][:700], "cut short"),
    "prose.xrdml": (b"no xml at all", "cut short"),
    "other.xrdml": (b"<html><body/></html>", "no scan in it"),
    "cut.rasx": (SAMPLES["scan.rasx"][:300], "cut short"),
    "prose.rasx": (b"no zip at all", "damaged"),
    "empty.npz": (b"PK\5\6" + bytes(18), "damaged|no axis"),
    "cut.npz": (SAMPLES["matrix.npz"][:200], "damaged"),
    "cut.raw": (SAMPLES["four.raw"][:-100], "cut short"),
    "header.raw": (SAMPLES["three.raw"][:300], "cut short"),
    "encoded.xy": (zlib.compress(text()) * 5, "binary file|0 lines"),
    "ebcdic.xy": (text().decode().encode("cp500"), "binary file|0 lines"),
}


@pytest.mark.parametrize("name", CORPUS)
def test_bad_files_give_one_line_that_names_them(tmp_path, name):
    data, message = CORPUS[name]
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(UserError, match=message) as caught:
        read_patterns(path, "CuKa")
    line = str(caught.value)
    assert line.startswith(str(path))
    assert "\n" not in line
    assert len(line) < len(str(path)) + 250


@pytest.mark.parametrize("form", ["{:.2f} 0\n", "{:.2f} 7\n"])
def test_constant_counts_are_read_and_have_no_signal(tmp_path, form):
    path = tmp_path / "constant.xy"
    path.write_bytes(rows(form, 300))
    (scan,) = read_patterns(path, "CuKa")
    assert on_grid(scan, GRID).signal


def test_paths_that_are_no_files(tmp_path):
    loop = tmp_path / "loop.xy"
    loop.symlink_to(loop)
    os.mkfifo(tmp_path / "pipe.xy")
    for path in (
        tmp_path,
        tmp_path / "none.xy",
        tmp_path / ("x" * 300 + ".xy"),
        tmp_path / "nul\0.xy",
        tmp_path / "pipe.xy",
        loop,
    ):
        with pytest.raises(UserError, match="cannot be read") as caught:
            read_patterns(path, "CuKa")
        assert "\n" not in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
def test_files_without_permission(tmp_path):
    path = tmp_path / "secret.xy"
    path.write_bytes(text())
    path.chmod(0)
    with pytest.raises(UserError, match="cannot be read"):
        read_patterns(path, "CuKa")


def test_files_that_are_too_long_or_large_are_refused_before_they_are_parsed(tmp_path):
    path = tmp_path / "lines.xy"
    path.write_bytes(b"1 2\n" * 3_000_001)
    with pytest.raises(UserError, match="more than 3,000,000 lines"):
        read_patterns(path, "CuKa")
    with open(path, "wb") as file:
        file.truncate(200_000_001)
    with pytest.raises(UserError, match="larger than 200 MB"):
        read_patterns(path, "CuKa")


def test_the_kind_is_found_from_the_content_too(tmp_path):
    for name, data in (("a.txt", SAMPLES["four.raw"]), ("b.xy", SAMPLES["scan.xrdml"])):
        path = tmp_path / name
        path.write_bytes(data)
        np.testing.assert_allclose(read_patterns(path, "CuKa")[0].counts, COUNTS, rtol=1e-6)


# --- fuzz ------------------------------------------------------------------------------------

NUMBERS = (b"1e308", b"-1e308", b"nan", b"inf", b"0", b"-0.0", b"1e-320", b"9" * 400, b"180", b"x")
MUTATIONS = 150  # of each sample


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """Returns a file with one to four of the accidents that files have."""
    for _ in range(rng.integers(1, 5)):
        at, end = sorted(int(i) for i in rng.integers(0, len(data) + 1, 2))
        kind = rng.integers(9)
        if kind == 0:  # cut short
            data = data[:at] or b"\n"
        elif kind == 1:  # flipped bits
            changed = bytearray(data)
            for i in rng.integers(0, len(data), rng.integers(1, 20)):
                changed[i] ^= int(rng.integers(1, 256))
            data = bytes(changed)
        elif kind == 2:  # lines in another order
            lines = data.split(b"\n")
            data = b"\n".join(lines[i] for i in rng.permutation(len(lines)))
        elif kind == 3:  # a number that is none, or too large
            words = data.split(b" ")
            words[rng.integers(len(words))] = NUMBERS[rng.integers(len(NUMBERS))]
            data = b" ".join(words)
        elif kind == 4:  # a hole
            data = data[:at] + data[end:] or b"\n"
        elif kind == 5:  # zeros
            data = data[:at] + bytes(end - at) + data[end:]
        elif kind == 6:  # a part twice
            data = data[:end] + data[at:]
        elif kind == 7:  # a field of four bytes, as counts and offsets are
            value = int(rng.choice([0, 1, 2**31 - 1, 2**32 - 1, 2**31])).to_bytes(4, "little")
            data = data[:at] + value + data[at + 4 :]
        else:  # another file glued to it
            other = list(SAMPLES.values())[rng.integers(len(SAMPLES))]
            data = data[:at] + other[: rng.integers(len(other))]
    return data


def mutated_file(data: bytes, rng: np.random.Generator) -> bytes:
    """Returns a mutated file; of zips mostly one member is, as their checksums find the rest."""
    if not data.startswith(b"PK") or rng.random() < 0.3:
        return mutated(data, rng)
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(result, "w") as new:
        names = old.namelist()
        chosen = names[rng.integers(len(names))]
        for name in names:
            content = old.read(name)
            new.writestr(name, mutated(content, rng) if name == chosen else content)
    return result.getvalue()


def read_or_refused(path: Path, index: int) -> bool:
    """Reads a mutated file; refused it must be in one line that names it."""
    try:
        scans = read_patterns(path, "CuKa" if index % 3 else None)
    except UserError as error:
        assert str(error).startswith(str(path)) and "\n" not in str(error), index
        return False
    for scan in scans[:2]:
        assert np.all(np.isfinite(scan.counts)) and np.all(np.diff(scan.two_theta) > 0), index
        try:
            placed = on_grid(scan, GRID)
        except UserError:
            continue
        assert np.all(np.isfinite(placed.pattern)) and np.isfinite(placed.scale), index
        assert np.all(np.isfinite(placed.background)), index
    return True


@pytest.mark.parametrize("name", SAMPLES)
def test_mutated_files_are_read_or_refused(tmp_path: Path, name: str):
    assert len(SAMPLES) * MUTATIONS >= 2000
    path = tmp_path / name
    read = 0
    for index in range(MUTATIONS):
        rng = np.random.default_rng((list(SAMPLES).index(name), index))
        path.write_bytes(mutated_file(SAMPLES[name], rng))
        read += read_or_refused(path, index)
    assert read > 0  # else nothing but refusals was tried
    path.write_bytes(SAMPLES[name])
    assert len(read_patterns(path, "CuKa")[0].counts) == len(ANGLES)
