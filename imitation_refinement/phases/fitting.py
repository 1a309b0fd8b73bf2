"""What the posterior is fitted to: from structures to simulated scans to examples.

Belongs here: simulated scans of a library's structures, and examples of them. An example is such a
scan matched with the library as it is for one of three users: their phase is in it as another
determination (the structure itself is left out), only as the structure itself, or not at all.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from imitation_refinement.errors import UserError
from imitation_refinement.phases.match import weighed
from imitation_refinement.phases.prototypes import (
    MEASURED,
    OLDER_COMPUTED,
    Prototypes,
)
from imitation_refinement.phases.samples import FAINT, REACH
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
ABSENT_SHARE, ITSELF_SHARE = 0.4, 0.15  # of the scans that also make such an example
LOST_SHARE = 0.4  # of the examples of part of the library, or of known elements, without the phase
SMALLEST = 5.0  # halvings of the library, at most, in examples of part of it
CANDIDATES = 60
_TOGETHER = 32  # examples weighed at once
LIBRARIES = 8  # more than a scan is matched with; a look's number over it is its scan's

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


class Facts(NamedTuple):
    """What is known of N entries of a library.

    Attributes:
        phase: number of the phase (formula and space group) of each, int `[N]`.
        system: crystal system of each, int `[N]`.
        formula: number of the formula of each, int `[N]`.
        atoms_of: the atoms of one.
        within: which of N have no elements but those of one, bool `[N]`.
        complete: which of N have all elements of one, bool `[N]`.
        same_of: those that are the phase of one, itself among them, see `alike.Twins.same`.
    """

    phase: np.ndarray
    system: np.ndarray
    formula: np.ndarray
    atoms_of: Callable[[int], Atoms]
    within: Callable[[int], np.ndarray]
    complete: Callable[[int], np.ndarray]
    same_of: Callable[[int], np.ndarray]


class Examples(NamedTuple):
    """n examples of K candidates each.

    Attributes:
        features: float32 `[n, K, F]`, NaN where there are fewer candidates.
        right: candidates that are the scan's phase, bool `[n, K]`.
        system: of each candidate, -1 where there are fewer, int `[n, K]`.
        complete: candidates that have all elements of the scan, bool `[n, K]`.
        true_system: of the scan, int `[n]`.
        situation: OTHER, ABSENT or ITSELF, int `[n]`.
        scope: WHOLE, PART or KNOWN, int `[n]`.
        formula: number of the scan's formula, int `[n]`.
        counts: of the scan's strongest point, infinite where they are no whole numbers, `[n]`.
        look: number of the scan and its library, int `[n]`; each has two looks, first at the
            pattern and then at the refined one.
        entry: which prototype each candidate is, -1 where there are fewer, int32 `[n, K]`.
        shift: change of ln q from prototype to scan, float32 `[n, K]`.
        displacement: h / R, float32 `[n, K]`.
    """

    features: np.ndarray
    right: np.ndarray
    system: np.ndarray
    complete: np.ndarray
    true_system: np.ndarray
    situation: np.ndarray
    scope: np.ndarray
    formula: np.ndarray
    counts: np.ndarray
    look: np.ndarray
    entry: np.ndarray
    shift: np.ndarray
    displacement: np.ndarray


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
    lattice, hkl, q, intensity = drawn_reflections(atoms, system, kind, rng)
    other = int(rng.integers(prototypes.size))
    lines = slice(prototypes.offsets[other], prototypes.offsets[other + 1])
    impurity = prototypes.q[lines].astype(float), prototypes.height[lines].astype(float)
    return simulate_measurement(
        lattice, hkl, q, intensity, rng, laboratory,
        impurity if impurity[1].max(initial=0.0) > 0.0 else None,
    )  # fmt: skip


def drawn_reflections(
    atoms: Atoms, system: int, kind: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Draws a sample's cell and B factor, and returns its cell and what it reflects.

    Args:
        atoms: of the structure, whose cell the sample's differs from.
        system: crystal system.
        kind: of source.
        rng: generator.

    Returns:
        (lattice in angstrom `[3, 3]`; Miller indices `[m, 3]`, q in 1/angstrom `[m]` and
        intensities `[m]` of the reflections that are not too faint to be seen).
    """
    spread = 0.0008 if kind == MEASURED else 0.003
    lattice = strained(atoms.lattice, system, np.exp(-draw_shift(rng, kind)), spread, rng)
    found = reflections(
        lattice, atoms.positions, atoms.numbers, q_min=REACH[0], q_max=REACH[1], wavelength=1.5418,
        b_iso=float(rng.uniform(0.3, 1.5)),
    )  # fmt: skip
    kept = found.intensity > FAINT * found.intensity.max(initial=0.0)
    return lattice, found.hkl[kept], found.q[kept], found.intensity[kept]


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


