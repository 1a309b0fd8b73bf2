"""Benchmarks and spreads on the processes of a cluster of which one is killed: nothing changes.

Batches of scans and libraries of phases have such a test of their own (`test_shards.py`,
`test_phases_build.py`); these two share one cluster, as its processes take long to begin.
"""

import multiprocessing
import os
import signal
from pathlib import Path

import distributed
import pytest
from test_benchmark_shards import FILES, manifest  # noqa: F401 (a fixture)
from test_unmix_shards import contents, write_folder
from tiny_model import tiny_model

from imitation_refinement.commands import benchmark, benchmark_shards, unmix_shards
from imitation_refinement.commands.benchmark import run_benchmark
from imitation_refinement.commands.cluster import each
from imitation_refinement.commands.setup import Setup
from imitation_refinement.model.find import load_model
from imitation_refinement.model.portable import save_model

pytestmark = pytest.mark.slow  # starts processes that load JAX and compile


@pytest.fixture(scope="module")
def address():
    """Of a scheduler with two processes; Dask starts a new one where one was killed."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, memory_limit=0
    ) as cluster:
        yield cluster.scheduler_address


@pytest.fixture
def model(tmp_path) -> Path:
    save_model(tiny_model(), tmp_path / "tiny.npz")
    return tmp_path / "tiny.npz"


@pytest.fixture
def killed(monkeypatch) -> list[int]:
    """Kills a process as soon as the first result is there, while others are in work."""
    victims: list[int] = []

    def killing(function, tasks, address=None):
        for task, result in each(function, tasks, address):
            if address and not victims:
                victims.append(multiprocessing.active_children()[0].pid)
                os.kill(victims[0], signal.SIGKILL)
            yield task, result

    for module in (benchmark_shards, unmix_shards):
        monkeypatch.setattr(module, "each", killing)
    return victims


def test_a_benchmark_is_the_same(address, model, manifest, tmp_path, killed, monkeypatch):  # noqa: F811
    monkeypatch.setattr(benchmark, "CHUNK", 1)
    one, out = tmp_path / "one", tmp_path / "cluster"
    assert run_benchmark(load_model(model), manifest, one) == 3
    setup = Setup(str(tmp_path), str(model))
    assert benchmark_shards.run_shard(setup, manifest, out, cluster=address) == 3
    assert benchmark_shards.merge_shards(out) == 3 and len(killed) == 1
    for name in FILES:
        assert (out / name).read_bytes() == (one / name).read_bytes(), name


def test_spreads_are_the_same(address, model, tmp_path, killed):
    for number in range(3):
        write_folder(tmp_path / f"w{number}", (1.0, 0.8 - 0.1 * number, 0.3, 0.0))
    setup, words = Setup(str(tmp_path), str(model)), [f"{tmp_path}/w?"]
    for folder, where in (("one", None), ("cluster", address)):
        out = tmp_path / folder
        assert unmix_shards.run_shard(setup, words, out, "CuKa", 2, cluster=where) == 0
        assert unmix_shards.merge_shards(out) == 0
    assert len(killed) == 1
    found = contents(tmp_path / "cluster")
    assert found == contents(tmp_path / "one") and len(found) == 3 * 7 + 2
