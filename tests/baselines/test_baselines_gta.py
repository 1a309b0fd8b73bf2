"""GTA: losses by hand, two whole steps against PyTorch in float64, and what stays as it is."""

import math
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from toy import relaxed

from imitation_refinement.baselines.adversarial import Generator, PatternDiscriminator
from imitation_refinement.baselines.gta import (
    GtaMethod,
    decaying,
    fake_loss,
    gta_refine,
    gta_step,
    init_gta,
    real_loss,
)
from imitation_refinement.method.classifier import Classifier
from imitation_refinement.method.networks import VGG

torch = pytest.importorskip("torch", reason="PyTorch is in the test extra")
import tiny_torch as reference  # noqa: E402
from test_networks_adversarial import discriminator_by_torch, generator_by_torch  # noqa: E402

pytestmark = pytest.mark.usefixtures("quick_compilation")

F = torch.nn.functional
CLASSES, BATCH, NOISE, WIDTH = 3, 5, 4, 5
RATE, DECAY, A, ALPHA, SEED = 0.01, 0.5, 0.4, 0.3, 9
SHAPES = {1: (28, 1), 2: (12, 16, 1)}


def method(ndim=1, dtype=jnp.float32, **changes):
    return GtaMethod(
        VGG(CLASSES, ndim=ndim, dtype=dtype, **reference.TINY),
        Generator(CLASSES, SHAPES[ndim], 16, WIDTH),
        PatternDiscriminator(CLASSES, ndim, 3),
        relaxed(optax.adam(decaying(RATE, DECAY), b1=0.8)),
        relaxed(optax.adam(RATE, b1=0.8)),
        NOISE, A, ALPHA, 0.0,
    )._replace(**changes)  # fmt: skip


def batch(index, ndim=1):
    rng = np.random.default_rng(index)
    x, own = rng.random(size=(2, BATCH, *SHAPES[ndim])).astype(np.float32)
    label, own_label = rng.integers(CLASSES, size=(2, BATCH)).astype(np.int32)
    return {"x": x, "source_x": own, "label": label, "source_label": own_label}


def begun(own, ndim=1):
    """A state with numbers of its own for all networks, float64."""
    state = jax.eval_shape(partial(init_gta, own, None, SHAPES[ndim], 0))
    trees = [state.classifier, state.generator, state.discriminator, state.batch_stats]
    return [reference.alive(tree, i) for i, tree in enumerate(trees)]


def placed(own, ndim=1):
    """The same as a state for `own`, of the default float type."""
    kind = np.float64 if jax.config.jax_enable_x64 else np.float32

    @jax.jit
    def state(classifier, generator, discriminator, stats):
        start = {"params": classifier, "batch_stats": stats}
        fresh = init_gta(own, start, SHAPES[ndim], 0)
        return fresh._replace(
            generator=generator,
            generator_stats=jax.tree.map(lambda a: a.astype(kind), fresh.generator_stats),
            generator_opt=own.generator_optimizer.init(generator),
            discriminator=discriminator,
            discriminator_opt=own.optimizer.init(discriminator),
        )

    return state(*jax.tree.map(lambda a: a.astype(kind), begun(own, ndim)))


@cache
def compiled():
    """The step with weight and seed as arguments, so that it is compiled once for all tests."""

    def step(state, rows, weight, seed):
        return gta_step(state, rows, method=method(adversarial_weight=weight), seed=seed)

    return jax.jit(step, donate_argnums=0)


def step(rows, weight=A, seed=SEED):
    """The state after the first step of single precision, and its terms."""
    return compiled()(placed(method()), rows, weight, seed)


def test_losses_by_hand():
    logits = jnp.array([0.0, math.log(3.0)])  # real with probability 1/2 and 3/4
    assert float(real_loss(logits)) == pytest.approx((math.log(2) + math.log(4 / 3)) / 2)
    assert float(fake_loss(logits)) == pytest.approx((math.log(2) + math.log(4)) / 2)
    assert float(fake_loss(jnp.array([1e4]))) == 1e4  # where log(1 - sigmoid) overflows


def test_the_rate_decays_as_published():
    assert decaying(5e-4, 1e-4)(0) == 5e-4
    assert decaying(5e-4, 1e-4)(10_000) == pytest.approx(2.5e-4)


