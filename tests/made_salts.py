"""Rock salts with edges in small steps: prototypes whose neighbours are their rivals."""

import numpy as np

from imitation_refinement.phases.fitting import Atoms
from imitation_refinement.phases.library import MEASURED
from imitation_refinement.phases.prototypes import GRID, Prototypes, build_prototypes
from imitation_refinement.xrd.crystals import CRYSTAL_SYSTEMS
from imitation_refinement.xrd.diffraction import reflections

CUBIC = CRYSTAL_SYSTEMS.index("cubic")
EDGES = 4.0 + 0.08 * np.arange(24)


def rock_salt(edge: float = 5.64) -> Atoms:
    corners = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    positions = np.concatenate([corners, corners + [0.5, 0.5, 0.5]]) % 1.0
    return Atoms(edge * np.eye(3), np.array([11] * 4 + [17] * 4), positions)


def salt_prototypes() -> Prototypes:
    found = [
        reflections(atoms.lattice, atoms.positions, atoms.numbers, q_min=0.3, q_max=6.6,
                    wavelength=1.5418, b_iso=0.5)
        for atoms in map(rock_salt, EDGES)
    ]  # fmt: skip
    lines = [np.unique(np.round(one.q, 6), return_inverse=True) for one in found]
    offsets = np.concatenate([[0], np.cumsum([len(q) for q, _ in lines])])
    height = [
        np.bincount(where, one.intensity) for (_, where), one in zip(lines, found, strict=True)
    ]
    return build_prototypes(
        np.concatenate([q for q, _ in lines]), np.sqrt(np.concatenate(height)), offsets,
        np.full(len(EDGES), MEASURED), GRID,
    )  # fmt: skip
