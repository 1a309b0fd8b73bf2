"""What scans are drawn from on a device: some structures of a library, and what is taken for them.

Belongs here: what is looked up in the library once, kept on disk, and what is made of it for the
device. The rivals of a structure are those of its own pattern.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import logging

from imitation_refinement.phases.device_draws import Structures, structures_of
from imitation_refinement.phases.fitting import Atoms
from imitation_refinement.phases.library import Library
from imitation_refinement.phases.pairs import RIVALS, atoms_of, planned
from imitation_refinement.phases.prototypes import Prototypes
from imitation_refinement.phases.scores import coarse_choice
from imitation_refinement.runtime.files import atomic_write_npz, read_npz

Array = Any  # np.ndarray or jax.Array
REFLECTIONS = 2048  # of a structure; of nine in ten structures of the library that is all
_TOGETHER = 32  # structures whose rivals are chosen at once


class Chosen(NamedTuple):
    """s structures of a library, a in all of their atoms, in the order in which scans take them.

    Attributes:
        turn: which of them each scan is of, int32 `[n]`; one that is planned twice is in it twice.
        entry: the structure, first, and its rivals, int32 `[s, 1 + RIVALS]`.
        lattice: vectors as rows, angstrom, float64 `[s, 3, 3]`.
        atoms: where those of each begin, int32 `[s + 1]`.
        number: of each atom, uint8 `[a]`.
        position: fractional, float32 `[a, 3]`.
    """

    turn: np.ndarray
    entry: np.ndarray
    lattice: np.ndarray
    atoms: np.ndarray
    number: np.ndarray
    position: np.ndarray


class Held(NamedTuple):
    """What batches are made of: s structures, and E prototypes, their own and their rivals.

    Attributes:
        turn: see `Chosen`.
        structures: s of them.
        rival: places of the own prototype, first, and its rivals, int32 `[s, 1 + RIVALS]`.
        phase: number of the phase of each, int32 `[s, 1 + RIVALS]`.
        bank: root patterns, float16 `[E, P]`.
        kind: of the source of each, int32 `[E]`.
    """

    turn: Array
    structures: Structures
    rival: Array
    phase: Array
    bank: Array
    kind: Array


def choose(library: Library, prototypes: Prototypes, plan: np.ndarray) -> Chosen:
    """Looks structures and their rivals up; what has too many atoms is left out.

    Args:
        library: of N entries.
        prototypes: of them.
        plan: the structure of each scan, int `[n]`; one at least that is not too large.
    """
    atoms, own = [], []
    for entry in np.unique(plan).tolist():
        try:
            atoms.append(atoms_of(library, entry))
        except ValueError:
            continue
        own.append(entry)
    rows = []
    for first in range(0, len(own), _TOGETHER):
        part = np.array(own[first : first + _TOGETHER])
        roots = prototypes.roots(part)
        found = coarse_choice(roots, np.ones(roots.shape, bool), prototypes, count=RIVALS + 1)
        for entry, some in zip(part, found, strict=True):
            rows.append(np.concatenate([[entry], some[some != entry]])[: RIVALS + 1])
    there = plan[np.isin(plan, own)]
    return Chosen(
        np.searchsorted(own, there).astype(np.int32), np.stack(rows).astype(np.int32),
        np.stack([one.lattice for one in atoms]),
        np.cumsum([0, *(len(one.numbers) for one in atoms)], dtype=np.int32),
        np.concatenate([one.numbers for one in atoms]).astype(np.uint8),
        np.concatenate([one.positions for one in atoms]).astype(np.float32),
    )  # fmt: skip


def load_chosen(
    folder: Path, library: Library, prototypes: Prototypes, count: int, *, seed: int
) -> Chosen:
    """Returns what `count` scans are drawn of; it is looked up once and kept.

    Args:
        folder: where it is kept.
        library: of N entries.
        prototypes: of them.
        count: see `pairs.planned`, as the seed; none is `held_out`.
        seed: not negative.

    Raises:
        UserError: what was kept is damaged, or the folder cannot be written.
    """
    path = folder / f"device-{library.digest[:12]}-{seed}-{count:06d}.npz"
    if not path.exists():
        plan = planned(library, count, seed, held=False)
        atomic_write_npz(path, choose(library, prototypes, plan)._asdict())
        logging.info("structures and rivals of %d scans looked up", count)
    return Chosen(**read_npz(path))


def held(chosen: Chosen, library: Library, prototypes: Prototypes, phase: np.ndarray) -> Held:
    """Returns what batches are made of.

    Args:
        chosen: s structures of a library.
        library: of N entries.
        prototypes: of them.
        phase: number of the phase of each entry, int `[N]`.
    """
    own = chosen.entry[:, 0]
    atoms = [
        Atoms(lattice, chosen.number[first:stop].astype(int), chosen.position[first:stop])
        for lattice, first, stop in zip(
            chosen.lattice, chosen.atoms, chosen.atoms[1:], strict=False
        )
    ]
    structures = structures_of(
        atoms, library.crystal_system[own].tolist(), prototypes.kind[own].tolist(), REFLECTIONS
    )
    known, rival = np.unique(chosen.entry, return_inverse=True)
    return Held(
        chosen.turn, structures, rival.reshape(chosen.entry.shape).astype(np.int32),
        phase[chosen.entry].astype(np.int32), prototypes.roots(known).astype(np.float16),
        prototypes.kind[known].astype(np.int32),
    )  # fmt: skip
