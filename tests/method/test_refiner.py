"""Algorithm 2: what is trained, what is frozen, and what each weight does."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toy
from ml_collections import FrozenConfigDict

from imitation_refinement.method import networks, optimizers
from imitation_refinement.method.classifier import classify
from imitation_refinement.method.refiner import (
    RefinerState,
    init_refiner,
    pair_loss,
    refine,
    refiner_objective,
    refiner_step,
    updated,
)
from imitation_refinement.runtime import devices
from imitation_refinement.stages.refiners import refiner_program, refiner_start

NETWORKS = {"network": toy.ToyRefiner(), "classifier_network": toy.ToyClassifier()}
pytestmark = pytest.mark.usefixtures("quick_compilation")


WEIGHTS = (
    "prediction_weight", "regularization_weight", "prototype_weight", "pair_weight",
    "pair_recognition",
)  # fmt: skip
step = partial(refiner_step, optimizer=toy.OPTIMIZER, ema_decay=0.9)
start = jax.jit(partial(init_refiner, toy.ToyRefiner(), toy.OPTIMIZER, (toy.LENGTH, 1), seed=0))


def of_pairs(batch):
    """The part of a batch that holds simulated pairs."""
    return {name: rows for name, rows in batch.items() if name.startswith("pair_")}


def pairs(index):
    return of_pairs(toy.batch(index))


@cache
def compiled(function, frame):
    """One program for all objectives that differ from `frame` in weights alone."""

    def of_weights(weights, *arguments):
        return function(*arguments, **NETWORKS, objective=frame._replace(**weights))

    return jax.jit(of_weights)


def call(function, objective, *arguments):
    """The function with this objective, compiled."""
    weights = {name: jnp.float32(getattr(objective, name)) for name in WEIGHTS}
    return compiled(function, objective._replace(**dict.fromkeys(WEIGHTS)))(weights, *arguments)


def run_steps(count, objective, batch=toy.batch):
    state, history = start(), []
    for index in range(count):
        state, terms = call(step, objective, state, toy.classifier(), batch(index))
        history.append({name: float(value) for name, value in terms.items()})
    return state, history


def terms_at(params, objective, batch=None):
    loss, terms = call(refiner_objective, objective, params, toy.classifier(), batch or toy.batch())
    return {name: float(value) for name, value in terms.items()} | {"loss": float(loss)}


@cache
def nudged(seed=3):
    """Parameters at which the refiner changes its input."""
    leaves, tree = jax.tree.flatten(start().params)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    return tree.unflatten(
        [a + 0.1 * jax.random.normal(k, a.shape) for a, k in zip(leaves, keys, strict=True)]
    )


def test_the_refiner_starts_as_the_identity():
    x = toy.batch()["x"]
    np.testing.assert_array_equal(refine(start().params, x, network=toy.ToyRefiner()), x)


def test_pretrained_parameters_are_where_training_and_averaging_start():
    state = init_refiner(
        toy.ToyRefiner(), toy.OPTIMIZER, (toy.LENGTH, 1), seed=0, pretrained=nudged()
    )
    jax.tree.map(np.testing.assert_array_equal, state.params, nudged())
    jax.tree.map(np.testing.assert_array_equal, state.ema_params, nudged())
    assert state.step == 0
    # The optimizer remembers nothing of the pre-training.
    fresh = toy.OPTIMIZER.init(start().params)
    jax.tree.map(np.testing.assert_array_equal, state.opt_state, fresh)


def test_folds_share_a_program_and_leave_what_they_start_from(monkeypatch):
    monkeypatch.setattr(networks, "build_refiner", lambda section: toy.ToyRefiner())
    monkeypatch.setattr(optimizers, "build_optimizer", lambda section: toy.OPTIMIZER)
    section = FrozenConfigDict({"ema_decay": 0.8})
    initialize = refiner_start(section, (toy.LENGTH, 1))
    step = refiner_program(section, toy.ToyClassifier(), toy.objective())
    classifier = devices.replicate(toy.classifier())
    pretrained = devices.replicate(nudged())
    for fold in range(2):
        step(initialize(fold, pretrained), classifier, toy.batch(fold))  # donates the state
    jax.tree.map(np.testing.assert_array_equal, pretrained, nudged())
    assert initialize.function._cache_size() == 1


def test_the_frozen_tree_survives_the_shipped_program_and_is_in_no_optimizer(monkeypatch):
    monkeypatch.setattr(networks, "build_refiner", lambda section: toy.ToyRefiner())
    monkeypatch.setattr(optimizers, "build_optimizer", lambda section: toy.OPTIMIZER)
    section = FrozenConfigDict({"ema_decay": 0.9})
    step = refiner_program(section, toy.ToyClassifier(), toy.objective())
    classifier = devices.replicate(toy.classifier())
    before = jax.tree.map(np.array, classifier)
    state, losses = devices.replicate(start()), []
    for index in range(100):
        state, terms = step(state, classifier, toy.batch(index))  # donates its state, alone
        losses.append(float(terms["loss"]))
    jax.tree.map(np.testing.assert_array_equal, before, classifier)
    assert losses[-1] < losses[0]
    # Nothing of the classifier is in the optimizer's state: two moments a parameter, and counters.
    moments = sum(leaf.size for leaf in jax.tree.leaves(state.opt_state) if leaf.ndim)
    assert moments == 2 * sum(leaf.size for leaf in jax.tree.leaves(state.params))


def test_gradients_are_of_the_refiner_alone_and_agree_with_differences():
    objective = toy.objective(norm=2.0, pair_weight=3.0, pair_recognition=0.7)
    params = nudged()

    @jax.jit
    def loss(p):
        loss, _ = refiner_objective(
            p, toy.classifier(), toy.batch(), **NETWORKS, objective=objective
        )
        return loss

    gradient = jax.grad(loss)(params)
    assert jax.tree.structure(gradient) == jax.tree.structure(params)
    narrow = jax.tree.map(np.asarray, (params, toy.classifier(), toy.batch()))
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), narrow)
        for name in ("label", "pair_label"):
            wide[2][name] = jnp.asarray(narrow[2][name])

        @jax.jit
        def wide_loss(p):
            return refiner_objective(p, *wide[1:], **NETWORKS, objective=objective)[0]

        exact = jax.grad(wide_loss)(wide[0])
        direction = jax.tree.map(jnp.sign, exact)
        h = 1e-6
        up, down = (
            wide_loss(jax.tree.map(lambda p, d, s=s: p + s * h * d, wide[0], direction))
            for s in (1.0, -1.0)
        )
        slope = sum(
            float(jnp.sum(g * d))
            for g, d in zip(jax.tree.leaves(exact), jax.tree.leaves(direction), strict=True)
        )
        np.testing.assert_allclose((up - down) / (2 * h), slope, rtol=1e-4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), gradient, exact)


@pytest.mark.parametrize("norm", [1, 2])
def test_loss_is_the_weighted_sum_of_its_terms(norm):
    objective = toy.objective(
        norm=norm,
        prediction_weight=0.3,
        regularization_weight=2.0,
        prototype_weight=0.5,
        pair_weight=4.0,
        pair_recognition=0.7,
    )
    terms = terms_at(nudged(), objective)
    expected = (
        0.3 * terms["pred"]
        + 2.0 * terms["reg"] / toy.LENGTH ** (1 / norm)
        + 0.5 * terms["proto"]
        + 4.0 * terms["pair"]
        + 0.7 * (terms["pair_pred"] + 0.5 * terms["pair_proto"])
    )
    np.testing.assert_allclose(terms["loss"], expected, rtol=1e-5)
    x = toy.batch()["x"]
    change = np.asarray(refine(nudged(), x, network=toy.ToyRefiner()) - x)[..., 0]
    size = np.linalg.norm(change, norm, axis=1).mean()
    np.testing.assert_allclose(terms["reg"], size, rtol=1e-5)


def test_pair_loss_against_a_loop():
    objective = toy.objective(prototype_weight=0.5, pair_weight=4.0, pair_recognition=0.7)
    params, frozen, batch = nudged(), toy.classifier(), of_pairs(toy.batch())
    loss, terms = pair_loss(params, frozen, batch, **NETWORKS, objective=objective)

    refined = refine(params, batch["pair_x"], network=toy.ToyRefiner())
    seen = toy.ToyClassifier().apply(frozen.variables, refined, train=False)
    logits, embedding, prototypes, x, y = (
        np.asarray(a, np.float64)
        for a in (seen.logits, seen.embedding, frozen.prototypes, refined, batch["pair_truth"])
    )
    count = len(x)
    apart = pred = proto = 0.0
    for i in range(count):
        for a, b in zip(x[i].flat, y[i].flat, strict=True):
            apart += abs(a - b) + (b + 1e-3) * np.log((b + 1e-3) / (a + 1e-3)) - b + a
        k = int(batch["pair_label"][i])
        pred -= logits[i, k] - np.log(sum(np.exp(v) for v in logits[i]))
        d = [sum((embedding[i] - c) ** 2) / toy.WIDTH for c in prototypes]
        proto += d[k] + np.log(sum(np.exp(-v) for v in d))
    wanted = {"pair": apart / toy.LENGTH, "pair_pred": pred, "pair_proto": proto}
    assert terms.keys() == wanted.keys()
    for name, total in wanted.items():
        np.testing.assert_allclose(terms[name], total / count, rtol=1e-5)
    weighted = 4.0 * wanted["pair"] + 0.7 * (pred + 0.5 * proto)
    np.testing.assert_allclose(loss, weighted / count, rtol=1e-5)


def test_a_batch_of_one_kind_has_the_terms_of_that_kind_alone():
    objective = toy.objective(pair_weight=4.0, pair_recognition=0.7)
    batch = toy.batch()
    imperfect = {"x": batch["x"], "label": batch["label"]}
    both, first, second = (
        terms_at(nudged(), objective, rows) for rows in (batch, imperfect, of_pairs(batch))
    )
    assert first.keys() == {"loss", "pred", "reg", "proto"}
    assert second.keys() == {"loss", "pair", "pair_pred", "pair_proto"}
    np.testing.assert_allclose(both["loss"], first["loss"] + second["loss"], rtol=1e-6)
    assert both == first | second | {"loss": both["loss"]}


def test_pairs_are_used_only_where_they_have_weight():
    def uses(**weights):
        return toy.objective(**weights).uses_pairs

    assert uses(pair_weight=0.1) and uses(pair_recognition=0.1) and not uses()


def test_non_targeted_training_never_reads_labels():
    batch = toy.batch()
    wrong = batch | {"label": (batch["label"] + 1) % toy.CLASSES}
    unlabelled = {name: rows for name, rows in batch.items() if name != "label"}
    blind = toy.objective(targeted=False, pair_weight=1.0, pair_recognition=1.0)
    assert terms_at(nudged(), blind, batch) == terms_at(nudged(), blind, wrong)
    assert terms_at(nudged(), blind, batch) == terms_at(nudged(), blind, unlabelled)
    assert terms_at(nudged(), toy.objective(), batch) != terms_at(nudged(), toy.objective(), wrong)


def test_non_targeted_training_reads_the_labels_of_pairs():
    batch = toy.batch()
    wrong = batch | {"pair_label": (batch["pair_label"] + 1) % toy.CLASSES}
    blind = toy.objective(targeted=False, pair_weight=1.0, pair_recognition=1.0)
    right, other = terms_at(nudged(), blind, batch), terms_at(nudged(), blind, wrong)
    changed = {name for name in right if right[name] != other[name]}
    assert changed == {"loss", "pair_pred", "pair_proto"}


@pytest.mark.parametrize("psi, layer", [("first_conv", 0), ("second_conv", 1)])
def test_psi_is_a_feature_map_of_the_frozen_classifier(psi, layer):
    params, frozen, batch = nudged(), toy.classifier(), toy.batch()
    refined = refine(params, batch["x"], network=toy.ToyRefiner())
    maps = [
        np.asarray(toy.ToyClassifier().apply(frozen.variables, x, train=False).features[layer])
        for x in (refined, batch["x"])
    ]
    expected = np.mean([np.sum(np.abs(a - b)) for a, b in zip(*maps, strict=True)])
    np.testing.assert_allclose(terms_at(params, toy.objective(psi=psi))["reg"], expected, rtol=1e-4)


def test_a_heavy_regularization_keeps_the_identity():
    x = toy.batch(50)["x"]
    change = {}
    for weight in (0.0, 1e4):
        state, _ = run_steps(60, toy.objective(regularization_weight=weight))
        change[weight] = float(
            jnp.mean(jnp.abs(refine(state.params, x, network=toy.ToyRefiner()) - x))
        )
    assert change[1e4] < 0.2 * change[0.0]


def test_pairs_alone_teach_the_refiner_the_truth():
    only_pairs = toy.objective(
        prediction_weight=0.0, regularization_weight=0.0, prototype_weight=0.0, pair_weight=1.0
    )
    _, history = run_steps(150, only_pairs)
    assert history[-1]["pair"] < 0.7 * history[0]["pair"]
    _, alone = run_steps(150, only_pairs, batch=pairs)
    np.testing.assert_allclose(alone[-1]["pair"], history[-1]["pair"], rtol=1e-3)


def test_recognition_of_pairs_alone_teaches_the_classes():
    only_recognition = toy.objective(prototype_weight=1.0, pair_recognition=1.0)
    trained, history = run_steps(100, only_recognition, batch=pairs)
    for name in ("pair_pred", "pair_proto"):
        assert history[-1][name] < history[0][name]
    rows = toy.batch(999)  # of new noise
    known = np.asarray(rows["pair_label"])
    right = [
        np.argmax(classify(toy.classifier(), refined, network=toy.ToyClassifier()).logits, 1)
        == known
        for refined in (
            refine(state.params, rows["pair_x"], network=toy.ToyRefiner())
            for state in (start(), trained)
        )
    ]
    assert right[0].sum() < len(known) and right[1].all()


def test_a_step_keeps_the_kind_of_every_leaf():
    """Else the second step would be another program."""
    before = jax.eval_shape(start)
    objective = toy.objective(pair_weight=1.0)
    after, terms = jax.eval_shape(
        partial(step, **NETWORKS, objective=objective), before, toy.classifier(), toy.batch()
    )
    assert toy.kinds(before) == toy.kinds(after) and before.step.dtype == jnp.int32
    names = ("loss", "pred", "reg", "proto", "pair", "pair_pred", "pair_proto")
    assert toy.kinds(terms) == dict.fromkeys(names, ((), jnp.float32))


@pytest.mark.parametrize(("count", "decay"), [(0, 1 / 10), (5, 6 / 15), (1000, 0.9)])
def test_a_step_along_a_gradient_by_hand(count, decay):
    optimizer = optax.chain(optax.add_decayed_weights(0.5), optax.sgd(0.1, momentum=0.8))
    weights, average, gradient = ({"w": jnp.array([value])} for value in (2.0, 7.0, 3.0))
    before = RefinerState(jnp.int32(count), weights, average, optimizer.init(weights))
    after = updated(before, gradient, optimizer, ema_decay=0.9)
    assert after.step == count + 1
    momentum = 3.0 + 0.5 * 2.0
    assert jax.tree.leaves(after.opt_state) == [momentum]
    np.testing.assert_allclose(after.params["w"], 2.0 - 0.1 * momentum, rtol=1e-6)
    np.testing.assert_allclose(after.ema_params["w"], decay * 7.0 + (1 - decay) * 1.6, rtol=1e-6)
