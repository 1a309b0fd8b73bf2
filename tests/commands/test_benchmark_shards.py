"""A benchmark in shards: the same files to the bit, resumed, and never of some shards alone."""

import json
from functools import partial
from pathlib import Path

import pytest
from fake_model import FakeModel
from test_benchmark import CUBIC, Calibrated, write_scan

from imitation_refinement.commands import benchmark, benchmark_shards
from imitation_refinement.commands.benchmark import run_benchmark
from imitation_refinement.commands.benchmark_shards import merge_shards, run_shard
from imitation_refinement.commands.cif_match import CifMatcher
from imitation_refinement.commands.setup import Setup, Tools
from imitation_refinement.errors import UserError
from imitation_refinement.runtime.shard import Shard

COUNT = 7  # labelled lines, in chunks of two; one cannot be read
FILES = ("benchmark.json", "patterns.csv", "benchmark.html")


@pytest.fixture
def manifest(tmp_path) -> Path:
    lines = ["file,source,sample,group,kind,crystal_system,wavelength_A,cif"]
    (tmp_path / "a.cif").write_text(CUBIC)
    for number in range(COUNT):
        name = f"scan{number}.xy"
        write_scan(tmp_path / name, 2.5 + 0.2 * number, noise=number == 6)
        cif = ("a.cif", "", "gone.cif")[number % 3]
        lines.append(f"{name},lab{number % 2},s{number},g{number // 2},,cubic,1.54184,{cif}")
    (tmp_path / "scan5.xy").write_text("nothing\n")
    lines += ["scan0.xy,lab0,mix,g9,mixture,,1.54184,", "scan0.xy,lab0,odd,g9,,blue,1.54184,"]
    path = tmp_path / "manifest.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def setup(tmp_path, monkeypatch) -> Setup:
    """A model whose answers can be foreseen, in chunks of two; few resamples."""
    monkeypatch.setattr(benchmark, "CHUNK", 2)
    monkeypatch.setattr(benchmark, "score", partial(benchmark.score, resamples=50))
    model = Calibrated()
    tools = Tools(model, None, CifMatcher(model.grid))
    monkeypatch.setattr(benchmark_shards, "load_tools", lambda setup: tools)
    return Setup(str(tmp_path))


def contents(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in FILES]


@pytest.mark.parametrize("count", [1, 3, 9])
def test_any_number_of_shards_gives_the_files_of_one_process(
    setup, manifest, tmp_path, count, monkeypatch
):
    if count != 3:  # drawing takes longer than all the rest
        monkeypatch.setattr(benchmark, "write_page", lambda path, *_: path.write_text("page"))
    assert run_benchmark(Calibrated(), manifest, tmp_path / "one") == 3
    out = tmp_path / "several"
    statuses = [
        run_shard(setup, manifest, out, shard=Shard(number, count))
        for number in reversed(range(count))
    ]
    assert merge_shards(out) == 3
    assert contents(out) == contents(tmp_path / "one")
    results = json.loads((out / "benchmark.json").read_text())
    assert results["patterns"] == COUNT - 1 and results["quality"]["patterns"] == 3
    assert len(results["unreadable"]) == 2 and len(results["not_compared"]) == 1
    # The chunk with the line that cannot be read; shards without a chunk have nothing to fail at.
    assert sorted(statuses) == {1: [3], 3: [0, 0, 3], 9: [0] * 8 + [3]}[count]


def test_a_killed_shard_goes_on_and_a_finished_one_is_not_done_again(
    setup, manifest, tmp_path, monkeypatch
):
    did, real = [], benchmark_shards.answered

    def counted(model, entries):
        if len(did) == 2:
            did.append("killed")
            raise KeyboardInterrupt
        did.append(entries[0].sample)
        return real(model, entries)

    monkeypatch.setattr(benchmark_shards, "answered", counted)
    out = tmp_path / "out"
    assert run_shard(setup, manifest, out) == 130
    assert len(list((out / "shards" / "00000-of-00001").iterdir())) == 2
    assert run_shard(setup, manifest, out) == run_shard(setup, manifest, out) == 3
    assert did == ["s0", "s2", "killed", "s4", "s6"]
    assert not (out / "shards" / "00000-of-00001").exists()
    manifest.write_text(manifest.read_text().replace("s3,g1", "s3,g2"))
    with pytest.raises(UserError, match=r"00000-of-00001.json: is of other inputs"):
        run_shard(setup, manifest, out)


def test_figures_of_some_shards_are_refused_and_damage_is_noticed(setup, manifest, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(UserError, match="no finished shard in it; run --mode=benchmark --shard"):
        merge_shards(out)
    for number in (0, 2):
        run_shard(setup, manifest, out, shard=Shard(number, 4))
    with pytest.raises(UserError, match="2 of 4 shards are missing: 1, 3; run --mode=benchmark"):
        merge_shards(out)
    for number in (1, 3):
        run_shard(setup, manifest, out, shard=Shard(number, 4))
    table = out / "shards" / "00002-of-00004.npz"
    table.write_bytes(table.read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match="1 of 4 shards are missing: 2"):
        merge_shards(out)
    assert not (out / "benchmark.json").exists()


def test_nothing_that_can_be_read_is_failure(setup, tmp_path):
    path = tmp_path / "m.csv"
    path.write_text("file,crystal_system,wavelength_A\n" + "no.xy,cubic,1.54\n" * 3)
    assert run_shard(setup, path, tmp_path / "out") == merge_shards(tmp_path / "out") == 1
    results = json.loads((tmp_path / "out" / "benchmark.json").read_text())
    assert len(results["unreadable"]) == 3
    with pytest.raises(UserError, match="no pattern has kind"):
        path.write_text("file,kind\na.xy,unlabelled\n")
        run_shard(setup, path, tmp_path / "other")


def test_chunks_go_through_the_model_together(setup, manifest, tmp_path):
    model: FakeModel = benchmark_shards.load_tools(setup).model
    run_shard(setup, manifest, tmp_path / "out")
    assert model.batches == [2, 2, 1, 1]  # of one chunk a line could not be read
