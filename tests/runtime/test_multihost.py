"""Training over several processes by main.py gives the numbers of one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import portpicker
import pytest
from program import ROOT, SMOKE

DEVICES = 4  # of all processes together, so that programs are the same but for who does what
# Little to compile, and small steps: where a gradient is all but zero Adam goes a whole step by its
# sign, so that rounding (processes add up in another order) grows with the rate. Measured: at the
# preset's rates 7e-5 after four steps and 6e-4 after eight.
SMALL = [
    "--config.classifier.network=vgg_slim", "--config.classifier.learning_rate=1e-4",
    "--config.refiner.learning_rate=1e-4", "--config.refiner.pretrain_learning_rate=1e-4",
    "--config.evaluate.run_folds=1",
]  # fmt: skip


def start(workdir: Path, cache: Path, devices: int, *words: str):
    return subprocess.Popen(
        [sys.executable, str(ROOT / "main.py"), SMOKE, f"--workdir={workdir}",
         f"--config.run.cache_dir={cache / 'data'}", "--mode=refiner", *SMALL, *words],
        env={
            **os.environ, "XDG_CACHE_HOME": str(cache), "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        },
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def finish(processes) -> list[str]:
    outputs = [process.communicate(timeout=900)[0] for process in processes]
    for process, output in zip(processes, outputs, strict=True):
        assert process.returncode == 0, output[-4000:]
    return outputs


def by_coordinator(workdir: Path, cache: Path, count: int) -> list[str]:
    """One run of several processes that are told of each other."""
    coordinator = f"--coordinator=127.0.0.1:{portpicker.pick_unused_port()}"
    return finish([
        start(workdir, cache, DEVICES // count, coordinator, f"--num_processes={count}",
              f"--process_id={number}")
        for number in range(count)
    ])  # fmt: skip


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> tuple[Path, Path]:
    """Folder and caches of a run of one process."""
    workdir = tmp_path_factory.mktemp("alone") / "run"
    cache = tmp_path_factory.mktemp("cache")
    finish([start(workdir, cache, DEVICES)])
    return workdir, cache


def curves(workdir: Path) -> dict[tuple[str, int], dict[str, float]]:
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return {(line["stage"], line["step"]): line for line in lines}


@pytest.mark.slow  # each trains classifier and refiners
@pytest.mark.parametrize("count", [2, 4])
def test_several_processes_give_the_run_of_one(alone, tmp_path, count):
    workdir, cache = alone
    outputs = by_coordinator(tmp_path / "run", cache, count)
    assert f"{count} processes, {DEVICES} cpu devices" in outputs[0]
    expected, found = curves(workdir), curves(tmp_path / "run")
    assert expected.keys() == found.keys()
    assert {stage.partition("/")[0] for stage, _ in expected} == {"classifier", "refiner"}
    for key, line in expected.items():
        for name, value in line.items():
            if "loss" in name:
                np.testing.assert_allclose(
                    found[key][name], value, rtol=2e-4, err_msg=f"{key} {name}"
                )
