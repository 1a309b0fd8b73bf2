"""PyTorch in float64 on linen's parameters, for tests of whole training steps.

Parameters are dicts of leaf tensors in linen's layout by path, so that after a step they can be
compared leaf by leaf. Arrays are [B, C, *n].
"""

import jax
import numpy as np
import torch

F = torch.nn.functional
CONV = {1: F.conv1d, 2: F.conv2d}
CONV_TRANSPOSE = {1: F.conv_transpose1d, 2: F.conv_transpose2d}
MAX_POOL = {1: F.max_pool1d, 2: F.max_pool2d}


def alive(tree, seed):
    """The tree with numbers of its own: signals neither die out nor saturate."""
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        name = path[-1].key
        spread = 0.2 if name in ("scale", "bias", "mean", "var") else 0.5
        return (rng.normal(0, spread, leaf.shape) ** (2 if name == "var" else 1)) + (
            1.0 if name in ("scale", "var") else 0.0
        )

    return jax.tree_util.tree_map_with_path(draw, tree)


def tensors(tree, grad=True):
    """Leaf tensors by path."""
    flat = jax.tree_util.tree_leaves_with_path(tree)
    return {
        tuple(key.key for key in path): torch.tensor(
            np.asarray(leaf, np.float64), requires_grad=grad
        )
        for path, leaf in flat
    }


def assert_same(got, wanted, start, atol=1e-9):
    """A tree is as PyTorch has it, and every leaf has moved away from `start`."""
    wanted = {path: leaf.detach().numpy() for path, leaf in wanted.items()}
    start = {path: leaf.detach().numpy() for path, leaf in tensors(start).items()}
    leaves = {path: leaf.detach().numpy() for path, leaf in tensors(got).items()}
    assert leaves.keys() == wanted.keys()
    for path, leaf in leaves.items():
        np.testing.assert_allclose(leaf, wanted[path], atol=atol, err_msg=str(path))
        assert np.abs(leaf - start[path]).max() > 1e-4, path


def first(x):
    return torch.tensor(np.asarray(x)).movedim(-1, 1)


def conv(p, x, name, ndim):
    kernel = p[name, "kernel"].movedim((-1, -2), (0, 1))
    return CONV[ndim](x, kernel, p.get((name, "bias")), padding=kernel.shape[-1] // 2)


def conv_transpose(p, x, name, ndim):
    """Transposed convolution of 4 points, stride 2; linen does not turn the kernel round."""
    axes = tuple(range(ndim))
    kernel = p[name, "kernel"].flip(axes).movedim((-2, -1), (0, 1))
    return CONV_TRANSPOSE[ndim](x, kernel, None, stride=2, padding=1)


def dense(p, x, name):
    return F.linear(x, p[name, "kernel"].T, p.get((name, "bias")))


def norm(p, x, name, running=None):
    """Batch norm by the batch's statistics, or by running ones."""
    if running is None:
        axes = (0, *range(2, x.ndim))
        mean, var = x.mean(axes), x.var(axes, unbiased=False)
    else:
        mean, var = running[name, "mean"], running[name, "var"]
    shape = (1, -1, *[1] * (x.ndim - 2))
    y = (x - mean.reshape(shape)) / torch.sqrt(var.reshape(shape) + 1e-5)
    return y * p[name, "scale"].reshape(shape) + p[name, "bias"].reshape(shape)


def encoder(p, x, ndim, running=None):
    """The embedding of `TINY`: two stages of convolution, batch norm, ReLU, max pool; the mean."""
    for i in range(2):
        y = norm(p, conv(p, x, f"conv{i}_0", ndim), f"norm{i}_0", running)
        x = MAX_POOL[ndim](F.relu(y), 2)
    return x.flatten(2).mean(2)


TINY = {
    "stages": ((4,), (6,)), "hidden": (), "pool_window": 2, "pool_stride": 2, "batch_norm": True,
}  # fmt: skip
