"""One training dense block on one core: the plain form, the fused one, PyTorch.

    python benchmarks/dense_block.py --points=125 --channels=512 --layers=2

Small enough for a busy machine: processor time of the forward and backward pass is taken, which
other programs change little, the variants in turns. Gradients are compared first. Needs PyTorch
(the test extra).
"""
# ruff: noqa: E402  # the core must be chosen before JAX and PyTorch count them

import os

os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})

import time
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import torch
import torch.nn.functional as F
from absl import app, flags

from imitation_refinement.method.networks import forms
from imitation_refinement.method.networks.dense_block import dense_block, layer_weights
from imitation_refinement.method.networks.densenet import DenseLayer
from imitation_refinement.runtime import devices

_BATCH = flags.DEFINE_integer("batch", 16, "Examples.")
_POINTS = flags.DEFINE_integer("points", 125, "Points of a pattern.")
_CHANNELS = flags.DEFINE_integer("channels", 512, "Features before the first layer.")
_LAYERS = flags.DEFINE_integer("layers", 2, "Dense layers, of growth 32, with kernels of 5.")
_ROUNDS = flags.DEFINE_integer("rounds", 9, "Timed calls of each.", lower_bound=1)
_KEEP = flags.DEFINE_bool("keep_memory", True, "With `devices.keep_freed_memory`, for all.")


class Plain(nn.Module):
    """The block as `densenet` writes it for other backends."""

    count: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns the features after the block, with the statistics of the batch."""
        for j in range(self.count):
            new, _ = DenseLayer(32, 5, 1, 4, name=str(j))(x, True)
            x = jnp.concatenate([x, new], axis=-1)
        return x


def plain(params: dict, x: jax.Array) -> jax.Array:
    return Plain(_LAYERS.value).apply({"params": params}, x, mutable=["batch_stats"])[0]


def fused(params: dict, x: jax.Array) -> jax.Array:
    weights = tuple(layer_weights(params[str(j)]) for j in range(_LAYERS.value))
    return dense_block(x, weights, None).features


def compiled(form: Callable, params: dict, x: jax.Array, w: jax.Array) -> tuple[Callable, str]:
    """A call that returns the gradients by parameters and input, and what compiling took."""
    began = time.process_time()
    step = jax.jit(jax.grad(lambda params, x, w: jnp.vdot(form(params, x), w), argnums=(0, 1)))
    program = step.lower(params, x, w).compile()
    took = time.process_time() - began
    memory = program.memory_analysis().temp_size_in_bytes / 2**20
    return lambda: jax.block_until_ready(program(params, x, w)), f"{took:.1f} | {memory:.0f}"


def pytorch(params: dict, x: jax.Array, w: jax.Array) -> Callable:
    """The same in eager PyTorch; returns the gradient by the input, `[B, n, C]`."""

    def tensor(a: Any, *order: int) -> torch.Tensor:
        return torch.tensor(np.asarray(a)).permute(order).contiguous().requires_grad_()

    weights = jax.tree_util.tree_map(
        lambda a: tensor(a, 2, 1, 0) if a.ndim == 3 else tensor(a, 0), params
    )
    x, w = tensor(x, 0, 2, 1), tensor(w, 0, 2, 1).detach()

    def norm_relu(y, norm):
        return F.relu(F.batch_norm(y, None, None, norm["scale"], norm["bias"], training=True))

    def step() -> np.ndarray:
        x.grad, y = None, x
        for j in range(_LAYERS.value):
            layer = weights[str(j)]
            inner = F.conv1d(norm_relu(y, layer["norm1"]), layer["conv1"]["kernel"])
            hidden = norm_relu(inner, layer["norm2"])
            y = torch.cat([y, F.conv1d(hidden, layer["conv2"]["kernel"], padding=2)], 1)
        (y * w).sum().backward()
        return x.grad.movedim(1, -1).numpy()

    return step


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    if _KEEP.value:
        devices.keep_freed_memory()
    rng = np.random.default_rng(0)
    shape = _BATCH.value, _POINTS.value, _CHANNELS.value
    x = jnp.asarray(rng.normal(size=shape), jnp.float32)
    w = jnp.asarray(rng.normal(size=(*shape[:2], shape[2] + 32 * _LAYERS.value)), jnp.float32)
    like = jax.eval_shape(Plain(_LAYERS.value).init, jax.random.key(0), x)["params"]
    params = jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape) * 0.05, a.dtype), like)
    calls, notes = {}, {"torch": "- | -"}
    for name, form, backend in (("plain", plain, "tpu"), ("fused", fused, "cpu")):
        forms.backend = lambda backend=backend: backend
        calls[name], notes[name] = compiled(form, params, x, w)
    calls["torch"] = pytorch(params, x, w)
    wanted = calls["torch"]()
    for name in ("plain", "fused"):
        apart = np.abs(calls[name]()[1] - wanted).mean() / np.abs(wanted).mean()
        if apart > 1e-4:
            raise RuntimeError(f"{name}: the input's gradient differs by {apart:.1e}")
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(_ROUNDS.value):
        for name, call in calls.items():
            began = time.process_time()
            call()
            seconds[name].append(time.process_time() - began)
    print("| form | ms, median (least) | compile s | temporary MiB |\n| --- | --- | --- | --- |")
    for name, values in seconds.items():
        middle, least = 1e3 * np.median(values), 1e3 * min(values)
        print(f"| {name} | {middle:.1f} ({least:.1f}) | {notes[name]} |")


if __name__ == "__main__":
    app.run(main)
