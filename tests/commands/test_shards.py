"""Large batches in shards: who does what, resuming, merging, the same bytes however it is done."""

import json
import logging
import multiprocessing
import os
import shutil
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from absl import flags
from absl.testing import flagsaver
from fake_model import FakeModel
from made_phases import EXAMPLES
from test_refine_scans import scan_text
from tiny_model import tiny_model

from imitation_refinement import cli
from imitation_refinement.commands import chunks as chunks_module
from imitation_refinement.commands import shards as module
from imitation_refinement.commands.chunks import chunks
from imitation_refinement.commands.cif_match import CifMatcher
from imitation_refinement.commands.inputs import Input, list_inputs
from imitation_refinement.commands.ledger import LeftOut
from imitation_refinement.commands.merge import merge_shards
from imitation_refinement.commands.setup import Setup, Tools, content_key, setup_key
from imitation_refinement.commands.shard_work import read_part, write_part
from imitation_refinement.commands.shards import run_shard
from imitation_refinement.config import parse_flags
from imitation_refinement.errors import UserError
from imitation_refinement.model.portable import save_model
from imitation_refinement.phases.compositions import parse_elements
from imitation_refinement.runtime.shard import Shard, parse_shard

COUNT = 8  # scans; with a stack of three and what is left out, three chunks of four


@pytest.fixture
def scans(tmp_path) -> Path:
    """Scans of which one is broken, a stack, and a file that is left out."""
    folder = tmp_path / "scans"
    folder.mkdir()
    for number in range(COUNT):
        text = scan_text(seed=number, peaks=(20.0 + 3 * number, 50.0))
        (folder / f"scan{number}.xy").write_text("" if number == 5 else text)
    angle = np.arange(15.0, 92.0, 0.05)
    noise = np.random.default_rng(0)
    rows = [noise.poisson(9.0 + 900 * (abs(angle - 40 - i) < 0.2)) for i in range(3)]
    pq.write_table(pa.table({"two_theta": [angle] * 3, "counts": rows}), folder / "stack.parquet")
    (folder / "scan1.cif").write_text("")
    return folder


@pytest.fixture
def setup(tmp_path, monkeypatch) -> Setup:
    """A model whose answers can be foreseen, in chunks of four."""
    monkeypatch.setattr(module, "CHUNK", 4)
    model = FakeModel()
    tools = Tools(model, None, CifMatcher(model.grid))
    monkeypatch.setattr(chunks_module, "load_tools", lambda setup: tools)
    return Setup(str(tmp_path))


def rows_of(folder: Path) -> list[dict]:
    return pq.read_table(folder / "summary.parquet").to_pylist()


def contents(folder: Path, pattern: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob(pattern))}


# --- chunks -----------------------------------------------------------------------------------


def test_chunks_are_runs_of_files_and_rows(tmp_path):
    path = tmp_path / "stack.parquet"
    pq.write_table(pa.table({"two_theta": [[1.0]] * 7, "counts": [[1.0]] * 7}), path)
    files = [Input(Path("a")), Input(path), Input(Path("b")), Input(Path("c"))]
    found = list(chunks(files, [LeftOut(Path("d"), "why")], 3))
    assert [chunk.number for chunk in found] == [0, 1, 2, 3, 4]
    told = [[getattr(one, "rows", None) or one.path.name for one in c.items] for c in found]
    assert told == [["a"], [(0, 3)], [(3, 6)], [(6, 7), "b", "c"], ["d"]]
    assert list(chunks([], [], 3)) == []


def test_a_chunk_is_named_by_what_is_done_and_with_what(tmp_path):
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "a.cif").write_text("data_a")
    setup = Setup(str(tmp_path), libraries=("lib",))
    one, left = Input(Path("a.xy"), 1.54, parse_elements("Ca C O")), LeftOut(Path("b"), "x")
    key = content_key(setup, [one, left])
    # The order of a set of elements is another in each process.
    again = one._replace(elements=parse_elements("O C Ca"))
    assert content_key(setup, [again, left]) == key
    others = [
        content_key(setup, [one._replace(wavelength=1.55), left]),
        content_key(setup, [one._replace(elements=parse_elements("+Ca")), left]),
        content_key(setup, [one._replace(rows=(0, 1)), left]),
        content_key(setup, [one]),
        content_key(setup, [one, left], 3),
        content_key(Setup(str(tmp_path)), [one, left]),
    ]
    assert len({key, *others}) == 7
    (tmp_path / "lib" / "a.cif").write_text("data_b")
    setup_key.cache_clear()
    assert content_key(setup, [one, left]) != key


def test_a_part_is_of_its_key_and_number_and_whole(tmp_path):
    content = bytes(range(256)) * 8
    write_part(tmp_path, 3, "k", content)
    assert read_part(tmp_path, 3, "k") == content
    assert read_part(tmp_path, 3, "other") is read_part(tmp_path, 4, "k") is None
    assert read_part(tmp_path / "none", 3, "k") is None
    (path,) = tmp_path.iterdir()
    path.write_bytes(content[:-10])
    assert read_part(tmp_path, 3, "k") is None
    for place in range(0, len(content), 97):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        assert read_part(tmp_path, 3, "k") is None
    write_part(tmp_path, 3, "k", b"again")  # beside the damaged one
    assert read_part(tmp_path, 3, "k") == b"again"


