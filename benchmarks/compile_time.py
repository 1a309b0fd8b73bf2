"""How long a run compiles and waits for it: with a cold compilation cache, then with a warm one.

    python benchmarks/compile_time.py --config=configs/xrd.py --output=compile
    python benchmarks/compile_time.py --config=configs/xrd.py --set=classifier.steps=4

A run is that of main.py in a process and work directory of its own, the cold one with a new cache
folder; its data are made before. What XLA compiles or takes from the cache is heard from
`jax.monitoring`, and what JAX traces and lowers before. Programs are what they are however many
steps a run has, so with few steps (--set) compilation is measured in minutes.

Programs are compiled ahead by a thread (`runtime/ahead.py`), so that there are three figures:

- by kind of work and by program, the clock's seconds of either thread, beside them those of the
  processor: of the whole process meanwhile, with what the other thread and training took of them;
- waited: the clock's seconds in which the run itself stood still for a compiler: all that its main
  thread traced, lowered and compiled, and all that it waited for the other one. It says nothing of
  what the other one slows down;
- the whole run, of the clock and of all its threads and processes: what cold takes more than warm
  is what compiling costs, all told. With few steps there is little to compile beside.

Results go to `<output>.json` and `<output>.md` as each run ends.
"""

import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import jax
from absl import app, flags

from imitation_refinement.runtime.ahead import WAITED
from imitation_refinement.runtime.files import atomic_write_json, atomic_write_text

_CONFIG = flags.DEFINE_string("config", "configs/xrd.py", "Config file, with a preset.")
_OUTPUT = flags.DEFINE_string("output", "compile", "Results: this name with .json and .md.")
_WARM = flags.DEFINE_bool("warm", True, "A second run, which finds the programs in the cache.")
_SET = flags.DEFINE_multi_string("set", [], "Overrides, such as classifier.steps=4.")

ROOT = Path(__file__).parents[1]
_SHOWN = 20  # programs in the table
# Kinds of work by JAX's event. Compiling holds what is taken from the cache.
KINDS = {
    "/jax/core/compile/jaxpr_trace_duration": "trace",
    "/jax/core/compile/jaxpr_to_mlir_module_duration": "lower",
    "/jax/core/compile/backend_compile_duration": "compile",
    "/jax/compilation_cache/cache_retrieval_time_sec": "from the cache",
    WAITED: "waited for the thread",
}
# What the process of a run does beside running: one line for each event.
_LISTEN = """
import json, sys, threading, time
from imitation_refinement.cli import entry_point
import jax
file, began = open(sys.argv.pop(1), "a", buffering=1), {}
def begins(event, value, fun_name="", **_):
    began[event, fun_name, threading.get_ident()] = time.process_time()
def ends(event, seconds, fun_name="", **_):
    now = time.process_time()
    cpu = now - began.pop((event, fun_name, threading.get_ident()), now)
    main = threading.current_thread() is threading.main_thread()
    end = time.monotonic() if main else None
    file.write(json.dumps([event, fun_name, seconds, cpu, end]) + "\\n")
jax.monitoring.register_scalar_listener(begins)
jax.monitoring.register_event_duration_secs_listener(ends)
entry_point()
"""


class Sum(NamedTuple):
    """How often, seconds of the clock, seconds of the processor."""

    count: int = 0
    seconds: float = 0.0
    processor: float = 0.0

    def plus(self, seconds: float, processor: float) -> "Sum":
        """Returns the sum with one more."""
        return Sum(self.count + 1, self.seconds + seconds, self.processor + processor)


