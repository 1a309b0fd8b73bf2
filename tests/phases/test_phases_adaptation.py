"""Adapting a refiner to scans: halves of counts, the loss by hand, and that it helps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imitation_refinement.errors import UserError
from imitation_refinement.method.networks import UNet
from imitation_refinement.phases import adaptation
from imitation_refinement.phases.adaptation import Halves, adapted, half_of, prediction_loss
from imitation_refinement.xrd.counts import halves
from imitation_refinement.xrd.grid import Grid
from imitation_refinement.xrd.scans import Scan, on_grid

pytestmark = pytest.mark.usefixtures("quick_compilation")
GRID = Grid(0.65, 5.65, 400)
NETWORK = UNet(features=(8, 8))


def expected(top, background=4.0):
    """Counts of eleven peaks on a background."""
    two_theta = np.arange(10.0, 80.0, 0.05)
    centers = np.linspace(16.0, 74.0, 11)
    peaks = np.exp(-0.5 * ((two_theta[:, None] - centers) / 0.2) ** 2) @ np.linspace(1.0, 0.2, 11)
    return two_theta, top * peaks + background


def scan(top, seed=0, counts=None):
    two_theta, mean = expected(top)
    if counts is None:
        counts = np.random.default_rng(seed).poisson(mean).astype(float)
    return Scan(two_theta, counts, 1.5406, f"scan {seed}")


def test_halves_add_up_and_are_independent():
    counts = np.random.default_rng(0).poisson(50.0, 20000).astype(float)
    one, other = halves(counts, np.random.default_rng(1))
    np.testing.assert_array_equal(one + other, counts)
    # Of Poisson counts both halves are Poisson with mean 25, and uncorrelated.
    assert one.mean() == pytest.approx(25.0, abs=0.15)
    assert one.var() == pytest.approx(25.0, rel=0.05)
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.03
    with pytest.raises(UserError, match=r"point 1 has 2\.5 counts"):
        halves(np.array([1.0, 2.5]), np.random.default_rng(0))


def test_the_other_half_is_in_the_unit_of_the_first_and_on_average_its_pattern():
    found = [half_of(scan(400.0), GRID, np.random.default_rng(seed)) for seed in range(40)]
    other = np.mean([one.other for one in found], axis=0)
    long = on_grid(scan(0, counts=expected(4e6, 4e4)[1].round()), GRID).pattern
    strong = long > 0.1
    assert strong.sum() > 20
    # The largest value of a noisy pattern is too large, so that the other is a little smaller.
    ratio = other[strong] / long[strong]
    assert ratio.mean() == pytest.approx(0.95, abs=0.06)
    assert ratio.std() < 0.1
    for one in found:
        assert one.weight.max() == 1.0 and np.all(one.weight >= 0.0)
        assert one.weight[np.argmax(one.other)] < 0.3  # where there are counts there is noise


def test_the_loss_by_hand():
    rng = np.random.default_rng(0)
    x = np.abs(rng.standard_normal((2, 400, 3))).astype(np.float32)
    mask = np.ones((2, 400), np.float32)
    mask[:, 350:] = 0.0
    other, weight = rng.random((2, 2, 400)).astype(np.float32)
    weight *= mask
    params = NETWORK.init(jax.random.key(0), jnp.asarray(x))["params"]  # the identity
    found = prediction_loss(params, Halves(x, mask, other, weight), network=NETWORK)
    total = 0.0
    for i in range(2):
        for j in range(350):
            near = slice(max(j - 100, 0), min(j + 101, 350))
            level = np.mean(x[i, near, 0] - other[i, near])
            total += weight[i, j] * (x[i, j, 0] - other[i, j] - level) ** 2
    assert float(found) == pytest.approx(total / weight.sum(), rel=1e-4)


def test_adapting_predicts_halves_better_that_it_has_not_seen_and_is_seeded(monkeypatch):
    monkeypatch.setattr(adaptation, "STEPS", 30)
    monkeypatch.setattr(adaptation, "BATCH", 4)
    monkeypatch.setattr(adaptation, "RATE", 3e-3)
    scans = [scan(60.0, seed) for seed in range(6)]
    start = NETWORK.init(jax.random.key(0), jnp.zeros((1, 400, 3)))["params"]
    with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
        params, again = (adapted(start, scans, GRID, NETWORK, seed=1) for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, params, again)
    fresh = [half_of(scan(60.0, seed), GRID, np.random.default_rng(seed)) for seed in range(6, 18)]
    batch = Halves(*(np.stack(column) for column in zip(*fresh, strict=True)))
    before, after = (prediction_loss(p, batch, network=NETWORK) for p in (start, params))
    # What can be gained is some 20 %: the other half keeps its own noise.
    assert float(after) < 0.99 * float(before)


def test_scans_that_are_no_raw_counts_are_passed_over():
    smooth = scan(0, counts=np.full(1400, 0.5))
    start = NETWORK.init(jax.random.key(0), jnp.zeros((1, 400, 3)))["params"]
    with pytest.raises(UserError, match="none of the scans holds raw counts with peaks"):
        adapted(start, [smooth], GRID, NETWORK)
