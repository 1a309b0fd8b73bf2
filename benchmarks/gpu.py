"""What a GPU makes of the training steps: one command of at most ten minutes.

    python benchmarks/gpu.py --output=gpu.jsonl

For every job and kind of arithmetic (TF32, bfloat16) batches grow until memory ends; state is
donated, the batch lies on the device, and a transfer within a step is an error. Each line of the
output is one measurement, written as it comes: examples per second, FLOPs of the compiled step as a
share of the largest product of matrices measured here, working memory. Of the best batch the five
operations that took longest are named (jax.profiler). PyTorch, compiled, in bfloat16 with channels
last, is timed where it is installed with CUDA. Tried on a CPU by

    python benchmarks/gpu.py --jobs=vgg_slim --batches=4 --steps=2 --size=256 --output=tried.jsonl
"""

import collections
import gzip
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from training_speed import JOBS, example, our_program

_JOBS = flags.DEFINE_list("jobs", ["densenet121", "refiner", "vgg19"], f"Of {', '.join(JOBS)}.")
_BATCHES = flags.DEFINE_list("batches", ["128", "256", "512", "1024"], "Examples in a batch.")
_STEPS = flags.DEFINE_integer("steps", 20, "Timed steps.", lower_bound=1)
_MINUTES = flags.DEFINE_float("minutes", 9.0, "Nothing is begun after so many.")
_SIZE = flags.DEFINE_integer("size", 8192, "Rows of the square matrices of the ceiling.")
_OUTPUT = flags.DEFINE_string("output", "gpu.jsonl", "File of results, one JSON object a line.")

PRECISION = {"float32": "tensorfloat32", "bfloat16": "default"}


def seconds_each(call: Callable[[], Any], count: int) -> float:
    """Seconds of a call, over `count` that are only waited for at the end."""
    jax.block_until_ready(call())
    began = time.perf_counter()
    for _ in range(count):
        last = call()
    jax.block_until_ready(last)
    return (time.perf_counter() - began) / count


def ceiling(dtype: str) -> float:
    """FLOP/s of a large product of matrices."""
    matrix = jnp.ones((_SIZE.value, _SIZE.value), dtype)
    product = jax.jit(lambda a: a @ a)
    return 2.0 * _SIZE.value**3 / seconds_each(lambda: product(matrix), _STEPS.value)


def longest(call: Callable[[], Any], count: int = 5) -> list[tuple[str, float]]:
    """The operations that took most of three calls, with their shares."""
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(3):
                jax.block_until_ready(call())
        (trace,) = Path(folder).rglob("*.trace.json.gz")
        events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    took: collections.Counter[str] = collections.Counter()
    for event in events:
        if event.get("ph") == "X" and "hlo_op" in event.get("args", {}):
            took[event["args"]["hlo_op"]] += event["dur"]
    whole = sum(took.values()) or 1
    return [(name, round(duration / whole, 4)) for name, duration in took.most_common(count)]


def ours(job: str, batch_size: int, dtype: str, peak: float) -> tuple[dict[str, Any], Callable]:
    """Times one program; also returns a call of it."""
    take, state, batch, _ = our_program(job, example(job, batch_size), dtype)
    state = jax.tree.map(jnp.array, state)
    began = time.perf_counter()
    compiled = jax.jit(take, donate_argnums=0).lower(state, batch).compile()
    compiling = time.perf_counter() - began
    held = [state]

    def step():
        held[0], metrics = compiled(held[0], batch)
        return metrics["loss"]

    with jax.transfer_guard("disallow"):
        each = seconds_each(step, _STEPS.value)
    memory, flops = compiled.memory_analysis(), compiled.cost_analysis().get("flops", np.nan)
    return {
        "by": "ours",
        "job": job,
        "batch": batch_size,
        "dtype": dtype,
        "examples_per_second": batch_size / each,
        "share_of_ceiling": flops / each / peak,
        "temporary_mib": memory.temp_size_in_bytes / 2**20,
        "donated_mib": memory.alias_size_in_bytes / 2**20,
        "compile_seconds": compiling,
    }, step


def theirs(job: str, batch_size: int) -> dict[str, Any]:
    """Times PyTorch, compiled, bfloat16, channels last."""
    import torch
    import torch.nn.functional as F
    from torch_networks import Weights, forward
    from training_speed import RATE, WEIGHT, networks

    given, (trained, frozen) = example(job, batch_size), networks(job)
    torch.set_float32_matmul_precision("high")
    options = {"device": "cuda", "channels_last": True}
    layer = Weights(given["variables"], trained.ndim, trained=True, **options)
    fixed = Weights(given["frozen"], frozen.ndim, trained=False, **options) if frozen else None
    x = torch.tensor(given["x"], device="cuda").movedim(-1, 1)
    x = (x[:, :, None] if x.ndim == 3 else x).to(memory_format=torch.channels_last)
    label = torch.tensor(given["label"], device="cuda").long()
    optimizer = torch.optim.Adam(layer.trained(), RATE, fused=True)

    @torch.compile
    def loss_of():
        y = forward(trained, layer, x)
        if frozen:
            apart = WEIGHT * (y - x).abs().mean()
            return F.cross_entropy(forward(frozen, fixed, y), label) + apart
        return F.cross_entropy(y, label)

    def step():
        optimizer.zero_grad()
        with torch.autocast("cuda", torch.bfloat16):
            loss = loss_of()
        loss.backward()
        optimizer.step()

    for _ in range(3):
        step()
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(_STEPS.value):
        step()
    torch.cuda.synchronize()
    each = (time.perf_counter() - began) / _STEPS.value
    return {
        "by": "torch",
        "job": job,
        "batch": batch_size,
        "examples_per_second": batch_size / each,
    }


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    until = time.monotonic() + 60 * _MINUTES.value
    output = Path(_OUTPUT.value)

    def write(row: dict[str, Any]) -> None:
        print(row, flush=True)
        with output.open("a") as file:
            file.write(json.dumps(row) + "\n")

    write({"device": jax.devices()[0].device_kind, "jax": jax.__version__})
    best: dict[str, tuple[float, int]] = {}
    for dtype, precision in PRECISION.items():
        with jax.default_matmul_precision(precision):
            peak = ceiling(dtype)
            write({"ceiling_tflops": peak / 1e12, "dtype": dtype})
            for job in _JOBS.value:
                step = None
                for batch_size in map(int, _BATCHES.value):
                    if time.monotonic() > until:
                        write({"left_out": [job, dtype, batch_size], "why": "no time"})
                        continue
                    try:
                        row, step = ours(job, batch_size, dtype, peak)
                    except jax.errors.JaxRuntimeError as error:  # out of memory
                        write({"left_out": [job, dtype, batch_size], "why": str(error)[:200]})
                        break
                    write(row)
                    best[job] = max(
                        best.get(job, (0.0, 0)), (row["examples_per_second"], batch_size)
                    )
                if step is not None and time.monotonic() < until:
                    write({"job": job, "dtype": dtype, "longest": longest(step)})
    try:
        import torch

        installed = torch.cuda.is_available()
    except ImportError:
        installed = False
    for job, (_, batch_size) in best.items() if installed else ():
        if time.monotonic() < until:
            write(theirs(job, batch_size))
    if not installed:
        write({"left_out": "torch", "why": "not installed with CUDA"})


if __name__ == "__main__":
    app.run(main)
