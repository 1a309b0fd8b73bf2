"""A whole dense block as one function with a gradient of its own, for the CPU backend.

Belongs here: the fused form of what `densenet.DenseLayer` and the concatenation between two of them
do. XLA's CPU backend copies to concatenate and takes the statistics of a feature anew in every
layer that reads it. Here every feature is written once into one buffer and its statistics are taken
once; 1x1 convolutions are matrix products; the backward pass computes normalised features again
instead of keeping them, and sums what all readers of a feature give back before it goes on.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from imitation_refinement.method.networks import convolution
from imitation_refinement.method.networks.normalization import (
    Moments,
    Norm,
    moments,
    normalize,
    normalize_gradient,
    through_moments,
)

SHARED = 3  # layers that share one compiled program at most


class LayerWeights(NamedTuple):
    """Parameters of a dense layer: norms, and kernels `[1.., C, I]` and `[k.., I, growth]`."""

    norm1: Norm
    conv1: jax.Array
    norm2: Norm
    conv2: jax.Array


class LayerMoments(NamedTuple):
    """Moments that the two norms of a dense layer use."""

    norm1: Moments
    norm2: Moments


class BlockOutput(NamedTuple):
    """What a block gives.

    Attributes:
        features: the input and what every layer adds to it, `[B, *n, C]`.
        inner: output of the first convolution of the first layer, `[B, *n, I]`.
        moments: of each feature over the batch; None where running ones are given.
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
    """Applies one or more dense layers to x `[B, *n, C0]`, float32 or float64.

    Args:
        x: input.
        layers: their parameters, in the dtype of x.
        running: the moments that each layer uses; None takes those of the batch.
    """
    return _forward(x, layers, running)[0]