# --- shards -----------------------------------------------------------------------------------


def test_every_chunk_has_one_shard_and_shards_are_even():
    for total in (0, 1, 7, 100):
        for count in (1, 3, 7, 16):
            owned = [
                [c for c in range(total) if Shard(i, count).owns(c, total)] for i in range(count)
            ]
            assert sum(owned, []) == list(range(total))
            assert max(map(len, owned)) - min(map(len, owned)) <= 1


@pytest.mark.parametrize("text", ["", "3", "3/3", "-1/3", "a/b", "1/0", "1.0/2"])
def test_a_shard_that_is_none(text):
    with pytest.raises(UserError, match="--shard=.*from 0"):
        parse_shard(text)
    assert parse_shard("2/3") == Shard(2, 3)


@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_any_number_of_shards_gives_the_same_table_to_the_bit(setup, scans, tmp_path, count):
    run_shard(setup, [str(scans)], tmp_path / "one", "CuKa")
    merge_shards(tmp_path / "one")
    out = tmp_path / "several"
    for number in reversed(range(count)):
        run_shard(setup, [str(scans)], out, "CuKa", shard=Shard(number, count))
    assert merge_shards(out) == 3  # a scan failed
    assert contents(out, "summary.parquet") == contents(tmp_path / "one", "summary.parquet")
    rows = rows_of(out)
    names = [f"scan{i}" for i in range(COUNT)] + [f"stack_row{i}" for i in range(3)] + ["scan1"]
    assert [row["name"] for row in rows] == names
    assert [row["row"] for row in rows] == [None] * COUNT + [0, 1, 2, None]
    verdicts = [row["verdict"] for row in rows]
    assert verdicts == ["confident"] * 5 + ["failed"] + ["confident"] * 5 + ["left out"]
    assert "empty" in rows[5]["error"] and "a CIF file" in rows[-1]["error"]
    assert not [path for path in (out / "shards").iterdir() if path.is_dir()]
    # The inputs that the page shows are found again, each once, the stack by rows.
    shown, _ = list_inputs([f"@{out / 'sample.txt'}"])
    assert len(shown) == COUNT + 3 and all(one.path.exists() for one in shown)
    assert {one.rows for one in shown} == {None, (0, 1), (1, 2), (2, 3)}


def test_a_shard_touches_nothing_of_another(setup, scans, tmp_path):
    out = tmp_path / "out"
    run_shard(setup, [str(scans)], out, "CuKa", shard=Shard(0, 2))
    (out / "shards" / "00000-of-00002.parquet").write_bytes(b"broken")
    before = contents(out / "shards", "*")
    run_shard(setup, [str(scans)], out, "CuKa", shard=Shard(1, 2))
    after = contents(out / "shards", "*")
    assert {name: after[name] for name in before} == before and len(after) == len(before) + 2


def test_a_killed_shard_goes_on_at_the_next_chunk(setup, scans, tmp_path, monkeypatch):
    run_shard(setup, [str(scans)], tmp_path / "whole", "CuKa")
    real, did = module.done, []

    def killed(chunk, setup, readings):
        if len(did) == 2:
            raise KeyboardInterrupt
        return counted(chunk, setup, readings)

    def counted(chunk, setup, readings):
        did.append(chunk.number)
        return real(chunk, setup, readings)

    monkeypatch.setattr(module, "done", killed)
    out = tmp_path / "out"
    assert run_shard(setup, [str(scans)], out, "CuKa") == 130
    parts = sorted((out / "shards" / "00000-of-00001").iterdir())
    assert len(parts) == 2
    with open(parts[0], "r+b") as file:  # one of them is damaged besides
        file.write(b"xxxx")
    monkeypatch.setattr(module, "done", counted)
    run_shard(setup, [str(scans)], out, "CuKa")
    assert did == [0, 1, 0, 2]
    tables = [folder / "shards" / "00000-of-00001.parquet" for folder in (out, tmp_path / "whole")]
    assert tables[0].read_bytes() == tables[1].read_bytes()
    receipt = json.loads((out / "shards" / "00000-of-00001.json").read_text())
    assert receipt["rows"] == 12 and receipt["chunks_done_in_them"] == 2
    assert run_shard(setup, [str(scans)], out, "CuKa") == 3 and len(did) == 4  # it is finished


def test_a_damaged_table_is_done_again(setup, scans, tmp_path):
    table = tmp_path / "out" / "shards" / "00000-of-00001.parquet"
    run_shard(setup, [str(scans)], tmp_path / "out", "CuKa")
    content = table.read_bytes()
    table.write_bytes(content[:-1] + b"x")
    with pytest.raises(UserError, match="no finished shard"):
        merge_shards(tmp_path / "out")
    run_shard(setup, [str(scans)], tmp_path / "out", "CuKa")
    assert table.read_bytes() == content


