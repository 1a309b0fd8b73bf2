r"""What a GPU makes of the training steps, beside PyTorch: one command of some five minutes.

    PYTHONPATH=. python benchmarks/gpu.py --output=gpu.jsonl

A program is a job, a form (`ours`, or `plain`, which leaves DenseNet's blocks to XLA), a kind of
arithmetic (bfloat16, or float32 by TF32) and a number of examples. The state is donated, the batch
lies on the device, and a transfer within a step is an error. All programs are compiled first, on
all cores, while PyTorch compiles in a process of its own; then each is timed alone. Each line of
the output is one measurement, written as it comes: examples per second, as median with quartiles
over rounds of steps; working memory; FLOPs of the step, those of libraries' kernels too, over time
as a share of the largest product of matrices measured here; the kinds of kernels that took longest
(jax.profiler). PyTorch runs in bfloat16 with channels last, compiled and eager; the first loss of
both must agree. Tried on a CPU by

    PYTHONPATH=. python benchmarks/gpu.py --programs=vgg_slim:ours:float32:4 --peer=vgg_slim:4 \
        --repeats=1 --steps=2 --size=256 --output=tried.jsonl
"""
# ruff: noqa: E402  # memory must be shared with PyTorch's process before JAX takes it

import os

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import collections
import concurrent.futures
import gzip
import json
import multiprocessing
import re
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from training_speed import JOBS, RATE, WEIGHT, example, networks, our_program

from imitation_refinement.method.networks import forms

_PROGRAMS = flags.DEFINE_list(
    "programs",
    [
        "densenet121:ours:bfloat16:512",
        "densenet121:plain:bfloat16:512",
        "densenet121:ours:float32:512",
        "densenet121:ours:bfloat16:1024",
        "refiner:ours:bfloat16:512",
        "refiner:plain:bfloat16:512",
    ],
    f"JOB:FORM:DTYPE:EXAMPLES each; jobs are {', '.join(JOBS)}, forms ours and plain.",
)
_PEER = flags.DEFINE_list("peer", ["densenet121:512"], "Jobs and batches that PyTorch runs, too.")
_REPEATS = flags.DEFINE_integer("repeats", 5, "Times that steps are timed.", lower_bound=1)
_STEPS = flags.DEFINE_integer("steps", 10, "Steps in a round.", lower_bound=1)
_SIZE = flags.DEFINE_integer("size", 8192, "Rows of the square matrices of the ceiling.")
_OUTPUT = flags.DEFINE_string("output", "gpu.jsonl", "File of results, one JSON object a line.")

PRECISION = {"float32": "tensorfloat32", "bfloat16": "default"}
PATIENCE = 150  # seconds that PyTorch may compile on after our programs are ready
SAME_LOSS = 0.05  # most by which first losses in bfloat16 may differ, of their size


class Program(NamedTuple):
    """One of ours: what it is, what it is called with, and the compiled step in the future."""

    job: str
    form: str
    dtype: str
    batch_size: int
    state: Any
    batch: Any
    compiled: concurrent.futures.Future


class Count(NamedTuple):
    """How often is timed: rounds, each of steps that are only waited for at its end."""

    repeats: int
    steps: int

    def seconds(self, call: Callable[[], Any], wait: Callable[[Any], Any]) -> list[float]:
        """Seconds of a call in each round."""
        wait(call())
        seconds = []
        for _ in range(self.repeats):
            began = time.perf_counter()
            for _ in range(self.steps):
                last = call()
            wait(last)
            seconds.append((time.perf_counter() - began) / self.steps)
        return seconds


def speed(batch_size: int, seconds: list[float]) -> dict[str, Any]:
    """Examples per second: median and quartiles over rounds."""
    low, middle, high = np.quantile(batch_size / np.array(seconds), (0.25, 0.5, 0.75))
    return {"examples_per_second": round(middle), "quartiles": [round(low), round(high)]}


def ceiling(dtype: str, count: Count) -> float:
    """FLOP/s of a large product of matrices of random numbers."""
    matrix = jax.random.normal(jax.random.key(0), (_SIZE.value, _SIZE.value), dtype)
    with jax.default_matmul_precision(PRECISION[dtype]):
        product = jax.jit(lambda a: a @ a).lower(matrix).compile()
    seconds = count.seconds(lambda: product(matrix), jax.block_until_ready)
    return 2.0 * _SIZE.value**3 / float(np.median(seconds))


def kinds_of_kernels(call: Callable[[], Any], count: int = 8) -> list[tuple[str, float]]:
    """The kinds of operations that took most of three calls, with their shares."""
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(3):
                jax.block_until_ready(call())
        (trace,) = Path(folder).rglob("*.trace.json.gz")
        events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    devices = {
        event["pid"]
        for event in events
        if event.get("name") == "process_name" and "/device:GPU" in event["args"]["name"]
    }
    took: collections.Counter[str] = collections.Counter()
    for event in events:
        on_device = event.get("pid") in devices
        if event.get("ph") == "X" and (on_device or "hlo_op" in event.get("args", {})):
            took[re.sub(r"[\d_.]+$", "", event["name"])[:60]] += event["dur"]
    whole = sum(took.values()) or 1
    return [(name, round(duration / whole, 3)) for name, duration in took.most_common(count)]


def programs(pool: concurrent.futures.Executor) -> list[Program]:
    """All of ours, being compiled."""
    begun = []
    own = forms.backend

    def compiled(lowered):
        began = time.perf_counter()
        program = lowered.compile()
        return program, time.perf_counter() - began, lowered.cost_analysis()["flops"]

    for name in _PROGRAMS.value:
        job, form, dtype, size = name.split(":")
        forms.backend = own if form == "ours" else lambda: "tpu"
        with jax.default_matmul_precision(PRECISION[dtype]):
            take, state, batch, _ = our_program(job, example(job, int(size)), dtype)
            state = jax.tree.map(jnp.array, state)
            lowered = jax.jit(take, donate_argnums=0).lower(state, batch)
        future = pool.submit(compiled, lowered)
        begun.append(Program(job, form, dtype, int(size), state, batch, future))
    forms.backend = own
    return begun


