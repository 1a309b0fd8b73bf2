"""Structures of some random lines, scans of them with noise, and a refiner that does nothing."""

import numpy as np

from imitation_refinement.phases.embedding_training import Known
from imitation_refinement.phases.pairs import Pairs
from imitation_refinement.phases.prototypes import build_prototypes, draw_roots
from imitation_refinement.xrd.grid import Grid

GRID = Grid(0.65, 5.65, 160)


def known_structures(count=12, seed=0):
    """Each a phase of its own, two of each crystal system in turn."""
    rng = np.random.default_rng(seed)
    q = np.sort(rng.uniform(0.8, 5.5, (count, 6)), axis=1).ravel().astype(np.float32)
    prototypes = build_prototypes(
        q, rng.uniform(0.3, 1.0, q.size), 6 * np.arange(count + 1), np.zeros(count), GRID
    )
    number = np.arange(count)
    return Known(prototypes, number, number // 2 % 7, np.zeros(count, bool))


def made_pairs(prototypes, count=12, seed=0):
    """Patterns of the prototypes with noise; the rivals of each are the two that follow."""
    rng = np.random.default_rng(seed)
    roots = draw_roots(
        prototypes.q, prototypes.height, prototypes.offsets, np.arange(count), GRID, fold=1
    )
    truth = roots**2 / (roots**2).max(axis=1, keepdims=True)
    noise = np.full_like(truth, 0.1)
    excess = truth + noise * rng.standard_normal(truth.shape)
    mask = np.ones(truth.shape, bool)
    mask[:, :20] = False
    entry = (np.arange(count)[:, None] + np.arange(3)) % count
    pattern = np.where(excess > 0.3, excess, 0.0)
    return Pairs(
        pattern * mask, excess * mask, noise, mask, truth * mask, entry, np.zeros(entry.shape),
        np.full(count, 100.0),
    )  # fmt: skip
