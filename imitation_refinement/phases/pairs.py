"""Pairs: simulated scans of few counts beside what endless counting would have shown.

Belongs here: what the refiner of phases learns from. A scan of a structure of the library goes
through the very `on_grid` of users' files; its truth is the expected pattern of its peaks, as wide
as the scan has them, in the unit of the scan. With each come its own prototype and its rivals,
which the coarse match takes for it, at the cell that fits best. Parts are kept on disk.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import logging

from imitation_refinement.errors import UserError
from imitation_refinement.phases.fitting import LABORATORIES, Atoms, simulated_measurement
from imitation_refinement.phases.formulas import reduced
from imitation_refinement.phases.library import MEASURED, Library
from imitation_refinement.phases.prototypes import Prototypes, draw_roots, log_axis, scan_roots
from imitation_refinement.phases.scores import (
    PRIOR,
    PRIOR_WEIGHT,
    SHIFTS,
    coarse_choice,
    exact_cosines,
)
from imitation_refinement.phases.simulated import Measurement
from imitation_refinement.runtime.files import atomic_write_npz, read_npz
from imitation_refinement.xrd.cells import cell_means
from imitation_refinement.xrd.grid import Grid, grid_q, q_from_two_theta
from imitation_refinement.xrd.scans import PlacedScan, on_grid, q_per_radian

COUNTS = (6.0, 30000.0)  # expected at the strongest point, without background
RIVALS = 16  # prototypes beside the own one
PART = 200  # pairs of one file
_MOST_ATOMS = 200
# Quick scans are mostly raw counts.
QUICK = tuple(
    laboratory._replace(counts=COUNTS, smoothed=0.1, subtracted=0.15) for laboratory in LABORATORIES
)


class Pairs(NamedTuple):
    """n simulated scans with their truth, on L points of the grid.

    Attributes:
        pattern, excess, noise: of `on_grid`, float16 `[n, L]`.
        mask: where there is a scan, bool `[n, L]`.
        truth: expected peaks without noise and background, in the unit of the pattern, float16
            `[n, L]`.
        entry: the structure, and its rivals, int32 `[n, 1 + RIVALS]`.
        shift: of ln q at which each fits best, float32 `[n, 1 + RIVALS]`.
        counts: of the strongest point of the scan, float32 `[n]`.
    """

    pattern: np.ndarray
    excess: np.ndarray
    noise: np.ndarray
    mask: np.ndarray
    truth: np.ndarray
    entry: np.ndarray
    shift: np.ndarray
    counts: np.ndarray


def atoms_of(library: Library, entry: int) -> Atoms:
    """Returns the atoms of an entry, the main element of each site.

    Raises:
        ValueError: too many atoms to be simulated quickly.
    """
    found = library.structure(entry)
    if len(found.numbers) > _MOST_ATOMS:
        raise ValueError(f"{len(found.numbers)} atoms")
    return Atoms(found.lattice, found.numbers, found.positions)


def held_out(library: Library) -> np.ndarray:
    """Returns which entries no pair for training is made of, bool `[N]`: a tenth of the formulas.

    By the text of the formula, so that it is the same in every library.
    """
    names = [reduced(str(text)) for text in library.formula]
    return np.array([sum(name.encode()) % 10 == 0 for name in names], bool)


def planned(library: Library, count: int, seed: int, held: bool) -> np.ndarray:
    """Returns which entry each pair is of, int `[count]`.

    Three quarters are measured structures, one of each formula and space group as far as they
    reach, the rest computed ones.

    Args:
        library: of N entries.
        count: of pairs.
        seed: not negative.
        held: of the entries that are `held_out`, or of the others.
    """
    rng = np.random.default_rng([seed, int(held), 4])
    own = held_out(library) == held
    measured = rng.permutation(np.flatnonzero(own & (library.computed == MEASURED)))
    computed = rng.permutation(np.flatnonzero(own & (library.computed != MEASURED)))
    names = [f"{library.formula[i]} {library.space_group[i]}" for i in measured]
    _, first = np.unique(np.array(names), return_index=True)
    measured = measured[np.sort(first)]
    number = np.arange(count)
    kinds = [kind for kind in (measured, computed) if len(kind)]
    if len(kinds) == 1:
        return kinds[0][number % len(kinds[0])]
    turn = number % 4 == 3
    return np.where(turn, computed[number % len(computed)], measured[number % len(measured)])


class Simulated(NamedTuple):
    """One simulated scan as `on_grid` places it, its truth `[L]`, and its strongest point."""

    placed: PlacedScan
    truth: np.ndarray
    counts: float


def simulated_pair(
    atoms: Atoms, system: int, kind: int, prototypes: Prototypes, number: int, seed: int
) -> Simulated:
    """Simulates a scan and returns it with its truth.

    Args:
        atoms: of the structure.
        system: its crystal system.
        kind: of its source.
        prototypes: N of them.
        number: of the pair; with `seed` it decides all draws.
        seed: not negative.

    Raises:
        UserError: the scan covers too little of the grid, or shows no peaks.
    """
    laboratory = QUICK[number % len(QUICK)]
    measured = simulated_measurement(atoms, system, kind, prototypes, number, seed, laboratory)
    scan = measured.scan
    placed = on_grid(scan, prototypes.grid)
    if placed.signal:
        raise UserError(f"{scan.name}: {placed.signal}")
    truth = true_pattern(measured, placed, prototypes.grid)
    return Simulated(placed, truth, float(scan.counts.max()))


def true_pattern(measured: Measurement, placed: PlacedScan, grid: Grid) -> np.ndarray:
    """Returns the expected peaks of a scan on the grid, in the unit of its pattern, `[L]`."""
    two_theta, wavelength = measured.scan.two_theta, measured.scan.wavelength
    density = measured.expected / q_per_radian(two_theta, wavelength)
    means = cell_means(q_from_two_theta(two_theta, wavelength), density, grid_q(grid))
    return means / placed.scale * placed.mask


def with_rivals(
    scans: Sequence[Simulated], entries: Sequence[int], prototypes: Prototypes
) -> Pairs:
    """Returns pairs with what each scan is taken for beside its own structure, and where it fits.

    The own prototype is shifted by the pattern without noise, the others by the scan.

    Args:
        scans: n of them, at least one.
        entries: the structure of each.
        prototypes: N of them.
    """
    placed = [one.placed for one in scans]
    pattern, excess, noise, mask = (
        np.stack([getattr(one, name) for one in placed])
        for name in ("pattern", "excess", "noise", "mask")
    )
    truth = np.stack([one.truth for one in scans])
    roots, measured = scan_roots(pattern, mask)
    own, _ = scan_roots(truth, mask)
    chosen = coarse_choice(roots, measured, prototypes, count=RIVALS + 1)
    axis = log_axis(prototypes.grid)
    shifts = (axis[1] - axis[0]) * np.asarray(SHIFTS)
    entry = np.empty((len(scans), RIVALS + 1), np.int32)
    shift = np.empty((len(scans), RIVALS + 1), np.float32)
    for i, first in enumerate(entries):
        entry[i] = np.concatenate([[first], chosen[i][chosen[i] != first]])[: RIVALS + 1]
        lines = prototypes.q, prototypes.height, prototypes.offsets
        drawn = draw_roots(*lines, entry[i], prototypes.grid)
        score = PRIOR_WEIGHT * PRIOR.log(shifts, prototypes.kind[entry[i]].astype(int)[:, None])
        score[:1] += exact_cosines(own[i], measured[i], drawn[:1])
        score[1:] += exact_cosines(roots[i], measured[i], drawn[1:])
        shift[i] = shifts[score.argmax(axis=1)]
    half = np.float16
    return Pairs(
        pattern.astype(half), excess.astype(half), noise.astype(half), mask, truth.astype(half),
        entry, shift, np.array([one.counts for one in scans], np.float32),
    )  # fmt: skip


def part_of_pairs(
    plan: Sequence[int],
    first: int,
    simulate: Callable[[int, int], Simulated],
    prototypes: Prototypes,
) -> Pairs:
    """Returns the pairs of some structures; those that cannot be simulated are left out.

    Args:
        plan: entries.
        first: number of the first pair.
        simulate: `(entry, number) -> scan`, see `simulated_pair`.
        prototypes: N of them.
    """
    scans, entries = [], []
    for number, entry in enumerate(plan, first):
        try:
            scans.append(simulate(entry, number))
        except (UserError, ValueError):
            continue
        entries.append(entry)
    return with_rivals(scans, entries, prototypes)


def load_pairs(
    folder: Path, library: Library, prototypes: Prototypes, count: int, *, seed: int, held: bool
) -> Pairs:
    """Returns pairs of a library; parts that are not in the folder yet are simulated and kept.

    Args:
        folder: of the parts; killed and called again it goes on with the first that is missing.
        library: of N entries.
        prototypes: of them.
        count: of scans, a multiple of PART; those without peaks are left out.
        seed: not negative.
        held: see `planned`.

    Raises:
        UserError: a part is damaged, or the folder cannot be written.
    """
    plan = planned(library, count, seed, held)

    def simulate(entry: int, number: int) -> Simulated:
        return simulated_pair(
            atoms_of(library, entry), int(library.crystal_system[entry]),
            int(prototypes.kind[entry]), prototypes, number, seed,
        )  # fmt: skip

    found = []
    for first in range(0, count, PART):
        path = folder / f"{'held' if held else 'train'}-{seed}-{first:06d}.npz"
        if not path.exists():
            part = part_of_pairs(plan[first : first + PART].tolist(), first, simulate, prototypes)
            atomic_write_npz(path, part._asdict())
            logging.info("%d of %d pairs simulated", first + PART, count)
        found.append(Pairs(**read_npz(path)))
    return Pairs(*(np.concatenate(column) for column in zip(*found, strict=True)))
