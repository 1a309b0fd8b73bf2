"""Fitting what matching needs: from structures to simulated scans to weights and levels.

Belongs here: the examples that the posterior is fitted to and the choice of the verdict's levels.
An example is a simulated scan of a structure matched with the library as it is for one of three
users: their phase is in it as another determination (the structure itself is left out), only as
the structure itself, or not at all. Formulas are split: levels are chosen on formulas whose
examples fitted nothing.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from imitation_refinement.errors import UserError
from imitation_refinement.phases.candidates import Calibration
from imitation_refinement.phases.evidence import weigh
from imitation_refinement.phases.posterior import fit_posterior, probabilities
from imitation_refinement.phases.prototypes import (
    MEASURED,
    OLDER_COMPUTED,
    Prototypes,
    draw_roots,
    scan_roots,
)
from imitation_refinement.phases.scores import best_of, coarse_choice
from imitation_refinement.phases.simulated import (
    Laboratory,
    Measurement,
    simulate_measurement,
    strained,
)
from imitation_refinement.xrd.diffraction import reflections
from imitation_refinement.xrd.scans import PlacedScan, on_grid

OTHER, ABSENT, ITSELF = range(3)  # what the library has of a scan's phase
WEIGHTS = (1.0, 0.8, 0.4)  # of examples of these
ABSENT_SHARE, ITSELF_SHARE = 0.4, 0.15  # of the scans that also make such an example
CANDIDATES = 60
ACCURACY = 0.97  # of the crystal systems of answers that are called confident
UNKNOWN_CONFIDENT = 0.05  # largest share of the phases not in the library that are
FOLDS = 5  # of the formulas; the first chooses the levels
_Q = (0.3, 6.6)  # 1/angstrom, of simulated reflections
_FAINT = 1e-5  # of the strongest reflection

# Two kinds of laboratories in turns: any, and careful ones.
LABORATORIES = (
    Laboratory(),
    Laboratory(
        first=(4.0, 12.0), last=(60.0, 95.0), counts=(100.0, 30000.0), background=(0.002, 0.1),
        impure=0.2, march=(0.55, 1.2), grains=0.4, subtracted=0.5,
    ),
)  # fmt: skip


class Atoms(NamedTuple):
    """One structure: lattice vectors as rows `[3, 3]`, numbers `[m]`, fractional `[m, 3]`."""

    lattice: np.ndarray
    numbers: np.ndarray
    positions: np.ndarray


class Examples(NamedTuple):
    """n examples of K candidates each.

    Attributes:
        features: float32 `[n, K, F]`.
        right: candidates of the scan's phase, bool `[n, K]`.
        system: of each candidate, int `[n, K]`.
        true_system: of the scan, int `[n]`.
        situation: OTHER, ABSENT or ITSELF, int `[n]`.
        formula: number of the scan's formula, int `[n]`.
    """

    features: np.ndarray
    right: np.ndarray
    system: np.ndarray
    true_system: np.ndarray
    situation: np.ndarray
    formula: np.ndarray


def draw_shift(rng: np.random.Generator, kind: int) -> float:
    """Draws by how much ln q of a sample's lines exceeds that of an entry of some kind.

    Measured cells differ by composition and temperature; computed ones are too large.
    """
    if kind == MEASURED:
        return 0.001 * float(rng.standard_t(4)) + (0.001 if rng.random() < 0.5 else 0.0)
    mean, scale = (0.011, 0.0072) if kind == OLDER_COMPUTED else (0.0075, 0.0064)
    return mean + scale * float(rng.standard_t(6))


def simulated_placed(
    atoms: Atoms,
    system: int,
    kind: int,
    prototypes: Prototypes,
    number: int,
    seed: int,
) -> PlacedScan:
    """Returns a simulated scan of a sample of a structure, as `on_grid` places it.

    Args:
        atoms: of the structure.
        system: its crystal system.
        kind: of its source: how far its cell is from a sample's.
        prototypes: of which another phase may be an impurity.
        number: of the scan; with `seed` it decides all draws.
        seed: not negative.

    Raises:
        UserError: see `on_grid`.
    """
    laboratory = LABORATORIES[number % len(LABORATORIES)]
    measured = simulated_measurement(atoms, system, kind, prototypes, number, seed, laboratory)
    return on_grid(measured.scan, prototypes.grid)


def simulated_measurement(
    atoms: Atoms,
    system: int,
    kind: int,
    prototypes: Prototypes,
    number: int,
    seed: int,
    laboratory: Laboratory,
) -> Measurement:
    """Returns a simulated scan of a sample of a structure, with its peaks.

    Args: see `simulated_placed`, and
        laboratory: what it is drawn from.
    """
    rng = np.random.default_rng([seed, number])
    spread = 0.0008 if kind == MEASURED else 0.003
    lattice = strained(atoms.lattice, system, np.exp(-draw_shift(rng, kind)), spread, rng)
    found = reflections(
        lattice, atoms.positions, atoms.numbers, q_min=_Q[0], q_max=_Q[1], wavelength=1.5418,
        b_iso=float(rng.uniform(0.3, 1.5)),
    )  # fmt: skip
    kept = found.intensity > _FAINT * found.intensity.max(initial=0.0)
    other = int(rng.integers(prototypes.size))
    lines = slice(prototypes.offsets[other], prototypes.offsets[other + 1])
    impurity = prototypes.q[lines].astype(float), prototypes.height[lines].astype(float)
    return simulate_measurement(
        lattice, found.hkl[kept], found.q[kept], found.intensity[kept], rng, laboratory,
        impurity if impurity[1].max(initial=0.0) > 0.0 else None,
    )  # fmt: skip


def examples_of(
    pattern: np.ndarray,
    mask: np.ndarray,
    entry: int,
    prototypes: Prototypes,
    phase: np.ndarray,
    rng: np.random.Generator,
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yields (situation, candidates int `[K]`, features `[K, F]`) of a simulated scan.

    Args:
        pattern: of `on_grid`, `[L]`.
        mask: bool `[L]`.
        entry: the structure that it is of.
        prototypes: N of them.
        phase: number of the phase (formula and space group) of each, int `[N]`.
        rng: draws which situations.
    """
    own = phase == phase[entry]
    without = {
        OTHER: np.arange(len(phase)) == entry,
        ABSENT: own,
        ITSELF: np.zeros(len(phase), bool),
    }
    situations = [OTHER] if own.sum() > 1 else [ITSELF]
    if own.sum() > 1 and rng.random() < ITSELF_SHARE:
        situations.append(ITSELF)
    if rng.random() < ABSENT_SHARE:
        situations.append(ABSENT)
    root, measured = scan_roots(pattern[None], mask[None])
    fine, fine_measured = scan_roots(pattern[None], mask[None], 1)
    for situation in situations:
        chosen = coarse_choice(root, measured, prototypes, allowed=~without[situation])[0]
        chosen = chosen[~without[situation][chosen]]
        drawn = draw_roots(
            prototypes.q, prototypes.height, prototypes.offsets, chosen, prototypes.grid
        )
        order = best_of(root[0], measured[0], prototypes, chosen, drawn, CANDIDATES)
        evidence = weigh(
            fine[0], fine_measured[0], root[0], measured[0], prototypes, chosen[order], drawn[order]
        )
        yield situation, chosen[order], evidence.features