def by_torch(own, batches, ndim, label_weight, new_discriminator=True):
    """GTA's steps in PyTorch: D, G, C, F in the published order, each with its own optimizer."""
    both, g, d, _ = (reference.tensors(tree) for tree in begun(own, ndim))
    c = {path: leaf for path, leaf in both.items() if path[0] == "head"}
    f = {path: leaf for path, leaf in both.items() if path[0] != "head"}
    adams = {
        name: torch.optim.Adam(p.values(), lr=RATE, betas=(0.8, 0.999))
        for name, p in (("d", d), ("g", g), ("c", c), ("f", f))
    }
    parts = {"d": d, "g": g, "c": c, "f": f}

    def update(name, loss, step):
        gradients[name] = torch.autograd.grad(loss, list(parts[name].values()), retain_graph=True)
        if name == "d" and new_discriminator:
            apply(name, step)

    def apply(name, step):
        for leaf, gradient in zip(parts[name].values(), gradients[name], strict=True):
            leaf.grad = gradient
        rate = RATE if name == "g" else RATE / (1 + DECAY * step)
        adams[name].param_groups[0]["lr"] = rate
        adams[name].step()

    for step, rows in enumerate(batches):
        gradients = {}
        x_s, x_t = (reference.first(rows[name]).double() for name in ("source_x", "x"))
        y_s, y_t = (torch.tensor(rows[name]).long() for name in ("source_label", "label"))
        f_s, f_t = (reference.encoder(f, x, ndim) for x in (x_s, x_t))
        key = jax.random.fold_in(jax.random.key(SEED), step)
        z = [
            torch.tensor(np.asarray(jax.random.normal(jax.random.fold_in(key, i), (BATCH, NOISE),
                                                      jnp.float64)))
            for i in (2, 3)
        ]  # fmt: skip
        make = partial(generator_by_torch, shape=SHAPES[ndim], classes=CLASSES, width=WIDTH)
        g_s = make(g, y_s, f_s, z[0])
        g_t = make(g, torch.full((BATCH,), CLASSES), f_t, z[1])
        one, zero = torch.ones(BATCH).double(), torch.zeros(BATCH).double()
        bce, ce = F.binary_cross_entropy_with_logits, F.cross_entropy

        real, classes = discriminator_by_torch(d, x_s, ndim)
        fake_s, _ = discriminator_by_torch(d, g_s.detach(), ndim)
        fake_t, _ = discriminator_by_torch(d, g_t.detach(), ndim)
        update("d", bce(real, one) + ce(classes, y_s) + bce(fake_s, zero) + bce(fake_t, zero), step)

        fake_s, classes = discriminator_by_torch(d, g_s, ndim)
        update("g", ce(classes, y_s) + bce(fake_s, one), step)

        own_loss = ce(reference.dense(c, f_s, "head"), y_s)
        own_loss = own_loss + label_weight * ce(reference.dense(c, f_t, "head"), y_t)
        update("c", own_loss, step)

        fake_t, _ = discriminator_by_torch(d, g_t, ndim)
        update("f", own_loss + A * ce(classes, y_s) + A * ALPHA * bce(fake_t, one), step)
        for name in "dgcf" if not new_discriminator else "gcf":
            apply(name, step)
    return c | f, g, d


@pytest.mark.parametrize("ndim, label_weight", [(1, 0.7), (2, 0.0)])
def test_steps_are_those_of_pytorch(ndim, label_weight):
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        batches = [batch(i, ndim) for i in range(2)]
        own = method(ndim, jnp.float64, label_weight=label_weight)
        start = state = placed(own, ndim)
        step = jax.jit(partial(gta_step, method=own, seed=SEED))
        for rows in batches:
            wide = {k: v.astype(np.float64) if "x" in k else v for k, v in rows.items()}
            state, _ = step(state, wide)
        state, start = jax.tree.map(np.asarray, (state, start))
        wanted = by_torch(own, batches, ndim, label_weight)
        other = by_torch(own, batches, ndim, label_weight, new_discriminator=False)
    for name, leaves in zip(("classifier", "generator", "discriminator"), wanted, strict=True):
        reference.assert_same(getattr(state, name), leaves, getattr(start, name), atol=1e-8)
    # The order shows: with the old D all but D would be elsewhere.
    for leaves, old, path in (
        (wanted[0], other[0], ("conv0_0", "kernel")),
        (wanted[1], other[1], ("up0", "kernel")),
    ):
        assert (leaves[path] - old[path]).abs().max() > 1e-4


