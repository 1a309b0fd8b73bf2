"""Convolution and max pool with gradients that XLA's CPU backend runs well.

Belongs here: functions of arrays `[B, *n, C]`, equal in value and gradient to `lax`'s. The gradient
by a kernel is a product of matrices,

    dW[t] = sum_i x[s i + t - left]^T dy[i],

of which the narrower side is copied once per tap t; `lax`'s is a convolution with a kernel as long
as the pattern. `lax`'s gradient of a max pool visits every window point by point.
"""

import itertools
import math
from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp

from imitation_refinement.method.networks import forms

Pairs = tuple[tuple[int, int], ...]


def convolve(x: jax.Array, kernel: jax.Array, strides: Sequence[int], padding: Pairs) -> jax.Array:
    """Convolves x `[B, *n, C]` with kernel `[*k, C, D]`: `lax.conv_general_dilated`.

    One spatial axis becomes two of which the first has one point: the CPU backend is up to twice as
    fast then.
    """
    if x.ndim == 3 and forms.backend() == "cpu":
        y = convolve(x[:, None], kernel[None], (1, *strides), ((0, 0), *padding))
        return y[:, 0]
    spatial = "XYZ"[: x.ndim - 2]
    layout = (f"N{spatial}C", f"{spatial}IO", f"N{spatial}C")
    return jax.lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=layout)


def input_gradient(
    g: jax.Array, kernel: jax.Array, x: jax.Array, strides: Sequence[int], padding: Pairs
) -> jax.Array:
    """Gradient of `convolve` by its input, whose shape and dtype are those of `x`."""
    (dx,) = jax.linear_transpose(lambda x: convolve(x, kernel, strides, padding), x)(g)
    return dx


def kernel_gradient(
    x: jax.Array, g: jax.Array, shape: Sequence[int], strides: Sequence[int], padding: Pairs
) -> jax.Array:
    """Gradient of `convolve` by its kernel of shape `[*k, C, D]`, as a product of matrices.

    g is that of the output; with stride 1 input and output have the same length. For kernels of
    more than one point a GPU has `lax`'s gradient.
    """
    *sizes, c, d = shape
    if math.prod(sizes) > 1 and forms.backend() != "cpu":
        like = jax.ShapeDtypeStruct(shape, x.dtype)
        (dkernel,) = jax.linear_transpose(lambda k: convolve(x, k, strides, padding), like)(g)
        return dkernel
    taps = list(itertools.product(*map(range, sizes)))
    if d <= c and all(stride == 1 for stride in strides):
        # The sum over i of x[i + t - left] g[i] is that over m of x[m] g[m + left - t].
        mirrored = tuple((k - 1 - left, left) for k, (left, _) in zip(sizes, padding, strict=True))
        side = shifted(g, taps[::-1], x.shape[1:-1], strides, mirrored)
        product = transposed_product(side, x.reshape(-1, c))
        return product.reshape(*sizes, d, c).swapaxes(-1, -2)
    side = shifted(x, taps, g.shape[1:-1], strides, padding)
    g = g.reshape(-1, d)
    narrower = side.shape[1] <= d
    product = transposed_product(side, g) if narrower else transposed_product(g, side).T
    return product.reshape(shape)


def transposed_product(a: jax.Array, b: jax.Array) -> jax.Array:
    """a^T b for a `[M, P]`, b `[M, Q]`; fastest where P is the smaller.

    Without the barrier XLA fuses what made an operand into a strided, transposed write.
    """
    a, b = jax.lax.optimization_barrier((a, b))
    return jax.lax.dot_general(a, b, (((0,), (0,)), ((), ())))


def shifted(
    x: jax.Array,
    taps: Sequence[tuple[int, ...]],
    size: Sequence[int],
    strides: Sequence[int],
    padding: Pairs,
) -> jax.Array:
    """Rows x[s i + t - left] for every output point i, taps t side by side: `[M, taps * C]`."""
    padded = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    parts = []
    for tap in taps:
        part = padded
        for axis, (t, n, s) in enumerate(zip(tap, size, strides, strict=True), start=1):
            part = jax.lax.slice_in_dim(part, t, t + s * (n - 1) + 1, s, axis)
        parts.append(part)
    return jnp.concatenate(parts, axis=-1).reshape(math.prod((x.shape[0], *size)), -1)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def conv(x: jax.Array, kernel: jax.Array, strides: tuple[int, ...], padding: Pairs) -> jax.Array:
    """`convolve`, whose gradient by the kernel is `kernel_gradient`."""
    return convolve(x, kernel, strides, padding)


def _conv_forward(x, kernel, strides, padding):
    return convolve(x, kernel, strides, padding), (x, kernel)


def _conv_backward(strides, padding, saved, g):
    x, kernel = saved
    return (
        input_gradient(g, kernel, x, strides, padding),
        kernel_gradient(x, g, kernel.shape, strides, padding),
    )


conv.defvjp(_conv_forward, _conv_backward)


def max_pool(x: jax.Array, window: int, stride: int, padding: tuple[int, int]) -> jax.Array:
    """Maximum over windows of x `[B, *n, C]`, one axis after the other; padding is never it.

    As with `lax.reduce_window`, the gradient goes to the first maximum of a window: zero background
    ties.
    """
    for axis in range(x.ndim - 2, 0, -1):  # the last first, so that ties go to the first in rows
        x = _pool(x, axis, window, stride, padding)
    return x


@partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3, 4))
def _pool(x, axis, window, stride, padding):
    return _pool_forward(x, axis, window, stride, padding)[0]


def _pool_forward(x, axis, window, stride, padding):
    candidates = _windows(x, axis, window, stride, padding)
    y = candidates[0]
    for candidate in candidates[1:]:
        y = jnp.maximum(y, candidate)
    return y, (x, y)


def _windows(x, axis, window, stride, padding):
    """Point t of every window, for each t."""
    wide = [(0, 0)] * x.ndim
    wide[axis] = padding
    padded = jnp.pad(x, wide, constant_values=-jnp.inf)
    count = (padded.shape[axis] - window) // stride + 1
    return [
        jax.lax.slice_in_dim(padded, t, t + stride * (count - 1) + 1, stride, axis)
        for t in range(window)
    ]


def _pool_backward(axis, window, stride, padding, saved, g):
    """Point p of stride block q gets g of window q - t // stride, for each t = p mod stride."""
    x, y = saved
    count, blocks = y.shape[axis], y.shape[axis] + (window - 1) // stride
    phases = [jnp.zeros((), x.dtype)] * stride
    open_ = jnp.ones(y.shape, bool)  # no maximum was met in the window yet
    for t, candidate in enumerate(_windows(x, axis, window, stride, padding)):
        met = open_ & (candidate == y)
        open_ = open_ & ~met
        wide = [(0, 0)] * x.ndim
        wide[axis] = (t // stride, blocks - count - t // stride)
        phases[t % stride] = phases[t % stride] + jnp.pad(jnp.where(met, g, 0.0), wide)
    dx = jnp.stack(phases, axis + 1)
    dx = dx.reshape(*x.shape[:axis], blocks * stride, *x.shape[axis + 1 :])
    short = max(0, padding[0] + x.shape[axis] - blocks * stride)  # points that no window reached
    wide = [(0, 0)] * x.ndim
    wide[axis] = (0, short)
    return (
        jax.lax.slice_in_dim(jnp.pad(dx, wide), padding[0], padding[0] + x.shape[axis], 1, axis),
    )


_pool.defvjp(_pool_forward, _pool_backward)
