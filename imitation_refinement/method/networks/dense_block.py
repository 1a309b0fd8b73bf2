"""A whole dense block as one function with a gradient of its own, for CPU and GPU backends.

Belongs here: the fused form of what `densenet.DenseLayer` and the concatenation between two of them
do. XLA's CPU backend copies to concatenate and takes the statistics of a feature anew in every
layer that reads it. Here every feature is written once into one buffer and its statistics are taken
once; 1x1 convolutions are matrix products; the backward pass sums what all readers of a feature
give back before it goes on.

A CPU computes normalised features again in the backward pass instead of keeping them. A GPU keeps
them, as a pass over them costs more than the arithmetic. Barriers end there what XLA may fuse: it
would compute the sum over all readers anew for each of them. One pass over the features of a layer
takes the gradient by its norm and adds what it gives back.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from imitation_refinement.method.networks import convolution, forms
from imitation_refinement.method.networks.normalization import (
    Moments,
    Norm,
    moments,
    normalize,
    normalize_gradient,
    through_moments,
    widened,
)


class LayerWeights(NamedTuple):
    """Parameters of a dense layer: norms, and kernels `[1.., C, I]` and `[k.., I, growth]`."""

    norm1: Norm
    conv1: jax.Array
    norm2: Norm
    conv2: jax.Array


def layer_weights(params: Mapping[str, Any]) -> LayerWeights:
    """Returns the parameters of a `densenet.DenseLayer` as the block takes them."""
    return LayerWeights(
        Norm(**params["norm1"]),
        params["conv1"]["kernel"],
        Norm(**params["norm2"]),
        params["conv2"]["kernel"],
    )


class LayerMoments(NamedTuple):
    """Moments that the two norms of a dense layer use."""

    norm1: Moments
    norm2: Moments


class BlockOutput(NamedTuple):
    """What a block gives.

    Attributes:
        features: the input and what every layer adds to it, `[B, *n, C]`.
        inner: output of the first convolution of the first layer, `[B, *n, I]`.
        moments: of each feature over the batch, float32 or wider; None where running ones are
            given.
        layer_moments: what the norms of each layer used; no gradient flows into them.
    """

    features: jax.Array
    inner: jax.Array
    moments: Moments | None
    layer_moments: tuple[LayerMoments, ...]


@jax.custom_vjp
def dense_block(
    x: jax.Array, layers: tuple[LayerWeights, ...], running: tuple[LayerMoments, ...] | None
) -> BlockOutput:
    """Applies one or more dense layers to x `[B, *n, C0]`.

    Args:
        x: input, float32, float64 or, on a GPU, bfloat16.
        layers: their parameters: kernels in the dtype of x, norms in float32 or wider.
        running: the moments that each layer uses, as wide as norms; None takes those of the batch.
    """
    return _forward(x, layers, running)[0]


def _forward(x, layers, running):
    start, growth = x.shape[-1], layers[0].conv2.shape[-1]
    features = jnp.zeros((*x.shape[:-1], start + growth * len(layers)), x.dtype)
    features = jax.lax.dynamic_update_slice_in_dim(features, x, 0, -1)
    known: Any = moments(x) if running is None else None  # then every layer has its own
    inners, hiddens, used = [], [], []
    for j, layer in enumerate(layers):
        seen = features[..., : start + growth * j]
        first = running[j].norm1 if known is None else known
        read = _held(normalize(seen, layer.norm1, first))
        inner = _matmul(read, layer.conv1)
        second = running[j].norm2 if known is None else moments(inner)
        hidden = _held(normalize(inner, layer.norm2, second))
        new = convolution.convolve(hidden, layer.conv2, *_same(layer.conv2))
        features = jax.lax.dynamic_update_slice_in_dim(features, new, seen.shape[-1], -1)
        if known is not None:
            known = jax.tree.map(lambda *parts: jnp.concatenate(parts), known, moments(new))
        inners.append(inner)
        hiddens.append((read, hidden) if _keeps() else None)
        used.append(LayerMoments(first, second))
    output = BlockOutput(features, inners[0], known, tuple(used))
    return output, (features, tuple(inners), tuple(hiddens), layers, known, tuple(used))


def _backward(saved, gradients):
    features, inners, hiddens, layers, known, used = saved
    features, inners = _held((features, inners))  # nothing but them is kept of the forward pass
    growth, width = layers[0].conv2.shape[-1], features.shape[-1]
    into = gradients.features  # of each feature, from the readers that have been passed
    by = gradients.moments  # likewise of its moments, where they are the batch's

    def arrived(start, end):
        """The gradient of some features after all their readers."""
        part = into[..., start:end]
        if by is None:
            return part
        own, given = (Moments(m.mean[start:end], m.var[start:end]) for m in (known, by))
        whole = through_moments(widened(part), features[..., start:end], own, given)
        return whole.astype(features.dtype)

    by_layers, by_running = [], []
    for j in reversed(range(len(layers))):
        layer, inner, c = layers[j], inners[j], width - growth * (len(layers) - j)
        seen = features[..., :c]
        first, second = used[j]
        shape = layer.conv2.shape, *_same(layer.conv2)

        new = jax.lax.optimization_barrier(arrived(c, c + growth))
        hidden = hiddens[j][1] if _keeps() else normalize(inner, layer.norm2, second)
        conv2 = convolution.kernel_gradient(hidden, new, *shape)
        dh = convolution.input_gradient(new, layer.conv2, hidden, *shape[1:])
        dinner, norm2, by_second = normalize_gradient(dh, inner, layer.norm2, second)
        if by is not None:
            dinner = through_moments(dinner, inner, second, by_second)
        if j == 0:
            dinner = dinner + widened(gradients.inner)

        dinner = jax.lax.optimization_barrier(dinner.astype(inner.dtype))
        hidden = hiddens[j][0] if _keeps() else normalize(seen, layer.norm1, first)
        conv1 = convolution.kernel_gradient(hidden, dinner, layer.conv1.shape, *_same(layer.conv1))
        dh = _matmul(dinner, layer.conv1.swapaxes(-1, -2))
        direct, norm1, by_first = normalize_gradient(dh, seen, layer.norm1, first)
        into = _with_reader(into, direct)
        if by is not None:
            by = jax.tree.map(_added, by, by_first)
        by_layers.append(LayerWeights(norm1, conv1, norm2, conv2))
        by_running.append(LayerMoments(by_first, by_second))
    dx = arrived(0, width - growth * len(layers))
    return dx, tuple(by_layers[::-1]), tuple(by_running[::-1]) if by is None else None


dense_block.defvjp(_forward, _backward)


def _keeps() -> bool:
    """Whether normalised features are kept for the backward pass."""
    return forms.backend() == "gpu"


def _held(tree: Any) -> Any:
    """Arrays that XLA's GPU backend must write: nothing after them is fused with what made them."""
    return jax.lax.optimization_barrier(tree) if forms.backend() == "gpu" else tree


