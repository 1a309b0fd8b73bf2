"""How cost grows: with patterns, points, classes, prototypes, devices and processes.

    python benchmarks/scaling.py --output=scaling
    python benchmarks/scaling.py --output=scaling --only=files --only=page

Each measurement is a process of its own, so that its peak of memory is its own. Results are kept
in `scaling.json` as they come (what is there is not measured again) and shown in `scaling.md`:
medians over --rounds, smallest and largest in brackets. Beside the rate stands the time of the
processor, which other work on the machine disturbs less. Scans are made of lines of the shipped
library, with a smooth background and counting noise.
"""

import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
from absl import app, flags
from made_scans import WAVELENGTH, made_counts, make_files

from imitation_refinement.commands import summary_page, tables
from imitation_refinement.commands.summary import COLUMNS, Summary
from imitation_refinement.method import networks
from imitation_refinement.model.find import load_model
from imitation_refinement.phases.calibration_file import load_calibration
from imitation_refinement.phases.library import load_library
from imitation_refinement.phases.match import match
from imitation_refinement.phases.prototypes import GRID, build_prototypes
from imitation_refinement.runtime import devices
from imitation_refinement.runtime.files import atomic_write_json, atomic_write_text, read_json
from imitation_refinement.xrd.formats import read_records
from imitation_refinement.xrd.scans import on_grid

_OUTPUT = flags.DEFINE_string("output", "scaling", "Results: this name with .json and .md.")
_ONLY = flags.DEFINE_multi_string("only", [], "Measurements; all without it.")
_ROUNDS = flags.DEFINE_integer("rounds", 3, "Of each, in processes of their own.", lower_bound=1)
_MOST = flags.DEFINE_float("most", None, "No values above this.")
_CHILD = flags.DEFINE_string("child", None, "For itself: measures once and prints.")
_VALUE = flags.DEFINE_string("value", "", "For itself: what is measured.")

ROOT = Path(__file__).parents[1]
_POINTS = 3200
_MADE = 256  # scans made at once


# --- what is measured ------------------------------------------------------------------------


