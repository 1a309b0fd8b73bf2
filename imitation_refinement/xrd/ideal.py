"""The set of ideal powder patterns: simulated lines of prototype families, with their splits.

Belongs here: generating, splitting and storing the lines. Profiles are rendered from them later
(`profiles`), since the width is drawn anew each time a pattern is seen in training.
"""

import dataclasses
import functools
import os
from typing import Any

import numpy as np

from imitation_refinement.tasks import SEEN, TRAIN, UNSEEN
from imitation_refinement.xrd.crystals import prototype_member, random_prototype
from imitation_refinement.xrd.diffraction import merge_lines, reflections
from imitation_refinement.xrd.generate import cached_arrays, parallel_map

# Lines beyond both ends of the grid: shifts and wide peaks bring them in.
Q_MARGIN = (0.90, 1.06)

_SPLIT_STREAM = 13
_PROTOTYPES_PER_TASK = 16


@dataclasses.dataclass(frozen=True)
class IdealLines:
    """Merged lines of n patterns, ragged: pattern i owns `[offsets[i]:offsets[i+1]]`.

    Attributes:
      q: float32 [sum m], 1/angstrom, ascending within a pattern.
      root_intensity: float16 [sum m], sqrt(I / I_max): the root keeps weak lines in half precision.
      offsets: int64 [n + 1].
      label: int32 [n], crystal system 0..6.
      prototype_id: int32 [n].
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
    ideal = config_data.ideal
    simulation = {
        "q_min": float(config_data.grid.q_min) * Q_MARGIN[0],
        "q_max": float(config_data.grid.q_max) * Q_MARGIN[1],
        "wavelength": float(config_data.wavelength),
        "b_iso": float(config_data.b_iso),
    }
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
    unseen = held_out[inverse]
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


def _build(key: dict[str, Any], workers: int) -> dict[str, np.ndarray]:
    prototypes, size = key["prototypes"], _PROTOTYPES_PER_TASK
    tasks = [range(i, min(i + size, prototypes)) for i in range(0, prototypes, size)]
    simulate = functools.partial(
        _simulate, seed=key["seed"], members=key["members"], simulation=key["simulation"]
    )
    describe = f"simulating {prototypes * key['members']} ideal patterns"
    parts = list(parallel_map(simulate, tasks, workers=workers, describe=describe))
    counts = np.concatenate([part["count"] for part in parts])
    return {  # popped, so that the large arrays are not held twice
        "q": np.concatenate([part.pop("q") for part in parts]),
        "root_intensity": np.concatenate([part.pop("root_intensity") for part in parts]),
        "offsets": np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]),
        "label": np.concatenate([part["label"] for part in parts]),
        "prototype_id": np.repeat(np.arange(prototypes, dtype=np.int32), key["members"]),
    }


def _simulate(
    prototype_ids: range, *, seed: int, members: int, simulation: dict[str, float]
) -> dict[str, np.ndarray]:
    """Lines of all members of some prototypes, one after another."""
    positions, roots, labels = [], [], []
    for prototype_id in prototype_ids:
        prototype = random_prototype(seed, prototype_id)
        for member_id in range(members):
            crystal = prototype_member(prototype, seed, member_id)
            found = reflections(crystal.lattice, crystal.positions, crystal.numbers, **simulation)
            q, intensity = merge_lines(found.q, found.intensity)
            positions.append(q.astype(np.float32))
            roots.append(np.sqrt(intensity / intensity.max(initial=0.0)).astype(np.float16))
            labels.append(crystal.system)
    return {
        "q": np.concatenate(positions),
        "root_intensity": np.concatenate(roots),
        "count": np.array([len(q) for q in positions], np.int64),
        "label": np.array(labels, np.int32),
    }
