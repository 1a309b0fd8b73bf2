"""Networks against PyTorch in float64 with the same weights: outputs and input gradients.

The weights are drawn here, not by the initialisers: batch-norm scales are away from 1 and half of
them negative, and running statistics are those of a forward pass of the reference. (With the
initial statistics 0 and 1 signals die out on the way, logits are the bias of the last layer, and
any two networks agree.) Every comparison first makes sure that its signal is alive.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from imitation_refinement.method.networks import (
    VGG,
    DenseNet,
    UNet,
    build_classifier,
    build_refiner,
)
from imitation_refinement.method.networks.warp import warp

torch = pytest.importorskip("torch", reason="PyTorch is in the test extra")
F = torch.nn.functional

pytestmark = pytest.mark.usefixtures("quick_compilation")
CONV = {1: F.conv1d, 2: F.conv2d}
MAX_POOL = {1: F.max_pool1d, 2: F.max_pool2d}
AVG_POOL = {1: F.avg_pool1d, 2: F.avg_pool2d}


class Reference:
    """Layers on [B, C, *n] float64 tensors that read linen's weights; NumPy dicts by layer name.

    With `calibrate`, batch norm stores the statistics of its input before it uses them.
    """

    def __init__(self, params, statistics, ndim, calibrate=False):
        self.params, self.statistics = params, statistics
        self.ndim, self.calibrate = ndim, calibrate

    def conv(self, x, *path, stride=1):
        leaf = self._at(self.params, path)
        kernel = torch.tensor(leaf["kernel"]).movedim((-1, -2), (0, 1))
        bias = torch.tensor(leaf["bias"]) if "bias" in leaf else None
        if kernel.shape[-1] % 2 == 0:
            x = F.pad(x, (0, 1) * self.ndim)
            return CONV[self.ndim](x, kernel, bias)
        return CONV[self.ndim](x, kernel, bias, stride=stride, padding=kernel.shape[-1] // 2)

    def norm(self, x, *path):
        scale, running = self._at(self.params, path), self._at(self.statistics, path)
        if self.calibrate:
            axes = (0, *range(2, x.ndim))
            running["mean"] = x.mean(axes).numpy()
            running["var"] = x.var(axes, unbiased=False).numpy()
        values = (running["mean"], running["var"], scale["scale"], scale["bias"])
        return F.batch_norm(x, *(torch.tensor(v) for v in values), training=False, eps=1e-5)

    def dense(self, x, name):
        leaf = self.params[name]
        return F.linear(x, torch.tensor(leaf["kernel"]).T, torch.tensor(leaf["bias"]))

    @staticmethod
    def _at(tree, path):
        for name in path:
            tree = tree[name]
        return tree


def densenet(net, layer, x):
    """Huang et al. 2017, as in torchvision: returns logits, embedding and two maps."""
    maps = layer.conv(x, "stem", stride=net.stem_stride)
    y = F.relu(layer.norm(maps, "stem_norm"))
    if net.stem_pool:
        y = MAX_POOL[net.ndim](y, 3, 2, padding=1)
    second = None
    for i, depth in enumerate(net.blocks):
        collected = [y]
        for j in range(depth):
            name = f"block{i}_layer{j}"
            z = layer.conv(
                F.relu(layer.norm(torch.cat(collected, 1), name, "norm1")), name, "conv1"
            )
            second = z if second is None else second
            z = layer.conv(F.relu(layer.norm(z, name, "norm2")), name, "conv2")
            collected.append(z)
        y = torch.cat(collected, 1)
        if i + 1 < len(net.blocks):
            y = layer.conv(F.relu(layer.norm(y, f"transition{i}_norm")), f"transition{i}_conv")
            second = y if second is None else second
            y = AVG_POOL[net.ndim](y, 2)
    embedding = F.relu(layer.norm(y, "norm")).flatten(2).mean(2)
    return layer.dense(embedding, "head"), embedding, maps, second


def vgg(net, layer, x):
    """Simonyan and Zisserman 2014, in evaluation (no dropout)."""
    maps, y = [], x
    for i, widths in enumerate(net.stages):
        for j in range(len(widths)):
            y = layer.conv(y, f"conv{i}_{j}", stride=net.stem_stride if i == j == 0 else 1)
            maps.append(y)
            y = F.relu(layer.norm(y, f"norm{i}_{j}") if net.batch_norm else y)
        window, stride = net.pool_window, net.pool_stride
        if net.last_pool or i + 1 < len(net.stages):
            y = MAX_POOL[net.ndim](y, window, stride, padding=(window - stride) // 2)
    if not net.hidden:
        embedding = y.flatten(2).mean(2)
    else:
        embedding = y.movedim(1, -1).flatten(1)  # linen flattens with channels last
        for i in range(len(net.hidden)):
            embedding = F.relu(layer.dense(embedding, f"hidden{i}"))
    return layer.dense(embedding, "head"), embedding, maps[0], maps[1]


def sampled(x, field):
    """x [B, C, *n] at displaced points, field [B, axes, *n], by torch.nn.functional.grid_sample."""
    shape = x.shape
    if x.ndim == 3:  # grid_sample has no 1-D form: one row
        x, field = x[:, :, None], torch.stack([torch.zeros_like(field[:, 0]), field[:, 0]], 1)
        field = field[:, :, None]
    axes = [torch.arange(n, dtype=x.dtype) for n in x.shape[2:]]
    places = torch.stack(torch.meshgrid(*axes, indexing="ij")) + field
    last = torch.tensor([max(n - 1, 1) for n in x.shape[2:]]).reshape(1, 2, 1, 1)
    grid = (2 * places / last - 1).movedim(1, -1).flip(-1)  # x before y
    return F.grid_sample(x, grid, padding_mode="zeros", align_corners=True).reshape(shape)


def unet(net, layer, x):
    """Ronneberger et al. 2015 with zero padding, and the residual output."""
    skips, y = [], x
    for level in range(len(net.features)):
        if level > 0 and net.down == "max_pool":
            y = MAX_POOL[net.ndim](y, 2)
        for j in range(net.down_convs):
            stride = 2 if level > 0 and j == 0 and net.down == "stride" else 1
            y = F.relu(layer.conv(y, f"down{level}_{j}", stride=stride))
        skips.append(y)
    if net.flow > 0:
        field = net.flow * torch.tanh(layer.conv(y, "flow"))
        mode = {1: "linear", 2: "bilinear"}[net.ndim]
        field = F.interpolate(field, x.shape[2:], mode=mode, align_corners=False)
        moved = sampled(x, field)
    else:
        moved = x
    for level in range(len(net.features) - 2, -1, -1):
        y = F.interpolate(y, scale_factor=2, mode="nearest")
        y = F.relu(layer.conv(y, f"up{level}"))
        if level > 0 or net.outer_skip:
            y = torch.cat([y, skips[level]], 1)
        for j in range(net.up_convs):
            y = F.relu(layer.conv(y, f"up{level}_{j}"))
    y = moved + layer.conv(y, "out")
    return (torch.clamp(y, min=0) if net.output == "nonnegative" else torch.clamp(y, 0, 1),)


def drawn(tree, rng):
    """Float64 weights of the tree's shapes, drawn from `rng`."""

    def leaf(path, shape):
        name = path[-1].key
        if name == "kernel":
            return rng.normal(size=shape) * np.sqrt(2 / np.prod(shape[:-1]))
        if name == "scale":
            return rng.uniform(0.5, 1.5, shape) * np.where(np.arange(shape[0]) % 2, -1.0, 1.0)
        return rng.normal(size=shape) * 0.3

    return jax.tree_util.tree_map_with_path(lambda path, x: leaf(path, x.shape), tree)