def make_stack(path: Path, count: int) -> Path:
    """Writes so many scans as one Parquet file and returns its path."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    axis, rows = made_counts(_MADE, _POINTS)
    part = pa.table({
        "two_theta": [axis] * _MADE, "counts": list(rows), "wavelength": [WAVELENGTH] * _MADE,
    })  # fmt: skip
    with pq.ParquetWriter(path, part.schema, compression="zstd") as writer:
        for first in range(0, count, _MADE):
            writer.write_table(part.slice(0, min(_MADE, count - first)))
    return path


def refined(source: Path, out: Path, *flags: str, count: int) -> dict[str, Any]:
    """Refines a batch by the command line; patterns per second, with loading and without."""
    words = [sys.executable, str(ROOT / "main.py"), "--mode=refine", f"--input={source}"]
    began = time.perf_counter()
    done = subprocess.run([*words, f"--output={out}", *flags], cwd=ROOT, capture_output=True)
    seconds = time.perf_counter() - began
    if done.returncode not in (0, 3):
        raise RuntimeError(done.stderr.decode()[-2000:])
    receipts = [read_json(path) for path in (out / "shards").glob("*.json")]
    assert sum(one["rows"] for one in receipts) == count
    return {
        "per_second": count / max(one["seconds"] for one in receipts),
        "per_second_with_start": count / seconds,
        **spent(resource.RUSAGE_CHILDREN, count),
    }


def spent(who: int, count: int) -> dict[str, float]:
    """Returns processor time for each of some patterns, with starting, and peak memory."""
    used = resource.getrusage(who)
    cpu = 1e3 * (used.ru_utime + used.ru_stime) / count
    return {"cpu_ms_with_start": cpu, "peak_mb": used.ru_maxrss / 1024}


def files(value: str) -> dict[str, Any]:
    """Text files to Parquet with the shipped library; all scans differ."""
    with tempfile.TemporaryDirectory() as place:
        source = make_files(Path(place, "scans"), int(value), _POINTS)
        return refined(source, Path(place, "out"), "--shard=0/1", count=int(value))


def repeated(value: str) -> dict[str, Any]:
    """The same; 128 scans again and again: their prototypes are drawn in the first chunk."""
    with tempfile.TemporaryDirectory() as place:
        source = make_files(Path(place, "scans"), int(value), _POINTS, kinds=128)
        return refined(source, Path(place, "out"), "--shard=0/1", count=int(value))


def cluster(value: str) -> dict[str, Any]:
    """All scans differ, a worker on each core; the peak is that of one worker."""
    with tempfile.TemporaryDirectory() as place:
        source = make_files(Path(place, "scans"), int(value), _POINTS)
        return refined(source, Path(place, "out"), "--cluster=local", count=int(value))


def stack(value: str) -> dict[str, Any]:
    """Rows of one Parquet file to Parquet, one process, without a library of phases."""
    with tempfile.TemporaryDirectory() as place:
        source = make_stack(Path(place, "stack.parquet"), int(value))
        out = Path(place, "out")
        return refined(source, out, "--shard=0/1", "--library=none", count=int(value))


def shards(value: str) -> dict[str, Any]:
    """1,024 scans in so many shards at the same time, with the shipped library."""
    number, count = int(value), 1024
    with tempfile.TemporaryDirectory() as place:
        source, out = make_files(Path(place, "scans"), count, _POINTS), Path(place, "out")
        words = [sys.executable, str(ROOT / "main.py"), "--mode=refine", f"--input={source}"]
        began = time.perf_counter()
        running = [
            subprocess.Popen(
                [*words, f"--output={out}", f"--shard={shard}/{number}"],
                cwd=ROOT, stderr=subprocess.DEVNULL,
            )
            for shard in range(number)
        ]  # fmt: skip
        assert all(process.wait() == 0 for process in running)
        seconds = time.perf_counter() - began
        return {"per_second_with_start": count / seconds} | spent(resource.RUSAGE_CHILDREN, count)


def points(value: str) -> dict[str, Any]:
    """Reading a text file of so many points and placing it on the grid."""
    with tempfile.TemporaryDirectory() as place:
        paths = sorted(make_files(Path(place, "scans"), 32, int(value)).iterdir())
        return timed(lambda: [on_grid(read_records(p, None)[0].scan, GRID) for p in paths], 32)


def batch(value: str) -> dict[str, Any]:
    """The shipped refiner and classifier on so many patterns at once."""
    model, count = load_model(None), int(value)
    x = np.random.default_rng(0).uniform(size=(count, *model.input_shape)).astype(np.float32)
    x /= x.max(axis=1, keepdims=True)
    model.assess(x)
    return timed(lambda: model.assess(x), count)


def host_devices(value: str) -> dict[str, Any]:
    """The same on 256 patterns, over so many devices that XLA makes of this machine's cores."""
    assert jax.local_device_count() == int(value)
    return batch("256")


def length(value: str) -> dict[str, Any]:
    """The refiner's network on 32 patterns of so many points, new weights."""
    spec = SimpleNamespace(network="unet_62k", dtype="float32")
    network, x = networks.build_refiner(spec), np.ones((32, int(value), 1), np.float32)
    variables = jax.jit(network.init)(jax.random.key(0), x)
    program = jax.jit(network.apply)
    jax.block_until_ready(program(variables, x))
    return timed(lambda: jax.block_until_ready(program(variables, x)), 32)


def classes(value: str) -> dict[str, Any]:
    """The classifier's network with so many classes on 32 patterns of 2,000 points, new weights."""
    spec = SimpleNamespace(network="vgg_slim", dtype="float32")
    network = networks.build_classifier(spec, int(value))
    x = np.ones((32, GRID.length, 1), np.float32)
    variables = jax.jit(lambda key: network.init(key, x, train=False))(jax.random.key(0))
    program = jax.jit(lambda tree: network.apply(tree, x, train=False).logits)
    jax.block_until_ready(program(variables))
    return timed(lambda: jax.block_until_ready(program(variables)), 32)