def measured(program: Program, peak: float, count: Count) -> dict[str, Any]:
    """Times one of ours."""
    compiled, compiling, flops = program.compiled.result()
    state, metrics = compiled(program.state, program.batch)
    held, first = [state], float(metrics["loss"])

    def step():
        held[0], metrics = compiled(held[0], program.batch)
        return metrics["loss"]

    with jax.transfer_guard("disallow"):
        seconds = count.seconds(step, jax.block_until_ready)
    memory = compiled.memory_analysis()
    return {
        "by": program.form,
        "job": program.job,
        "dtype": program.dtype,
        "batch": program.batch_size,
        **speed(program.batch_size, seconds),
        "share_of_ceiling": round(flops / float(np.median(seconds)) / peak, 3),
        "temporary_mib": round(memory.temp_size_in_bytes / 2**20),
        "compile_seconds": round(compiling, 1),
        "first_loss": first,
        "longest": kinds_of_kernels(step),
    }


def torch_process(job: str, batch_size: int, count: Count, parent: Connection) -> None:
    """PyTorch in bfloat16, channels last: compiles, says so, is told to begin, sends its rows."""
    jax.config.update("jax_platforms", "cpu")
    import torch
    import torch.nn.functional as F
    from torch_networks import Weights, forward

    device = "cuda" if torch.cuda.is_available() else "cpu"
    given, (trained, frozen) = example(job, batch_size), networks(job)
    torch.set_float32_matmul_precision("high")
    options = {"device": device, "channels_last": True}
    layer = Weights(given["variables"], trained.ndim, trained=True, **options)
    fixed = Weights(given["frozen"], frozen.ndim, trained=False, **options) if frozen else None
    x = torch.tensor(given["x"], device=device).movedim(-1, 1)
    x = (x[:, :, None] if x.ndim == 3 else x).to(memory_format=torch.channels_last)
    label = torch.tensor(given["label"], device=device).long()
    optimizer = torch.optim.Adam(layer.trained(), RATE, fused=True)

    def eager():
        y = forward(trained, layer, x)
        if frozen:
            apart = WEIGHT * (y - x).abs().mean()
            return F.cross_entropy(forward(frozen, fixed, y), label) + apart
        return F.cross_entropy(y, label)

    def step(loss_of):
        optimizer.zero_grad()
        with torch.autocast(device, torch.bfloat16):
            loss = loss_of()
        loss.backward()
        optimizer.step()
        return loss

    compiled = torch.compile(eager)
    began = time.perf_counter()
    first = step(compiled).item()
    step(compiled).item()
    parent.send(time.perf_counter() - began)
    parent.recv()
    for name, loss_of in (("compiled", compiled), ("eager", eager)):
        seconds = count.seconds(lambda: step(loss_of), lambda loss: loss.item())  # noqa: B023
        row = {"by": f"torch {name}", "job": job, "dtype": "bfloat16", "batch": batch_size}
        parent.send({**row, **speed(batch_size, seconds), "first_loss": first})
    parent.send(None)


def compared(first: dict[tuple[str, str, int], float], row: dict[str, Any]) -> None:
    """Raises RuntimeError if PyTorch's first loss is another than ours."""
    own = first.get((row["job"], row["dtype"], row["batch"]), row["first_loss"])
    lossy = JOBS[row["job"]][0] == "vgg19"  # dropout draws other masks
    if not lossy and abs(own / row["first_loss"] - 1) > SAME_LOSS:
        raise RuntimeError(f"{row['job']}: first loss {own}, PyTorch's {row['first_loss']}")


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    output, count = Path(_OUTPUT.value), Count(_REPEATS.value, _STEPS.value)

    def write(row: dict[str, Any]) -> None:
        print(row, flush=True)
        with output.open("a") as file:
            file.write(json.dumps(row) + "\n")

    context, peers = multiprocessing.get_context("spawn"), []
    for job, _, batch_size in (name.partition(":") for name in _PEER.value):
        pipe, other = context.Pipe()
        arguments = (job, int(batch_size), count, other)
        context.Process(target=torch_process, args=arguments, daemon=True).start()
        other.close()  # so that the end of a process that failed is noticed
        peers.append(pipe)
    write({"device": jax.devices()[0].device_kind, "jax": jax.__version__})
    peaks = {dtype: ceiling(dtype, count) for dtype in PRECISION}
    write({"ceiling_tflops": {dtype: round(peak / 1e12, 1) for dtype, peak in peaks.items()}})
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        begun = programs(pool)
    for pipe in list(peers):
        if pipe.poll(PATIENCE):
            write({"torch_compiled_in": round(pipe.recv(), 1)})
        else:
            peers.remove(pipe)
            write({"left_out": "torch", "why": f"not compiled {PATIENCE} s after ours"})
    first: dict[tuple[str, str, int], float] = {}
    for program in begun:
        try:
            row = measured(program, peaks[program.dtype], count)
        except jax.errors.JaxRuntimeError as error:  # out of memory
            row = {"left_out": [*program[:4]], "why": str(error)[:200]}
        else:
            first.setdefault((row["job"], row["dtype"], row["batch"]), row["first_loss"])
        write(row)
    for pipe in peers:
        pipe.send(True)
        while row := pipe.recv():
            compared(first, row)
            write(row)


if __name__ == "__main__":
    app.run(main)