def test_statistics_of_the_two_domains_are_kept_apart():
    own = method()
    state = placed(own)
    rows = batch(0)
    new, _ = step(rows)
    params = jax.tree.map(np.asarray, state.classifier)
    for x, old, stats in (
        (rows["source_x"], state.source_stats, new.source_stats),
        (rows["x"], state.batch_stats, new.batch_stats),
    ):
        padded = np.pad(x[..., 0], ((0, 0), (1, 1)))
        kernel = params["conv0_0"]["kernel"]  # [3, 1, 4]
        maps = sum(padded[:, i : i + x.shape[1], None] * kernel[i, 0] for i in range(3))
        mean = 0.9 * old["norm0_0"]["mean"] + 0.1 * maps.mean((0, 1))
        np.testing.assert_allclose(stats["norm0_0"]["mean"], mean, rtol=1e-4, atol=1e-6)


def test_labels_of_imperfect_patterns_are_not_read_and_steps_repeat():
    state, terms = step(batch(0))
    wrong = batch(0) | {"label": (batch(0)["label"] + 1) % CLASSES}
    again, _ = step(wrong)
    jax.tree.map(np.testing.assert_array_equal, state, again)
    other, _ = step(batch(0), seed=SEED + 1)
    kernels = [each.generator["start"]["kernel"] for each in (state, other)]
    assert not np.array_equal(*kernels)
    assert terms.keys() == {
        "discriminator", "generator", "cross_entropy", "source_adversarial", "target_adversarial",
    }  # fmt: skip


def test_without_adversarial_weight_the_classifier_is_trained_on_ideal_patterns_alone():
    batches = batch(0), batch(0) | {"x": batch(1)["x"]}
    one, other = (step(rows, weight=0.0)[0] for rows in batches)
    jax.tree.map(np.testing.assert_array_equal, one.classifier, other.classifier)
    # Large, because a first step of Adam tells of signs alone.
    one, other = (step(rows, weight=10.0)[0] for rows in batches)
    kernels = [tree.classifier["conv0_0"]["kernel"] for tree in (one, other)]
    assert jnp.abs(kernels[0] - kernels[1]).max() > 1e-4
    # The head has no part in the terms of D.
    heads = [tree.classifier["head"]["kernel"] for tree in (one, other)]
    np.testing.assert_array_equal(*heads)


def test_a_refined_pattern_is_its_own_examples_alone():
    own = method()
    state = placed(own)
    classifier = Classifier(
        {"params": state.classifier, "batch_stats": state.batch_stats}, jnp.ones((CLASSES, 6))
    )
    generator = {"params": state.generator, "batch_stats": state.generator_stats}
    noise = np.random.default_rng(0).normal(size=(BATCH, NOISE)).astype(np.float32)
    refine = jax.jit(partial(gta_refine, method=own))
    x = batch(0)["x"]
    together = refine(classifier, generator, x, noise)
    assert together.shape == x.shape and together.dtype == jnp.float32
    np.testing.assert_allclose(
        refine(classifier, generator, x[2:3], noise[2:3]), together[2:3], atol=1e-6
    )
    assert jnp.abs(refine(classifier, generator, x, -noise) - together).max() > 1e-3


def test_warm_start_is_the_given_classifier_and_survives():
    own = method()
    classifier, _, _, stats = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), begun(own))
    start = {"params": classifier, "batch_stats": stats}
    kept = jax.tree.map(np.array, start)
    state = jax.jit(partial(init_gta, own), static_argnums=1)(start, SHAPES[1], 0)
    jax.tree.map(np.testing.assert_array_equal, state.classifier, kept["params"])
    compiled()(state, batch(0), A, SEED)  # donates the state
    jax.tree.map(np.testing.assert_array_equal, start, kept)
    fresh = jax.jit(partial(init_gta, own, None, SHAPES[1]))(0)
    assert jnp.abs(fresh.classifier["conv0_0"]["kernel"] - kept["params"]["conv0_0"]["kernel"]).max() > 0.1  # fmt: skip  # noqa: E501