def _groups(depth: int) -> list[range]:
    """Layers by the program that they share: the first alone, the others by twos or threes.

    Compiling takes as long as there are groups. The layers of one are as wide as its last, with
    zeros for the features that are not there yet, which costs some 5 % of the arithmetic of
    DenseNet-121; blocks of one or two layers cost none.
    """
    count = -(-(depth - 1) // SHARED)
    ends = [1 + (depth - 1) * i // max(count, 1) for i in range(count + 1)]
    return [range(0, 1), *(range(a, b) for a, b in itertools.pairwise(ends))]


def _stacked(trees: Sequence[Any], width: int) -> Any:
    """Layers of one group in arrays with a leading axis, their first norm and kernel widened."""

    def wide(leaf, *, axis):
        padding = [(0, 0)] * leaf.ndim
        padding[axis] = (0, width - leaf.shape[axis])
        return jnp.pad(leaf, padding)

    def widened(tree):
        kernel = {"conv1": wide(tree.conv1, axis=-2)} if isinstance(tree, LayerWeights) else {}
        return tree._replace(
            norm1=jax.tree.map(functools.partial(wide, axis=0), tree.norm1), **kernel
        )

    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(widened, trees))


def _each(body: Callable, carry: Any, items: Any, positions: Sequence[int]) -> tuple[Any, Any]:
    """`lax.scan` over items and positions; of one item without a loop."""
    if len(positions) > 1:
        return jax.lax.scan(body, carry, (items, jnp.array(positions)))
    carry, found = body(carry, (jax.tree.map(lambda leaf: leaf[0], items), positions[0]))
    return carry, jax.tree.map(lambda leaf: leaf[None], found)


def _forward(x, layers, running):
    start, growth = x.shape[-1], layers[0].conv2.shape[-1]
    width = start + growth * len(layers)
    features = jnp.zeros((*x.shape[:-1], width), x.dtype)
    features = jax.lax.dynamic_update_slice_in_dim(features, x, 0, -1)
    known = None
    if running is None:
        known = jax.tree.map(lambda own: _added(jnp.zeros(width, x.dtype), own), moments(x))
    inners, seconds = [], []
    for group in _groups(len(layers)):
        end = start + growth * group[-1]  # how many features the last of the group reads

        def body(carry, item, end=end):
            features, known = carry
            (layer, of), position = item
            seen = features[..., :end]
            first = Moments(known.mean[:end], known.var[:end]) if of is None else of.norm1
            inner = _matmul(normalize(seen, layer.norm1, first), layer.conv1)
            second = moments(inner) if of is None else of.norm2
            hidden = normalize(inner, layer.norm2, second)
            new = convolution.convolve(hidden, layer.conv2, *_same(layer.conv2))
            features = jax.lax.dynamic_update_slice_in_dim(features, new, position, -1)
            if of is None:
                known = jax.tree.map(
                    lambda all_, own: jax.lax.dynamic_update_slice_in_dim(all_, own, position, 0),
                    known, moments(new),
                )  # fmt: skip
            return (features, known), (inner, second)

        items = _stacked([layers[j] for j in group], end), None
        if running is not None:
            items = items[0], _stacked([running[j] for j in group], end)
        positions = [start + growth * j for j in group]
        (features, known), (inner, second) = _each(body, (features, known), items, positions)
        inners.append(inner)
        seconds.append(second)
    used = []
    for j, second in enumerate(_unstacked(seconds)):
        c = start + growth * j
        first = Moments(known.mean[:c], known.var[:c]) if running is None else running[j].norm1
        used.append(LayerMoments(first, second))
    output = BlockOutput(features, inners[0][0], known, tuple(used))
    return output, (features, tuple(inners), layers, known, tuple(used))


def _unstacked(groups: Sequence[Any]) -> list[Any]:
    """The items of all groups, one after the other."""
    return [
        jax.tree.map(lambda leaf: leaf[i], group)  # noqa: B023
        for group in groups
        for i in range(jax.tree.leaves(group)[0].shape[0])
    ]


def _backward(saved, gradients):
    features, inners, layers, known, used = saved
    growth, width = layers[0].conv2.shape[-1], features.shape[-1]
    start = width - growth * len(layers)
    into = gradients.features  # of each feature, from the readers that have been passed
    by = gradients.moments  # likewise of its moments, where they are the batch's

    def arrived(into, by, position, size):
        """The gradient of some features after all their readers."""
        cut = functools.partial(jax.lax.dynamic_slice_in_dim, start_index=position, slice_size=size)
        part = cut(into, axis=-1)
        if by is None:
            return part
        return through_moments(
            part, cut(features, axis=-1), jax.tree.map(cut, known), jax.tree.map(cut, by)
        )

    found = []
    groups = _groups(len(layers))
    for group, inner_maps in zip(reversed(groups), reversed(inners), strict=True):
        end = start + growth * group[-1]

        def body(carry, item, end=end, first_of_all=group[0] == 0):
            into, by = carry
            (layer, of, inner), position = item
            seen, (first, second) = features[..., :end], of
            shape = layer.conv2.shape, *_same(layer.conv2)

            new = jax.lax.optimization_barrier(arrived(into, by, position, growth))
            hidden = normalize(inner, layer.norm2, second)
            conv2 = convolution.kernel_gradient(hidden, new, *shape)
            dh = convolution.input_gradient(new, layer.conv2, hidden, *shape[1:])
            dinner, norm2, by_second = normalize_gradient(dh, inner, layer.norm2, second)
            if by is not None:
                dinner = through_moments(dinner, inner, second, by_second)
            if first_of_all:
                dinner = dinner + gradients.inner

            dinner = jax.lax.optimization_barrier(dinner)
            hidden = normalize(seen, layer.norm1, first)
            same = _same(layer.conv1)
            conv1 = convolution.kernel_gradient(hidden, dinner, layer.conv1.shape, *same)
            dh = _matmul(dinner, layer.conv1.swapaxes(-1, -2))
            direct, norm1, by_first = normalize_gradient(dh, seen, layer.norm1, first)
            into = jax.lax.dynamic_update_slice_in_dim(into, into[..., :end] + direct, 0, -1)
            if by is not None:
                by = jax.tree.map(_added, by, by_first)
            given = LayerWeights(norm1, conv1, norm2, conv2), LayerMoments(by_first, by_second)
            return (into, by), given

        items = (
            _stacked([layers[j] for j in group[::-1]], end),
            _stacked([used[j] for j in group[::-1]], end),
            inner_maps[::-1],
        )
        positions = [start + growth * j for j in group[::-1]]
        (into, by), given = _each(body, (into, by), items, positions)
        found.append(given)
    by_layers, by_running = [], []
    for j, (weights, of) in enumerate(reversed(_unstacked(found))):
        c = start + growth * j  # without what its group widened
        cut = functools.partial(jax.tree.map, lambda leaf: leaf[:c])  # noqa: B023
        by_layers.append(
            weights._replace(norm1=cut(weights.norm1), conv1=weights.conv1[..., :c, :])
        )
        by_running.append(of._replace(norm1=cut(of.norm1)))
    dx = arrived(into, by, 0, start)
    return dx, tuple(by_layers), tuple(by_running) if by is None else None


dense_block.defvjp(_forward, _backward)


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
