"""Fits the calibration of the phases on simulated scans of a library's structures.

    python benchmarks/fit_phases.py --library=library.npz --parts=parts --output=phases.npz

Simulates one scan of each of `--scans` structures (three quarters one entry of each measured phase,
a tenth any measured one, the rest computed), weighs the evidence, and fits. Parts of 100 scans are
kept in `--parts`; killed and run again it goes on with the first that is missing. 100 scans took 10
seconds of CPU, so 9,000 take some 15 minutes of it. No measured scan is read.
"""

from pathlib import Path

import numpy as np
from absl import app, flags, logging

from imitation_refinement.phases.calibration_file import save_calibration
from imitation_refinement.phases.fitting import Examples, fit_calibration, make_examples
from imitation_refinement.phases.formulas import elements, reduced
from imitation_refinement.phases.identify import Compositions, Elements
from imitation_refinement.phases.library import Library, load_library
from imitation_refinement.phases.pairs import atoms_of
from imitation_refinement.phases.prototypes import GRID, MEASURED, Prototypes, build_prototypes
from imitation_refinement.runtime.files import atomic_write_npz, read_npz

_LIBRARY = flags.DEFINE_string("library", None, "Library file; the shipped one without.")
_PARTS = flags.DEFINE_string("parts", None, "Folder of the parts.", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "Calibration to write.", required=True)
_SCANS = flags.DEFINE_integer("scans", 9000, "Simulated scans.", lower_bound=100)
_SEED = flags.DEFINE_integer("seed", 0, "Of all draws.", lower_bound=0)

_PART = 100
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


def examples(library: Library, prototypes: Prototypes, parts: Path) -> Examples:
    """Returns all examples, from the parts that are there and the rest simulated."""
    formula = [reduced(str(text)) for text in library.formula]
    phase = numbers([f"{f} {g}" for f, g in zip(formula, library.space_group, strict=True)])
    formula_number = numbers(formula)
    plan = planned(library, _SCANS.value, _SEED.value)
    compositions = Compositions(library)

    def within(entry: int) -> np.ndarray:
        text = str(library.composition[entry]) or str(library.formula[entry])
        return compositions.allowed(Elements(may=elements(text)))

    found = []
    for first in range(0, len(plan), _PART):
        path = parts / f"{first:06d}.npz"
        if not path.exists():
            part = make_examples(
                plan[first : first + _PART], lambda entry: atoms_of(library, entry), prototypes,
                phase, library.crystal_system, formula_number, within, first=first,
                seed=_SEED.value,
            )  # fmt: skip
            atomic_write_npz(path, part._asdict())
            logging.info("%d of %d scans", first + _PART, len(plan))
        found.append(Examples(**read_npz(path)))
    return Examples(*(np.concatenate(column) for column in zip(*found, strict=True)))


def main(_: list[str]) -> None:
    library = load_library(_LIBRARY.value)
    prototypes = build_prototypes(
        library.q, library.amplitude, library.offsets, library.computed, GRID
    )
    found = examples(library, prototypes, Path(_PARTS.value))
    calibration = fit_calibration(found, seed=_SEED.value)
    made = (
        f"{len(found.right)} examples of {_SCANS.value} simulated scans, library"
        f" {library.digest[:12]}, seed {_SEED.value}"
    )
    save_calibration(_OUTPUT.value, calibration, made)
    logging.info("%s; confident from %.3f on", made, calibration.level)


if __name__ == "__main__":
    app.run(main)