def measured(place: Path, workdir: Path, mode: str = "all") -> dict[str, Any]:
    """Runs the config once; seconds of each kind of work, of compiling by program, of the run."""
    events = workdir.with_suffix(".jsonl")
    words = [f"--config={_CONFIG.value}", f"--workdir={workdir}", f"--mode={mode}"]
    words += [f"--config.{override}" for override in _SET.value]
    load, began, before = os.getloadavg()[0], time.monotonic(), _processor()
    subprocess.run(
        [sys.executable, "-c", _LISTEN, str(events), *words],
        env={**os.environ, "XDG_CACHE_HOME": str(place), "PYTHONPATH": str(ROOT)}, check=True,
    )  # fmt: skip
    whole = Sum(1, time.monotonic() - began, _processor() - before)
    sums, programs = defaultdict[str, Sum](Sum), defaultdict[str, Sum](Sum)
    stood = []  # when the main thread began and ended what is no training
    for line in events.read_text().splitlines():
        event, name, seconds, processor, end = json.loads(line)
        kind = KINDS.get(event)
        if kind:
            sums[kind] = sums[kind].plus(seconds, processor)
        if kind == "compile":
            programs[name] = programs[name].plus(seconds, processor)
        if kind and end is not None:
            stood.append((end - seconds, end))
    return {"load_before": round(load, 1), "kinds": sums, "programs": programs,
            "waited": covered(stood), "whole": whole}  # fmt: skip


def covered(intervals: list[tuple[float, float]]) -> float:
    """Returns the length of what intervals cover; what lies within another counts once."""
    total, last = 0.0, float("-inf")
    for begin, end in sorted(intervals):
        total += max(end - max(begin, last), 0.0)
        last = max(last, end)
    return total


def _processor() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def report(found: dict[str, Any]) -> str:
    """Returns the results as Markdown."""
    lines = [f"`{found['command']}` on {found['machine']}. Seconds, of the processor in brackets."]
    heads = [*KINDS.values(), "waited in all", "the whole run", "programs", "load before"]
    lines += ["", f"| cache | {' | '.join(heads)} |", f"| --- |{' --- |' * len(heads)}"]
    for name, run in found["runs"].items():
        cells = [_cell(run["kinds"].get(kind, Sum())) for kind in KINDS.values()]
        cells += [f"{run['waited']:.1f}", _cell(run["whole"])]
        count = sum(one.count for one in run["programs"].values())
        lines.append(f"| {name} | {' | '.join(cells)} | {count} | {run['load_before']} |")
    for name, run in found["runs"].items():
        lines += ["", f"| program, {name} cache | compiled | seconds |", "| --- | --- | --- |"]
        rows = sorted(run["programs"].items(), key=lambda row: -row[1].processor)
        if rest := rows[_SHOWN:]:
            total = Sum(*map(sum, zip(*(one for _, one in rest), strict=True)))
            rows = [*rows[:_SHOWN], (f"{len(rest)} others", total)]
        lines += [f"| {program} | {one.count} | {_cell(one)} |" for program, one in rows]
    return "\n".join(lines) + "\n"


def _cell(one: Sum) -> str:
    return f"{one.seconds:.1f} ({one.processor:.1f})"


def machine() -> str:
    """Names the machine."""
    cpu = Path("/proc/cpuinfo")
    told = [line for line in cpu.read_text().splitlines() if "model name" in line]
    name = told[0].partition(":")[2].strip() if told else platform.processor()
    return f"{name}, {len(os.sched_getaffinity(0))} cores, jax {jax.__version__}"


def main(_: list[str]) -> None:
    """Measures the runs and writes what was found."""
    command = " ".join(["python", *sys.orig_argv[1:]])
    found: dict[str, Any] = {"machine": machine(), "command": command, "runs": {}}
    with tempfile.TemporaryDirectory() as place:
        measured(Path(place), Path(place, "data"), mode="data")
        for name in ("cold", "warm")[: 1 + _WARM.value]:
            found["runs"][name] = measured(Path(place), Path(place, name))
            atomic_write_json(Path(f"{_OUTPUT.value}.json"), found)
            atomic_write_text(Path(f"{_OUTPUT.value}.md"), report(found))
    print(report(found))


if __name__ == "__main__":
    app.run(main)
