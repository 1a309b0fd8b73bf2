"""Fitting what matching needs: from structures to simulated scans to weights and levels.

Belongs here: the examples that the posterior is fitted to and the choice of the verdict's levels.
An example is a simulated scan of a structure matched with the library as it is for one of three
users: their phase is in it as another determination (the structure itself is left out), only as
the structure itself, or not at all. Formulas are split: levels are chosen on formulas whose
examples fitted nothing.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import beta

from imitation_refinement.errors import UserError
from imitation_refinement.phases.candidates import Calibration
from imitation_refinement.phases.evidence import weigh
from imitation_refinement.phases.posterior import fit_posterior, probabilities
from imitation_refinement.phases.prototypes import (
    MEASURED,
    OLDER_COMPUTED,
    Prototypes,
    scan_roots,
)
from imitation_refinement.phases.samples import FAINT, REACH
from imitation_refinement.phases.scores import best_of, coarse_choice
from imitation_refinement.phases.side_by_side import side_by_side
from imitation_refinement.phases.simulated import (
    Laboratory,
    Measurement,
    simulate_measurement,
    strained,
)
from imitation_refinement.xrd.diffraction import reflections
from imitation_refinement.xrd.scans import PlacedScan, on_grid

OTHER, ABSENT, ITSELF = range(3)  # what the library has of a scan's phase
WHOLE, PART, KNOWN = range(3)  # all of it, some of its phases, those of the scan's elements
WEIGHTS = (1.0, 0.8, 0.4)  # of examples of these
ABSENT_SHARE, ITSELF_SHARE = 0.4, 0.15  # of the scans that also make such an example
LOST_SHARE = 0.4  # of the examples of part of the library, or of known elements, without the phase
SMALLEST = 5.0  # halvings of the library, at most, in examples of part of it
CANDIDATES = 60
ACCURACY = 0.97  # of the crystal systems of answers that are called confident
UNKNOWN_CONFIDENT = 0.05  # largest share of the phases not in the library that are, in each scope
FOLDS = 5  # of the formulas; the first chooses the levels
_TOGETHER = 32  # examples weighed at once

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
        features: float32 `[n, K, F]`, NaN where there are fewer candidates.
        right: candidates of the scan's phase, bool `[n, K]`.
        system: of each candidate, int `[n, K]`.
        true_system: of the scan, int `[n]`.
        situation: OTHER, ABSENT or ITSELF, int `[n]`.
        scope: WHOLE, PART or KNOWN, int `[n]`.
        formula: number of the scan's formula, int `[n]`.
    """

    features: np.ndarray
    right: np.ndarray
    system: np.ndarray
    true_system: np.ndarray
    situation: np.ndarray
    scope: np.ndarray
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
        lattice, atoms.positions, atoms.numbers, q_min=REACH[0], q_max=REACH[1], wavelength=1.5418,
        b_iso=float(rng.uniform(0.3, 1.5)),
    )  # fmt: skip
    kept = found.intensity > FAINT * found.intensity.max(initial=0.0)
    other = int(rng.integers(prototypes.size))
    lines = slice(prototypes.offsets[other], prototypes.offsets[other + 1])
    impurity = prototypes.q[lines].astype(float), prototypes.height[lines].astype(float)
    return simulate_measurement(
        lattice, found.hkl[kept], found.q[kept], found.intensity[kept], rng, laboratory,
        impurity if impurity[1].max(initial=0.0) > 0.0 else None,
    )  # fmt: skip


def drawn_libraries(
    entry: int, phase: np.ndarray, within: np.ndarray, rng: np.random.Generator
) -> list[tuple[int, int, np.ndarray]]:
    """Draws libraries as users of a sample of a structure may have them.

    Args:
        entry: the structure.
        phase: number of the phase (formula and space group) of each of N, int `[N]`.
        within: which have no elements but the sample's, bool `[N]`.
        rng: source of the draws.

    Returns:
        (situation, scope, which of N are in it, bool `[N]`) of each.
    """
    own, itself = phase == phase[entry], np.arange(len(phase)) == entry
    usual = OTHER if own.sum() > 1 else ITSELF
    without = {OTHER: itself, ABSENT: own, ITSELF: np.zeros(len(phase), bool)}
    plan = [(usual, WHOLE)]
    if usual == OTHER and rng.random() < ITSELF_SHARE:
        plan.append((ITSELF, WHOLE))
    if rng.random() < ABSENT_SHARE:
        plan.append((ABSENT, WHOLE))
    plan += [(ABSENT if rng.random() < LOST_SHARE else usual, scope) for scope in (PART, KNOWN)]
    drawn = []
    for situation, scope in plan:
        kept = ~without[situation]
        if scope == PART:
            share = 0.5 ** rng.uniform(0.0, SMALLEST)
            kept &= own | (rng.random(phase.max() + 1) < share)[phase]
        elif scope == KNOWN:
            kept &= within
        if kept.any():
            drawn.append((situation if (kept & own).any() else ABSENT, scope, kept))
    return drawn


