"""U-Net refiner (Ronneberger et al. 2015) in one or two dimensions, as a residual that starts at
the identity.

Belongs here: the architecture only; sizes with names are in `networks/__init__`.

The paper says: 3x1 filters to 32 maps, an encoder-decoder of 4 convolutional and 4 deconvolutional
  layers, a 1x1
convolution to one map; elsewhere "60k parameters". One definition covers the readings of that
(`levels`: n = len(features) - 1 halvings; widths w_0..w_n; k points per axis; s axes; conv(a, b) =
a b k^s + b):

* "4 + 4", 32 maps throughout, `up_convs=0`, without the outer skip: first conv(1, 32) = 128; four
  encoder conv(32, 32) = 4 * 3104; first decoder conv(32, 32) = 3104; three decoders read a skip
  too, conv(64, 32) = 3 * 6176; 1x1 conv(32, 1) = 33. Together 34,209.
* "4 + 4", widths 32, 32, 32, 64, 64, with the outer skip: 128 + 3104 + 3104 + 6208 + 12352 down;
  conv(64, 64) = 12352, conv(128, 32) = 12320, 6176 and 6176 up; 1x1 over the 64 maps [decoder,
  first] = 65. Together 61,985.
* The original's shape, two 3x3 convolutions a level down and up, up-convolution with a 2x2 kernel
  that halves the maps, 2-D, widths 12, 24, 48: 65,773. With a flow branch, a 1x1 convolution from
  48 maps to two components of a displacement, 65,871.

Each halving must be exact: 2000 points allow four (2000 = 2^4 * 125), 28 pixels allow two.
"""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from imitation_refinement.method.networks import layers
from imitation_refinement.method.networks.warp import warp

OUTPUTS = ("nonnegative", "unit")
DOWNS = ("max_pool", "stride")


def upsample(x: jax.Array) -> jax.Array:
    """Repeats every point twice on each spatial axis (nearest-neighbour resize by 2)."""
    for axis in layers.spatial_axes(x):
        x = jnp.repeat(x, 2, axis=axis)
    return x


class UNet(nn.Module):
    """R(x) = relu(x + f(x)) for intensities (`nonnegative`), clip(x + f(x), 0, 1) for images
    (`unit`); with a flow branch x is first displaced by a smooth small field d(x).

    The last layer of f starts at zero, so an untrained refiner returns an input in range unchanged,
    bit for bit. There is no norm layer: imperfect sets are small, and f then depends on one example
    at a time.

    Attributes:
        features: widths w_0..w_n; n is the number of halvings.
        ndim: number of spatial axes.
        kernel: points per axis of the convolutions.
        up_kernel: points per axis of the convolution after each upsampling.
        down_convs: convolutions per level on the way down.
        up_convs: convolutions per level on the way up, after the skip is joined.
        outer_skip: whether the last decoder level joins the maps of the first level (below n, all
            levels always do).
        down: `max_pool` (2/2) or `stride` (first convolution of a level with stride 2).
        output: `nonnegative` or `unit`.
        flow: largest displacement in grid points on each axis; 0: no flow branch. Its field is read
            from the coarsest level, bounded by tanh and resized linearly, so it is smooth.
        dtype: of the computation of f; the sum with x is float32.
    """

    features: Sequence[int] = (32, 32, 32, 32, 32)
    ndim: int = 1
    kernel: int = 3
    up_kernel: int = 3
    down_convs: int = 1
    up_convs: int = 0
    outer_skip: bool = False
    down: str = "max_pool"
    output: str = "nonnegative"
    flow: int = 0
    dtype: Any = jnp.float32

    @property
    def axis_multiple(self) -> int:
        """What the lengths of all axes must be multiples of, for the levels to fit together."""
        return int(2 ** (len(self.features) - 1))

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Refines x [B, *n, C]; same shape and dtype."""
        layers.check_input(x, self.ndim, "UNet")
        self._check(x)
        levels = len(self.features) - 1
        skips = []
        y = x
        for level, width in enumerate(self.features):
            strided = level > 0 and self.down == "stride"
            if level > 0 and not strided:
                y = layers.max_pool(y, 2, 2)
            for j in range(self.down_convs):
                stride = 2 if strided and j == 0 else 1
                y = self._conv(width, self.kernel, f"down{level}_{j}", stride)(y)
            skips.append(y)
        zeros = nn.initializers.zeros_init()
        moved = x
        if self.flow > 0:
            field = layers.conv(
                self.ndim, 1, self.ndim, name="flow", dtype=self.dtype, kernel_init=zeros
            )(y)
            field = self.flow * jnp.tanh(field.astype(x.dtype))
            field = jax.image.resize(field, (*x.shape[:-1], self.ndim), "linear")
            moved = warp(x, field, self.flow)
        for level in reversed(range(levels)):
            y = self._conv(self.features[level], self.up_kernel, f"up{level}")(upsample(y))
            if level > 0 or self.outer_skip:
                y = jnp.concatenate([y, skips[level]], axis=-1)
            for j in range(self.up_convs):
                y = self._conv(self.features[level], self.kernel, f"up{level}_{j}")(y)
        change = layers.conv(
            x.shape[-1], 1, self.ndim, name="out", dtype=self.dtype, kernel_init=zeros
        )(y)
        refined = moved + change.astype(x.dtype)
        return nn.relu(refined) if self.output == "nonnegative" else jnp.clip(refined, 0.0, 1.0)

    def _conv(
        self, width: int, kernel: int, name: str, stride: int = 1
    ) -> Callable[[jax.Array], jax.Array]:
        convolution = layers.conv(
            width, kernel, self.ndim, stride=stride, name=name, dtype=self.dtype
        )
        return lambda y: nn.relu(convolution(y))

    def _check(self, x: jax.Array) -> None:
        if self.output not in OUTPUTS:
            raise ValueError(f"UNet.output: expected one of {OUTPUTS}, got {self.output!r}")
        if self.down not in DOWNS:
            raise ValueError(f"UNet.down: expected one of {DOWNS}, got {self.down!r}")
        if any(n % self.axis_multiple for n in x.shape[1:-1]):
            raise ValueError(
                f"UNet: expected axes that are multiples of {self.axis_multiple}, "
                f"got {x.shape[1:-1]}"
            )
