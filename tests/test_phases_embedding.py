"""The embedding by structure: its loss by hand, its batches, and that training works."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imitation_refinement.phases.embedding import (
    DIMENSIONS,
    Settings,
    embed,
    scan_batches,
    structure_loss,
    train_embedding,
)
from imitation_refinement.phases.prototypes import build_prototypes, draw_roots
from imitation_refinement.xrd.grid import Grid

GRID = Grid(0.65, 5.65, 2000)
SETTINGS = Settings(steps=40, batch_size=8, rivals=1, strangers=1, learning_rate=3e-3)


def library(count=30, seed=0):
    rng = np.random.default_rng(seed)
    q = np.sort(rng.uniform(0.8, 5.5, (count, 12)), axis=1).ravel().astype(np.float32)
    offsets = 12 * np.arange(count + 1)
    return build_prototypes(q, rng.uniform(0.3, 1.0, q.size), offsets, np.zeros(count), GRID)


def batches(prototypes, phase, settings=SETTINGS, seed=0):
    count = prototypes.size
    roots = draw_roots(
        prototypes.q, prototypes.height, prototypes.offsets, np.arange(count), prototypes.grid
    )
    rivals = (np.arange(count)[:, None] + [1, 2]) % count
    masks = np.ones(roots.shape, bool)
    return scan_batches(roots, masks, np.arange(count), rivals, prototypes, phase, settings, seed)


def test_the_loss_by_hand():
    z = jnp.array([[1.0, 0.0], [0.0, 1.0]])
    bank = jnp.array([[1.0, 0.0], [0.0, 0.0], [0.0, 2.0]])
    # Squared distances: 0, 1, 5 of the first scan and 2, 1, 1 of the second; scale 0.5.
    excluded = jnp.array([[False, False, False], [False, False, True]])
    found = structure_loss(z, bank, excluded, 0.5)
    first = np.log(1 + np.exp(-0.5) + np.exp(-2.5))
    second = 0.5 + np.log(np.exp(-1.0) + np.exp(-0.5))  # the third is of its phase
    np.testing.assert_allclose(found, [first, second], rtol=1e-6)


def test_entries_of_the_same_phase_are_never_negatives():
    prototypes = library()
    phase = np.arange(30) // 3  # three entries of each phase
    scans, bank, excluded = next(batches(prototypes, phase))
    size = SETTINGS.batch_size
    assert scans.shape == (size, 1000) and bank.shape == (3 * size, 1000)
    assert excluded.shape == (size, 3 * size)
    assert not excluded[np.arange(size), np.arange(size)].any()
    # Each scan is like its own prototype; every one that is nearly as like it is excluded or it.
    drawn = draw_roots(prototypes.q, prototypes.height, prototypes.offsets, np.arange(30), GRID)
    own = (bank[:size] @ drawn.T).argmax(axis=1)
    others = (bank @ drawn.T).argmax(axis=1)
    expected = phase[own][:, None] == phase[others][None]
    expected[np.arange(size), np.arange(size)] = False
    np.testing.assert_array_equal(excluded, expected)
    assert excluded.any()


def test_batches_are_reproducible():
    prototypes = library()
    first, second = (next(batches(prototypes, np.arange(30))) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_allclose(np.linalg.norm(first[0], axis=1), 1.0, atol=1e-5)


@pytest.mark.usefixtures("quick_compilation")
def test_training_brings_scans_to_their_own_prototypes():
    prototypes = library()
    source = batches(prototypes, np.arange(30))
    with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
        *_, (steps, loss, embedding) = train_embedding(source, SETTINGS, points=1000)
    assert steps == 40
    assert loss < 0.8 * np.log(3 * SETTINGS.batch_size)  # of a guess
    roots = draw_roots(prototypes.q, prototypes.height, prototypes.offsets, np.arange(30), GRID)
    found = embed(embedding, roots)
    assert found.shape == (30, DIMENSIONS)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-3)
    # A pattern's embedding does not depend on the others beside it.
    np.testing.assert_allclose(embed(embedding, roots[7:8])[0], found[7], atol=1e-4)
