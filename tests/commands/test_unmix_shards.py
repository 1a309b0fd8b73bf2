"""Many spreads in one command: which files are one, each in its folder, in shards and resumed."""

import csv
import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fake_model import FakeModel

from imitation_refinement.commands import unmix_library, unmix_shards
from imitation_refinement.commands.cif_match import CifMatcher
from imitation_refinement.commands.setup import Setup, Tools
from imitation_refinement.commands.unmix_library import run_unmix
from imitation_refinement.commands.unmix_shards import list_spreads, merge_shards, run_shard
from imitation_refinement.errors import UserError
from imitation_refinement.runtime.shard import Shard
from imitation_refinement.xrd.grid import Grid

GRID = Grid(length=200)
ANGLE = np.arange(20.0, 80.0, 0.1)
OUT = Path("out")


def counts(first: float) -> np.ndarray:
    """Two phases, of the first so much."""
    shares = (first, 1.0 - first)
    peaks = sum(
        share * np.exp(-0.5 * ((ANGLE - line) / 0.3) ** 2)
        for share, lines in zip(shares, ((31.0, 45.5, 66.2), (38.4, 52.1, 71.3)), strict=True)
        for line in lines
    )
    return np.round(4000 * peaks + 50)


def write_folder(folder: Path, shares=(1.0, 0.6, 0.3, 0.0)) -> Path:
    folder.mkdir(parents=True)
    for number, share in enumerate(shares):
        np.savetxt(folder / f"p{number}.xy", np.column_stack([ANGLE, counts(share)]), fmt="%.2f")
    return folder


@pytest.fixture
def spreads(tmp_path) -> Path:
    """Two folders, of which one has a bad file, a matrix, a stack, and too few patterns."""
    folder = tmp_path / "wafers"
    write_folder(folder / "w1")
    write_folder(folder / "w10")
    (folder / "w10" / "p9.xy").write_text("no numbers\n")
    (folder / "w10" / "composition.csv").write_text(
        "file,Fe,Ga\n" + "".join(f"p{i},{x},{1 - x}\n" for i, x in enumerate((1, 0.6, 0.3, 0, 0)))
    )
    write_folder(folder / "w2.few", (1.0, 0.0))
    rows = [counts(share) for share in (0.9, 0.5, 0.4, 0.1)]
    np.savez(folder / "matrix.npz", two_theta=ANGLE, intensity=np.array(rows), wavelength=1.54184)
    pq.write_table(pa.table({"two_theta": [ANGLE] * 4, "counts": rows}), folder / "stack.parquet")
    return folder


@pytest.fixture
def setup(tmp_path, monkeypatch) -> Setup:
    model = FakeModel(GRID)
    tools = Tools(model, None, CifMatcher(model.grid))
    monkeypatch.setattr(unmix_shards, "load_tools", lambda setup: tools)
    # Drawing takes longer than all the rest; test_killed_workers.py compares the pages.
    monkeypatch.setattr(unmix_library, "page_of", lambda *_: "page")
    return Setup(str(tmp_path))


