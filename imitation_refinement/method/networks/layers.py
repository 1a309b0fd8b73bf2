"""Layers that the networks share, for any number of spatial axes.

Belongs here: convolution, batch norm and pooling with this project's conventions, and the
record a classifier returns. Arrays are [B, *spatial, C]; `ndim` is the number of spatial axes.
Computation runs in `dtype` (float32 or bfloat16), parameters and batch statistics stay float32.
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from imitation_refinement.method.networks import convolution, forms, normalization


class ClassifierOutput(NamedTuple):
    """What a classifier gives for x [B, *spatial, C]; float32 also if it computes in bfloat16.

    Attributes:
        logits: [B, K], the input of the softmax G.
        embedding: [B, D], F(x): the features that the last dense layer reads.
        features: outputs of the first and of the second convolution, before norm and nonlinearity:
            the Psi of Eq. 7.
    """

    logits: jax.Array
    embedding: jax.Array
    features: tuple[jax.Array, jax.Array]


def conv(
    features: int,
    kernel: int,
    ndim: int,
    *,
    name: str,
    stride: int = 1,
    use_bias: bool = True,
    dtype: Any = jnp.float32,
    kernel_init: nn.initializers.Initializer | None = None,
) -> nn.Conv:
    """Convolution with `kernel` points on every spatial axis, that returns ceil(length / stride)
    points.

    Zeros are put evenly on both sides ('SAME' puts them unevenly when stride > 1), so that
    PyTorch's `padding=kernel // 2` is the same layer for odd kernels. Initial weights are He's for
    ReLU unless given.
    """
    return nn.Conv(
        features,
        (kernel,) * ndim,
        strides=(stride,) * ndim,
        padding=(((kernel - 1) // 2, kernel // 2),) * ndim,
        use_bias=use_bias,
        dtype=dtype,
        kernel_init=kernel_init or nn.initializers.he_normal(),
        conv_general_dilated=_convolve if forms.fused_layers(dtype) else None,
        name=name,
    )


def _convolve(x, kernel, strides, padding, **_):
    """`convolution.conv` as linen calls it; what it adds are the defaults of `conv` above."""
    return convolution.conv(x, kernel, tuple(strides), tuple(padding))


def batch_norm(x: jax.Array, train: bool, *, name: str, dtype: Any = jnp.float32) -> jax.Array:
    """Batch norm; statistics of the (global) batch when `train`, running ones otherwise.

    Computed in float32 or wider and returned in `dtype`.
    """
    norm = nn.BatchNorm(
        use_running_average=not train,
        momentum=normalization.MOMENTUM,
        epsilon=normalization.EPSILON,
        name=name,
    )
    return norm(normalization.widened(x)).astype(dtype)


def norm_relu(
    x: jax.Array,
    train: bool,
    *,
    name: str,
    dtype: Any = jnp.float32,
    moments: normalization.Moments | None = None,
) -> jax.Array:
    """ReLU of `batch_norm`; `moments` are those of x over the batch, where they are known."""
    if forms.fused_layers(dtype) or moments is not None:
        return FusedNormRelu(name=name)(x, train, moments)
    return nn.relu(batch_norm(x, train, name=name, dtype=dtype))


class FusedNormRelu(nn.Module):
    """`norm_relu` by the functions of `normalization`, on the parameters of linen's batch norm."""

    @nn.compact
    def __call__(
        self, x: jax.Array, train: bool, moments: normalization.Moments | None
    ) -> jax.Array:
        """Returns h for x `[B, *n, C]`, in its dtype."""
        zeros, ones = jnp.zeros(x.shape[-1]), jnp.ones(x.shape[-1])
        norm = normalization.Norm(
            self.param("scale", lambda _: ones), self.param("bias", lambda _: zeros)
        )
        mean = self.variable("batch_stats", "mean", lambda: zeros)
        var = self.variable("batch_stats", "var", lambda: ones)
        running = normalization.Moments(mean.value, var.value)
        norm, of = jax.tree.map(
            lambda leaf: leaf.astype(normalization.widened(x).dtype), (norm, running)
        )
        if not train:
            return normalization.norm_relu(x, norm, of)
        if moments is None:
            h, moments = normalization.batch_norm_relu(x, norm)
        else:
            h = normalization.norm_relu(x, norm, moments)
        if not self.is_initializing():
            mean.value, var.value = normalization.updated(running, moments)
        return h


def max_pool(x: jax.Array, window: int, stride: int) -> jax.Array:
    """Maximum over windows centred on blocks of points: [B, *n, C] -> [B, *(n // stride), C].

    Half of `window - stride` is padded on each side, the odd point on the right; padding is never
    the maximum.

    Raises:
        ValueError: an axis is shorter than `stride`.
    """
    if min(x.shape[1:-1]) < stride:
        raise ValueError(f"max_pool: expected axes of {stride} or more, got {x.shape[1:-1]}")
    extra = window - stride
    return padded_max_pool(x, window, stride, (extra // 2, extra - extra // 2))


def padded_max_pool(x: jax.Array, window: int, stride: int, padding: tuple[int, int]) -> jax.Array:
    """Maximum over windows of x `[B, *n, C]`, with `padding` before and after every axis."""
    if forms.fused_layers(x.dtype):
        return convolution.max_pool(x, window, stride, padding)
    ndim = x.ndim - 2
    return nn.max_pool(x, (window,) * ndim, (stride,) * ndim, (padding,) * ndim)


def halve(x: jax.Array) -> jax.Array:
    """Mean of each pair of points on every axis: [B, *n, C] -> [B, *(n // 2), C], odd one dropped.

    The same as an average pool, without the slow `reduce_window` of the CPU backend.

    Raises:
        ValueError: an axis has one point.
    """
    if min(x.shape[1:-1]) < 2:
        raise ValueError(f"halve: expected axes of 2 or more, got {x.shape[1:-1]}")
    for axis in spatial_axes(x):
        even = jax.lax.slice_in_dim(x, 0, x.shape[axis] // 2 * 2, axis=axis)
        x = jnp.mean(even.reshape(*x.shape[:axis], -1, 2, *x.shape[axis + 1 :]), axis=axis + 1)
    return x


def spatial_axes(x: jax.Array) -> tuple[int, ...]:
    """Axes of [B, *spatial, C] that are neither batch nor channel."""
    return tuple(range(1, x.ndim - 1))


def check_input(x: jax.Array, ndim: int, where: str) -> None:
    """Raises ValueError unless x is [B, *spatial, C] with `ndim` spatial axes."""
    if x.ndim != ndim + 2:
        raise ValueError(f"{where}: expected [B, {ndim} spatial axes, C], got shape {x.shape}")
