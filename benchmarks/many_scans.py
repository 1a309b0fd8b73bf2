"""Very many scans from text files to Parquet: rate, memory over time, rows and failures.

    python benchmarks/many_scans.py --folder=many --count=100000 --shards=2

Writes `--count` text files of 3,200 points, all different: `--samples` simulated samples, each
counted anew again and again. Then it runs `main.py --mode=refine` in so many shards at once, each
with cores of its own, as a batch system gives them, merges them, and prints a table. Killed and run
again it goes on where it was. 100,000 files take some 5 GB.
"""

import json
import os
import resource
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
from absl import app, flags
from made_scans import made_samples, write_scan

from imitation_refinement.runtime.files import read_json

_FOLDER = flags.DEFINE_string("folder", None, "Of scans and results.", required=True)
_COUNT = flags.DEFINE_integer("count", 100_000, "Scans.", lower_bound=1)
_SAMPLES = flags.DEFINE_integer("samples", 4000, "Simulated samples.", lower_bound=1)
_SHARDS = flags.DEFINE_integer("shards", 2, "At once.", lower_bound=1)

ROOT = Path(__file__).parents[1]
_POINTS = 3200
_PART = 1000  # files in a folder
_LOOK = 10.0  # seconds between two looks at the memory


def write_files(folder: Path) -> None:
    """Writes the scans that are not there yet, a folder for each thousand."""
    axis, expected = made_samples(min(_SAMPLES.value, _COUNT.value), _POINTS)
    for first in range(0, _COUNT.value, _PART):
        part = folder / f"{first // _PART:04d}"
        if part.exists():
            continue
        making = part.with_suffix(".making")
        making.mkdir(parents=True, exist_ok=True)
        for number in range(first, min(first + _PART, _COUNT.value)):
            counts = np.random.default_rng([1, number]).poisson(expected[number % len(expected)])
            write_scan(making / f"scan_{number:07d}.xy", axis, counts)
        making.rename(part)
        print(f"{min(first + _PART, _COUNT.value):,} files", flush=True)


def resident_mb(process: int) -> float:
    """Returns the memory of a process and of those that it started, in MB."""
    total = 0.0
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except OSError:
        return total  # it has ended
    total += sum(float(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))
    return total + sum(resident_mb(int(child)) for child in children)


def run_shards(scans: Path, out: Path, memory: Path) -> None:
    """Runs the shards that are not finished; notes seconds and MB of each as they go."""
    words = [sys.executable, str(ROOT / "main.py"), "--mode=refine", f"--output={out}"]
    own = [*words, f"--input={scans}/*/*.xy"]
    cores = sorted(os.sched_getaffinity(0))
    running = [
        subprocess.Popen(
            [*own, f"--shard={shard}/{_SHARDS.value}"], cwd=ROOT,
            preexec_fn=partial(os.sched_setaffinity, 0, cores[shard :: _SHARDS.value] or cores),
        )
        for shard in range(_SHARDS.value)
    ]  # fmt: skip
    began = time.monotonic()
    while any(process.poll() is None for process in running):
        time.sleep(_LOOK)
        looked = [resident_mb(process.pid) for process in running]
        with memory.open("a") as file:
            file.write(json.dumps([time.monotonic() - began, looked]) + "\n")
    failed = [process.returncode for process in running if process.returncode not in (0, 3)]
    if failed:
        raise SystemExit(f"a shard ended with status {failed[0]}; the same command goes on")
    subprocess.run([*words, "--merge"], cwd=ROOT, check=False)


def report(out: Path, memory: Path) -> str:
    """Returns what was measured as Markdown."""
    receipts = [read_json(path) for path in sorted((out / "shards").glob("*.json"))]
    rows = sum(one["rows"] for one in receipts)
    failed = sum(one["verdicts"].get("failed", 0) for one in receipts)
    seconds = max(one["seconds"] for one in receipts)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = 1e3 * (used.ru_utime + used.ru_stime) / max(rows, 1)
    looks = [max(json.loads(line)[1]) for line in memory.read_text().splitlines()]
    running = [look for look in looks if look > 0.0]  # the last may be after all have ended
    quarters = [max(part) for part in np.array_split(running, 4) if len(part)]
    return "\n".join(
        [
            f"{len(receipts)} shards, {os.cpu_count()} cores, start included; processor time is of"
            " what this call ran",
            "",
            "| scans | failed | per second | processor time | memory of the largest shard by"
            " quarters of the run (MB) |",
            "| --- | --- | --- | --- | --- |",
            f"| {rows:,} | {failed} | {rows / seconds:.1f} | {cpu:.1f} ms |"
            f" {', '.join(f'{part:,.0f}' for part in quarters)} |",
        ]
    )


def main(_: list[str]) -> None:
    folder = Path(_FOLDER.value).resolve()
    scans, out, memory = folder / "scans", folder / "refined", folder / "memory.jsonl"
    write_files(scans)
    run_shards(scans, out, memory)
    print(report(out, memory))


if __name__ == "__main__":
    app.run(main)
