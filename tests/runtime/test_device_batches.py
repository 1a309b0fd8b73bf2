"""Batches whose examples are made on the devices."""

import jax
import numpy as np
import pytest
from test_devices import finish, start, start_several

from imitation_refinement.runtime import devices
from imitation_refinement.runtime.batches import balanced_indices
from imitation_refinement.runtime.device_batches import _program, made_on_devices
from imitation_refinement.runtime.files import read_npz

LABELS = np.arange(40) % 3


def noisy(held, index, key):
    return {"index": held[index], "noise": jax.random.normal(key)}


def batches(seed=0):
    indices = balanced_indices(LABELS, 6, 5, seed)
    return indices, made_on_devices(
        indices, np.arange(40, dtype=np.float32), noisy, batch_size=6, seed=seed
    )


def test_a_batch_is_a_function_of_seed_and_step_and_is_made_without_the_host():
    indices, stream = batches()
    first = stream(0)
    whole = [next(first)]
    with jax.transfer_guard("disallow"):
        whole += list(first)
    assert len(whole) == 5 and _program(noisy)._cache_size() == 1
    for step, batch in enumerate(whole):
        np.testing.assert_array_equal(batch["index"], indices.batch(step))
    jax.tree.map(np.testing.assert_array_equal, whole[3:], list(stream(3)))
    noise = np.stack([batch["noise"] for batch in whole + list(batches(seed=1)[1](0))])
    assert len(np.unique(noise)) == noise.size  # of no step, row or seed again


def test_on_a_cpu_numpy_draws():
    assert devices.makes_examples() == (jax.default_backend() != "cpu")


@pytest.mark.slow
def test_devices_and_processes_make_the_same_examples(tmp_path):
    folders = [tmp_path / name for name in ("one", "eight", "several")]
    for folder in folders:
        folder.mkdir()
    finish(start("made", folders[0], 0, device_count=1))
    finish(start("made", folders[1], 0, device_count=8))
    finish(*start_several("made", folders[2]))
    one, *others = (read_npz(folder / "made.npz")["views"] for folder in folders)
    assert one.max() == 1.0
    for other in others:
        np.testing.assert_allclose(other, one, rtol=0, atol=2e-6)
