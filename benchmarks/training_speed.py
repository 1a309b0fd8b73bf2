"""Training steps per second on the CPU, ours against PyTorch's, with the same networks and weights.

    python benchmarks/training_speed.py --job=densenet_slim --json=slim.json
    python benchmarks/training_speed.py --job=refiner --variants=ours,plain,torch,torch_bf16

Every variant runs in a process of its own and they take turns, one step each, so that a busy
machine slows all; a variant's ratio is the median over the rounds of PyTorch's time by its own.
With --one_core each has one core, and its processor time is taken, not the clock's: on a machine
that others use too, that alone says something.
Before anything is timed, outputs and losses are compared with PyTorch's. Variants: `ours` is what
`main.py` runs; `plain` the form for other backends; `torch` is eager float32, `torch_kept` the same
with the memory setting of ours, `torch_compiled` and `torch_bf16` what they say. Needs PyTorch (the
test extra).
"""

import json
import multiprocessing
import os
import platform
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from absl import app, flags

# What is trained, the frozen classifier if any, examples in a batch.
JOBS: dict[str, tuple[str, str | None, int]] = {
    "densenet121": ("densenet121", None, 16),
    "densenet_slim": ("densenet_slim", None, 64),
    "vgg19": ("vgg19", None, 32),
    "vgg_slim": ("vgg_slim", None, 64),
    "unet": ("unet_62k", None, 32),
    "refiner": ("unet_34k", "densenet121", 16),
    "refiner_slim": ("unet_34k", "densenet_slim", 32),
    "digits": ("densenet_digits_k12", None, 20),
}
VARIANTS = ("ours", "plain", "torch", "torch_kept", "torch_compiled", "torch_bf16")
CLASSES, RATE, WEIGHT = 10, 1e-4, 10.0

_JOB = flags.DEFINE_enum("job", "densenet_slim", list(JOBS), "What is trained.")
_BATCH = flags.DEFINE_integer("batch", 0, "Examples in a batch; 0: as the job has it.")
_ROUNDS = flags.DEFINE_integer("rounds", 7, "Timed steps of each variant.", lower_bound=1)
_VARIANTS = flags.DEFINE_list("variants", ["ours", "plain", "torch", "torch_kept"], str(VARIANTS))
_ONE_CORE = flags.DEFINE_bool("one_core", False, "Processor time on one core, not the clock's.")
_JSON = flags.DEFINE_string("json", "", "File to write the measurement to.")


def networks(job: str, dtype: str = "float32") -> tuple[Any, Any]:
    """The trained network and the frozen classifier or None, computing in `dtype`."""
    from imitation_refinement.method.networks import REFINERS, build_classifier, build_refiner

    def build(name):
        section = SimpleNamespace(network=name, dtype=dtype)
        return build_refiner(section) if name in REFINERS else build_classifier(section, CLASSES)

    trained, frozen, _ = JOBS[job]
    return build(trained), build(frozen) if frozen else None


def drawn(network: Any, shape: tuple[int, ...], seed: int) -> dict:
    """Weights of live signals: He's kernels, scales around 1, running variances around 1."""
    import jax
    import jax.numpy as jnp

    rng = np.random.default_rng(seed)

    def leaf(path, like):
        name = path[-1].key
        if name == "kernel":
            value = rng.normal(size=like.shape) * np.sqrt(2 / np.prod(like.shape[:-1]))
        elif name in ("scale", "var"):
            value = rng.uniform(0.8, 1.2, like.shape)
        else:
            value = 0.1 * rng.normal(size=like.shape)
        return value.astype(np.float32)

    variables = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, *shape)))
    return jax.tree_util.tree_map_with_path(leaf, variables)


def example(job: str, batch: int) -> dict[str, Any]:
    """Batch and weights, NumPy arrays."""
    trained, frozen = networks(job)
    shape = (2000, 1) if trained.ndim == 1 else (28, 28, 1)
    rng = np.random.default_rng(0)
    return {
        "x": rng.random((batch, *shape), np.float32),
        "target": rng.random((batch, *shape), np.float32),
        "label": rng.integers(0, CLASSES, batch).astype(np.int32),
        "variables": drawn(trained, shape, 1),
        "frozen": drawn(frozen, shape, 2) if frozen else None,
    }


