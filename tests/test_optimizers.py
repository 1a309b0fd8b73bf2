"""The learning rate of each step, against values by hand and optax's own schedule."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from imitation_refinement.method.optimizers import learning_rate_schedule


def section(warmup_steps: int) -> ConfigDict:
    return ConfigDict(
        {"schedule": "cosine", "learning_rate": 2.0, "warmup_steps": warmup_steps, "steps": 12}
    )


def rates(schedule: optax.Schedule) -> np.ndarray:
    compiled = jax.jit(schedule)
    with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
        return np.array([compiled(jnp.int32(step)) for step in range(14)])


def test_warms_up_linearly_and_decays_as_a_cosine():
    found = rates(learning_rate_schedule(section(4)))
    by_hand = {0: 0.0, 1: 0.5, 3: 1.5, 4: 2.0, 6: 1 + 0.5**0.5, 8: 1.0, 12: 0.0, 13: 0.0}
    for step, rate in by_hand.items():
        assert found[step] == pytest.approx(rate, abs=1e-6), step


@pytest.mark.parametrize("warmup_steps", [0, 5])
def test_same_bits_as_optax(warmup_steps):
    expected = optax.schedules.warmup_cosine_decay_schedule(0.0, 2.0, warmup_steps, 12)
    found = learning_rate_schedule(section(warmup_steps))
    np.testing.assert_array_equal(rates(found), rates(expected))
