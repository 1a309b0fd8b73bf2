"""The forms for CPU and GPU backends against the plain ones, in float64: values and gradients.

Batch-norm scales are away from 1 and half of them negative; inputs have ties, as the zero
background of a pattern has.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imitation_refinement.method.networks import VGG, DenseNet, UNet, forms

pytestmark = pytest.mark.usefixtures("quick_compilation")

NETWORKS = {
    "densenet": (DenseNet(3, blocks=(1, 4), growth=4, stem_features=6, bottleneck=2), (3, 61, 1)),
    "densenet_2d": (
        DenseNet(
            3, blocks=(0, 2), growth=4, stem_features=6, ndim=2, kernel=3, stem_stride=1,
            bottleneck=2,
        ),
        (3, 19, 14, 1),
    ),
    "vgg": (VGG(3, stages=((4, 6), (8,)), hidden=(5,), dropout=0.0), (3, 83, 1)),
    "vgg_norm": (
        VGG(3, stages=((4, 6), (8,)), hidden=(), kernel=5, stem_stride=2, batch_norm=True,
            pool_window=2, pool_stride=2),
        (3, 53, 1),
    ),
    "unet": (UNet((4, 6, 5), outer_skip=True, up_kernel=2), (3, 24, 1)),
}  # fmt: skip


def drawn(network, shape, rng):
    """Float64 variables: scales of either sign, running statistics of a live signal."""

    def leaf(path, x):
        name = path[-1].key
        if name == "kernel":
            return rng.normal(size=x.shape) * np.sqrt(2 / np.prod(x.shape[:-1]))
        if name in ("scale", "var"):
            sign = np.where(np.arange(x.size) % 2, -1.0, 1.0) if name == "scale" else 1.0
            return rng.uniform(0.5, 1.5, x.shape) * sign
        return rng.normal(size=x.shape) * 0.3

    variables = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros(shape))
    return jax.tree_util.tree_map_with_path(leaf, variables)


def both_forms(monkeypatch, backend, function, *arguments):
    """Results of the plain form and of that for `backend`, compiled for the CPU."""
    results = []
    for name in ("tpu", backend):
        monkeypatch.setattr(forms, "backend", lambda name=name: name)
        if name == "gpu":  # which has this form in bfloat16 alone
            monkeypatch.setattr(forms, "fused_blocks", lambda dtype, train: True)
        results.append(jax.jit(lambda *a: function(*a))(*arguments))  # noqa: B023
    return results


def assert_trees_close(got, wanted, tolerance):
    assert jax.tree.structure(got) == jax.tree.structure(wanted)
    for (path, a), b in zip(
        jax.tree_util.tree_leaves_with_path(got), jax.tree.leaves(wanted), strict=True
    ):
        size = np.abs(b).max()
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * size, err_msg=str(path))


@pytest.mark.parametrize(
    ("name", "train", "backend"),
    [
        ("densenet", True, "cpu"),
        ("densenet", False, "cpu"),
        ("densenet_2d", True, "cpu"),
        ("densenet", True, "gpu"),
        ("densenet_2d", True, "gpu"),
        ("vgg", False, "cpu"),
        ("vgg_norm", True, "cpu"),
        ("vgg_norm", False, "cpu"),
        ("unet", None, "cpu"),
    ],
)
def test_fused_form_is_the_plain_one(name, train, backend, monkeypatch):
    network, shape = NETWORKS[name]
    options = {} if train is None else {"train": train}
    rng = np.random.default_rng(0)
    # linen takes statistics of float64 only where float32 may be promoted to it.
    with jax.enable_x64(), jax.numpy_dtype_promotion("standard"):
        variables = jax.tree.map(jnp.asarray, drawn(network, shape, rng))
        network = network.clone(dtype=jnp.float64)
        x = jnp.asarray(np.maximum(rng.normal(size=shape), 0.0))
        outputs = jax.eval_shape(network.apply, variables, x)
        weights = jax.tree.map(lambda y: jnp.asarray(rng.normal(size=y.shape)), outputs)

        def loss(params, x):
            out, updated = network.apply(
                {**variables, "params": params}, x, mutable=["batch_stats"], **options
            )
            terms = jax.tree.map(lambda w, y: jnp.sum(w * y), weights, out)
            return sum(jax.tree.leaves(terms)), (out, updated)

        def everything(params, x):
            return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(params, x)

        wanted, got = both_forms(monkeypatch, backend, everything, variables["params"], x)
    _, gradients = wanted
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradients):
        assert np.abs(leaf).max() > 1e-3, path
    assert_trees_close(got, wanted, 1e-11)


@pytest.mark.parametrize(
    ("backend", "dtype", "train", "fused"),
    [
        ("cpu", jnp.float32, True, True),
        ("cpu", jnp.bfloat16, True, False),
        ("gpu", jnp.bfloat16, True, True),
        ("gpu", jnp.bfloat16, False, False),
        ("gpu", jnp.float32, True, False),
        ("tpu", jnp.bfloat16, True, False),
    ],
)
def test_blocks_are_fused_where_that_was_measured(backend, dtype, train, fused, monkeypatch):
    monkeypatch.setattr(forms, "backend", lambda: backend)
    assert forms.fused_blocks(dtype, train) == fused


def test_bfloat16_on_a_gpu_is_as_near_to_float32_as_the_plain_form(monkeypatch):
    network, shape = NETWORKS["densenet"]
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), drawn(network, shape, rng))
    x = jnp.asarray(np.maximum(rng.normal(size=shape), 0.0), jnp.float32)

    def gradients(dtype):
        def loss(params):
            out, _ = network.clone(dtype=dtype).apply(
                {**variables, "params": params}, x, mutable=["batch_stats"], train=True
            )
            return jnp.sum(jnp.sin(out.logits))

        return lambda params: jax.grad(loss)(params)

    params = variables["params"]
    wanted = gradients(jnp.float32)(params)
    plain, fused = both_forms(monkeypatch, "gpu", gradients(jnp.bfloat16), params)
    apart = {}
    for name, tree in (("plain", plain), ("fused", fused)):
        assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(tree))
        errors = jax.tree.map(lambda a, b: np.sum((a - b) ** 2), tree, wanted)
        apart[name] = np.sqrt(sum(jax.tree.leaves(errors)))
    size = np.sqrt(sum(np.sum(leaf**2) for leaf in jax.tree.leaves(wanted)))
    assert 1e-4 * size < apart["fused"] < 1.5 * apart["plain"]