def our_program(job: str, given: dict, dtype: str = "float32") -> tuple[Callable, Any, dict, Any]:
    """A step `(state, batch) -> (state, metrics)`, its first state and batch, and evaluation.

    Evaluation is a function of the variables of both networks and x.
    """
    import jax
    import jax.numpy as jnp
    import optax

    from imitation_refinement.method import classifier, refiner

    trained, frozen = networks(job, dtype)
    optimizer, distance = optax.adam(RATE), classifier.Distance()
    variables, x = given["variables"], jnp.asarray(given["x"])
    zero, opt_state = jnp.zeros((), jnp.int32), optimizer.init(variables["params"])
    batch: dict[str, Any] = {name: jnp.asarray(given[name]) for name in ("x", "target", "label")}
    if frozen is not None:
        width = jax.eval_shape(frozen.apply, given["frozen"], x).embedding.shape[1]
        batch["classifier"] = classifier.Classifier(
            jax.tree.map(jnp.asarray, given["frozen"]), jnp.zeros((CLASSES, width))
        )
        objective = refiner.RefinerObjective(
            targeted=True, prediction_weight=1.0, regularization_weight=WEIGHT,
            prototype_weight=0.0, norm=1.0, psi="identity", distance=distance, pair_weight=0.0,
            pair_recognition=0.0,
        )  # fmt: skip
        state = refiner.RefinerState(zero, variables["params"], variables["params"], opt_state)

        def take(state, batch):
            return refiner.refiner_step(
                state, batch["classifier"], batch, network=trained, classifier_network=frozen,
                optimizer=optimizer, objective=objective, ema_decay=0.99,
            )  # fmt: skip

        def evaluate(variables, frozen_variables, x):
            return frozen.apply(frozen_variables, trained.apply(variables, x)).logits

    elif hasattr(trained, "num_classes"):
        width = jax.eval_shape(trained.apply, variables, x).embedding.shape[1]
        state = classifier.ClassifierState(
            zero, variables["params"], variables.get("batch_stats", {}),
            jnp.zeros((CLASSES, width)), opt_state,
        )  # fmt: skip

        def take(state, batch):
            return classifier.classifier_step(
                state, batch, network=trained, optimizer=optimizer, prototype_weight=0.0,
                distance=distance, seed=0,
            )  # fmt: skip

        def evaluate(variables, _, x):
            return trained.apply(variables, x).logits

    else:
        state = variables["params"], opt_state

        def take(state, batch):
            def loss_of(params):
                refined = trained.apply({"params": params}, batch["x"])
                return jnp.mean(jnp.abs(refined - batch["target"]))

            loss, gradient = jax.value_and_grad(loss_of)(state[0])
            updates, opt_state = optimizer.update(gradient, state[1], state[0])
            return (optax.apply_updates(state[0], updates), opt_state), {"loss": loss}

        def evaluate(variables, _, x):
            return trained.apply(variables, x)

    return take, state, batch, evaluate


def our_step(
    job: str, given: dict, variant: str, clock: Callable
) -> tuple[Callable, np.ndarray, dict]:
    """A function that takes one step and returns the loss; outputs of evaluation; what it needs."""
    import jax
    import jax.numpy as jnp

    from imitation_refinement.method.networks import forms
    from imitation_refinement.runtime import devices

    devices.keep_freed_memory()
    if variant == "plain":
        forms.backend = lambda: "tpu"
    take, state, batch, evaluate = our_program(job, given)
    outputs = jax.jit(evaluate)(given["variables"], given["frozen"], batch["x"])
    began = clock()
    lowered = jax.jit(take, donate_argnums=0).lower(state, batch)
    traced = clock()
    compiled = lowered.compile()
    needs = {
        "trace_seconds": traced - began,
        "compile_seconds": clock() - traced,
        "temporary_mib": compiled.memory_analysis().temp_size_in_bytes / 2**20,
    }
    held = [jax.tree.map(jnp.array, state)]

    def step() -> float:
        held[0], metrics = compiled(held[0], batch)
        return float(metrics["loss"])

    return step, np.asarray(outputs), needs


def torch_step(
    job: str, given: dict, variant: str, clock: Callable
) -> tuple[Callable, np.ndarray, dict]:
    """The same in PyTorch."""
    sys.path.insert(0, str(Path(__file__).parent))
    import torch
    import torch.nn.functional as F
    from torch_networks import Weights, forward

    from imitation_refinement.runtime import devices

    if variant == "torch_kept":
        devices.keep_freed_memory()
    trained, frozen = networks(job)
    layer = Weights(given["variables"], trained.ndim, trained=True)
    fixed = Weights(given["frozen"], frozen.ndim, trained=False) if frozen else None
    x, target = (torch.tensor(given[name]).movedim(-1, 1).contiguous() for name in ("x", "target"))
    label = torch.tensor(given["label"]).long()
    optimizer = torch.optim.Adam(layer.trained(), RATE)

    def loss_of():
        y = forward(trained, layer, x)
        if frozen:
            apart = WEIGHT * (y - x).abs().mean()
            return F.cross_entropy(forward(frozen, fixed, y), label) + apart
        return F.cross_entropy(y, label) if y.ndim == 2 else (y - target).abs().mean()

    run = torch.compile(loss_of) if variant == "torch_compiled" else loss_of
    with torch.no_grad():
        layer.train = False
        outputs = forward(trained, layer, x)
        outputs = forward(frozen, fixed, outputs) if frozen else outputs
        layer.train = True

    def step() -> float:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=variant == "torch_bf16"):
            loss = run()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step, outputs.movedim(1, -1).numpy() if outputs.ndim > 2 else outputs.numpy(), {}