def compare(net, reference, shape, *, gradient=True, seed=0):
    """Outputs in float64 and float32, and the input gradient of the first output in float64."""
    rng = np.random.default_rng(seed)
    variables = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros(shape))
    params = drawn(variables["params"], rng)
    statistics = jax.tree.map(lambda x: np.full(x.shape, np.nan), variables.get("batch_stats", {}))
    size = np.arange(1.0, shape[0] + 1).reshape(-1, *[1] * (len(shape) - 1))
    x = rng.random(shape) * size
    tensor = torch.tensor(x).movedim(-1, 1).clone()
    calibration = torch.tensor(rng.random(shape) * size).movedim(-1, 1)
    with torch.no_grad():
        reference(net, Reference(params, statistics, net.ndim, calibrate=True), calibration)
    tensor.requires_grad_(gradient)
    outputs = reference(net, Reference(params, statistics, net.ndim), tensor)
    wanted = [y.detach().movedim(1, -1).numpy() for y in outputs]

    # Alive: examples differ in every output by a good part of its size.
    for y in wanted:
        assert np.std(y, axis=0).max() > 0.02 * np.abs(y).max()

    trees = {"params": params} | ({"batch_stats": statistics} if statistics else {})

    def apply(dtype):
        network = net.clone(dtype=dtype)
        cast = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), trees)
        run = jax.jit(lambda x: jax.tree.leaves(network.apply(cast, x)))
        return run, jnp.asarray(x, dtype)

    run, point = apply(jnp.float32)
    for got, y in zip(run(point), wanted, strict=True):
        assert got.dtype == jnp.float32
        np.testing.assert_allclose(got, y, rtol=0, atol=2e-5 * np.abs(y).max())
    if not gradient:
        return
    weights = rng.normal(size=wanted[0].shape)
    (outputs[0] * torch.tensor(weights).movedim(-1, 1)).sum().backward()
    slope = tensor.grad.movedim(1, -1).numpy()
    assert np.abs(slope).max() > 1e-6
    with jax.enable_x64():
        run, point = apply(jnp.float64)
        for got, y in zip(run(point), wanted, strict=True):
            assert got.dtype == jnp.float64
            np.testing.assert_allclose(got, y, rtol=0, atol=1e-11 * np.abs(y).max())
        got = jax.jit(jax.grad(lambda x: jnp.sum(run(x)[0] * jnp.asarray(weights))))(point)
    np.testing.assert_allclose(got, slope, rtol=0, atol=1e-10 * np.abs(slope).max())


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stem_stride": 4, "kernel": 3, "bottleneck": 2, "blocks": (1, 2, 1)},
        {"ndim": 2, "kernel": 3, "stem_stride": 1, "stem_pool": False},
        {"ndim": 2, "kernel": 3, "stem_stride": 1, "stem_pool": False, "blocks": (0, 2, 2)},
    ],
)
def test_densenet(options):
    net = DenseNet(5, **{"blocks": (2, 3), "growth": 6, "stem_features": 8} | options)
    shape = (3, 61, 1) if net.ndim == 1 else (3, 14, 13, 1)  # odd lengths: halving drops a point
    compare(net, densenet, shape)


