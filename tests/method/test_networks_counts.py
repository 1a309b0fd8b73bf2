"""What a training step costs in counts that no busy machine changes: a guard of its speed."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from imitation_refinement.method.classifier import Distance, classifier_step, init_classifier
from imitation_refinement.method.networks import DenseNet, forms

pytestmark = pytest.mark.usefixtures("quick_compilation")

NETWORK = DenseNet(3, blocks=(4,), growth=8, stem_features=8, bottleneck=2, stem_pool=False)
BATCH, LENGTH = 4, 512


@pytest.fixture(scope="module")
def inputs():
    optimizer = optax.sgd(1e-3)
    state = jax.jit(
        functools.partial(init_classifier, NETWORK, optimizer, (LENGTH, 1), 3, seed=0)
    )()
    rng = np.random.default_rng(0)
    batch = {
        "x": jnp.asarray(rng.random((BATCH, LENGTH, 1)), jnp.float32),
        "label": jnp.asarray(rng.integers(0, 3, BATCH), jnp.int32),
    }
    step = functools.partial(
        classifier_step, network=NETWORK, optimizer=optimizer, prototype_weight=1.0,
        distance=Distance(), seed=0,
    )  # fmt: skip
    return step, state, batch


@pytest.mark.parametrize("backend", ["tpu", "cpu"])
def test_a_step_does_the_arithmetic_of_three_forward_passes(inputs, backend, monkeypatch):
    """One forward pass, one gradient by inputs, one by kernels; the rest is elementwise."""
    step, _, batch = inputs
    network = NETWORK.clone(blocks=(2, 2))
    monkeypatch.setattr(forms, "backend", lambda: backend)
    start = functools.partial(init_classifier, network, optax.sgd(1e-3), (LENGTH, 1), 3, seed=0)
    run = jax.jit(functools.partial(step.func, **{**step.keywords, "network": network}))
    flops = run.lower(jax.eval_shape(start), batch).cost_analysis()["flops"]
    layer = lambda channels: channels * 16 + 5 * 16 * 8  # noqa: E731
    points = LENGTH // 2
    forward = points * (7 * 8 + layer(8) + layer(16) + 24 * 12)
    forward += points // 2 * (layer(12) + layer(20))
    least = 3 * 2 * BATCH * forward  # a multiplication and an addition
    assert 0.9 * least < flops < 1.6 * least


def test_fused_form_needs_less_memory(inputs, monkeypatch):
    step, state, batch = inputs
    sizes = {}
    for backend in ("tpu", "cpu"):
        monkeypatch.setattr(forms, "backend", lambda backend=backend: backend)
        compiled = jax.jit(lambda state, batch: step(state, batch)).lower(state, batch).compile()  # noqa: B023
        sizes[backend] = compiled.memory_analysis().temp_size_in_bytes
    assert sizes["cpu"] < sizes["tpu"]


def test_a_run_compiles_once_and_moves_nothing(inputs):
    step, state, batch = inputs
    run = jax.jit(step)
    with jax.transfer_guard("disallow"):
        for _ in range(3):
            state, metrics = run(state, batch)
    assert run._cache_size() == 1
    assert int(state.step) == 3
    assert np.isfinite(float(metrics["loss"]))
