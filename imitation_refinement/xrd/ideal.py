"""The set of ideal powder patterns: simulated lines of crystals, with their splits.

Belongs here: simulating, splitting and storing the lines of generated prototype families or of the
user's structures. Profiles are rendered from them later (`profiles`), since the width is drawn anew
each time a pattern is seen in training.
"""

import dataclasses
import functools
import hashlib
import os
from collections.abc import Iterable
from typing import Any

import numpy as np
from absl import logging

from imitation_refinement.errors import UserError
from imitation_refinement.runtime.generate import cached_arrays, parallel_map
from imitation_refinement.tasks import SEEN, TRAIN, UNSEEN
from imitation_refinement.xrd.crystals import Crystal, prototype_member, random_prototype
from imitation_refinement.xrd.diffraction import merge_lines, reflections
from imitation_refinement.xrd.structures.collection import Structures
from imitation_refinement.xrd.symmetry import MONOCLINIC, TRICLINIC, tied

# Lines beyond both ends of the grid: shifts and wide peaks bring them in.
Q_MARGIN = (0.90, 1.06)

_SPLIT_STREAM, _STRAIN_STREAM = 13, 14
_PROTOTYPES_PER_TASK = 16


@dataclasses.dataclass(frozen=True)
class IdealLines:
    """Merged lines of n patterns, ragged: pattern i owns `[offsets[i]:offsets[i+1]]`.

    Attributes:
        q: float32 [sum m], 1/angstrom, ascending within a pattern.
        root_intensity: float16 [sum m], sqrt(I / I_max): the root keeps weak lines in half
            precision.
        offsets: int64 [n + 1].
        label: int32 [n], class: the crystal system 0..6 of generated crystals.
        prototype_id: int32 [n], family: the prototype, or the index of the structure.
        split: int8 [n], TRAIN, SEEN (held-out member of a training prototype) or UNSEEN (member of
            a held-out prototype).
    """

    q: np.ndarray
    root_intensity: np.ndarray
    offsets: np.ndarray
    label: np.ndarray
    prototype_id: np.ndarray
    split: np.ndarray

    def __len__(self) -> int:
        """Number of patterns."""
        return len(self.label)

    def lines(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """(q, intensity) of a pattern, float64 [m] each, intensity with maximum 1."""
        start, stop = self.offsets[index], self.offsets[index + 1]
        root = self.root_intensity[start:stop].astype(np.float64)
        return self.q[start:stop].astype(np.float64), root**2


def ideal_lines(
    config_data: Any, seed: int, cache_dir: str | os.PathLike[str], workers: int
) -> IdealLines:
    """Generates the ideal set, or opens it if it was generated before.

    Pattern `i` is member `i % members` of prototype `i // members`; its lines depend on the seed
    and those two alone, never on `workers`.

    Args:
        config_data: with ideal.prototypes, ideal.members, ideal.unseen_fraction,
            ideal.seen_fraction, grid.q_min, grid.q_max, wavelength, b_iso.
        seed: non-negative.
        cache_dir: where the arrays are kept.
        workers: processes used for generating.

    Raises:
        UserError: see `cached_arrays`.
    """
    ideal, simulation = config_data.ideal, _simulation(config_data)
    key = {
        "seed": int(seed),
        "prototypes": int(ideal.prototypes),
        "members": int(ideal.members),
        "simulation": simulation,
    }
    build = functools.partial(_build, key, workers)
    arrays = cached_arrays(cache_dir, "ideal", key, build)
    # The split is cheap and has options of its own, so it stays out of the cache.
    split = split_members(
        arrays["label"],
        arrays["prototype_id"],
        seed,
        unseen_fraction=float(ideal.unseen_fraction),
        seen_fraction=float(ideal.seen_fraction),
    )
    return IdealLines(**arrays, split=split)


def structure_lines(
    config_data: Any,
    seed: int,
    structures: Structures,
    label: np.ndarray,
    held_out: np.ndarray,
    cache_dir: str | os.PathLike[str],
    workers: int,
) -> IdealLines:
    """Simulates the ideal set of given structures, or opens it if it was simulated before.

    Each structure has `ideal.members` members: itself and copies strained by `strained_member`.
    A structure without a line on the grid is left out, and said.

    Args:
        config_data: with ideal.{members, strain, seen_fraction}, grid.q_min, grid.q_max,
            wavelength, b_iso.
        seed: non-negative.
        structures: the table.
        label: int [n], class of each structure; -1 for those that are not used.
        held_out: bool [n], structures whose every member is UNSEEN.
        cache_dir: where the arrays are kept.
        workers: processes used for simulating.

    Raises:
        UserError: see `cached_arrays`; or a class has no line on the grid.
    """
    ideal, simulation = config_data.ideal, _simulation(config_data)
    used = np.flatnonzero(label >= 0)
    key = {
        "seed": int(seed),
        "structures": structures.digest,
        "used": hashlib.sha256(used.astype(np.int64).tobytes()).hexdigest(),
        "members": int(ideal.members),
        "strain": float(ideal.strain),
        "grid": [float(config_data.grid.q_min), float(config_data.grid.q_max)],
        "simulation": simulation,
    }
    build = functools.partial(_build_structures, key, structures, used, workers)
    arrays = cached_arrays(cache_dir, "structure-lines", key, build)
    own = arrays["prototype_id"]
    if (dark := len(used) - len(np.unique(own))) > 0:
        logging.warning("%d structures without a line on the grid left out", dark)
    empty = np.setdiff1d(label[used], label[own])
    if len(empty):
        raise UserError(
            f"config.data.grid: no structure of {len(empty)} classes has a line between "
            f"q = {config_data.grid.q_min} and {config_data.grid.q_max}; widen the range"
        )
    labels = label[own].astype(np.int32)
    split = split_known(labels, held_out[own], seed, float(ideal.seen_fraction))
    return IdealLines(**arrays, label=labels, split=split)


def strained_member(crystal: Crystal, seed: int, member_id: int, strain: float) -> Crystal:
    """A copy of a crystal with another cell of the same system; member 0 is the crystal itself.

    The cell grows by exp(N(0, strain)), its free axes by N(0, strain) each, and its free angles by
    N(0, strain) radians; fractional coordinates are kept, and with them the space group.
    """
    if member_id == 0 or strain == 0.0:
        return crystal
    stream = (seed, _STRAIN_STREAM, crystal.prototype_id, member_id)
    rng = np.random.default_rng(np.random.SeedSequence(stream))
    cell = crystal.cell.copy()
    axial = tied(rng.normal(0.0, strain, 3), crystal.system)
    cell[:3] *= np.exp(rng.normal(0.0, strain)) * (1.0 + axial)
    turned = np.degrees(rng.normal(0.0, strain, 3))
    if crystal.system == MONOCLINIC:
        cell[4] += turned[1]
    elif crystal.system == TRICLINIC:
        cell[3:] += turned
    return dataclasses.replace(crystal, cell=cell)


def split_members(
    label: np.ndarray,
    prototype_id: np.ndarray,
    seed: int,
    *,
    unseen_fraction: float,
    seen_fraction: float,
) -> np.ndarray:
    """Assigns patterns to TRAIN, SEEN and UNSEEN, int8 [n], evenly over the classes.

    Args:
        label: int [n].
        prototype_id: int [n].
        seed: of the choice.
        unseen_fraction: share of the prototypes whose every member is UNSEEN.
        seen_fraction: share of the members of the other prototypes that are SEEN.
    """
    rng = np.random.default_rng(np.random.SeedSequence((seed, _SPLIT_STREAM, 0)))
    prototypes, first, inverse = np.unique(prototype_id, return_index=True, return_inverse=True)
    held_out = np.zeros(len(prototypes), bool)
    held_out[_stratified(rng, label[first], unseen_fraction)] = True
    return _split(rng, label, held_out[inverse], seen_fraction)


def split_known(
    label: np.ndarray, unseen: np.ndarray, seed: int, seen_fraction: float
) -> np.ndarray:
    """Assigns patterns to TRAIN, SEEN and UNSEEN, int8 [n], where `unseen` bool [n] is given.

    Of the others a share `seen_fraction` is SEEN, evenly over the classes; a class keeps at least
    one pattern for training.
    """
    rng = np.random.default_rng(np.random.SeedSequence((seed, _SPLIT_STREAM, 1)))
    split = _split(rng, label, unseen, seen_fraction)
    for k in np.setdiff1d(label, label[split == TRAIN]):
        split[np.flatnonzero((label == k) & ~unseen)[:1]] = TRAIN
    return split


def _split(
    rng: np.random.Generator, label: np.ndarray, unseen: np.ndarray, seen_fraction: float
) -> np.ndarray:
    known = np.flatnonzero(~unseen)
    split = np.full(len(label), TRAIN, np.int8)
    split[unseen] = UNSEEN
    split[known[_stratified(rng, label[known], seen_fraction)]] = SEEN
    return split


def _stratified(rng: np.random.Generator, label: np.ndarray, fraction: float) -> np.ndarray:
    """Indices of a random `fraction` of the items, in equal shares of every class."""
    order = np.lexsort((rng.random(len(label)), label))  # by class, at random inside
    steps = np.floor(np.arange(len(label) + 1) * fraction + 0.5)
    return order[np.diff(steps) > 0]


def _simulation(config_data: Any) -> dict[str, float]:
    return {
        "q_min": float(config_data.grid.q_min) * Q_MARGIN[0],
        "q_max": float(config_data.grid.q_max) * Q_MARGIN[1],
        "wavelength": float(config_data.wavelength),
        "b_iso": float(config_data.b_iso),
    }


def _build(key: dict[str, Any], workers: int) -> dict[str, np.ndarray]:
    prototypes, size = key["prototypes"], _PROTOTYPES_PER_TASK
    tasks = [range(i, min(i + size, prototypes)) for i in range(0, prototypes, size)]
    simulate = functools.partial(
        _simulate, seed=key["seed"], members=key["members"], simulation=key["simulation"]
    )
    describe = f"simulating {prototypes * key['members']} ideal patterns"
    parts = list(parallel_map(simulate, tasks, workers=workers, describe=describe))
    ids = np.repeat(np.arange(prototypes, dtype=np.int32), key["members"])
    labels = np.concatenate([part["label"] for part in parts])
    return {**_joined(parts), "label": labels, "prototype_id": ids}


def _build_structures(
    key: dict[str, Any], structures: Structures, used: np.ndarray, workers: int
) -> dict[str, np.ndarray]:
    size = _PROTOTYPES_PER_TASK
    tasks = [
        [structures.crystal(index) for index in used[i : i + size]]
        for i in range(0, len(used), size)
    ]
    simulate = functools.partial(_simulate_structures, key=key)
    describe = f"simulating {len(used) * key['members']} ideal patterns"
    parts = list(parallel_map(simulate, tasks, workers=workers, describe=describe))
    ids = np.concatenate([part["prototype_id"] for part in parts])
    return {**_joined(parts), "prototype_id": ids}


def _simulate(
    prototype_ids: range, *, seed: int, members: int, simulation: dict[str, float]
) -> dict[str, np.ndarray]:
    """Lines of all members of some prototypes, one after another."""
    crystals = []
    for prototype_id in prototype_ids:
        prototype = random_prototype(seed, prototype_id)
        crystals += [prototype_member(prototype, seed, i) for i in range(members)]
    labels = np.array([crystal.system for crystal in crystals], np.int32)
    return {**_lines_of(crystals, simulation), "label": labels}


def _simulate_structures(crystals: list[Crystal], *, key: dict[str, Any]) -> dict[str, np.ndarray]:
    """Lines of all members of those structures of which every member has one on the grid."""
    parts, ids = [], []
    for crystal in crystals:
        members = [
            strained_member(crystal, key["seed"], i, key["strain"]) for i in range(key["members"])
        ]
        part = _lines_of(members, key["simulation"])
        inside = (part["q"] >= key["grid"][0]) & (part["q"] <= key["grid"][1])
        ends = np.cumsum(part["count"])
        if np.all(np.diff(np.concatenate([[0], np.cumsum(inside)])[ends], prepend=0) > 0):
            parts.append(part)
            ids += [crystal.prototype_id] * len(members)
    parts.append(_lines_of([], key["simulation"]))  # there may be no other
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return {**joined, "prototype_id": np.array(ids, np.int32)}


def _lines_of(crystals: Iterable[Crystal], simulation: dict[str, float]) -> dict[str, np.ndarray]:
    """Merged lines of some crystals, one after another: q, root_intensity and count."""
    positions, roots = [np.zeros(0, np.float32)], [np.zeros(0, np.float16)]
    for crystal in crystals:
        found = reflections(crystal.lattice, crystal.positions, crystal.numbers, **simulation)
        q, intensity = merge_lines(found.q, found.intensity)
        positions.append(q.astype(np.float32))
        roots.append(np.sqrt(intensity / intensity.max(initial=0.0)).astype(np.float16))
    return {
        "q": np.concatenate(positions),
        "root_intensity": np.concatenate(roots),
        "count": np.array([len(q) for q in positions[1:]], np.int64),
    }


def _joined(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    counts = np.concatenate([part["count"] for part in parts])
    return {  # popped, so that the large arrays are not held twice
        "q": np.concatenate([part.pop("q") for part in parts]),
        "root_intensity": np.concatenate([part.pop("root_intensity") for part in parts]),
        "offsets": np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]),
    }
