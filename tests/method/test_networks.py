"""Networks: sizes, shapes, dtypes, the start at the identity, and what batch norm does when."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from imitation_refinement.errors import UserError
from imitation_refinement.method.networks import (
    CLASSIFIERS,
    REFINERS,
    VGG,
    DenseNet,
    UNet,
    build_classifier,
    build_refiner,
    layers,
)

# The smallest network of each kind that has every kind of layer.
SMALL = {
    "densenet": DenseNet(3, blocks=(2, 2), growth=4, stem_features=8),
    "vgg": VGG(3, stages=((4, 6), (8,)), hidden=(10,), dropout=0.5),
    "vgg_norm": VGG(3, stages=((4, 6), (8,)), hidden=(), batch_norm=True),
}
DOUBLE = UNet(
    (12, 24, 48), ndim=2, up_kernel=2, down_convs=2, up_convs=2, outer_skip=True, output="unit"
)

pytestmark = pytest.mark.usefixtures("quick_compilation")


def section(network, dtype="float32"):
    return ConfigDict({"network": network, "dtype": dtype})


def shapes(network, *shape):
    return jax.eval_shape(network.init, jax.random.key(0), jnp.zeros(shape))


def parameter_count(network, *shape):
    return sum(leaf.size for leaf in jax.tree.leaves(shapes(network, *shape)["params"]))


def start(network, x):
    return jax.jit(network.init)(jax.random.key(0), x)


def run(network, variables, x, **options):
    return jax.jit(functools.partial(network.apply, **options))(variables, x)


def random_input(*shape):
    return jnp.asarray(np.random.default_rng(0).random(shape), jnp.float32)


@pytest.mark.parametrize(
    ("name", "classes", "wanted"),
    [
        ("densenet121", 7, 6_001_799),
        ("densenet121", 10, 6_004_874),
        ("vgg19", 7, 25_589_319),
        ("vgg19", 10, 25_601_610),
    ],
)
def test_classifier_sizes(name, classes, wanted):
    assert parameter_count(build_classifier(section(name), classes), 1, 2000, 1) == wanted


@pytest.mark.parametrize(("name", "wanted"), [("densenet_slim", 163_942), ("vgg_slim", 165_815)])
def test_slim_sizes(name, wanted):
    assert parameter_count(build_classifier(section(name), 7), 1, 2000, 1) == wanted


def test_densenet_size_by_counting_layers():
    """Independent of the code: weights of each convolution and 2 numbers a batch-norm channel."""
    total, channels = 7 * 64 + 2 * 64, 64
    for i, depth in enumerate((6, 12, 24, 16)):
        for _ in range(depth):
            total += 2 * channels + channels * 128 + 2 * 128 + 5 * 128 * 32
            channels += 32
        if i < 3:
            total += 2 * channels + channels * (channels // 2)
            channels //= 2
    total += 2 * channels + (channels + 1) * 7
    assert total == parameter_count(DenseNet(7), 1, 2000, 1)


@pytest.mark.parametrize(("stride", "length", "wanted"), [(4, 1, 25.6), (2, 62, 153.5)])
def test_vgg19_size_follows_the_pool_stride(stride, length, wanted):
    network = VGG(10, pool_stride=stride)
    assert shapes(network, 1, 2000, 1)["params"]["hidden0"]["kernel"].shape[0] == 512 * length
    assert round(parameter_count(network, 1, 2000, 1) / 1e6, 1) == wanted


@pytest.mark.parametrize(
    ("network", "shape", "wanted"),
    [
        (build_refiner(section("unet_34k")), (1, 2000, 1), 34_209),
        (build_refiner(section("unet_62k")), (1, 2000, 1), 61_985),
        (DOUBLE, (1, 28, 28, 1), 65_773),
        (build_refiner(section("unet_digits")), (1, 28, 28, 1), 65_773),
        (build_refiner(section("unet_flow_digits")), (1, 28, 28, 1), 65_871),
        (DOUBLE.clone(features=(8, 16, 32)), (1, 28, 28, 1), 29_321),
        (UNet((24,) * 5, ndim=2), (1, 32, 32, 1), 57_481),
        (UNet((8, 16, 32, 32, 32), ndim=2, outer_skip=True), (1, 32, 32, 1), 63_657),
    ],
)
def test_unet_sizes(network, shape, wanted):
    assert parameter_count(network, *shape) == wanted
    assert parameter_count(network.clone(down="stride"), *shape) == wanted


def test_unet_34k_by_counting_layers():
    def conv(first, second, kernel=3):
        return kernel * first * second + second

    down = conv(1, 32) + 4 * conv(32, 32)
    up = conv(32, 32) + 3 * conv(64, 32) + conv(32, 1, kernel=1)
    network = build_refiner(section("unet_34k"))
    assert parameter_count(network, 1, 2000, 1) == down + up == 34_209


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_the_smallest_axis_fits_and_half_of_it_does_not(name):
    network = build_classifier(section(name), 7)
    ndim = CLASSIFIERS[name][1].get("ndim", 1)
    shapes(network, 1, *(network.smallest_axis,) * ndim, 1)
    with pytest.raises(ValueError, match="expected axes of"):
        shapes(network, 1, *(network.smallest_axis // 2,) * ndim, 1)


@pytest.mark.parametrize("name", CLASSIFIERS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_classifier_outputs(name, dtype):
    """Shapes without running: parameters and outputs are float32 in both kinds of computation."""
    network = build_classifier(section(name, dtype), 7)
    size = {1: (2000,), 2: (28, 28)}[network.ndim]
    variables = shapes(network, 1, *size, 1)
    output = jax.eval_shape(network.apply, variables, jnp.zeros((2, *size, 1)))
    assert output.logits.shape == (2, 7)
    assert output.embedding.shape == (2, variables["params"]["head"]["kernel"].shape[0])
    assert all(maps.shape[0] == 2 and maps.ndim == network.ndim + 2 for maps in output.features)
    assert {leaf.dtype for leaf in jax.tree.leaves((variables, output))} == {jnp.dtype("float32")}


@pytest.mark.parametrize("name", REFINERS)
def test_refiner_outputs_in_bfloat16(name):
    network = build_refiner(section(name, "bfloat16"))
    shape = {1: (2, 2000, 1), 2: (2, 28, 28, 1)}[network.ndim]
    variables = shapes(network, *shape)
    output = jax.eval_shape(network.apply, variables, jnp.zeros(shape))
    assert output.shape == shape
    assert {leaf.dtype for leaf in jax.tree.leaves((variables, output))} == {jnp.dtype("float32")}


def test_bfloat16_convolutions_run_in_bfloat16():
    for network, shape in ((SMALL["densenet"], (2, 64, 1)), (UNet((4, 4)), (2, 64, 1))):
        network = network.clone(dtype=jnp.bfloat16)
        jaxpr = jax.make_jaxpr(network.apply)(shapes(network, *shape), jnp.zeros(shape))
        found = [
            {operand.aval.dtype for operand in equation.invars}
            for equation in jaxpr.jaxpr.eqns
            if equation.primitive.name == "conv_general_dilated"
        ]
        assert len(found) >= 4
        assert all(dtypes == {jnp.dtype("bfloat16")} for dtypes in found)


def test_bfloat16_is_close_to_float32():
    network, x = SMALL["densenet"], random_input(4, 64, 1)
    variables = start(network, x)
    exact = run(network, variables, x).embedding
    rough = run(network.clone(dtype=jnp.bfloat16), variables, x).embedding
    error = float(jnp.max(jnp.abs(rough - exact)) / jnp.max(jnp.abs(exact)))
    assert 0 < error < 0.05  # 8 bits a number, eight layers


@pytest.mark.parametrize("output", ["nonnegative", "unit"])
@pytest.mark.parametrize("down", ["max_pool", "stride"])
@pytest.mark.parametrize(("ndim", "shape"), [(1, (2, 2000, 1)), (2, (2, 28, 28, 1))])
@pytest.mark.parametrize("flow", [0, 3])
def test_unet_starts_as_the_exact_identity(ndim, shape, down, output, flow):
    network = UNet((8, 8, 8), ndim=ndim, down=down, output=output, flow=flow)
    x = random_input(*shape)
    x = x.at[:, ::3].set(0.0).at[:, 1::7].set(1.0)  # background and peaks at the ends of the range
    variables = start(network, x)
    np.testing.assert_array_equal(run(network, variables, x), x)
    half = network.clone(dtype=jnp.bfloat16)
    np.testing.assert_array_equal(run(half, variables, x), x)


@pytest.mark.parametrize(("output", "upper"), [("nonnegative", np.inf), ("unit", 1.0)])
def test_unet_output_range(output, upper):
    network, x = UNet((4, 4), output=output), random_input(2, 8, 1)
    params = start(network, x)["params"]
    for shift in (-0.5, 0.5):
        params["out"]["bias"] = jnp.full((1,), shift)
        np.testing.assert_array_equal(
            run(network, {"params": params}, x), np.clip(x + shift, 0, upper)
        )


@pytest.mark.parametrize("ndim", [1, 2])
def test_unet_learns_from_the_start(ndim):
    """Only zero-initialised layers have a gradient at first; it must not be zero too."""
    network, x = UNet((4, 4), ndim=ndim, flow=2), random_input(2, *(8,) * ndim, 1)
    weights = random_input(*x.shape)[::-1]
    params = start(network, x)["params"]
    gradient = jax.jit(jax.grad(lambda p: jnp.sum(weights * network.apply({"params": p}, x) ** 2)))(
        params
    )
    for head in ("out", "flow"):
        for leaf in ("kernel", "bias"):
            assert float(jnp.abs(gradient[head][leaf]).max()) > 1e-3, (head, leaf)


@pytest.mark.parametrize("name", SMALL)
def test_classifiers_in_two_dimensions(name):
    network = SMALL[name].clone(ndim=2)
    if name.startswith("vgg"):
        network = network.clone(pool_window=2, pool_stride=2)
    x = random_input(2, 28, 28, 1)
    variables = start(network, x)
    output = run(network, variables, x)
    assert output.logits.shape == (2, 3)
    # Maps flow along both axes alike: a transposed picture with transposed kernels is the same.
    if name != "vgg":  # a flattened map is not symmetric
        flipped = jax.tree.map(
            lambda leaf: leaf.swapaxes(0, 1) if leaf.ndim == 4 else leaf, variables
        )
        other = run(network, flipped, x.swapaxes(1, 2))
        np.testing.assert_allclose(other.logits, output.logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SMALL)
def test_embedding_is_what_the_last_layer_reads(name):
    network, x = SMALL[name], random_input(3, 64, 1)
    variables = start(network, x)
    output = run(network, variables, x)
    head = variables["params"]["head"]
    wanted = np.asarray(output.embedding) @ np.asarray(head["kernel"]) + np.asarray(head["bias"])
    np.testing.assert_allclose(output.logits, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", SMALL)
def test_first_feature_map_is_the_first_convolution(name):
    network, x = SMALL[name], random_input(1, 32, 1)
    variables = start(network, x)
    got = np.asarray(run(network, variables, x).features[0])[0]
    stem = variables["params"]["stem" if name == "densenet" else "conv0_0"]
    kernel = np.asarray(stem["kernel"])[:, 0]  # [points, maps]
    points, stride = kernel.shape[0], 2 if name == "densenet" else 1
    padded = np.pad(np.asarray(x)[0, :, 0], points // 2)
    wanted = [padded[i : i + points] @ kernel for i in range(0, 32, stride)]
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["densenet", "vgg_norm"])
def test_batch_statistics_change_in_training_only(name):
    network, x = SMALL[name], random_input(4, 64, 1)
    variables = start(network, x)

    def statistics(train):
        _, new = run(network, variables, x, train=train, mutable=["batch_stats"])
        return jax.tree.leaves(new["batch_stats"])

    before = jax.tree.leaves(variables["batch_stats"])
    for old, new in zip(before, statistics(train=False), strict=True):
        np.testing.assert_array_equal(old, new)
    for old, new in zip(before, statistics(train=True), strict=True):
        assert np.any(old != new)


def test_evaluation_of_an_example_does_not_depend_on_the_others():
    network, x = SMALL["densenet"], random_input(4, 64, 1)
    variables = start(network, x)
    alone = run(network, variables, x[:1]).logits
    np.testing.assert_allclose(run(network, variables, x).logits[:1], alone, rtol=1e-5, atol=1e-6)
    in_training, _ = run(network, variables, x, train=True, mutable=["batch_stats"])
    assert float(jnp.abs(in_training.logits[:1] - alone).max()) > 1e-3


def test_batch_norm_by_hand():
    """Momentum 0.9, epsilon 1e-5: new = 0.9 old + 0.1 batch, variance over batch and space."""
    network = VGG(2, stages=((2,), (2,)), hidden=(), batch_norm=True, pool_window=2, pool_stride=2)
    x = random_input(3, 16, 1)
    variables = start(network, x)
    output, new = run(network, variables, x, train=True, mutable=["batch_stats"])
    first, second = (np.asarray(maps, np.float64) for maps in output.features)
    got = new["batch_stats"]["norm0_0"]
    np.testing.assert_allclose(got["mean"], 0.1 * first.mean((0, 1)), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(got["var"], 0.9 + 0.1 * first.var((0, 1)), rtol=1e-5)
    scaled = (first - first.mean((0, 1))) / np.sqrt(first.var((0, 1)) + 1e-5)
    pooled = np.maximum(scaled, 0).reshape(3, 8, 2, 2).max(2)
    kernel = np.asarray(variables["params"]["conv1_0"]["kernel"])
    padded = np.pad(pooled, ((0, 0), (1, 1), (0, 0)))
    wanted = sum(padded[:, k : k + 8] @ kernel[k] for k in range(3))
    np.testing.assert_allclose(second, wanted, rtol=1e-4, atol=1e-5)


def test_dropout_is_active_in_training_only():
    network, x = SMALL["vgg"], random_input(2, 64, 1)
    variables = start(network, x)
    drop = jax.jit(lambda key: network.apply(variables, x, train=True, rngs={"dropout": key}))
    first, second = (drop(jax.random.key(i)).logits for i in range(2))
    assert float(jnp.abs(first - second).max()) > 0
    # Without a key dropout would raise, and its mask would show in the map before the head.
    output = run(network, variables, x)
    head = variables["params"]["head"]
    wanted = np.asarray(output.embedding) @ np.asarray(head["kernel"]) + np.asarray(head["bias"])
    np.testing.assert_allclose(output.logits, wanted, rtol=1e-5, atol=1e-6)


def test_max_pool_takes_the_maximum_of_centred_windows():
    x = np.random.default_rng(1).normal(size=(2, 13, 3)) - 5  # negative: padding must not win
    got = layers.max_pool(jnp.asarray(x, jnp.float32), 10, 4)
    wanted = np.stack([x[:, max(0, i - 3) : i + 7].max(1) for i in (0, 4, 8)], axis=1)
    np.testing.assert_allclose(got, wanted, rtol=1e-6)


def test_halve_is_the_mean_of_pairs_and_drops_an_odd_point():
    x = np.random.default_rng(1).normal(size=(2, 5, 6, 3))
    wanted = x[:, :4].reshape(2, 2, 2, 3, 2, 3).mean((2, 4))
    np.testing.assert_allclose(layers.halve(jnp.asarray(x, jnp.float32)), wanted, rtol=1e-5)


def test_wrong_inputs_are_named():
    with pytest.raises(ValueError, match=r"multiples of 16.*\(28, 28\)"):
        shapes(UNet((4,) * 5, ndim=2), 1, 28, 28, 1)
    with pytest.raises(ValueError, match=r"DenseNet: expected \[B, 1 spatial.*\(1, 28, 28, 1\)"):
        shapes(SMALL["densenet"], 1, 28, 28, 1)
    with pytest.raises(ValueError, match=r"axes of 10 or more, got \(2,\)"):
        shapes(VGG(7, pool_stride=10), 1, 2000, 1)
    with pytest.raises(ValueError, match=r"halve: .* got \(1,\)"):
        shapes(SMALL["densenet"], 1, 4, 1)
    with pytest.raises(ValueError, match="nonnegative.*'sigmoid'"):
        shapes(UNet((4, 4), output="sigmoid"), 1, 16, 1)


def test_wrong_names_get_the_nearest_one():
    with pytest.raises(UserError, match="classifier.network.*did you mean 'densenet121'"):
        build_classifier(section("densenet-121"), 7)
    with pytest.raises(UserError, match="refiner.dtype: 'float16'"):
        build_refiner(section("unet_34k", "float16"))
