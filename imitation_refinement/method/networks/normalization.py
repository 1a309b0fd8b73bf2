"""Batch norm followed by ReLU, with a gradient that XLA's CPU and GPU backends run well.

Belongs here: functions of arrays `[B, *n, C]`, which take statistics over all but the last axis, in
float32 or wider; parameters and moments are as wide.
With u = a (x - mean) + bias and a = scale / sqrt(var + epsilon), h = max(u, 0) gives back, per
feature and with du = dh where u > 0, else 0 (Ioffe and Szegedy 2015, section 3):

    dx = a du + dmean / N + 2 (x - mean) dvar / N,
    dbias = sum du,  dscale = sum du (x - mean) / sqrt(var + epsilon),
    dmean = -a dbias,  dvar = -scale dscale / (2 (var + epsilon)).
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from imitation_refinement.method.networks import forms

EPSILON = 1e-5
MOMENTUM = 0.9  # PyTorch's 0.1; linen's default 0.99 is too slow for runs of a few hundred steps


class Norm(NamedTuple):
    """What a batch norm multiplies and adds, `[C]` each."""

    scale: jax.Array
    bias: jax.Array


class Moments(NamedTuple):
    """Mean and variance of each feature, `[C]` each."""

    mean: jax.Array
    var: jax.Array


def widened(x: jax.Array) -> jax.Array:
    """Returns bfloat16 as float32, float32 and float64 unchanged."""
    return x.astype(jnp.float32) if x.dtype == jnp.bfloat16 else x


def totals(*arrays: jax.Array) -> tuple[jax.Array, ...]:
    """Sums over all but the last axis, `[C]` each, of arrays `[B, *n, C]` of one shape.

    On a GPU one pass takes them all, as many partial sums as there are examples at a time.
    """
    if forms.backend() == "cpu":
        return tuple(map(_total, arrays))
    zeros = tuple(jnp.zeros((), x.dtype) for x in arrays)
    inner = tuple(range(1, arrays[0].ndim - 1))
    parts = jax.lax.reduce(arrays, zeros, lambda a, b: jax.tree.map(jnp.add, a, b), inner)
    return tuple(jnp.sum(part, 0) for part in parts)


def _total(x: jax.Array) -> jax.Array:
    """One of `totals`.

    Eight rows at a time, then a product with ones: the CPU backend does not vectorise a `reduce`
    over many rows, and eight equal rows of ones keep the product a matrix product.
    """
    rows = x.reshape(-1, x.shape[-1])
    whole = rows.shape[0] // 8 * 8
    eights = rows[:whole].reshape(-1, 8, rows.shape[1])
    pairs = [eights[:, i] + eights[:, i + 4] for i in range(4)]
    parts = (pairs[0] + pairs[1]) + (pairs[2] + pairs[3])
    parts = jax.lax.optimization_barrier(parts)
    return (jnp.ones((8, whole // 8), x.dtype) @ parts)[0] + jnp.sum(rows[whole:], 0)


def moments(x: jax.Array) -> Moments:
    """Mean and variance of each feature of x `[B, *n, C]`, as linen's batch norm takes them."""
    count = math.prod(x.shape[:-1])
    x = widened(x)
    sums = totals(x, jnp.square(x))
    mean = sums[0] / count
    return Moments(mean, jnp.maximum(sums[1] / count - jnp.square(mean), 0.0))


def updated(running: Moments, batch: Moments) -> Moments:
    """Running moments after a batch."""
    return jax.tree.map(
        lambda old, new: MOMENTUM * old + (1.0 - MOMENTUM) * new.astype(old.dtype), running, batch
    )


def normalize(x: jax.Array, norm: Norm, of: Moments) -> jax.Array:
    """ReLU of the batch norm of x `[B, *n, C]` with the moments `of`, in the dtype of x."""
    slope = norm.scale * jax.lax.rsqrt(of.var + EPSILON)
    u = (widened(x) - _wide(of.mean, x)) * _wide(slope, x) + _wide(norm.bias, x)
    return jax.nn.relu(u).astype(x.dtype)


def _wide(values: jax.Array, x: jax.Array) -> jax.Array:
    """Values `[C]` with axes of length 1 in front, as many as x has."""
    return values.reshape((1,) * (x.ndim - 1) + values.shape)


def normalize_gradient(
    dh: jax.Array, x: jax.Array, norm: Norm, of: Moments
) -> tuple[jax.Array, Norm, Moments]:
    """Gradients of `normalize`, widened: by x with fixed moments (a du), by norm, by moments."""
    root = jax.lax.rsqrt(of.var + EPSILON)
    slope = norm.scale * root
    centred = widened(x) - _wide(of.mean, x)
    du = _passed(widened(dh), centred * _wide(slope, x) + _wide(norm.bias, x))
    dbias, along = totals(du, du * centred)
    dscale = along * root
    return (
        du * _wide(slope, x),
        Norm(dscale, dbias),
        Moments(-slope * dbias, -0.5 * norm.scale * dscale * jnp.square(root)),
    )


def _passed(dh: jax.Array, u: jax.Array) -> jax.Array:
    """Dh where u > 0, else 0. As a product, which a GPU computes again and does not store."""
    if forms.backend() == "cpu":
        return jnp.where(u > 0, dh, 0.0)
    return dh * jnp.sign(jax.nn.relu(u))


def through_moments(direct: jax.Array, x: jax.Array, of: Moments, by: Moments) -> jax.Array:
    """dx: its direct part, and what gradients `by` of the moments of x give back to x; widened."""
    count = math.prod(x.shape[:-1])
    slope = (2.0 / count) * by.var
    return direct + _wide(by.mean / count, x) + _wide(slope, x) * (widened(x) - _wide(of.mean, x))


@jax.custom_vjp
def norm_relu(x: jax.Array, norm: Norm, of: Moments) -> jax.Array:
    """`normalize`, whose gradient is `normalize_gradient`."""
    return normalize(x, norm, of)


def _norm_relu_backward(saved, dh):
    direct, *others = normalize_gradient(dh, *saved)
    return direct.astype(saved[0].dtype), *others


norm_relu.defvjp(lambda x, norm, of: (normalize(x, norm, of), (x, norm, of)), _norm_relu_backward)


@jax.custom_vjp
def batch_norm_relu(x: jax.Array, norm: Norm) -> tuple[jax.Array, Moments]:
    """ReLU of the batch norm of x with its own moments, and these (no gradient flows into them)."""
    of = moments(x)
    return normalize(x, norm, of), of


def _forward(x, norm):
    of = moments(x)
    return (normalize(x, norm, of), of), (x, norm, of)


def _backward(saved, gradients):
    x, norm, of = saved
    direct, by_norm, by_moments = normalize_gradient(gradients[0], x, norm, of)
    return through_moments(direct, x, of, by_moments).astype(x.dtype), by_norm


batch_norm_relu.defvjp(_forward, _backward)