def scans_of(
    entries: np.ndarray, numbers: np.ndarray, facts: Facts, prototypes: Prototypes, seed: int
) -> list[PlacedScan | None]:
    """Returns a simulated scan of each of some structures, None where none can be, or has no peaks.

    The same arguments give the same scans.

    Args:
        entries: structures, int `[m]`.
        numbers: of the scans, int `[m]`, see `simulated_placed`.
        facts: of N entries.
        prototypes: of them.
        seed: not negative.
    """

    def simulated(place: int) -> PlacedScan | None:
        entry = int(entries[place])
        try:
            found = simulated_placed(
                facts.atoms_of(entry), int(facts.system[entry]), int(prototypes.kind[entry]),
                prototypes, int(numbers[place]), seed,
            )  # fmt: skip
        except (UserError, ValueError):
            return None
        return None if found.signal else found

    return side_by_side(simulated, range(len(entries)))


def make_examples(
    entries: np.ndarray,
    facts: Facts,
    prototypes: Prototypes,
    refine: Callable[[Sequence[PlacedScan]], np.ndarray],
    *,
    first: int = 0,
    seed: int = 0,
) -> Examples:
    """Simulates one scan of each of some structures and returns their examples.

    Scans without peaks, and structures that cannot be simulated, are left out. A scan whose phase
    was left out by name while a twin stays is not of an unknown phase; one of whose name nothing
    stays but what has another pattern is.

    Args:
        entries: structures, int `[m]`.
        facts: of N entries.
        prototypes: of them.
        refine: gives the refined patterns `[n, L]` of scans.
        first: number of the first scan; parts of a set are numbered through.
        seed: not negative.
    """
    scans = scans_of(entries, first + np.arange(len(entries)), facts, prototypes, seed)
    seen = [scan for scan in scans if scan is not None]
    refined = iter(refine(seen)) if seen else iter(())
    plan = []
    for place, scan in enumerate(scans):
        if scan is None:
            continue
        entry = int(entries[place])
        rng = np.random.default_rng([seed, first + place, 1])
        libraries = drawn_libraries(entry, facts.phase, facts.within(entry), rng)
        looks = scan.pattern, next(refined)
        for number, library in enumerate(libraries):
            look = LIBRARIES * (first + place) + number
            plan.append((scan, looks, look, entry, *library))
    rows = []
    for start in range(0, len(plan), _TOGETHER):
        part = plan[start : start + _TOGETHER]
        patterns = zip(*(looks for _, looks, *_ in part), strict=True)
        of_each = weighed(
            [np.stack(look) for look in patterns],
            np.stack([scan.mask for scan, *_ in part]), prototypes,
            allowed=np.stack([kept for *_, kept in part]), best=CANDIDATES,
        )  # fmt: skip
        planned = zip(part, of_each, strict=True)
        for (scan, _, look, entry, situation, scope, kept), (found, evidence) in (
            (plan, own) for plan, both in planned for own in both
        ):
            features = evidence.features
            system, same = facts.system, facts.same_of(entry)
            if not kept[same].any():
                situation = ABSENT
            elif situation == ABSENT:
                situation = OTHER
            empty = CANDIDATES - len(found)
            rows.append(
                (
                    np.pad(features, ((0, empty), (0, 0)), constant_values=np.nan),
                    np.pad(np.isin(found, same), (0, empty)),
                    np.pad(system[found], (0, empty), constant_values=-1),
                    np.pad(facts.complete(entry)[found], (0, empty)),
                    system[entry],
                    situation,
                    scope,
                    facts.formula[entry],
                    scan.strongest,
                    look,
                    np.pad(found.astype(np.int32), (0, empty), constant_values=-1),
                    np.pad(evidence.shift.astype(np.float32), (0, empty)),
                    np.pad(evidence.displacement.astype(np.float32), (0, empty)),
                )
            )
    return Examples(*(np.array(column) for column in zip(*rows, strict=True)))