def make_examples(
    entries: np.ndarray,
    atoms_of: Callable[[int], Atoms],
    prototypes: Prototypes,
    phase: np.ndarray,
    system: np.ndarray,
    formula: np.ndarray,
    *,
    first: int = 0,
    seed: int = 0,
) -> Examples:
    """Simulates one scan of each of some structures and returns their examples.

    Scans without peaks, and structures that cannot be simulated, are left out.

    Args:
        entries: structures, int `[m]`.
        atoms_of: their atoms.
        prototypes: N of them.
        phase: number of the phase of each prototype, int `[N]`.
        system: crystal system of each, int `[N]`.
        formula: number of the formula of each, int `[N]`.
        first: number of the first scan; parts of a set are numbered through.
        seed: not negative.
    """
    rows: list[tuple[Any, ...]] = []
    for number, entry in enumerate(entries.tolist(), first):
        try:
            placed = simulated_placed(
                atoms_of(entry), int(system[entry]), int(prototypes.kind[entry]), prototypes,
                number, seed,
            )  # fmt: skip
        except (UserError, ValueError):
            continue
        if placed.signal:
            continue
        rng = np.random.default_rng([seed, number, 1])
        found = examples_of(placed.pattern, placed.mask, entry, prototypes, phase, rng)
        for situation, candidates, features in found:
            rows.append(
                (
                    features,
                    phase[candidates] == phase[entry],
                    system[candidates],
                    system[entry],
                    situation,
                    formula[entry],
                )
            )
    return Examples(*(np.array(column) for column in zip(*rows, strict=True)))


def fit_calibration(examples: Examples, *, seed: int = 0, **options: Any) -> Calibration:
    """Fits the posterior on four fifths of the formulas and the levels on the rest.

    Args:
        examples: of `make_examples`.
        seed: see `fit_posterior`.
        **options: of `fit_posterior`.
    """
    held = examples.formula % FOLDS == 0
    alike = examples.system == examples.true_system[:, None]
    weight = np.asarray(WEIGHTS, np.float32)[examples.situation]
    posterior = fit_posterior(
        examples.features[~held], examples.right[~held], alike[~held], weight[~held], seed=seed,
        **options,
    )  # fmt: skip
    found = probabilities(examples.features[held], posterior)
    classes = np.arange(7)
    one_hot = examples.system[held][:, :, None] == classes
    inside = (np.exp(found.log)[:, :, None] * one_hot).sum(axis=1)
    level = confident_level(
        inside.max(axis=1),
        inside.argmax(axis=1) == examples.true_system[held],
        examples.situation[held] == ABSENT,
    )
    return Calibration(posterior, level)


def confident_level(confidence: np.ndarray, correct: np.ndarray, absent: np.ndarray) -> float:
    """Returns the lowest level at which enough of the confident answers are right.

    At this level 97 % of the systems are right, and of the phases that are not in the library at
    most 5 % are called confident. Above 1 where there is none: nothing is confident then.

    Args:
        confidence: of each answer, `[n]`.
        correct: whether its crystal system is right, bool `[n]`.
        absent: whether its phase is not in the library, bool `[n]`.
    """
    order = np.argsort(-confidence, kind="stable")
    answered = np.arange(1, len(order) + 1)
    accuracy = np.cumsum(correct[order]) / answered
    unknown = np.cumsum(absent[order]) / max(int(absent.sum()), 1)
    fits = np.flatnonzero((accuracy >= ACCURACY) & (unknown <= UNKNOWN_CONFIDENT))
    return float(confidence[order][fits[-1]]) if fits.size else 1.01