def test_another_batch_in_the_same_folder_is_refused(setup, scans, tmp_path):
    out = tmp_path / "out"
    run_shard(setup, [str(scans)], out, "CuKa", shard=Shard(0, 2))
    with pytest.raises(UserError, match=r"00000-of-00002.json: is of other inputs"):
        run_shard(setup, [str(scans)], out, 1.5406, shard=Shard(0, 2))
    run_shard(setup, [str(scans / "scan1.xy")], out, "CuKa", shard=Shard(1, 2))
    with pytest.raises(UserError, match=r"00001-of-00002.json: is not of the same batch"):
        merge_shards(out)


def test_missing_shards_are_named(setup, scans, tmp_path, caplog):
    out = tmp_path / "out"
    with pytest.raises(UserError, match="no finished shard in it"):
        merge_shards(out)
    for number in (0, 2, 7):
        run_shard(setup, [str(scans)], out, "CuKa", shard=Shard(number, 8))
    with caplog.at_level(logging.WARNING, logger="absl"):
        assert merge_shards(out) == 3
    assert "5 of 8 shards are missing: 1, 3-6" in caplog.text
    page = (out / "report.html").read_text()
    assert "of 8 shards 3 are finished; missing are 1, 3-6" in page


def test_the_output_may_lie_among_the_scans(setup, scans):
    for number in (0, 1):
        run_shard(setup, [str(scans)], scans / "out", "CuKa", shard=Shard(number, 2))
    assert merge_shards(scans / "out") == 3 and len(rows_of(scans / "out")) == COUNT + 4


def test_more_shards_than_chunks_leave_empty_ones(setup, scans, tmp_path):
    out = tmp_path / "out"
    statuses = [
        run_shard(setup, [str(scans / "scan0.xy")], out, "CuKa", shard=Shard(number, 2))
        for number in (0, 1)
    ]
    assert statuses == [0, 0]
    assert merge_shards(out) == 0 and len(rows_of(out)) == 1


# --- processes --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real_setup(tmp_path_factory) -> Setup:
    """A small network in a file, and the phases of the examples."""
    folder = tmp_path_factory.mktemp("real")
    save_model(tiny_model(), folder / "tiny.npz")
    return Setup(str(folder), str(folder / "tiny.npz"), (str(EXAMPLES),))


def kill_a_worker_when(folder: Path, killed: list[int]) -> None:
    """Kills a process of the cluster as soon as the first part is there."""
    while not list(folder.glob("shards/*/*.part")):
        time.sleep(0.02)
    victim = multiprocessing.active_children()[0].pid
    os.kill(victim, signal.SIGKILL)
    killed.append(victim)


@pytest.mark.slow  # starts processes that load JAX and compile
def test_a_killed_worker_loses_nothing_and_doubles_nothing(
    real_setup, scans, tmp_path, monkeypatch
):
    monkeypatch.setattr(module, "CHUNK", 1)
    run_shard(real_setup, [str(scans)], tmp_path / "one", "CuKa")
    merge_shards(tmp_path / "one")
    out, killed = tmp_path / "cluster", []
    thread = threading.Thread(target=kill_a_worker_when, args=(out, killed))
    thread.start()
    run_shard(real_setup, [str(scans)], out, "CuKa", cluster="local")
    thread.join()
    assert len(killed) == 1
    merge_shards(out)
    for pattern in ("summary.parquet", "shards/*.parquet"):
        assert contents(out, pattern) == contents(tmp_path / "one", pattern) != {}
    assert len(rows_of(out)) == 12 and any(row["candidates"] for row in rows_of(out))


def run_flags(*words: str) -> int:
    with flagsaver.flagsaver():
        flags.FLAGS.unparse_flags()
        parse_flags(["main.py", "--mode=refine", *words])
        return cli.main(["main.py"])


def test_flags(scans, tmp_path, monkeypatch):
    save_model(tiny_model(), tmp_path / "tiny.npz")
    words = [f"--model={tmp_path / 'tiny.npz'}", "--library=none", f"--output={tmp_path / 'out'}"]
    own = [*words, f"--input={scans / 'scan0.xy'}", "--wavelength=CuKa"]
    assert run_flags(*own, "--shard=0/1") == 0
    assert not (tmp_path / "out" / "summary.parquet").exists()
    assert run_flags("--merge", f"--output={tmp_path / 'out'}") == 0
    assert [row["name"] for row in rows_of(tmp_path / "out")] == ["scan0"]
    with pytest.raises(UserError, match="--pictures"):
        run_flags(*own, "--shard=0/1", "--pictures=3")
    with pytest.raises(UserError, match="--elements: says nothing without a library"):
        run_flags(*own, "--shard=0/1", "--elements=Ca")
    shutil.rmtree(tmp_path / "out")
    assert run_flags(*own, "--pictures=0") == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "candidates.csv", "report.html", "results.json", "summary.csv",
    ]  # fmt: skip
