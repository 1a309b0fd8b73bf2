"""The prototypical classifier by structure: Eq. 2 over a bank by a slow loop, and its training."""

import json
import shutil
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from made_structures import known_structures, made_pairs
from ml_collections import ConfigDict

from imitation_refinement.method.classifier import Distance
from imitation_refinement.phases.embedding import (
    NETWORK,
    Objective,
    embed,
    embedding_loss,
    init_embedding,
    structure_loss,
)
from imitation_refinement.phases.embedding_training import (
    batch_example,
    recipe,
    train_embedding,
)
from imitation_refinement.phases.prototypes import scan_roots
from imitation_refinement.runtime.workdir import WorkDir

pytestmark = pytest.mark.usefixtures("quick_compilation")
RUN = ConfigDict({"threads": 0, "log_every": 10, "checkpoint_every": 10})


def by_loop(z, bank, phase, own, name, scale):
    """Eq. 2 in float64: -ln of exp(-d) of the own structure over the sum of those that count."""
    values = []
    for i, place in enumerate(own):
        weights = {}
        for n, prototype in enumerate(bank.astype(np.float64)):
            if n == place or phase[n] != phase[place]:
                squared = sum((a - b) ** 2 for a, b in zip(z[i].astype(float), prototype))  # noqa: B905
                weights[n] = np.exp(-scale * (squared if name == "sqeuclidean" else squared**0.5))
        values.append(-np.log(weights[place] / sum(weights.values())))
    return np.array(values)


@pytest.mark.parametrize("name", ["sqeuclidean", "euclidean"])
def test_eq_2_over_a_bank_is_that_of_a_slow_loop(name):
    rng = np.random.default_rng(0)
    z, bank = rng.normal(size=(3, 5)).astype(np.float32), rng.normal(size=(9, 5)).astype(np.float32)
    phase, own = np.array([0, 1, 1, 2, 0, 3, 4, 4, 4]), np.array([0, 3, 6])
    found = structure_loss(
        jnp.asarray(z), jnp.asarray(bank), jnp.asarray(phase, jnp.int32),
        jnp.asarray(own, jnp.int32), Distance(name, 0.7),
    )  # fmt: skip
    np.testing.assert_allclose(found, by_loop(z, bank, phase, own, name, 0.7), rtol=1e-5)


def test_entries_of_the_same_phase_are_no_negatives_wherever_they_lie():
    z = jnp.array([[1.0, 0.0]])
    bank = jnp.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    own, distance = jnp.zeros(1, jnp.int32), Distance("sqeuclidean", 1.0)
    masked = structure_loss(z, bank, jnp.array([5, 5, 6], jnp.int32), own, distance)
    counted = structure_loss(z, bank, jnp.array([5, 7, 6], jnp.int32), own, distance)
    assert float(masked[0]) == pytest.approx(np.log(1 + np.exp(-2.0)), rel=1e-6)
    assert float(counted[0]) == pytest.approx(np.log(2 + np.exp(-2.0)), rel=1e-6)
    moved = jax.grad(
        lambda twin: structure_loss(
            z, bank.at[1].set(twin), jnp.array([5, 5, 6], jnp.int32), own, distance
        )[0]
    )(jnp.array([0.3, 0.4]))
    np.testing.assert_array_equal(moved, 0.0)


def test_a_bank_has_the_own_structure_first_and_none_that_is_held_out():
    known = known_structures()
    known = known._replace(held=np.arange(len(known.system)) % 2 == 1)
    pairs = made_pairs(known.prototypes)
    made = batch_example(pairs.pattern[0, :80], pairs.entry[0], known, 3, np.random.default_rng(0))
    drawn = known.prototypes.roots(np.arange(len(known.system)))
    entries = (made["bank"] @ drawn.T).argmax(axis=1)
    # Rivals are 1 and 2, of which 1 is held out; strangers take the other places.
    assert entries[0] == 0 and entries[1] == 2
    assert not known.held[entries].any()
    np.testing.assert_array_equal(made["phase"], known.phase[entries])
    np.testing.assert_array_equal(made["system"], known.system[entries])


def test_the_loss_is_cross_entropy_of_scans_and_bank_plus_lambda_times_eq_2():
    known = known_structures()
    pairs = made_pairs(known.prototypes)
    roots, _ = scan_roots(pairs.pattern, pairs.mask)
    rng = np.random.default_rng(0)
    rows = [batch_example(roots[i], pairs.entry[i], known, 2, rng) for i in (0, 1, 2)]
    batch = {name: jnp.asarray(np.stack([row[name] for row in rows])) for name in rows[0]}
    state = init_embedding(optax.identity(), roots.shape[1], 0)
    distance = Distance("sqeuclidean", 4.0)

    @jax.jit
    def loss(weight):
        objective = Objective(weight, distance)
        return embedding_loss(state.params, state.batch_stats, batch, objective=objective)

    (standard, (terms, _)), (prototypical, _) = loss(0.0), loss(2.5)
    x = np.concatenate([roots[:3], np.asarray(batch["bank"]).reshape(9, -1)])
    apply = jax.jit(partial(NETWORK.apply, train=True, mutable=["batch_stats"]))
    output, _ = apply(
        {"params": state.params, "batch_stats": state.batch_stats},
        jnp.asarray(x * np.sqrt(x.shape[1]), jnp.float32)[..., None],
    )
    logs = np.asarray(jax.nn.log_softmax(output.logits), np.float64)
    system = np.asarray(batch["system"])
    scans = -logs[np.arange(3), system[:, 0]].mean()
    bank = -logs[3 + np.arange(9), system.ravel()].mean()
    assert float(standard) == pytest.approx(0.5 * (scans + bank), rel=1e-5)
    z = np.asarray(output.embedding, np.float64)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    own = 3 * np.arange(3)
    expected = by_loop(
        z[:3], z[3:], np.asarray(batch["phase"]).ravel(), own, "sqeuclidean", 4.0
    ).mean()
    assert float(terms["prototype"]) == pytest.approx(expected, rel=1e-3)
    assert float(prototypical - standard) == pytest.approx(2.5 * expected, rel=1e-3)


def test_training_brings_scans_to_their_structures_and_goes_on_bit_for_bit(tmp_path):
    known = known_structures()
    pairs, section = made_pairs(known.prototypes), recipe()
    section.update(steps=30, batch_size=4, rivals=2, schedule="constant")

    def trained():
        workdir = WorkDir(tmp_path)
        with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
            variables = train_embedding(pairs, known, section, RUN, workdir, 0)
        workdir.close()
        return variables

    whole = trained()
    first, *_, last = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert last["prototype"] < 0.8 * first["prototype"]
    shutil.rmtree(tmp_path / "embedding" / "30")  # as if it was stopped after step 20
    jax.tree.map(np.testing.assert_array_equal, whole, trained())

    found = embed(whole, known.prototypes.roots(np.arange(len(known.system))))
    np.testing.assert_allclose(np.linalg.norm(found.z, axis=1), 1.0, atol=1e-4)
    # A pattern's embedding does not depend on the others beside it.
    alone = embed(whole, known.prototypes.roots(np.array([7])))
    np.testing.assert_allclose(alone.z[0], found.z[7], atol=1e-5)