def library(value: str) -> dict[str, Any]:
    """Matching 64 scans with so many prototypes: the shipped ones, then copies, cells +-2 %."""
    known, count = load_library(), int(value)
    axis, rows = made_counts(64, _POINTS)
    from imitation_refinement.xrd.scans import clean_scan

    placed = [on_grid(clean_scan(axis, row, WAVELENGTH, "made"), GRID) for row in rows]
    lines, rng = np.diff(known.offsets), np.random.default_rng(1)
    chosen = np.arange(count) % len(known)
    sizes = lines[chosen]
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], sizes)
    index = np.repeat(known.offsets[chosen], sizes) + within
    scale = np.where(np.arange(count) < len(known), 1.0, rng.uniform(0.98, 1.02, count))
    q = (known.q[index] * np.repeat(scale, sizes)).astype(np.float32)
    prototypes = build_prototypes(q, known.amplitude[index], offsets, known.computed[chosen], GRID)
    patterns = np.stack([one.pattern for one in placed])
    masks = np.stack([one.mask for one in placed])
    posterior = load_calibration().posterior
    return timed(lambda: match(patterns, masks, prototypes, posterior), 64)


def page(value: str) -> dict[str, Any]:
    """Summing up a made table of so many rows; opening the page in headless Chromium."""
    count, rng = int(value), np.random.default_rng(0)
    names = tuple(load_model(None).class_names)
    verdicts = np.array(
        ["confident", "ambiguous", "not in the library", "not recognised", "failed"]
    )
    drawn = rng.choice(verdicts, tables.GROUP, p=[0.4, 0.3, 0.15, 0.1, 0.05])
    rows = [
        {
            "name": f"scan_{i}", "input": f"scans/scan_{i}.xy", "verdict": verdict,
            "system": names[i % 7], "confidence": f"{rng.uniform():.4f}",
            "formula": f"Fe{i % 97}O{i % 89}", "space_group_number": 1 + i % 230,
            "reason": f"probability {rng.uniform():.3f} is below 0.97", "notes": "96% measured",
        }
        for i, verdict in enumerate(drawn)
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as place:
        part = tables.part_table(tables.part_bytes(rows, names))
        parts = (part.slice(0, min(tables.GROUP, count - n)) for n in range(0, count, tables.GROUP))
        began = time.perf_counter()
        tables.write_table(Path(place, "t.parquet"), parts)
        summary = Summary()
        for row in tables.read_rows(Path(place, "t.parquet"), COLUMNS):
            summary.add(row)
        receipt = {"shard": [0, 1], "rows": count, "chunks": 1, "seconds": 0.0}
        receipts = [{**receipt, "machine": platform.node(), "command": "made"}]
        path = Path(place, "report.html")
        summary_page.write_page(path, summary, receipts, "", "t.parquet", "sample.txt")
        merged = time.perf_counter() - began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        empty, _ = opened("about:blank")
        seconds, text = opened(path.as_uri())
        assert f"{count:,} patterns" in text
        return {
            "merge_seconds": merged, "open_seconds": seconds, "open_empty_page_seconds": empty,
            "page_kb": path.stat().st_size / 1e3,
            "table_mb": Path(place, "t.parquet").stat().st_size / 1e6, "peak_mb": peak,
        }  # fmt: skip


def opened(address: str) -> tuple[float, str]:
    """Opens a page in headless Chromium; seconds, its start included, and what it shows."""
    words = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", address]
    began = time.perf_counter()
    done = subprocess.run(words, capture_output=True, check=True, text=True)
    return time.perf_counter() - began, done.stdout


def timed(do: Callable[[], Any], count: int) -> dict[str, Any]:
    """Returns patterns per second, processor time for each, and the peak memory of this process."""
    times, seconds = 1, 0.0
    while seconds < 0.5:  # else too short to be timed
        began, used = time.perf_counter(), time.process_time()
        for _ in range(times):
            do()
        seconds, cpu = time.perf_counter() - began, time.process_time() - used
        done, times = times, 2 * times
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    cpu_ms = 1e3 * cpu / (count * done)
    return {"per_second": count * done / seconds, "cpu_ms": cpu_ms, "peak_mb": peak}


MEASURED: dict[Callable[[str], dict[str, Any]], Sequence[int]] = {
    files: (256, 1024, 4096, 16384),
    repeated: (1024, 4096),
    cluster: (1024, 4096, 16384),
    stack: (1024, 4096, 16384, 65536),
    shards: (1, 2, 4),
    points: (800, 3200, 12800, 51200),
    batch: (1, 8, 32, 128, 512),
    host_devices: (1, 2, 4),
    length: (512, 1024, 2048, 4096, 8192),
    classes: (7, 70, 700, 7000, 70000),
    library: (10_000, 30_000, 136_925, 400_000, 1_000_000),
    page: (10_000, 100_000, 1_000_000),
}


# --- measuring and telling -------------------------------------------------------------------


def measure(name: str, value: int) -> dict[str, Any]:
    """Measures once, in another process."""
    environment = dict(os.environ)
    if name == "host_devices":
        environment["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={value}"
    words = [sys.executable, __file__, f"--child={name}", f"--value={value}"]
    done = subprocess.run(words, capture_output=True, env=environment, text=True)
    if done.returncode:
        raise RuntimeError(f"{name} {value}: {done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def report(found: dict[str, Any]) -> str:
    """Returns the results as Markdown."""
    lines = [f"Measured on {found['machine']}; medians, smallest and largest in brackets.", ""]
    for function in MEASURED:
        rows = {int(v): runs for v, runs in found["runs"].get(function.__name__, {}).items()}
        if not rows:
            continue
        figures = list(next(iter(rows.values()))[0])
        lines += [f"### {function.__name__}", "", (function.__doc__ or "").strip(), ""]
        lines += ["| | " + " | ".join(f.replace("_", " ") for f in figures) + " | runs |"]
        lines += ["| --- |" + " --- |" * (len(figures) + 1)]
        for value, runs in sorted(rows.items()):
            cells = [_cell([run[figure] for run in runs]) for figure in figures]
            lines.append(f"| {value:,} | " + " | ".join(cells) + f" | {len(runs)} |")
        lines.append("")
    return "\n".join(lines)


def _cell(values: list[float]) -> str:
    middle, low, high = (f"{v:,.3g}" if v < 1000 else f"{v:,.0f}" for v in (
        float(np.median(values)), min(values), max(values)))  # fmt: skip
    return f"{middle} ({low} to {high})" if len(values) > 1 else middle


def machine() -> str:
    """Names the machine."""
    told = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    name = told[0].partition(":")[2].strip() if told else platform.processor()
    return f"{name}, {len(os.sched_getaffinity(0))} cores, jax {jax.__version__}"


def main(_: list[str]) -> None:
    by_name = {function.__name__: function for function in MEASURED}
    if _CHILD.value:
        devices.enable_compilation_cache()
        print(json.dumps(by_name[_CHILD.value](_VALUE.value)))
        return
    path = Path(f"{_OUTPUT.value}.json")
    found = read_json(path) if path.exists() else {"machine": machine(), "runs": {}}
    for name in _ONLY.value or by_name:
        for value in MEASURED[by_name[name]]:
            if _MOST.value and value > _MOST.value:
                continue
            runs = found["runs"].setdefault(name, {}).setdefault(str(value), [])
            while len(runs) < _ROUNDS.value:
                load = os.getloadavg()[0]
                runs.append(measure(name, value) | {"load_before": round(load, 1)})
                print(name, value, runs[-1], flush=True)
                atomic_write_json(path, found)
                atomic_write_text(path.with_suffix(".md"), report(found))


if __name__ == "__main__":
    app.run(main)
