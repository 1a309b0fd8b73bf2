"""How long matching takes, how it grows with the library, and what the coarse choice loses.

    python benchmarks/match_speed.py

Scans are simulated from structures of the library. A larger library is copies of it whose cells
are changed by a percent at random. Lost is what the coarse choice leaves out of the ten prototypes
that are best when all are compared exactly.
"""

import os
import time

import numpy as np
from absl import app, flags

from imitation_refinement.errors import UserError
from imitation_refinement.phases.calibration_file import load_calibration
from imitation_refinement.phases.fitting import Atoms, simulated_placed
from imitation_refinement.phases.library import Library, load_library
from imitation_refinement.phases.match import match
from imitation_refinement.phases.prototypes import GRID, Prototypes, build_prototypes, scan_roots
from imitation_refinement.phases.scores import best_of, coarse_choice

_LIBRARY = flags.DEFINE_string("library", None, "Library file; the shipped one without.")
_COPIES = flags.DEFINE_multi_integer("copies", [1, 7], "Sizes, in libraries.", lower_bound=1)
_SCANS = flags.DEFINE_integer("scans", 128, "Simulated scans that are timed.", lower_bound=1)
_EXACT = flags.DEFINE_integer("exact", 20, "Scans compared with all prototypes.", lower_bound=0)
_SEED = flags.DEFINE_integer("seed", 0, "Of all draws.", lower_bound=0)

_MOST_ATOMS = 200
_BEST = 10
_BLOCK = 2000  # prototypes compared at once
_JITTER = 0.01  # of ln of the cell of a copy


def copied(library: Library, count: int, seed: int) -> Prototypes:
    """Returns the prototypes of a library and of its copies with other cells."""
    rng = np.random.default_rng([seed, 1])
    lines = np.diff(library.offsets)
    shifts = [np.zeros(len(lines)), *rng.normal(0.0, _JITTER, (count - 1, len(lines)))]
    q = np.concatenate([library.q * np.exp(np.repeat(shift, lines)) for shift in shifts])
    offsets = np.concatenate([[0], np.cumsum(np.tile(lines, count))])
    kind = np.tile(library.computed, count)
    return build_prototypes(q, np.tile(library.amplitude, count), offsets, kind, GRID)


def simulated(library: Library, prototypes: Prototypes) -> tuple[np.ndarray, np.ndarray]:
    """Returns patterns and masks of simulated scans of structures of the library, `[n, L]`."""
    patterns, masks = [], []
    order = np.random.default_rng(_SEED.value).permutation(len(library)).tolist()
    for number, entry in enumerate(order):
        found = library.structure(entry)
        if len(found.numbers) > _MOST_ATOMS:
            continue
        atoms = Atoms(found.lattice, found.numbers, found.positions)
        system, kind = int(library.crystal_system[entry]), int(library.computed[entry])
        try:
            placed = simulated_placed(atoms, system, kind, prototypes, number, _SEED.value)
        except (UserError, ValueError):
            continue
        if not placed.signal:
            patterns.append(placed.pattern)
            masks.append(placed.mask)
        if len(patterns) == _SCANS.value:
            break
    return np.stack(patterns), np.stack(masks)


def best_of_all(root: np.ndarray, mask: np.ndarray, prototypes: Prototypes) -> np.ndarray:
    """Returns the prototypes of the largest exact cosines, less the prior's penalty, int `[10]`."""
    leaders = np.zeros(0, int)
    for start in range(0, prototypes.size, _BLOCK):
        some = np.arange(start, min(start + _BLOCK, prototypes.size))
        some = np.concatenate([leaders, some])
        [places] = best_of(root[None], mask, prototypes, some, prototypes.roots(some), _BEST)
        leaders = some[places]
    return leaders


def main(_: list[str]) -> None:
    library, posterior = load_library(_LIBRARY.value), load_calibration().posterior
    print(f"{os.cpu_count()} cores, {_SCANS.value} simulated scans, seed {_SEED.value}\n")
    print("| prototypes | drawn | wall, ms a scan | CPU, ms a scan |\n|" + " --- |" * 4)
    for count in _COPIES.value:
        prototypes = copied(library, count, _SEED.value)
        patterns, masks = simulated(library, prototypes)
        match(patterns[:2], masks[:2], prototypes, posterior)
        for drawn in ("before this scan: none", "before: all that are asked for"):
            wall, cpu = time.perf_counter(), time.process_time()
            match(patterns, masks, prototypes, posterior)
            spent = time.perf_counter() - wall, time.process_time() - cpu
            wall, cpu = (1e3 * seconds / len(patterns) for seconds in spent)
            print(f"| {prototypes.size:,} | {drawn} | {wall:.1f} | {cpu:.1f} |", flush=True)
    if _EXACT.value:
        prototypes = copied(library, 1, _SEED.value)
        roots, measured = scan_roots(patterns[: _EXACT.value], masks[: _EXACT.value])
        chosen = coarse_choice(roots, measured, prototypes)
        there = [
            np.isin(best_of_all(root, mask, prototypes), some).mean()
            for root, mask, some in zip(roots, measured, chosen, strict=True)
        ]
        print(f"\nof the exact ten best {100 * np.mean(there):.1f} % are among those chosen")


if __name__ == "__main__":
    app.run(main)
