"""Training views made within `jit` against those of NumPy, given the same random numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference_patterns import render_exact

from imitation_refinement.xrd import device_views, profiles
from imitation_refinement.xrd.device_views import Held, draw_view, lines_of, view_of
from imitation_refinement.xrd.grid import Grid
from imitation_refinement.xrd.ideal import IdealLines
from imitation_refinement.xrd.profiles import IdealViews, ViewDraws

pytestmark = pytest.mark.usefixtures("quick_compilation")
GRID = Grid(length=500)
PLAIN = IdealViews()
EVERYTHING = IdealViews((12.0, 150.0), 0.8, (0.25, 0.3), True, 0.3)
# More than both margins: some lines lie outside the axis on which profiles are convolved.
Q = np.sort(np.random.default_rng(0).uniform(0.6, 6.5, 120)).astype(np.float32)
ROOT = (np.random.default_rng(1).random(120) ** 2).astype(np.float16)
MOST = 150  # of another pattern


def ideal_set() -> IdealLines:
    """Two patterns: the lines above, and MOST lines elsewhere."""
    other = np.linspace(1.0, 6.0, MOST, dtype=np.float32)
    return IdealLines(
        np.concatenate([other, Q]),
        np.concatenate([np.ones(MOST, np.float16), ROOT]),
        np.array([0, MOST, MOST + len(Q)]),
        np.zeros(2, np.int32),
        np.arange(2, dtype=np.int32),
        np.zeros(2, np.int8),
    )


def held() -> Held:
    return jax.tree.map(jnp.asarray, device_views.device_views(ideal_set(), GRID, PLAIN).held)


def both_ways(draws: ViewDraws, dtype) -> tuple[np.ndarray, np.ndarray]:
    """What NumPy and what `jit` makes of the lines and the same random numbers."""
    expected = profiles.view_of(*ideal_set().lines(1), GRID, draws)
    q, intensity = lines_of(held(), jnp.int32(1), MOST)
    if draws.grains is not None:
        draws = draws._replace(grains=np.pad(draws.grains, (0, MOST - len(Q))))

    def typed(value):
        value = np.asarray(value)
        return value if value.dtype == bool else value.astype(dtype)

    draws = jax.tree.map(typed, draws)
    made = jax.jit(lambda *of: view_of(*of[:2], GRID, of[2]))(
        q.astype(dtype), intensity.astype(dtype), draws
    )
    assert made.dtype == dtype
    return expected, np.asarray(made)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("views", [PLAIN, EVERYTHING], ids=["plain", "everything"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 2e-6), (np.float32, 5e-6)])
def test_the_same_numbers_make_the_same_view(views, seed, dtype, tolerance):
    draws = profiles.draw_view(np.random.default_rng(seed), len(Q), GRID.length, views)
    with jax.enable_x64(dtype == np.float64):
        expected, made = both_ways(draws, dtype)
    apart = np.abs(made - expected)
    # Of the noise, what is as high as the cut to a part in a million may fall to the other side.
    assert np.sum(apart > tolerance) <= (1 if views.augment else 0), np.sort(apart)[-3:]


@pytest.mark.parametrize("eta", [0.0, 0.6])
def test_in_float64_a_view_is_the_sum_of_its_lines(eta):
    with jax.enable_x64():
        _, made = both_ways(ViewDraws(30.0, eta), np.float64)
    exact = render_exact(*ideal_set().lines(1), GRID, size_nm=30.0, eta=eta)
    np.testing.assert_allclose(made, exact / exact.max(), rtol=0, atol=3e-3 if eta else 1e-4)


def test_numbers_are_drawn_from_the_distributions_of_numpy():
    count, length = 40, 64
    keys = jax.random.split(jax.random.key(0), 2000)
    made = jax.jit(jax.vmap(lambda key: draw_view(key, count, length, EVERYTHING)))(keys)
    rng = np.random.default_rng(0)
    drawn = [profiles.draw_view(rng, count, length, EVERYTHING) for _ in range(2000)]
    for name in ViewDraws._fields:
        here = np.asarray(getattr(made, name), np.float64)
        there = np.stack([getattr(draw, name) for draw in drawn]).astype(np.float64)
        assert here.shape == there.shape, name
        spread = there.std(axis=0) + 1e-9
        # Two means of 2,000 draws are 0.03 deviations apart, and 2,000 deviations no more.
        assert np.all(np.abs(here.mean(axis=0) - there.mean(axis=0)) < 0.15 * spread), name
        if name != "window":
            assert np.all(np.abs(here.std(axis=0) / spread - 1.0) < 0.15), name
    assert draw_view(keys[0], count, length, PLAIN)[2:] == (None,) * 6


def test_a_view_is_a_function_of_its_key_with_maximum_one():
    made = jax.jit(device_views.device_views(ideal_set(), GRID, EVERYTHING).view)
    first, again, other = (
        np.asarray(made(held(), jnp.int32(1), jax.random.key(seed))) for seed in (0, 0, 1)
    )
    assert first.shape == (500, 1) and first.dtype == np.float32
    assert first.min() >= 0.0 and first.max() == 1.0
    np.testing.assert_array_equal(first, again)
    assert np.any(first != other)


def test_no_lines_give_nothing():
    draws = ViewDraws(jnp.float32(30.0), jnp.float32(0.0))
    made = jax.jit(lambda q: view_of(q, jnp.zeros(MOST), GRID, draws))
    assert not made(jnp.ones(MOST)).any()


def test_a_set_too_large_for_its_offsets_is_left_to_numpy():
    large = ideal_set()
    object.__setattr__(large, "offsets", np.array([0, 2**31]))
    assert device_views.device_views(large, GRID, PLAIN) is None
