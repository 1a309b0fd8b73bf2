"""Fits the calibration of the phases on simulated scans of a library's structures.

    python benchmarks/fit_phases.py --library=library.npz --parts=parts --output=phases.npz

Simulates one scan of each of `--scans` structures (three quarters one entry of each measured phase,
a tenth any measured one, the rest computed), weighs the evidence, and fits. Parts of 100 scans are
kept in `--parts`; killed and run again it goes on with the first that is missing. `--shard=0/2`
makes the first half of the parts and `--shard=1/2` the other, side by side; the command without it
then fits. Which two candidates lead is known once weights are fitted to other formulas: the scans
are then simulated again, not matched again, and how they deviate from these two is kept beside the
parts, with whom it was measured for. No calibration that ships has a say. 100 scans took 7 seconds
of CPU, by pattern and refined one, and some 3 again for the deviations; the fits some 11 minutes.
No measured scan is read.
"""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
from absl import app, flags, logging

from imitation_refinement.errors import UserError
from imitation_refinement.phases.alike import Twins
from imitation_refinement.phases.calibrating import Answered, fit_calibration, roc_area
from imitation_refinement.phases.calibration_file import save_calibration
from imitation_refinement.phases.candidates import Calibration
from imitation_refinement.phases.compositions import Compositions
from imitation_refinement.phases.fitting import (
    KNOWN,
    LIBRARIES,
    PART,
    WHOLE,
    Examples,
    Facts,
    make_examples,
    scans_of,
)
from imitation_refinement.phases.formulas import elements, reduced
from imitation_refinement.phases.leading import Leaders, deviations_of
from imitation_refinement.phases.library import Library, load_library
from imitation_refinement.phases.pairs import atoms_of
from imitation_refinement.phases.prototypes import GRID, MEASURED, Prototypes, build_prototypes
from imitation_refinement.phases.refiner_file import load_refiner
from imitation_refinement.runtime.files import atomic_write_npz, read_npz
from imitation_refinement.runtime.shard import Shard, parse_shard

_LIBRARY = flags.DEFINE_string("library", None, "Library file; the shipped one without.")
_PARTS = flags.DEFINE_string("parts", None, "Folder of the parts.", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "Calibration to write; needed without --shard.")
_SCANS = flags.DEFINE_integer("scans", 27_000, "Simulated scans.", lower_bound=100)
_SHARD = flags.DEFINE_string("shard", None, "i/n: make this share of the parts and fit nothing.")
_SEED = flags.DEFINE_integer("seed", 0, "Of all draws.", lower_bound=0)

_PART = 100
_COUNTS = (0, 50, 150, 500, 5000, 1e9)  # bands of the table
_TURN = 20  # of 20 scans 15 are of measured phases in turn, 2 of any measured entry, 3 computed


def planned(library: Library, count: int, seed: int) -> np.ndarray:
    """Returns which entry each scan is of, int `[count]`."""
    rng = np.random.default_rng([seed, 2])
    measured = rng.permutation(np.flatnonzero(library.computed == MEASURED))
    names = [f"{library.formula[i]} {library.space_group[i]}" for i in measured]
    _, first = np.unique(np.array(names), return_index=True)
    once = measured[np.sort(first)]
    computed = rng.permutation(np.flatnonzero(library.computed != MEASURED))
    number = np.arange(count)
    place = number % _TURN
    chosen = once[number % len(once)]
    chosen = np.where(place >= 15, measured[number % len(measured)], chosen)
    return np.where(place >= 17, computed[number % len(computed)], chosen)


def numbers(names: list[str]) -> np.ndarray:
    """Returns a number for each distinct name, int `[n]`."""
    return np.unique(np.array(names), return_inverse=True)[1]


def facts(library: Library, prototypes: Prototypes) -> Facts:
    """Returns what examples need to know of the entries of a library."""
    formula = [reduced(str(text)) for text in library.formula]
    phase = numbers([f"{f} {g}" for f, g in zip(formula, library.space_group, strict=True)])
    order, twins = np.argsort(phase, kind="stable"), Twins(library.formula, prototypes)
    start = np.searchsorted(phase[order], np.arange(phase.max() + 2))
    compositions = Compositions(library)

    def own(entry: int) -> frozenset[str]:
        return elements(str(library.composition[entry]) or str(library.formula[entry]))

    def same(entry: int) -> np.ndarray:
        return twins.same(entry, order[start[phase[entry]] : start[phase[entry] + 1]])

    return Facts(
        phase,
        library.crystal_system,
        numbers(formula),
        lambda entry: atoms_of(library, entry),
        lambda entry: compositions.allowed(own(entry)),
        lambda entry: compositions.complete(own(entry)),
        same,
    )


