"""The refiner of phases: its embedding and losses against slow forms, and its training."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from made_structures import GRID, known_structures, made_pairs
from ml_collections import ConfigDict

from imitation_refinement.method import losses
from imitation_refinement.method.networks import UNet
from imitation_refinement.phases.prototypes import draw_roots, scan_roots, unit
from imitation_refinement.phases.refiner_training import (
    batch_example,
    batches_of_pairs,
    recipe,
    train_phase_refiner,
)
from imitation_refinement.phases.refining import (
    Objective,
    both_refined,
    counted_longer,
    denoising_loss,
    moving_sum,
    phase_loss,
    refined,
    revived,
    root_embedding,
    shown,
    slope_loss,
    structure_distances,
)
from imitation_refinement.runtime.workdir import WorkDir

pytestmark = pytest.mark.usefixtures("quick_compilation")
NETWORK = UNet(features=(4, 4))


def library():
    return known_structures().prototypes


def stacked(pairs, prototypes, phase, rows):
    examples = [batch_example(pairs, prototypes, phase, row) for row in rows]
    return {name: jnp.asarray(np.stack([one[name] for one in examples])) for name in examples[0]}


def test_the_embedding_is_the_root_pattern_that_is_matched():
    pairs = made_pairs(library())
    expected, measured = scan_roots(pairs.pattern, pairs.mask)
    found = root_embedding(
        jnp.asarray(pairs.pattern, jnp.float32), jnp.asarray(measured, jnp.float32)
    )
    # Equal but for the lift under the root.
    assert np.sum(np.asarray(found) * expected, axis=1).min() > 0.999
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-5)
    assert not np.asarray(found)[~measured].any()


def test_an_empty_pattern_has_a_finite_gradient():
    gradient = jax.grad(lambda x: jnp.sum(root_embedding(x, jnp.ones((1, 80)))))(
        jnp.zeros((1, 160))
    )
    assert np.isfinite(gradient).all()


def test_distances_are_those_of_eq_2_with_prototypes_of_norm_1_on_each_scans_range():
    rng = np.random.default_rng(1)
    mask = (rng.random((3, 20)) < 0.7).astype(np.float32)
    z, bank = unit(rng.random((3, 20)) * mask), rng.random((5, 20)).astype(np.float32)
    found = structure_distances(jnp.asarray(z, jnp.float32), bank, mask, 7.0)
    for i in range(3):
        own = jnp.asarray(unit(bank * mask[i]), jnp.float32)
        row = losses.prototype_distances(jnp.asarray(z[i : i + 1], jnp.float32), own, 7.0)
        np.testing.assert_allclose(found[i : i + 1], row, rtol=1e-4, atol=1e-5)


def test_an_untrained_refiner_returns_the_pattern_and_its_loss_is_that_of_the_pattern():
    prototypes = library()
    pairs, objective = (
        made_pairs(prototypes),
        Objective(recognition=2.0, pair=30.0, scale=5.0, denoising=3.0, slope=7.0),
    )
    phase = np.arange(12)
    phase[2] = phase[0]  # the second rival of scan 0, and its own when it is scan 2
    batch = stacked(pairs, prototypes, phase, [0, 1, 2])
    x = shown(pairs.pattern, pairs.excess, pairs.noise, pairs.mask)
    params = NETWORK.init(jax.random.key(0), jnp.asarray(x[:1]))["params"]
    np.testing.assert_allclose(
        refined(params, x, pairs.mask, NETWORK), pairs.pattern, rtol=1e-6, atol=1e-7
    )
    loss, terms = phase_loss(params, batch, network=NETWORK, objective=objective)

    # Slowly: -ln softmax over the bank of all scans without other entries of the scan's phase.
    roots, masks = scan_roots(pairs.pattern, pairs.mask)
    entries = pairs.entry[:3].ravel()
    drawn = draw_roots(prototypes.q, prototypes.height, prototypes.offsets, entries, GRID)
    values = []
    for i in range(3):
        own = 3 * i
        kept = (phase[entries] != phase[entries[own]]) | (np.arange(9) == own)
        cosine = unit(drawn * masks[i]) @ roots[i]
        logits = 5.0 * (2.0 * cosine - 2.0)
        values.append(np.log(np.exp(logits[kept]).sum()) - logits[own])
    assert float(terms["proto"]) == pytest.approx(np.mean(values), rel=0.02)  # the lift again
    apart = losses.pair_distance(
        *(jnp.asarray(p[:3], jnp.float32) for p in (pairs.pattern, pairs.truth))
    )
    assert float(terms["pair"]) == pytest.approx(float(jnp.mean(apart)) / 160, rel=1e-5)
    assert float(terms["change"]) == 0.0
    # The second answer begins as the excess, without the floor of noise.
    both = both_refined(params, x, pairs.mask, NETWORK)
    np.testing.assert_allclose(both.denoised, np.maximum(x[..., 1], 0.0), rtol=1e-6, atol=1e-7)
    longer, raw, truth, seen = (
        jnp.asarray(each[:3], jnp.float32)
        for each in (both.denoised, x[..., 0], pairs.truth, pairs.mask)
    )
    target = counted_longer(truth, jnp.asarray(x[:3]), seen)
    noise = float(jnp.mean(denoising_loss(longer, raw, target, objective.invention)))
    slope = slope_loss(raw, raw, truth) + slope_loss(longer, raw, target)
    assert float(terms["noise"]) == pytest.approx(noise, rel=1e-5)
    assert float(terms["slope"]) == pytest.approx(float(jnp.mean(slope)), rel=1e-5)
    expected = (
        2.0 * float(terms["proto"])
        + 30.0 * float(terms["pair"])
        + 3.0 * float(terms["noise"])
        + 7.0 * float(terms["slope"])
    )
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_moving_sums_are_those_of_a_slow_loop():
    rows = np.random.default_rng(2).random((2, 30))
    expected = [[row[max(i - 3, 0) : i + 4].sum() for i in range(30)] for row in rows]
    np.testing.assert_allclose(moving_sum(jnp.asarray(rows), 7), expected, rtol=1e-4)


def test_a_longer_scan_has_lost_its_tails_and_kept_humps_and_no_noise():
    truth, mask = np.zeros((4, 400), np.float32), np.ones((4, 400), np.float32)
    truth[:, 200] = 1.0
    truth[:, 201:300] = 0.05
    mask[:, :150] = 0.0
    noise = np.full_like(truth, 0.01)
    excess = truth.copy()
    excess[1] -= 0.02  # a background that was estimated too high, everywhere
    excess[2] += 0.02  # one that is too low by more than 1.5 standard deviations
    excess[3] += 0.02
    noise[3] = 0.04  # by less, and the longer scan would cut below 1.5 of these
    x = shown(np.maximum(excess, 0.0), excess, noise, mask)
    found = np.asarray(counted_longer(*map(jnp.asarray, (truth, x, mask))))
    expected = np.stack([
        truth[0], np.maximum(truth[1] - 0.02, 0.0), truth[2] + 0.02, np.where(truth[3] > 0.1, 1, 0)
    ])  # fmt: skip
    np.testing.assert_allclose(found, expected * mask, atol=1e-5)


def test_what_is_shown_where_there_is_nothing_costs_more():
    target = jnp.asarray([[1.0, 0.5, 0.005, 0.0]])
    raw = jnp.asarray([[2.0, 0.5, 0.005, 2.0]])  # 3 apart, and 1
    more, less = jnp.asarray([[1.4, 0.5, 0.005, 0.4]]), jnp.asarray([[0.6, 0.1, 0.0, 0.0]])
    assert denoising_loss(more, raw, target, 4.0)[0] == pytest.approx((0.4 + 4 * 0.4) / 4)
    assert denoising_loss(less, raw, target, 4.0)[0] == pytest.approx((0.4 + 0.4 + 0.005) / 4)
    assert denoising_loss(target, raw, target, 4.0)[0] == 0.0


def test_a_bump_costs_by_its_slopes_and_a_level_does_not():
    target = jnp.zeros((2, 6))
    raw = target.at[:, 2].set(1.5)  # slopes of 3 together
    made = jnp.stack([target[0].at[3].set(0.5), target[1] + 0.5])
    np.testing.assert_allclose(slope_loss(made, raw, target), [1.0 / 4.0, 0.0])


def test_a_peak_that_was_deleted_is_learned_of_and_nothing_else_that_is_zero():
    x = jnp.asarray(np.random.default_rng(3).random((1, 16, 3)), jnp.float32)
    params = NETWORK.init(jax.random.key(0), x)["params"]
    params["out"]["bias"] = jnp.asarray([-2.0, -2.0, 0.0])  # below zero everywhere
    target = jnp.zeros((2, 1, 16)).at[0, 0, 3].set(0.5).at[1, 0, 5:8].set(0.5)
    target = target.at[1, 0, 9].set(0.005)  # 1 % of the largest value is nothing

    def made(bias):
        own = params | {"out": params["out"] | {"bias": bias}}
        return revived(own, x, target, network=NETWORK)

    assert not np.asarray(made(params["out"]["bias"])).any()
    gradient = jax.grad(lambda bias: jnp.sum(made(bias)))(params["out"]["bias"])
    np.testing.assert_allclose(gradient, [1.0, 3.0, 0.0])
    # Where it is above zero it is the refiner and so is its derivative.
    bias = jnp.asarray([0.25, 0.5, 0.0])
    both = both_refined(
        params | {"out": params["out"] | {"bias": bias}}, x, np.ones((1, 16), bool), NETWORK
    )
    np.testing.assert_allclose(made(bias), np.stack(both), rtol=1e-6)
    gradient = jax.grad(lambda bias: jnp.sum(made(bias)))(bias)
    np.testing.assert_allclose(gradient, [16.0, 16.0, 0.0])


def test_a_change_of_the_pattern_costs_alpha_per_point():
    prototypes = library()
    batch = stacked(made_pairs(prototypes), prototypes, np.arange(12), [0, 4])
    params = NETWORK.init(jax.random.key(0), batch["x"])["params"]
    params["out"]["bias"] = jnp.full(3, 0.25)  # every point of the refined pattern is raised
    (free, terms), (loss, _) = (
        phase_loss(params, batch, network=NETWORK, objective=Objective(regularization=alpha))
        for alpha in (0.0, 8.0)
    )
    # But for those that were not measured, 20 of 160.
    assert float(terms["change"]) == pytest.approx(0.25 * 140 / 160, rel=1e-5)
    assert float(loss - free) == pytest.approx(8.0 * 0.25 * 140 / 160, rel=1e-4)


def test_without_labels_the_loss_is_an_entropy_over_all_prototypes():
    prototypes = library()
    batch = stacked(made_pairs(prototypes), prototypes, np.zeros(12, int), [0, 4])
    params = NETWORK.init(jax.random.key(0), batch["x"])["params"]
    objective = Objective(targeted=False, pair=0.0, denoising=0.0, slope=0.0)
    _, terms = phase_loss(params, batch, network=NETWORK, objective=objective)
    assert 0.0 < terms["proto"] < np.log(6)
    changed = batch | {"phase": batch["phase"].at[0, 0].set(7)}  # nobody looks at labels
    again = phase_loss(params, changed, network=NETWORK, objective=objective)[1]
    assert again["proto"] == terms["proto"]


def test_training_lowers_the_loss_and_goes_on_bit_for_bit(tmp_path):
    prototypes = library()
    pairs, phase = made_pairs(prototypes), np.arange(12)
    section, run = recipe(), ConfigDict({"threads": 0, "log_every": 10, "checkpoint_every": 10})
    section.update(network="unet_34k", steps=30, batch_size=4, schedule="constant")

    def trained(until=None):
        workdir = WorkDir(tmp_path)
        with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
            batches = batches_of_pairs(pairs, prototypes, phase, section, run, 0)
            params = train_phase_refiner(batches, GRID, section, run, workdir, 0, until=until)
        workdir.close()
        return params

    whole = trained()
    first, *_, last = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert last["loss"] < 0.9 * first["loss"]
    shutil.rmtree(tmp_path / "refiner" / "30")  # as if it was stopped after step 20
    jax.tree.map(np.testing.assert_array_equal, whole, trained())
    shutil.rmtree(tmp_path)
    trained(until=10)
    jax.tree.map(np.testing.assert_array_equal, whole, trained())