@pytest.mark.slow
def test_densenet121():
    compare(DenseNet(7), densenet, (3, 128, 1), gradient=False)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"batch_norm": True, "hidden": (), "stem_stride": 2, "stem_kernel": 7, "kernel": 5},
        {"batch_norm": True, "ndim": 2, "pool_window": 2, "pool_stride": 2},
        {"hidden": (), "ndim": 2, "pool_window": 2, "pool_stride": 2, "last_pool": False},
    ],
)
def test_vgg(options):
    net = VGG(5, **{"stages": ((6, 6), (8,)), "hidden": (9, 7)} | options)
    compare(net, vgg, (3, 83, 1) if net.ndim == 1 else (3, 11, 10, 1))


def test_vgg19_with_narrow_dense_layers():
    compare(VGG(7, hidden=(32, 32)), vgg, (2, 2000, 1), gradient=False)


@pytest.mark.parametrize(
    "net",
    [
        UNet((6, 7, 8)),
        UNet((6, 7, 8), outer_skip=True, down="stride", output="unit"),
        UNet((4, 6, 8), ndim=2, up_kernel=2, down_convs=2, up_convs=2, outer_skip=True),
        UNet((6, 7, 8), flow=3),
        UNet((4, 6), ndim=2, flow=2, output="unit"),
    ],
)
def test_unet(net):
    compare(net, unet, (3, 24, 1) if net.ndim == 1 else (3, 12, 8, 1))


SLIM = ("densenet_digits_slim", densenet), ("cnn_digits", vgg)


@pytest.mark.parametrize(("name", "reference"), SLIM)
def test_digit_classifiers(name, reference):
    section = ConfigDict({"network": name, "dtype": "float32"})
    compare(build_classifier(section, 10), reference, (2, 28, 28, 1), gradient=False)


@pytest.mark.parametrize("name", ["unet_digits", "unet_flow_digits"])
def test_digit_refiners(name):
    network = build_refiner(ConfigDict({"network": name, "dtype": "float32"}))
    compare(network, unet, (2, 28, 28, 1), gradient=False)


@pytest.mark.parametrize("size", [(9,), (6, 7)])
def test_warp_is_grid_sample_with_its_gradients(size):
    rng = np.random.default_rng(0)
    x, weights = rng.normal(size=(2, *size, 3)), rng.normal(size=(2, *size, 3))
    field = rng.uniform(-2.99, 2.99, (2, *size, len(size)))
    tensors = [torch.tensor(a).movedim(-1, 1).clone().requires_grad_() for a in (x, field)]
    wanted = sampled(*tensors)
    assert wanted.abs().mean() > 0.2
    (wanted * torch.tensor(weights).movedim(-1, 1)).sum().backward()
    with jax.enable_x64():
        got = warp(jnp.asarray(x), jnp.asarray(field), 3)
        slopes = jax.grad(
            lambda x, field: jnp.sum(warp(x, field, 3) * jnp.asarray(weights)), argnums=(0, 1)
        )(jnp.asarray(x), jnp.asarray(field))
    np.testing.assert_allclose(got, wanted.detach().movedim(1, -1), rtol=0, atol=1e-13)
    for slope, tensor in zip(slopes, tensors, strict=True):
        expected = tensor.grad.movedim(1, -1).numpy()
        assert np.abs(expected).max() > 0.1
        np.testing.assert_allclose(slope, expected, rtol=0, atol=1e-12)