def work(job: str, given: dict, variant: str, one_core: bool, parent: Connection) -> None:
    """A variant's process: sends what it is compared by, then a time for every request."""
    clock = time.perf_counter
    if one_core:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        clock = time.process_time
    prepare = torch_step if variant.startswith("torch") else our_step
    step, outputs, needs = prepare(job, given, variant, clock)
    parent.send((outputs, step(), needs))
    step()
    while parent.recv():
        began = clock()
        step()
        parent.send(clock() - began)


def machine() -> dict[str, Any]:
    """What was measured on, and how busy it was."""
    from importlib.metadata import version

    cpu = Path("/proc/cpuinfo")
    names = [
        line.partition(":")[2].strip()
        for line in (cpu.read_text().splitlines() if cpu.exists() else [])
        if line.startswith("model name")
    ]
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    versions = {name: version(name) for name in ("jax", "jaxlib", "flax", "torch")}
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "load_before": round(load, 1),
        **versions,
    }


def compared(found: dict[str, tuple]) -> dict[str, float]:
    """Largest differences from PyTorch's outputs and loss, as shares of their size.

    Raises:
        RuntimeError: float32 variants differ by more than rounding.
    """
    outputs, loss, _ = found["torch"]
    apart = {}
    for name, (own, own_loss, _) in found.items():
        apart[name] = float(np.abs(own - outputs).max() / np.abs(outputs).max())
        limits = (2e-2, 5e-2) if name == "torch_bf16" else (1e-3, 1e-3)
        lossy = JOBS[_JOB.value][0] == "vgg19"  # dropout draws other masks
        if apart[name] > limits[0] or (not lossy and abs(own_loss / loss - 1) > limits[1]):
            raise RuntimeError(f"{name}: output differs by {apart[name]:.1e}, loss {own_loss}")
    return apart


def measure(
    job: str, batch: int, rounds: int, variants: list[str], one_core: bool
) -> dict[str, Any]:
    """Compares and times the variants; everything that is reported."""
    context = multiprocessing.get_context("spawn")
    given, pipes, found, on = example(job, batch), {}, {}, machine()
    for name in variants:  # one after the other, so that nothing disturbs a compilation
        pipes[name], other = context.Pipe()
        context.Process(target=work, args=(job, given, name, one_core, other), daemon=True).start()
        found[name] = pipes[name].recv()
    apart = compared(found)
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, pipe in pipes.items():
            pipe.send(True)
            seconds[name].append(pipe.recv())
    for pipe in pipes.values():
        pipe.send(False)
    rows = {}
    for name in variants:
        ratios = np.array(seconds["torch"]) / seconds[name]
        low, middle, high = np.quantile(ratios, (0.25, 0.5, 0.75))
        rows[name] = {
            "examples_per_second": batch / float(np.median(seconds[name])),
            "ratio": middle,
            "quartiles": (low, high),
            "output_apart": apart[name],
            "seconds": seconds[name],
            **found[name][2],
        }
    return {
        "job": job,
        "batch": batch,
        "rounds": rounds,
        "seconds_of": "one core" if one_core else "the clock",
        "machine": on,
        "variants": rows,
    }


def table(result: dict[str, Any]) -> str:
    """Markdown rows of one measurement."""
    on = result["machine"]
    lines = [
        f"{result['job']}, batch {result['batch']}, {result['rounds']} rounds; {on['cpu']}, "
        f"{on['cores']} cores, seconds of {result['seconds_of']}, load {on['load_before']}; "
        f"jax {on['jax']}, torch {on['torch']}",
        "",
        "| variant | examples/s | times PyTorch eager (quartiles) | compile s | temporary MiB |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, row in result["variants"].items():
        low, high = row["quartiles"]
        compiling, memory = "-", "-"
        if "compile_seconds" in row:
            compiling = f"{row['trace_seconds'] + row['compile_seconds']:.1f}"
            memory = f"{row['temporary_mib']:.0f}"
        lines.append(
            f"| {name} | {row['examples_per_second']:.1f} | {row['ratio']:.2f} "
            f"({low:.2f} to {high:.2f}) | {compiling} | {memory} |"
        )
    return "\n".join(lines)


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    unknown = set(_VARIANTS.value) - set(VARIANTS)
    if unknown or "torch" not in _VARIANTS.value:
        raise app.UsageError(f"--variants: torch and any of {', '.join(VARIANTS)}")
    batch = _BATCH.value or JOBS[_JOB.value][2]
    result = measure(_JOB.value, batch, _ROUNDS.value, _VARIANTS.value, _ONE_CORE.value)
    if _JSON.value:
        Path(_JSON.value).write_text(json.dumps(result, indent=1))
    print(table(result))


if __name__ == "__main__":
    app.run(main)
