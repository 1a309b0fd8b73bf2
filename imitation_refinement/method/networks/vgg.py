"""VGG classifier (Simonyan and Zisserman 2014) in one or two dimensions.

Belongs here: the architecture only; sizes with names are in `networks/__init__`.

The paper's VGG-19 has 3x1 convolutions and 10x1 max pools. Its pool stride is not given. Five pools
of stride 10 do not fit on 2000 points; with stride 4 the lengths are 500, 125, 31, 7, 1, so the
flattened maps are 512 numbers and the network has 25,601,610 parameters for 10 classes (stride 2:
lengths down to 62, 153.5 million).
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from imitation_refinement.method.networks import layers
from imitation_refinement.method.networks.normalization import widened


class VGG(nn.Module):
    """Stages of Conv-ReLU, each closed by a max pool; hidden dense layers with ReLU and dropout;
    dense layer.

    Attributes:
        num_classes: K.
        stages: for each stage, the number of maps of each of its convolutions.
        hidden: sizes of the hidden dense layers. If empty, the embedding is the mean over space;
            otherwise maps are flattened, so the input length is fixed by the parameters, and the
            embedding is the last hidden layer.
        kernel: points per axis of a convolution.
        ndim: number of spatial axes.
        stem_kernel, stem_stride: of the very first convolution.
        pool_window, pool_stride: of the max pools; each divides an axis by `pool_stride`, rounding
            down.
        last_pool: whether the last stage is closed by one, as the others are.
        batch_norm: whether each convolution (then without bias) is followed by batch norm, before
            the ReLU.
        dropout: rate after each hidden layer in training; above 0 `apply` needs a `dropout`
            key then.
        dtype: of the computation.
    """

    num_classes: int
    stages: Sequence[Sequence[int]] = ((64,) * 2, (128,) * 2, (256,) * 4, (512,) * 4, (512,) * 4)
    hidden: Sequence[int] = (4096, 4096)
    kernel: int = 3
    ndim: int = 1
    stem_kernel: int = 3
    stem_stride: int = 1
    pool_window: int = 10
    pool_stride: int = 4
    last_pool: bool = True
    batch_norm: bool = False
    dropout: float = 0.5
    dtype: Any = jnp.float32

    @property
    def smallest_axis(self) -> int:
        """Points that an axis needs at least, for one to be left after the last pool."""
        pools = len(self.stages) - (not self.last_pool)
        return self.stem_stride * self.pool_stride**pools

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> layers.ClassifierOutput:
        """Classifies x [B, *n, C]; with `train`, batch statistics and dropout are in use."""
        layers.check_input(x, self.ndim, "VGG")
        features: list[jax.Array] = []
        y = x
        for i, widths in enumerate(self.stages):
            for j, width in enumerate(widths):
                first = i == j == 0
                y = layers.conv(
                    width,
                    self.stem_kernel if first else self.kernel,
                    self.ndim,
                    stride=self.stem_stride if first else 1,
                    use_bias=not self.batch_norm,
                    dtype=self.dtype,
                    name=f"conv{i}_{j}",
                )(y)
                if len(features) < 2:
                    features.append(widened(y))
                if self.batch_norm:
                    y = layers.norm_relu(y, train, name=f"norm{i}_{j}", dtype=self.dtype)
                else:
                    y = nn.relu(y)
            if self.last_pool or i + 1 < len(self.stages):
                y = layers.max_pool(y, self.pool_window, self.pool_stride)
        if self.hidden:
            y = y.reshape(y.shape[0], -1)
        else:
            y = jnp.mean(widened(y), axis=layers.spatial_axes(y))
        embedding = y
        for i, width in enumerate(self.hidden):
            he = nn.initializers.he_normal()
            embedding = nn.relu(
                nn.Dense(width, dtype=self.dtype, kernel_init=he, name=f"hidden{i}")(y)
            )
            y = nn.Dropout(self.dropout, deterministic=not train)(embedding)
        logits = nn.Dense(self.num_classes, name="head")(widened(y))
        return layers.ClassifierOutput(logits, widened(embedding), (features[0], features[1]))
