"""ADDA: losses by hand, two whole steps against PyTorch in float64, and what stays as it is."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from toy import relaxed

from imitation_refinement.baselines.adda import (
    HEAD,
    AddaMethod,
    adapted,
    adda_step,
    domain_loss,
    init_adda,
)
from imitation_refinement.baselines.adversarial import FeatureDiscriminator
from imitation_refinement.method.classifier import Classifier
from imitation_refinement.method.networks import VGG

torch = pytest.importorskip("torch", reason="PyTorch is in the test extra")
import tiny_torch as reference  # noqa: E402

pytestmark = pytest.mark.usefixtures("quick_compilation")

F = torch.nn.functional
CLASSES, WIDTH, BATCH, RATE = 3, 6, 5, 0.01
SHAPES = {1: (24, 1), 2: (8, 12, 1)}


def method(ndim=1, dtype=jnp.float32, **changes):
    network = VGG(CLASSES, ndim=ndim, dtype=dtype, **reference.TINY)
    adam = relaxed(optax.adam(RATE, b1=0.5))
    return AddaMethod(
        network, FeatureDiscriminator((7, 4)), adam, adam, "eval", 0, 0.0
    )._replace(**changes)  # fmt: skip


def source_of(method, ndim=1):
    example = jnp.zeros((1, *SHAPES[ndim]))
    variables = jax.eval_shape(lambda: method.network.init(jax.random.key(0), example, train=False))
    wide = reference.alive(variables, 1), np.ones((CLASSES, WIDTH))
    return Classifier(*jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), wide))


def batch(index, ndim=1):
    rng = np.random.default_rng(index)
    x, own = rng.normal(size=(2, BATCH, *SHAPES[ndim])).astype(np.float32)
    label = rng.integers(CLASSES, size=BATCH).astype(np.int32)
    return {"x": jnp.asarray(x), "source_x": jnp.asarray(own), "label": jnp.asarray(label)}


def run(method, source, count=2, batches=batch):
    step = jax.jit(partial(adda_step, method=method, seed=0))
    state = jax.jit(partial(init_adda, method))(source, 0)
    history = []
    for index in range(count):
        state, terms = step(state, source, batches(index))
        history.append({name: float(value) for name, value in terms.items()})
    return state, history


def test_domain_loss_by_hand():
    logits = jnp.array([[1.0, 0.0], [0.0, 0.0], [0.0, math.log(3.0)], [0.0, 0.0]])
    target = jnp.array([0, 0, 1, 1])
    # -log of e/(e+1), 1/2, 3/4, 1/2; with the labels turned round 1/(e+1), 1/2, 1/4, 1/2.
    wanted = (math.log(1 + math.exp(-1)) + 2 * math.log(2) + math.log(4 / 3)) / 4
    assert float(domain_loss(logits, target)) == pytest.approx(wanted, rel=1e-6)
    wanted = (math.log(1 + math.e) + 2 * math.log(2) + math.log(4)) / 4
    assert float(domain_loss(logits, 1 - target)) == pytest.approx(wanted, rel=1e-6)


def told(p, x):
    """D as PyTorch has it."""
    for name in ("hidden0", "hidden1"):
        x = F.relu(reference.dense(p, x, name))
    return reference.dense(p, x, "head")


def by_torch(source, discriminator, batches, ndim, label_weight, alternating=False):
    """ADDA's steps in PyTorch; `alternating` shows M_t the new D, as other ports do."""
    frozen = reference.tensors(source.variables["params"], False)
    running = reference.tensors(source.variables["batch_stats"], False)
    m = {k: v for k, v in reference.tensors(source.variables["params"]).items() if k[0] != HEAD}
    d = reference.tensors(discriminator)
    adams = [torch.optim.Adam(p.values(), lr=RATE, betas=(0.5, 0.999)) for p in (m, d)]
    for rows in batches:
        x = {name: reference.first(rows[name]).double() for name in ("x", "source_x")}
        f_s = reference.encoder(frozen, x["source_x"], ndim, running).detach()
        f_t = reference.encoder(m, x["x"], ndim, running)
        target = torch.tensor([0] * BATCH + [1] * BATCH)
        d_loss = F.cross_entropy(told(d, torch.cat([f_s, f_t.detach()])), target)
        of_d = torch.autograd.grad(d_loss, list(d.values()))
        if alternating:
            _step(adams[1], d, of_d)
        m_loss = F.cross_entropy(told(d, torch.cat([f_s, f_t])), 1 - target)
        logits = reference.dense(frozen, f_t, HEAD)
        label = torch.tensor(np.asarray(rows["label"])).long()
        m_loss = m_loss + label_weight * F.cross_entropy(logits, label)
        of_m = torch.autograd.grad(m_loss, list(m.values()))
        if not alternating:
            _step(adams[1], d, of_d)
        _step(adams[0], m, of_m)
    return m, d


