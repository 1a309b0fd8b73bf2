"""Moving the points of a pattern or an image by a small displacement, for any number of axes.

Belongs here: the pure function alone. It gathers and scatters nothing: as displacements are
bounded, linear interpolation is a sum of shifted copies with hat-function weights, which is fast on
every backend, forward and backward, and adds up in one order.
"""

import itertools

import jax
import jax.numpy as jnp

from imitation_refinement.method.networks import layers


def warp(x: jax.Array, displacement: jax.Array, reach: int) -> jax.Array:
    """Interpolates x (bi)linearly at displaced points: y(p) = x(p + d(p)), zero outside of x.

    At a whole displacement the derivative by it is the central difference of x, so that a field
    that starts at zero learns.

    Args:
        x: [B, *n, C].
        displacement: d in grid points, [B, *n, number of axes], of at most `reach` in absolute
            value; beyond that values fade to zero.
        reach: whole number of grid points.

    Returns:
        y, shape and dtype of x.
    """
    axes = layers.spatial_axes(x)
    shifts = range(-reach, reach + 1)
    hats = [[_hat(displacement[..., [axis]] - s) for s in shifts] for axis in range(len(axes))]
    padded = jnp.pad(x, ((0, 0), *(((reach, reach),) * len(axes)), (0, 0)))
    result = jnp.zeros_like(x)
    for steps in itertools.product(range(len(shifts)), repeat=len(axes)):
        moved = padded
        for axis, step in zip(axes, steps, strict=True):
            moved = jax.lax.slice_in_dim(moved, step, step + x.shape[axis], axis=axis)
        for weights, step in zip(hats, steps, strict=True):
            moved = weights[step] * moved
        result = result + moved
    return result


def _hat(u: jax.Array) -> jax.Array:
    """max(1 - |u|, 0), whose derivative at a kink is the mean of both sides'.

    Minimum and maximum share it at a tie; relu's would be zero, and nothing would start.
    """
    return jnp.maximum(jnp.minimum(1.0 + u, 1.0 - u), 0.0)