def make_examples(
    entries: np.ndarray,
    atoms_of: Callable[[int], Atoms],
    prototypes: Prototypes,
    phase: np.ndarray,
    system: np.ndarray,
    formula: np.ndarray,
    within: Callable[[int], np.ndarray],
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
        within: which prototypes have no elements but those of an entry, bool `[N]`.
        first: number of the first scan; parts of a set are numbered through.
        seed: not negative.
    """

    def simulated(place: int) -> PlacedScan | None:
        entry = int(entries[place])
        try:
            found = simulated_placed(
                atoms_of(entry), int(system[entry]), int(prototypes.kind[entry]), prototypes,
                first + place, seed,
            )  # fmt: skip
        except (UserError, ValueError):
            return None
        return None if found.signal else found

    scans = side_by_side(simulated, range(len(entries)))
    plan = []
    for place, scan in enumerate(scans):
        if scan is not None:
            entry = int(entries[place])
            rng = np.random.default_rng([seed, first + place, 1])
            libraries = drawn_libraries(entry, phase, within(entry), rng)
            plan += [(scan, entry, *library) for library in libraries]
    rows = []
    for start in range(0, len(plan), _TOGETHER):
        part = plan[start : start + _TOGETHER]
        allowed = np.stack([kept for *_, kept in part])
        weighed = _weighed([scan for scan, *_ in part], prototypes, allowed)
        for (_, entry, situation, scope, _), (found, features) in zip(part, weighed, strict=True):
            few = CANDIDATES - len(found)
            rows.append(
                (
                    np.pad(features, ((0, few), (0, 0)), constant_values=np.nan),
                    np.pad(phase[found] == phase[entry], (0, few)),
                    np.pad(system[found], (0, few), constant_values=-1),
                    system[entry],
                    situation,
                    scope,
                    formula[entry],
                )
            )
    return Examples(*(np.array(column) for column in zip(*rows, strict=True)))


def _weighed(
    scans: Sequence[PlacedScan], prototypes: Prototypes, allowed: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
    """The best of the allowed prototypes of each scan, int `[k]`, and their figures `[k, F]`."""
    patterns, masks = np.stack([s.pattern for s in scans]), np.stack([s.mask for s in scans])
    roots, measured = scan_roots(patterns, masks)
    fine, fine_measured = scan_roots(patterns, masks, 1)
    chosen = coarse_choice(roots, measured, prototypes, allowed=allowed)

    def weighed(i: int) -> tuple[np.ndarray, np.ndarray]:
        possible = chosen[i][allowed[i, chosen[i]]]
        drawn = prototypes.roots(possible)
        order = best_of(roots[i], measured[i], prototypes, possible, drawn, CANDIDATES)
        evidence = weigh(
            fine[i], fine_measured[i], roots[i], measured[i], prototypes, possible[order],
            drawn[order],
        )  # fmt: skip
        return possible[order], evidence.features

    return side_by_side(weighed, range(len(scans)))


def fit_calibration(examples: Examples, *, seed: int = 0, **options: Any) -> Calibration:
    """Fits the posterior on four fifths of the formulas and the level on the rest.

    Args:
        examples: of `make_examples`.
        seed: see `fit_posterior`.
        **options: of `fit_posterior`.
    """
    held = np.asarray(examples.formula % FOLDS == 0)
    alike = examples.system == examples.true_system[:, None]
    weight = np.asarray(WEIGHTS, np.float32)[examples.situation]
    posterior = fit_posterior(
        examples.features[~held], examples.right[~held], alike[~held], weight[~held], seed=seed,
        **options,
    )  # fmt: skip
    inside = np.zeros((int(held.sum()), 7))
    for row, i in enumerate(np.flatnonzero(held)):
        there = examples.system[i] >= 0
        found = probabilities(examples.features[i][None, there], posterior)
        np.add.at(inside[row], examples.system[i, there], np.exp(found.log[0]))
    level = confident_level(
        inside.max(axis=1),
        inside.argmax(axis=1) == examples.true_system[held],
        examples.situation[held] == ABSENT,
        examples.scope[held],
    )
    return Calibration(posterior, level)


def confident_level(
    confidence: np.ndarray, correct: np.ndarray, absent: np.ndarray, scope: np.ndarray
) -> float:
    """Returns the lowest level at which enough of the confident answers are right.

    At this level 97 % of the systems are right, and of the phases that are not in the library at
    most 5 % are called confident: in each scope the upper Clopper-Pearson bound (one-sided, 95 %;
    C. J. Clopper, E. S. Pearson, Biometrika 26, 404, 1934) of their share. Above 1 where there is
    none: nothing is confident then.

    Args:
        confidence: of each answer, `[n]`.
        correct: whether its crystal system is right, bool `[n]`.
        absent: whether its phase is not in the library, bool `[n]`.
        scope: what part of the library it is from, int `[n]`.
    """
    order = np.argsort(-confidence, kind="stable")
    fits = np.cumsum(correct[order]) >= ACCURACY * np.arange(1, len(order) + 1)
    for own in np.unique(scope):
        unknown = absent & (scope == own)
        confident, count = np.cumsum(unknown[order]), int(unknown.sum())
        if count:
            share = beta.ppf(0.95, confident + 1, np.maximum(count - confident, 1e-9))
            fits &= share <= UNKNOWN_CONFIDENT
    last = np.flatnonzero(fits)
    return float(confidence[order][last[-1]]) if last.size else 1.01