def _step(adam, params, gradients):
    for leaf, gradient in zip(params.values(), gradients, strict=True):
        leaf.grad = gradient
    adam.step()


@pytest.mark.parametrize("ndim, label_weight", [(1, 0.7), (2, 0.0)])
def test_steps_are_those_of_pytorch(ndim, label_weight):
    narrow = source_of(method(ndim), ndim)
    batches = [jax.tree.map(np.asarray, batch(i, ndim)) for i in range(2)]
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        own = method(ndim, jnp.float64, label_weight=label_weight)
        source = jax.tree.map(lambda a: jnp.asarray(np.asarray(a), jnp.float64), narrow)
        state = jax.jit(partial(init_adda, own))(source, 0)
        discriminator = reference.alive(state.discriminator, 2)
        start = state._replace(discriminator=jax.tree.map(jnp.asarray, discriminator))
        step = jax.jit(partial(adda_step, method=own, seed=0))
        state = start
        for rows in batches:
            rows = {
                name: a if name == "label" else a.astype(np.float64) for name, a in rows.items()
            }
            state, _ = step(state, source, rows)
        state, start = jax.tree.map(np.asarray, (state, start))
    m, d = by_torch(narrow, discriminator, batches, ndim, label_weight)
    reference.assert_same(state.encoder, m, start.encoder)
    reference.assert_same(state.discriminator, d, start.discriminator)
    jax.tree.map(np.testing.assert_array_equal, state.batch_stats, start.batch_stats)
    # The order of the two updates shows: had M_t seen the new D, it would be elsewhere.
    other, _ = by_torch(narrow, discriminator, batches, ndim, label_weight, alternating=True)
    path = ("conv0_0", "kernel")
    assert (other[path] - m[path]).abs().max() > 1e-4


def test_source_and_head_stay_and_labels_are_not_read():
    own = method()
    source = source_of(own)
    before = jax.tree.map(np.array, source)
    state, history = run(own, source, count=5)
    blind, _ = run(own, source, 5, lambda i: {k: v for k, v in batch(i).items() if k != "label"})
    jax.tree.map(np.testing.assert_array_equal, state, blind)
    jax.tree.map(np.testing.assert_array_equal, before, source)
    result = adapted(state, source)
    head = before.variables["params"][HEAD]
    jax.tree.map(np.testing.assert_array_equal, result.variables["params"][HEAD], head)
    np.testing.assert_array_equal(result.prototypes, before.prototypes)
    assert jax.tree.structure(result) == jax.tree.structure(source)
    assert history[0].keys() == {"encoder", "discriminator", "domain_accuracy"}


def test_a_discriminator_may_be_trained_before():
    own = method(discriminator_steps=3, batch_norm="train")
    source = source_of(own)
    start = jax.jit(partial(init_adda, own))(source, 0)
    for count, moved in ((3, False), (4, True)):
        state, _ = run(own, source, count)
        for name in ("encoder", "encoder_opt", "batch_stats"):
            equal = jax.tree.map(
                lambda a, b: bool(jnp.all(a == b)), getattr(state, name), getattr(start, name)
            )
            assert all(jax.tree.leaves(equal)) is not moved
    assert jnp.abs(state.discriminator["head"]["kernel"] - start.discriminator["head"]["kernel"]).max() > 1e-3  # fmt: skip  # noqa: E501


def test_an_encoder_learns_to_pass_for_the_source():
    """Target = a shifted source: after training D tells them less well than it could at first."""
    own = method()
    source = source_of(own)

    def shifted(index):
        rows = batch(index)
        return rows | {"x": rows["x"] + 1.5}

    alone, before = run(own._replace(discriminator_steps=400), source, 400, shifted)
    adapting, after = run(own._replace(discriminator_steps=100), source, 400, shifted)
    first, last = (np.mean([t["domain_accuracy"] for t in h[-50:]]) for h in (before, after))
    assert first > 0.95 and last < 0.8