def contents(folder: Path) -> dict[str, bytes]:
    """All that was written, but for what the shards keep."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.parent.name != "shards"
    }


def rows_of(folder: Path) -> list[dict[str, str]]:
    with open(folder / "spreads.csv", newline="") as file:
        return list(csv.DictReader(file))


# --- which files are one spread -----------------------------------------------------------------


def test_folders_and_tables_are_spreads(spreads):
    words = [f"{spreads}/*"]
    found, left = list_spreads(words, "CuKa", OUT)
    told = {one.name: (one.source.name, len(one.files)) for one in found}
    assert told == {
        "matrix": ("matrix.npz", 1), "stack": ("stack.parquet", 1),
        "w1": ("w1", 4), "w2.few": ("w2.few", 2), "w10": ("w10", 5),
    }  # fmt: skip
    assert list(told)[-3:] == ["w1", "w2.few", "w10"]  # in natural order
    assert [one.number for one in found] == [0, 1, 2, 3, 4] and left == []
    # Files that are named by themselves are of their folder.
    files, _ = list_spreads([f"{spreads}/w1*/*"], None, OUT)
    assert [(one.name, len(one.files)) for one in files] == [("w1", 4), ("w10", 6)]
    lines = spreads / "some.txt"
    lines.write_text("w1\nmatrix.npz\n")
    listed, _ = list_spreads([f"@{lines}"], None, OUT)
    assert [one.name for one in listed] == ["w1", "matrix"]


def test_names_in_the_output_are_unique_and_none_is_that_of_the_shards(tmp_path):
    for name in ("a/shards", "b/shards", "c/W"):
        write_folder(tmp_path / name)
    found, _ = list_spreads([f"{tmp_path}/?/*"], None, OUT)
    assert [one.name for one in found] == ["shards-2", "shards-3", "W"]


def test_what_is_of_no_spread_is_told(spreads):
    (spreads / "notes.md").write_text("x")
    words = [str(spreads), str(spreads / "w10" / "composition.csv")]
    found, left = list_spreads(words, None, OUT)
    assert [one.name for one in found] == ["matrix", "stack"]
    assert {(path.name, why.split(";")[0]) for path, why in left} >= {
        ("w1", "a folder in the folder"),
        ("notes.md", ".md is no ending of a pattern"),
        ("composition.csv", "no pattern of its folder was named"),
    }


# --- shards -----------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 7])
def test_any_number_of_shards_writes_the_same_files(setup, spreads, tmp_path, count):
    words = [f"{spreads}/*"]
    assert run_shard(setup, words, tmp_path / "one", "CuKa", 2) == 3
    assert merge_shards(tmp_path / "one") == 3
    out = tmp_path / "several"
    for number in reversed(range(count)):
        run_shard(setup, words, out, "CuKa", 2, shard=Shard(number, count))
    assert merge_shards(out) == 3
    assert contents(out) == contents(tmp_path / "one")
    # One spread by itself gives the same files.
    assert run_unmix(FakeModel(GRID), [str(spreads / "w1")], tmp_path / "w1", "CuKa", 2) == 0
    assert contents(out / "w1") == contents(tmp_path / "w1")
    rows = rows_of(out)
    assert [(row["spread"], row["component"]) for row in rows] == [
        ("matrix", "1"), ("matrix", "2"), ("stack", "1"), ("stack", "2"), ("w1", "1"),
        ("w1", "2"), ("w2.few", ""), ("w10", "1"), ("w10", "2"),
    ]  # fmt: skip
    few, bad = rows[6], rows[7]
    assert "2 patterns could be used; unmixing needs 3" in few["error"]
    assert (bad["patterns"], bad["failed"], bad["error"]) == ("4", "1", "")
    page = (out / "spreads.html").read_text()
    assert 'href="w10/unmix.html"' in page and "w2.few/unmix.html" not in page


def test_a_killed_shard_goes_on_at_the_next_spread(setup, spreads, tmp_path, monkeypatch):
    did, real = [], unmix_shards.unmixed

    def counted(model, spread, source, components):
        if len(did) == 1:
            did.append("killed")
            raise KeyboardInterrupt
        did.append(Path(source).name)
        return real(model, spread, source, components)

    monkeypatch.setattr(unmix_shards, "unmixed", counted)
    words, out = [f"{spreads}/w*"], tmp_path / "out"
    assert run_shard(setup, words, out, "CuKa", 2) == 130
    assert (out / "w1" / "unmix.html").exists() and not (out / "w10").exists()
    assert run_shard(setup, words, out, "CuKa", 2) == run_shard(setup, words, out, "CuKa", 2) == 3
    assert did == ["w1", "killed", "w2.few", "w10"]
    (spreads / "w10" / "composition.csv").write_text("Fe\n1\n1\n1\n1\n")
    with pytest.raises(UserError, match=r"00000-of-00001.json: is of other inputs"):
        run_shard(setup, words, out, "CuKa", 2)


def test_the_output_may_lie_among_the_spreads(setup, spreads, tmp_path):
    np.savetxt(spreads / "loose.xy", np.column_stack([ANGLE, counts(0.5)]), fmt="%.2f")
    words, out = [f"{spreads}/*"], spreads / "out"
    for number in (0, 1):
        run_shard(setup, words, out, "CuKa", 1, shard=Shard(number, 2))
    assert merge_shards(out) == merge_shards(out) == 3
    assert {row["spread"] for row in rows_of(out)} == {
        "wafers", "matrix", "stack", "w1", "w2.few", "w10",
    }  # fmt: skip


def test_missing_shards_are_named(setup, spreads, tmp_path, caplog):
    out = tmp_path / "out"
    with pytest.raises(UserError, match="no finished shard in it; run --mode=unmix --shard=i/n"):
        merge_shards(out)
    run_shard(setup, [f"{spreads}/w?"], out, "CuKa", 1, shard=Shard(1, 3))
    with caplog.at_level(logging.WARNING, logger="absl"):
        assert merge_shards(out) == 3
    assert "2 of 3 shards are missing: 0, 2" in caplog.text
    assert "2 of 3 shards are missing: 0, 2" in (out / "spreads.html").read_text()


def test_what_fails_of_all_spreads_is_failure(setup, tmp_path):
    for name in ("a", "b"):
        write_folder(tmp_path / name, (1.0,))
    assert run_shard(setup, [f"{tmp_path}/?"], tmp_path / "out", "CuKa", 2) == 1
    with pytest.raises(UserError, match="XyKa"):
        run_shard(setup, [f"{tmp_path}/?"], tmp_path / "out", "XyKa", 2)
