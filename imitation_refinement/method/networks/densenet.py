"""DenseNet-BC classifier (Huang et al. 2017) in one or two dimensions.

Belongs here: the architecture only; sizes with names are in `networks/__init__`.

The paper's classifier is DenseNet-121 (blocks 6, 12, 24, 16, growth 32) with 1-D kernels. Its "two
BatchNorm-ReLU-Conv layers where the filter size is 5x1" is read as DenseNet's 1x1 bottleneck
followed by a convolution of 5 points: with 7 classes 6,001,799 parameters (both of 5 points would
be 22,140,039).

For digits it says: stride 1 in the first convolution, no first max pool, no first dense block,
"900k parameters". In two dimensions with growth 12 and `blocks=(0, 12, 24, 16)`, where the
transition after the removed block stays, that is 885,220 for 10 classes; 905,914 without that
transition, 6,149,130 with growth 32.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from imitation_refinement.method.networks import forms, layers
from imitation_refinement.method.networks.dense_block import (
    LayerMoments,
    dense_block,
    layer_weights,
)
from imitation_refinement.method.networks.normalization import Moments, updated, widened


class DenseLayer(nn.Module):
    """BN-ReLU-Conv(1) to `bottleneck * growth` maps, BN-ReLU-Conv(`kernel`) to `growth` maps."""

    growth: int
    kernel: int
    ndim: int
    bottleneck: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
        """Returns the new maps [B, *n, growth] and the output of the first convolution."""
        options = {"use_bias": False, "dtype": self.dtype}
        y = layers.norm_relu(x, train, name="norm1", dtype=self.dtype)
        inner = layers.conv(self.bottleneck * self.growth, 1, self.ndim, name="conv1", **options)(y)
        y = layers.norm_relu(inner, train, name="norm2", dtype=self.dtype)
        return layers.conv(self.growth, self.kernel, self.ndim, name="conv2", **options)(y), inner


class DenseNet(nn.Module):
    """Stem, dense blocks with halving transitions between them, BN-ReLU, global mean, dense layer.

    Attributes:
        num_classes: K.
        blocks: dense layers in each block; one of 0 is its transition alone.
        growth: maps that each dense layer adds.
        kernel: points per axis of the second convolution of a dense layer.
        ndim: number of spatial axes.
        stem_features, stem_kernel, stem_stride: of the first convolution.
        stem_pool: whether a max pool of window 3 and stride 2 follows the stem (not on small
            images).
        bottleneck: maps of a dense layer's first convolution, in units of `growth`.
        dtype: of the computation.

    The embedding is the mean over space that the dense layer reads. Psi's second map is the output
    of the second convolution: of the first dense layer or, if the first block is empty, of its
    transition.
    """

    num_classes: int
    blocks: Sequence[int] = (6, 12, 24, 16)
    growth: int = 32
    kernel: int = 5
    ndim: int = 1
    stem_features: int = 64
    stem_kernel: int = 7
    stem_stride: int = 2
    stem_pool: bool = True
    bottleneck: int = 4
    dtype: Any = jnp.float32

    @property
    def smallest_axis(self) -> int:
        """Points that an axis needs at least, for one to be left after the last transition."""
        return self.stem_stride * (1 + self.stem_pool) * 2 ** (len(self.blocks) - 1)

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> layers.ClassifierOutput:
        """Classifies x [B, *n, C]; with `train`, batch statistics are used and updated."""
        layers.check_input(x, self.ndim, "DenseNet")
        options = {"use_bias": False, "dtype": self.dtype}
        stem = layers.conv(
            self.stem_features,
            self.stem_kernel,
            self.ndim,
            stride=self.stem_stride,
            name="stem",
            **options,
        )(x)
        y = layers.norm_relu(stem, train, name="stem_norm", dtype=self.dtype)
        if self.stem_pool:
            y = layers.padded_max_pool(y, 3, 2, (1, 1))
        features = [widened(stem)]
        for i, depth in enumerate(self.blocks):
            y, inner, moments = self._block(i, depth, y, train)
            if inner is not None and len(features) < 2:
                features.append(widened(inner))
            last = i + 1 == len(self.blocks)
            name = "norm" if last else f"transition{i}_norm"
            y = layers.norm_relu(y, train, name=name, dtype=self.dtype, moments=moments)
            if last:
                break
            # A mean of points and a product with features may change places; the mean first is half
            # the work in one dimension, a quarter in two. Psi's map is at all points.
            mean_first = len(features) == 2
            y = layers.halve(y) if mean_first else y
            name = f"transition{i}_conv"
            y = layers.conv(y.shape[-1] // 2, 1, self.ndim, name=name, **options)(y)
            if not mean_first:
                features.append(widened(y))
                y = layers.halve(y)
        embedding = jnp.mean(widened(y), axis=layers.spatial_axes(y))
        logits = nn.Dense(self.num_classes, name="head")(embedding)
        return layers.ClassifierOutput(logits, embedding, (features[0], features[1]))

    def _block(
        self, i: int, depth: int, x: jax.Array, train: bool
    ) -> tuple[jax.Array, jax.Array | None, Moments | None]:
        """Features after dense block i; its first layer's inner output; the features' moments.

        The last two are None where there is no layer, or moments are not known.
        """
        names = [f"block{i}_layer{j}" for j in range(depth)]
        if names and forms.fused_blocks(self.dtype, train) and not self.is_initializing():
            return self._fused_block(names, x, train)
        inners = []
        for name in names:
            layer = DenseLayer(
                self.growth, self.kernel, self.ndim, self.bottleneck, self.dtype, name=name
            )
            new, inner = layer(x, train)
            inners.append(inner)
            x = jnp.concatenate([x, new], axis=-1)
        return x, inners[0] if inners else None, None

    def _fused_block(
        self, names: Sequence[str], x: jax.Array, train: bool
    ) -> tuple[jax.Array, jax.Array, Moments | None]:
        """The same by `dense_block`, on the variables of the layers called `names`."""
        wide = widened(x).dtype
        statistics: list[Any] = [self.get_variable("batch_stats", name) for name in names]
        running = [
            LayerMoments(Moments(**one["norm1"]), Moments(**one["norm2"])) for one in statistics
        ]
        params: list[Any] = [self.get_variable("params", name) for name in names]
        weights = tuple(
            layer_weights(
                jax.tree.map(lambda leaf: leaf.astype(x.dtype if leaf.ndim > 1 else wide), one)
            )
            for one in params
        )
        given = None if train else jax.tree.map(lambda leaf: leaf.astype(wide), tuple(running))
        block = dense_block(x, weights, given)
        if train:
            for name, old, batch in zip(names, running, block.layer_moments, strict=True):
                new = LayerMoments(*map(updated, old, batch))
                self.put_variable(
                    "batch_stats",
                    name,
                    {"norm1": new.norm1._asdict(), "norm2": new.norm2._asdict()},
                )
        return block.features, block.inner, block.moments