def examples(
    known: Facts, library: Library, prototypes: Prototypes, shard: Shard
) -> list[Examples]:
    """Returns the examples of a shard, from the parts that are there and the rest simulated."""
    parts, refiner = Path(_PARTS.value), load_refiner()
    plan = planned(library, _SCANS.value, _SEED.value)
    found = []
    starts = range(0, len(plan), _PART)
    for number, first in enumerate(starts):
        if not shard.owns(number, len(starts)):
            continue
        path = parts / f"{first:06d}.npz"
        if not path.exists():
            part = make_examples(
                plan[first : first + _PART], known, prototypes, refiner, first=first,
                seed=_SEED.value,
            )  # fmt: skip
            atomic_write_npz(path, part._asdict())
            logging.info("%d of %d scans", first + _PART, len(plan))
        read = read_npz(path)
        if set(read) != set(Examples._fields):
            raise UserError(f"{path}: made by another version; give an empty --parts")
        found.append(Examples(**read))
    return found


def deviating(
    known: Facts, library: Library, prototypes: Prototypes
) -> Callable[[np.ndarray, Leaders], np.ndarray]:
    """Returns what `fit_calibration` asks for, from the files that are there and the rest anew."""
    plan, folder = planned(library, _SCANS.value, _SEED.value), Path(_PARTS.value) / "deviations"

    def of_part(look: np.ndarray, leaders: Leaders, path: Path) -> np.ndarray:
        kept = read_npz(path) if path.exists() else {}
        asked = {"look": look, **leaders._asdict()}
        if kept and all(np.array_equal(kept[name], asked[name]) for name in asked):
            return kept["deviations"]
        numbers, place = np.unique(look // LIBRARIES, return_inverse=True)
        scans = scans_of(plan[numbers], numbers, known, prototypes, _SEED.value)
        placed = [scan for row in place.tolist() if (scan := scans[row]) is not None]
        if len(placed) != len(look):
            raise UserError(f"{path}: these parts are of other scans; give an empty --parts")
        found, _ = deviations_of(placed, leaders, library, prototypes)
        atomic_write_npz(path, {**asked, "deviations": found})
        return found

    def of(look: np.ndarray, leaders: Leaders) -> np.ndarray:
        folder.mkdir(parents=True, exist_ok=True)
        part, found = look // (LIBRARIES * _PART), []
        for number in np.unique(part).tolist():
            rows = part == number
            own = Leaders(*(column[rows] for column in leaders))
            found.append(of_part(look[rows], own, folder / f"{_PART * number:06d}.npz"))
            logging.info("deviations of %d of %d scans", _PART * (number + 1), len(plan))
        return np.concatenate(found)

    return of


def table(answered: Answered, calibration: Calibration, refined: bool) -> list[str]:
    """Returns how well formulas that fitted nothing are answered, by library and by counts.

    Args:
        answered: by patterns alone, or with the refined ones.
        calibration: whose levels are taken.
        refined: which of the two.
    """
    known = answered.scope == KNOWN
    level = calibration.levels[known.astype(int), int(refined)]
    confident, absent = answered.confidence >= level, answered.absent
    rows = {
        "whole library": answered.scope == WHOLE,
        "parts of it": answered.scope == PART,
        "elements known": known,
    }
    for low, high in pairwise(_COUNTS):
        within = (answered.counts >= low) & (answered.counts < high)
        rows[f"{low:g} to {high:g} counts"] = within
    rows["no whole counts"] = np.isinf(answered.counts)
    lines = [
        "| | phase in it; not | system | phase | confident | of these right | unknown: system |"
        " confident | area under ROC |",
        "|" + " --- |" * 9,
    ]
    for name, own in rows.items():
        inside, outside = own & ~absent, own & absent
        shares = [
            answered.correct[inside], answered.first[inside], confident[inside],
            answered.correct[own & confident], answered.correct[outside], confident[outside],
        ]  # fmt: skip
        cells = " | ".join(f"{100.0 * share.mean():.1f}" for share in shares)
        roc = roc_area(answered.none[outside], answered.none[inside])
        lines.append(f"| {name} | {inside.sum()}; {outside.sum()} | {cells} | {roc:.3f} |")
    return lines


def main(_: list[str]) -> None:
    if not (_SHARD.value or _OUTPUT.value):
        raise app.UsageError("--output: give the file to write, or --shard to make parts alone")
    library = load_library(_LIBRARY.value)
    prototypes = build_prototypes(
        library.q, library.amplitude, library.offsets, library.computed, GRID
    )
    shard = parse_shard(_SHARD.value) if _SHARD.value else Shard(0, 1)
    known = facts(library, prototypes)
    parts = examples(known, library, prototypes, shard)
    if _SHARD.value:
        return
    found = Examples(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    measured = deviating(known, library, prototypes)
    calibration, answered = fit_calibration(found, measured, seed=_SEED.value)
    made = (
        f"{len(found.right)} examples of {_SCANS.value} simulated scans, library"
        f" {library.digest[:12]}, seed {_SEED.value}"
    )
    save_calibration(_OUTPUT.value, calibration, made)
    for refined, of_one in zip((False, True), answered, strict=True):
        title = "Pattern and refined pattern" if refined else "Pattern alone"
        print("\n".join([f"{title}:", "", *table(of_one, calibration, refined), ""]))
    logging.info("%s; levels %s", made, calibration.levels.round(3).tolist())


if __name__ == "__main__":
    app.run(main)
