"""Networks of ADDA and GTA: parameters counted by hand, shapes, and each layer against PyTorch."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imitation_refinement.baselines.adversarial import (
    FeatureDiscriminator,
    Generator,
    PatternDiscriminator,
)

torch = pytest.importorskip("torch", reason="PyTorch is in the test extra")
import tiny_torch as reference  # noqa: E402

F = torch.nn.functional


def inputs(classes, embedding, noise, batch=2):
    rng = np.random.default_rng(0)
    label = np.arange(batch, dtype=np.int32) % (classes + 1)
    parts = (rng.normal(size=(batch, n)).astype(np.float32) for n in (embedding, noise))
    return (jnp.asarray(label), *map(jnp.asarray, parts))


def count(module, *arguments, **options):
    key = jax.random.key(0)
    shapes = jax.eval_shape(lambda: module.init(key, *arguments, **options))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))


def test_parameters_of_the_published_networks():
    """Images of 32 x 32 x 3, ten classes, embeddings of 128, noise of 512."""
    norms = 2 * (512 + 256 + 128 + 64)
    ups = 16 * (512 * 256 + 256 * 128 + 128 * 64 + 64 * 3)
    generator = Generator(10, (32, 32, 3))
    wanted = (11 + 128 + 512) * 512 * 4 + norms + ups
    assert count(generator, *inputs(10, 128, 512), train=True) == wanted == 4_090_752
    convs = 9 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 128)
    heads = 129 + 10 * 129
    wanted = convs + 2 * (64 + 128 + 256 + 128) + heads
    assert count(PatternDiscriminator(10, 2), jnp.zeros((1, 32, 32, 3))) == wanted == 667_851
    wanted = 129 * 500 + 501 * 500 + 501 * 2
    assert count(FeatureDiscriminator(), jnp.zeros((1, 128))) == wanted == 316_002


def test_parameters_for_patterns_of_2000_points():
    generator = Generator(7, (2000, 1), features=64)
    project, start = 375 * 128, (8 + 128 + 64) * 64 * 125
    wanted = project + start + 2 * (64 + 32 + 16 + 8) + 4 * (64 * 32 + 32 * 16 + 16 * 8 + 8 * 1)
    assert count(generator, *inputs(7, 375, 64), train=True) == wanted
    convs = 5 * (16 + 16 * 32 + 32 * 64 + 64 * 32)
    wanted = convs + 2 * (16 + 32 + 64 + 32) + 33 + 7 * 33
    assert count(PatternDiscriminator(7, 1, features=16), jnp.zeros((1, 2000, 1))) == wanted


@pytest.mark.parametrize("shape", [(2000, 1), (28, 28, 1), (32, 32, 3), (20, 1), (17, 40, 1)])
def test_shapes_in_one_and_two_dimensions(shape):
    generator = Generator(4, shape, features=16, width=8)
    discriminator = PatternDiscriminator(4, len(shape) - 1, features=4)
    arguments = inputs(4, 12, 5, batch=3)

    def both(key):
        x, _ = generator.init_with_output(key, *arguments, train=False)
        return x, discriminator.init_with_output(key, x)[0]

    x, (real, classes) = jax.eval_shape(both, jax.random.key(0))
    assert x.shape == (3, *shape) and x.dtype == jnp.float32
    assert real.shape == (3,) and classes.shape == (3, 4)


def generator_by_torch(p, label, embedding, noise, shape, classes, width):
    """GTA's G as PyTorch has it; [B, C, *n]."""
    ndim = len(shape) - 1
    if embedding.shape[1] > width:
        embedding = reference.dense(p, embedding, "project")
    slot = F.one_hot(torch.tensor(np.asarray(label)).long(), classes + 1).double()
    y = reference.dense(p, torch.cat([slot, embedding, noise], 1), "start")
    start = [-(-n // 16) for n in shape[:-1]]
    y = y.reshape(len(y), *start, -1).movedim(-1, 1)
    for level in range(4):
        y = F.relu(reference.norm(p, y, f"norm{level}"))
        y = reference.conv_transpose(p, y, f"up{level}", ndim)
    for axis, n in enumerate(shape[:-1], start=2):
        y = y.narrow(axis, (y.shape[axis] - n) // 2, n)
    return torch.sigmoid(y)


def discriminator_by_torch(p, x, ndim):
    """GTA's D as PyTorch has it: logits of real, of the classes."""
    pools = (4, 4, 4, 4) if ndim == 1 else (2, 2, 2, 4)
    for i, pool in enumerate(pools):
        x = F.leaky_relu(reference.norm(p, reference.conv(p, x, f"conv{i}", ndim), f"norm{i}"), 0.2)
        x = reference.MAX_POOL[ndim](x, min(pool, *x.shape[2:]))
    x = x.flatten(2).mean(2)
    return reference.dense(p, x, "real")[:, 0], reference.dense(p, x, "head")


@pytest.mark.parametrize("shape", [(32, 1), (28, 1), (20, 30, 2)])
def test_generator_and_discriminator_are_those_of_pytorch(shape):
    ndim = len(shape) - 1
    generator = Generator(3, shape, features=16, width=4)
    discriminator = PatternDiscriminator(3, ndim, features=3)
    arguments = inputs(3, 6, 5, batch=4)
    key = jax.random.key(0)
    g, d = jax.eval_shape(
        lambda: (
            generator.init(key, *arguments, train=False)["params"],
            discriminator.init(key, jnp.zeros((1, *shape)))["params"],
        )
    )
    g, d = reference.alive(g, 1), reference.alive(d, 2)
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):  # linen widens to float32
        label, embedding, noise = arguments[0], *(
            jnp.asarray(np.asarray(a), jnp.float64) for a in arguments[1:]
        )  # fmt: skip

        @jax.jit
        def both(g, d):
            mutable = {"mutable": ["batch_stats"]}
            x, _ = generator.apply({"params": g}, label, embedding, noise, train=True, **mutable)
            return x, discriminator.apply({"params": d}, x, **mutable)[0]

        x, (real, classes) = jax.tree.map(np.asarray, both(g, d))
    wanted = generator_by_torch(
        reference.tensors(g, False), label, *(torch.tensor(np.asarray(a)).double()
        for a in arguments[1:]), shape, 3, 4,
    )  # fmt: skip
    assert wanted.std(0).min() > 1e-4  # alive
    assert x.min() > 0 and x.max() < 1
    np.testing.assert_allclose(x, wanted.movedim(1, -1), atol=1e-10)
    wanted_real, wanted_classes = discriminator_by_torch(reference.tensors(d, False), wanted, ndim)
    assert wanted_real.std() > 1e-3 and wanted_classes.std(0).min() > 1e-3
    np.testing.assert_allclose(real, wanted_real, atol=1e-9)
    np.testing.assert_allclose(classes, wanted_classes, atol=1e-9)


def test_a_generator_in_evaluation_takes_one_example_at_a_time():
    generator = Generator(3, (32, 1), features=16)
    arguments = inputs(3, 6, 5, batch=4)
    variables = jax.eval_shape(lambda: generator.init(jax.random.key(0), *arguments, train=False))
    variables = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), reference.alive(variables, 0))

    @jax.jit
    def generate(label, embedding, noise):
        plain = partial(generator.apply, variables)
        in_training, _ = plain(label, embedding, noise, train=True, mutable=["batch_stats"])
        alone = plain(label[:1], embedding[:1], noise[:1], train=False)
        return plain(label, embedding, noise, train=False), alone, in_training

    together, alone, in_training = map(np.asarray, generate(*arguments))
    np.testing.assert_allclose(together[:1], alone, atol=1e-6)
    assert np.abs(in_training - together).max() > 1e-3


def test_initial_values_are_the_published_ones():
    generator = Generator(7, (2000, 1), features=64)
    init = jax.jit(partial(generator.init, train=False))
    params = init(jax.random.key(0), *inputs(7, 375, 64))["params"]
    assert np.std(params["start"]["kernel"]) == pytest.approx(0.02, rel=0.01)
    assert np.mean(params["norm0"]["scale"]) == pytest.approx(1.0, abs=0.02)
    assert np.std(params["norm0"]["scale"]) == pytest.approx(0.02, rel=0.4)
    assert np.std(params["project"]["kernel"]) == pytest.approx(0.1, rel=0.02)
