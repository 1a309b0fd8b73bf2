"""Convolution and max pool with gradients that XLA's CPU backend runs well.

Belongs here: functions of arrays `[B, *n, C]`, equal in value and gradient to `lax`'s. The gradient
by a kernel is a product of matrices,

    dW[t] = sum_i x[s i + t - left]^T dy[i],

of which the narrower side is copied once per tap t, or `lax`'s, a convolution with a kernel as long
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
        y = _convolve(x[:, None], kernel[None], (1, *strides), ((0, 0), *padding))
        return y[:, 0]
    return _convolve(x, kernel, strides, padding)


def _convolve(x, kernel, strides, padding):
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
    """Gradient of `convolve` by its kernel of shape `[*k, C, D]`, g being that of the output.

    A product of matrices, where stride 1 says that input and output have the same length; or, for
    kernels of more than one point, `lax`'s: always on a GPU; on the CPU along one axis if the
    output is no narrower than the input. Products are small then and what is copied for them is
    large, so that `lax`'s is faster by up to a third.
    """
    *sizes, c, d = shape
    wide = len(sizes) == 1 and 1 < c <= d
    if math.prod(sizes) > 1 and (wide or forms.backend() != "cpu"):
        like = jax.ShapeDtypeStruct(tuple(shape), x.dtype)
        return jax.linear_transpose(lambda k: _convolve(x, k, strides, padding), like)(g)[0]
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

    Without the first barrier XLA fuses what made an operand into a strided, transposed write;
    without the second the CPU backend multiplies by what is transposed, at up to half the speed.
    """
    a, b = jax.lax.optimization_barrier((a, b))
    if forms.backend() == "cpu":
        return jax.lax.optimization_barrier(a.T) @ b
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
        before, n, after = x.shape[:axis], x.shape[axis], x.shape[axis + 1 :]
        rows = x.reshape(math.prod(before), n, math.prod(after))
        x = _pool(rows, window, stride, padding).reshape(*before, -1, *after)
    return x


@partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _pool(x, window, stride, padding):
    """Of x `[P, n, Q]` over n."""
    wide = ((0, 0), padding, (0, 0))
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, window, 1), (1, stride, 1), wide)


def _pool_forward(x, window, stride, padding):
    y = _pool(x, window, stride, padding)
    return y, (x, y)


def _pool_backward(window, stride, padding, saved, g):
    """Point r of stride block q gets g of window q - s if its first maximum is r + s stride."""
    x, y = saved
    (p, n, features), count, before = x.shape, y.shape[1], padding[0]
    padded = jnp.pad(x, ((0, 0), padding, (0, 0)), constant_values=-jnp.inf)
    first = jnp.full(y.shape, -1, jnp.int32)
    for t in reversed(range(window)):
        at = padded[:, t : t + stride * (count - 1) + 1 : stride]
        first = jnp.where(at == y, t, first)
    back = (window - 1) // stride  # how many windows that start before a block reach into it
    wide = ((0, 0), (back, back), (0, 0))
    first, g = jnp.pad(first, wide, constant_values=-1), jnp.pad(g, wide)
    first, g = jax.lax.optimization_barrier((first, g))  # else every point looks for the borders
    blocks, points = count + back, jnp.arange(stride, dtype=jnp.int32)[None, None, :, None]
    dx = jnp.zeros((), x.dtype)
    for s in range(back + 1):
        window_of = slice(back - s, back - s + blocks)
        met = first[:, window_of, None] == points + s * stride
        dx = dx + jnp.where(met, g[:, window_of, None], 0.0)
    dx = dx.reshape(p, blocks * stride, features)
    short = max(0, before + n - blocks * stride)  # points that no window reached
    return (jnp.pad(dx, ((0, 0), (0, short), (0, 0)))[:, before : before + n],)


_pool.defvjp(_pool_forward, _pool_backward)