def _with_reader(into: jax.Array, direct: jax.Array) -> jax.Array:
    """Gradients `[B, *n, C]` of features with what a reader of the first c gives back added.

    A GPU drops those of features that are done, which lets the sum share a pass with its operands'.
    """
    c = direct.shape[-1]
    total = (widened(into[..., :c]) + direct).astype(into.dtype)
    if forms.backend() == "gpu":
        return _held(total)
    return jax.lax.dynamic_update_slice_in_dim(into, total, 0, -1)


def _added(a: jax.Array, b: jax.Array) -> jax.Array:
    """Vector a `[C]` with b `[c]` added to its beginning (`a.at[:c].add` would be a scatter)."""
    return jnp.concatenate([a[: b.size] + b, a[b.size :]])


def _matmul(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """1x1 convolution of x `[B, *n, C]` with kernel `[1.., C, I]`."""
    c, i = kernel.shape[-2:]
    return (x.reshape(-1, c) @ kernel.reshape(c, i)).reshape(*x.shape[:-1], i)


def _same(kernel: jax.Array) -> tuple[tuple[int, ...], convolution.Pairs]:
    """Strides and padding of a dense layer's convolution, see `layers.conv`."""
    sizes = kernel.shape[:-2]
    return (1,) * len(sizes), tuple(((k - 1) // 2, k // 2) for k in sizes)
