"""Algorithm 1: the step does what its lines say."""

from functools import cache, partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toy
from ml_collections import ConfigDict

from imitation_refinement.method import losses
from imitation_refinement.method.classifier import (
    Classifier,
    classifier_step,
    distance_of,
    init_classifier,
    predict,
)
from imitation_refinement.method.networks import ClassifierOutput

pytestmark = pytest.mark.usefixtures("quick_compilation")


class Masked(nn.Module):
    """No batch norm, and an embedding that tells what dropout left."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> ClassifierOutput:
        z = nn.Dropout(0.5, deterministic=not train)(x[..., 0])
        return ClassifierOutput(nn.Dense(toy.CLASSES)(z), z, (x, x))


start = partial(init_classifier, toy.ToyClassifier(), toy.OPTIMIZER, (toy.LENGTH, 1), toy.CLASSES)


def begun():
    return jax.jit(partial(start, seed=0))()


@cache
def compiled(prototype_weight=1.0, optimizer=toy.OPTIMIZER):
    return jax.jit(
        partial(
            classifier_step,
            network=toy.ToyClassifier(),
            optimizer=optimizer,
            prototype_weight=prototype_weight,
            distance=toy.DISTANCE,
            seed=0,
        )
    )


def run_steps(count, prototype_weight=1.0):
    state, step, history = begun(), compiled(prototype_weight), []
    for index in range(count):
        state, metrics = step(state, toy.batch(index))
        history.append({name: float(value) for name, value in metrics.items()})
    return state, history


@pytest.mark.parametrize(
    ("name", "scale", "wanted"),
    [("sqeuclidean", 0.0, 12.5), ("sqeuclidean", 2.0, 50.0), ("euclidean", 2.0, 10.0)],
)
def test_a_distance_is_the_one_that_its_section_asks_for(name, scale, wanted):
    distance = distance_of(ConfigDict({"distance": name, "distance_scale": scale}))
    assert distance(jnp.array([[3.0, 4.0]]), jnp.zeros((1, 2))) == wanted


def test_a_step_keeps_the_kind_of_every_leaf():
    """Else the second step would be another program."""
    before = jax.eval_shape(partial(start, seed=0))
    after, metrics = jax.eval_shape(compiled(), before, toy.batch())
    assert toy.kinds(before) == toy.kinds(after)
    assert before.step.dtype == jnp.int32 and before.prototypes.shape == (toy.CLASSES, toy.WIDTH)
    scalar = (), jnp.float32
    assert toy.kinds(metrics) == dict.fromkeys(
        ("loss", "cross_entropy", "prototype", "accuracy"), scalar
    )


def test_dropout_depends_on_seed_and_step_alone():
    network, x = Masked(), jnp.ones((toy.BATCH, toy.LENGTH, 1))
    rows = toy.batch() | {"x": x}
    state = init_classifier(network, toy.OPTIMIZER, (toy.LENGTH, 1), toy.CLASSES, seed=0)
    assert state.batch_stats == {}

    @jax.jit
    def after_and_wanted(state, seed):
        after, _ = classifier_step(
            state, rows, network=network, optimizer=toy.OPTIMIZER, prototype_weight=0.0,
            distance=toy.DISTANCE, seed=seed,
        )  # fmt: skip
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        left = network.apply({"params": state.params}, x, train=True, rngs={"dropout": key})
        return after, losses.update_prototypes(state.prototypes, left.embedding, rows["label"])

    found = []
    for seed, step in ((0, 0), (0, 1), (3, 1)):
        after, wanted = after_and_wanted(state._replace(step=jnp.int32(step)), seed)
        np.testing.assert_allclose(after.prototypes, wanted, rtol=1e-6)
        assert after.batch_stats == {} and after.step == step + 1
        found.append(np.asarray(after.prototypes))
    assert not np.array_equal(*found[:2]) and not np.array_equal(*found[1:])


def test_one_step_equals_its_lines_written_out():
    network, learning_rate, decay, weight = toy.ToyClassifier(), 0.1, 0.5, 0.7
    optimizer = optax.chain(optax.add_decayed_weights(decay), optax.sgd(learning_rate))
    before = begun()
    before = before._replace(
        opt_state=optimizer.init(before.params),
        batch_stats=jax.tree.map(lambda leaf: leaf + 0.5, before.batch_stats),
    )
    batch = toy.batch()

    @jax.jit
    @partial(jax.value_and_grad, has_aux=True)
    def total(params):
        variables = {"params": params, "batch_stats": before.batch_stats}
        output, stats = network.apply(variables, batch["x"], train=True, mutable=["batch_stats"])
        picked = jax.nn.log_softmax(output.logits)[jnp.arange(toy.BATCH), batch["label"]]
        difference = output.embedding[:, None] - before.prototypes[None]
        closeness = jax.nn.log_softmax(-jnp.mean(difference**2, axis=2))
        line5 = -jnp.mean(picked), -jnp.mean(closeness[jnp.arange(toy.BATCH), batch["label"]])
        hits = jnp.argmax(output.logits, axis=1) == batch["label"]
        terms = *line5, hits.sum() / toy.BATCH
        return line5[0] + weight * line5[1], (output.embedding, terms, stats["batch_stats"])

    (loss, (embedding, terms, stats)), gradient = total(before.params)
    after, metrics = compiled(weight, optimizer)(before, batch)
    wanted = dict(zip(("cross_entropy", "prototype", "accuracy"), terms, strict=True))
    for name, value in (wanted | {"loss": loss}).items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-6)
    jax.tree.map(
        lambda new, old, g: np.testing.assert_allclose(
            new, old - learning_rate * (g + decay * old), atol=1e-6
        ),
        after.params, before.params, gradient,
    )  # fmt: skip
    close = partial(np.testing.assert_allclose, rtol=1e-5)
    jax.tree.map(close, after.batch_stats, stats)
    assert after.step == 1
    for k in range(toy.CLASSES):  # line 8, with the embeddings of the same forward pass
        members = [np.asarray(e) for e, y in zip(embedding, batch["label"], strict=True) if y == k]
        expected = (np.asarray(before.prototypes[k]) + sum(members)) / (len(members) + 1)
        np.testing.assert_allclose(after.prototypes[k], expected, atol=1e-6)


def test_training_separates_the_classes_by_head_and_by_prototype():
    state, history = run_steps(150)
    assert history[-1]["loss"] < 0.5 * history[0]["loss"]
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    frozen = Classifier(variables, state.prototypes)
    batch = toy.batch(999)
    said = predict(frozen, batch["x"], network=toy.ToyClassifier(), distance=toy.DISTANCE)
    np.testing.assert_array_equal(np.argmax(said.logits, 1), batch["label"])
    np.testing.assert_array_equal(np.argmax(said.prototype_log_probs, 1), batch["label"])


def test_without_prototype_weight_the_prototypes_do_not_touch_the_network():
    standard, _ = run_steps(3, prototype_weight=0.0)
    state = begun()
    for index in range(3):
        state = state._replace(prototypes=1e3 * jnp.ones_like(state.prototypes))
        state, _ = compiled(prototype_weight=0.0)(state, toy.batch(index))
    close = partial(np.testing.assert_allclose, atol=1e-6)
    jax.tree.map(close, standard.params, state.params)


def test_training_is_reproducible_to_the_bit():
    one, two = run_steps(5)[0], run_steps(5)[0]
    jax.tree.map(np.testing.assert_array_equal, one, two)


def test_exact_prototypes_are_what_predict_measures_distance_to():
    frozen = toy.classifier()
    batch = toy.batch()
    said = predict(frozen, batch["x"], network=toy.ToyClassifier(), distance=toy.DISTANCE)
    prototypes = losses.class_prototypes(said.embedding, batch["label"], toy.CLASSES)
    again = predict(
        frozen._replace(prototypes=prototypes), batch["x"],
        network=toy.ToyClassifier(), distance=toy.DISTANCE,
    )  # fmt: skip
    for row in range(toy.BATCH):
        d = np.mean((np.asarray(said.embedding[row]) - np.asarray(prototypes)) ** 2, axis=1)
        np.testing.assert_allclose(again.distances[row], d, atol=1e-5)
        expected = -d - np.log(np.sum(np.exp(-d)))
        np.testing.assert_allclose(again.prototype_log_probs[row], expected, atol=1e-5)
