"""Networks of the adversarial baselines, in one or two dimensions: who is told from what, and G.

Belongs here: the architectures only, of ADDA (Tzeng et al. 2017, arXiv:1702.05464) and of
Generate To Adapt, GTA (Sankaranarayanan et al. 2018, arXiv:1704.01705). F, M and C of both are the
classifiers of this package.

GTA's are given for images of 32 x 32. `Generator` keeps their shape for every size: four doublings
from the least start that covers the example, and what is too much is cut off evenly. 32 points
start at 2 and 2,000 at 125, both exact; 28 at 2, and 2 points of 32 go on each side.
"""

from collections.abc import Sequence
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from imitation_refinement.method.networks import layers

DOUBLINGS = 4
# Initial values of the published program.
_KERNEL = nn.initializers.normal(0.02)
_HEAD = nn.initializers.normal(0.1)


def _scale(key: jax.Array, shape: Sequence[int], dtype: jnp.dtype = jnp.float32) -> jax.Array:
    return 1.0 + _KERNEL(key, shape, dtype)


def _norm(x: jax.Array, train: bool, name: str) -> jax.Array:
    return nn.BatchNorm(
        use_running_average=not train, momentum=0.9, epsilon=1e-5, scale_init=_scale, name=name
    )(x)


class FeatureDiscriminator(nn.Module):
    """ADDA's D: dense layers with ReLU; two logits, source and target.

    Attributes:
        hidden: widths of the hidden layers.
    """

    hidden: Sequence[int] = (500, 500)

    @nn.compact
    def __call__(self, embedding: jax.Array) -> jax.Array:
        """Returns logits [B, 2] for embeddings [B, D]."""
        dense = partial(nn.Dense, kernel_init=nn.initializers.xavier_uniform())
        y = embedding
        for i, width in enumerate(self.hidden):
            y = nn.relu(dense(width, name=f"hidden{i}")(y))
        return dense(2, name="head")(y)


class Generator(nn.Module):
    """GTA's G: a pattern from a class, an embedding and noise, from 0 to 1.

    A dense layer to the start's maps (the published transposed convolution of a single point), four
    transposed convolutions of 4 points and stride 2, each halving the maps; batch norm and ReLU
    between, no biases, a sigmoid at the end.

    Attributes:
        num_classes: K; the class K stands for target patterns, whose class nobody knows.
        shape: of an example, [*spatial, C].
        features: maps at the start.
        width: larger embeddings are projected to this size first (large ones make G collapse).
    """

    num_classes: int
    shape: Sequence[int]
    features: int = 512
    width: int = 128

    @nn.compact
    def __call__(
        self, label: jax.Array, embedding: jax.Array, noise: jax.Array, train: bool
    ) -> jax.Array:
        """Returns patterns [B, *spatial, C].

        Args:
            label: [B] integers in 0..K.
            embedding: [B, D], F(x).
            noise: [B, Z], standard normal.
            train: whether batch statistics are used and updated.
        """
        *spatial, channels = self.shape
        ndim, factor = len(spatial), 2**DOUBLINGS
        start = [-(-n // factor) for n in spatial]
        if embedding.shape[1] > self.width:
            dense = nn.Dense(self.width, use_bias=False, kernel_init=_HEAD, name="project")
            embedding = dense(embedding)
        slot = jax.nn.one_hot(label, self.num_classes + 1, dtype=embedding.dtype)
        y = jnp.concatenate([slot, embedding, noise], axis=1)
        points = self.features
        for n in start:
            points *= n
        y = nn.Dense(points, use_bias=False, kernel_init=_KERNEL, name="start")(y)
        y = y.reshape(-1, *start, self.features)
        for level in range(DOUBLINGS):
            y = nn.relu(_norm(y, train, f"norm{level}"))
            last = level + 1 == DOUBLINGS
            y = nn.ConvTranspose(
                channels if last else self.features // 2 ** (level + 1),
                (4,) * ndim,
                (2,) * ndim,
                padding=((2, 2),) * ndim,  # PyTorch's padding=1
                use_bias=False,
                kernel_init=_KERNEL,
                name=f"up{level}",
            )(y)
        for axis, n in enumerate(spatial, start=1):
            y = jax.lax.slice_in_dim(y, *_middle(y.shape[axis], n), axis=axis)
        return nn.sigmoid(y)


class PatternDiscriminator(nn.Module):
    """GTA's D: is a pattern a real ideal one, and of which class.

    Four times convolution, batch norm, leaky ReLU of slope 0.2, max pool, then the mean over what
    is left. Images: 3 x 3 convolutions, pools of 2, 2, 2, 4; one dimension: 5 points, pools of 4.
    Batch norm uses the batch's statistics always: D is thrown away after training. Convolutions
    have no bias, which batch norm would take away.

    Attributes:
        num_classes: K.
        ndim: number of spatial axes.
        features: maps of the first convolution; the others have 2, 4 and 2 times as many.
    """

    num_classes: int
    ndim: int
    features: int = 64

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns logits of being real [B] and of the classes [B, K], for x [B, *spatial, C]."""
        layers.check_input(x, self.ndim, "PatternDiscriminator")
        kernel, pool = (5, 4) if self.ndim == 1 else (3, 2)
        y = x
        for i, multiple in enumerate((1, 2, 4, 2)):
            width = multiple * self.features
            y = layers.conv(
                width,
                kernel,
                self.ndim,
                name=f"conv{i}",
                use_bias=False,
                kernel_init=_KERNEL,
                dtype=x.dtype,
            )(y)
            y = nn.leaky_relu(_norm(y, True, f"norm{i}"), 0.2)
            window = min(pool if i < 3 else 4, *y.shape[1:-1])
            y = layers.max_pool(y, window, window)
        y = jnp.mean(y, axis=layers.spatial_axes(y))
        dense = partial(nn.Dense, kernel_init=_HEAD)
        return dense(1, name="real")(y)[:, 0], dense(self.num_classes, name="head")(y)


def _middle(length: int, wanted: int) -> tuple[int, int]:
    begin = (length - wanted) // 2
    return begin, begin + wanted
