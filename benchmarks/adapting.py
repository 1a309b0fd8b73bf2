"""Measures what adapting the refiner of phases to the scans at hand does, on simulated scans.

    python benchmarks/adapting.py --folders=6 --scans=24

Each folder holds scans of one laboratory: its range, step, peak width, background and counts are
drawn once, its samples are structures of formulas on which the refiner was not trained. Prints the
distance to the true pattern (l1, where that of the raw pattern is 100) of each folder, refined as
shipped and after adapting, and how often the true structure is nearest among itself and its rivals.
"""

import numpy as np
from absl import app, flags

from imitation_refinement.errors import UserError
from imitation_refinement.evaluation.metrics import l1
from imitation_refinement.phases.fitting import simulated_measurement
from imitation_refinement.phases.identify import load_phases
from imitation_refinement.phases.pairs import (
    QUICK,
    Simulated,
    atoms_of,
    planned,
    true_pattern,
    with_rivals,
)
from imitation_refinement.phases.prototypes import GRID, draw_shifted, scan_roots, unit
from imitation_refinement.phases.refiner_file import load_refiner
from imitation_refinement.phases.simulated import Laboratory
from imitation_refinement.runtime.files import user_cache
from imitation_refinement.xrd.imperfections import log_uniform
from imitation_refinement.xrd.scans import on_grid

_LIBRARY = flags.DEFINE_multi_string("library", ["shipped"], "Libraries of phases.")
_REFINER = flags.DEFINE_string("refiner", None, "Refiner of phases; the shipped one without.")
_FOLDERS = flags.DEFINE_integer("folders", 6, "Laboratories.", lower_bound=1)
_SCANS = flags.DEFINE_integer("scans", 24, "Scans of each.", lower_bound=2)
_SEED = flags.DEFINE_integer("seed", 0, "Of all draws.", lower_bound=0)


def one_laboratory(rng: np.random.Generator) -> Laboratory:
    """Returns a laboratory with one instrument, whose scans are raw counts, 8 to 300 of them."""
    any_of = QUICK[0]
    fixed = {
        name: (float(value),) * 2
        for name, value in (
            ("first", rng.uniform(*any_of.first)), ("last", rng.uniform(*any_of.last)),
            ("step", log_uniform(rng, any_of.step)), ("counts", log_uniform(rng, (8.0, 300.0))),
            ("instrument", log_uniform(rng, any_of.instrument)),
            ("background", log_uniform(rng, any_of.background)),
        )
    }  # fmt: skip
    return any_of._replace(smoothed=0.0, subtracted=0.0, **fixed)


def nearest(patterns: np.ndarray, masks: np.ndarray, banks: np.ndarray) -> float:
    """Returns how often the first of each scan's prototypes is the most similar, in %.

    Args:
        patterns: `[n, L]`.
        masks: bool `[n, L]`.
        banks: root patterns, `[n, M, P]`.
    """
    roots, measured = scan_roots(patterns, masks)
    own = [
        unit(bank * mask) @ root for bank, mask, root in zip(banks, measured, roots, strict=True)
    ]
    return float(100 * np.mean(np.argmax(own, axis=1) == 0))


def main(_: list[str]) -> None:
    phases, refiner = (
        load_phases(_LIBRARY.value, user_cache("phases")),
        load_refiner(_REFINER.value),
    )
    library, prototypes = phases.library, phases.prototypes
    plan = planned(library, _FOLDERS.value * _SCANS.value, _SEED.value + 1, held=True)
    print("| counts | scans | ℓ1 refined | ℓ1 adapted | nearest, raw | refined | adapted |")
    print("|" + " --- |" * 7)
    for folder in range(_FOLDERS.value):
        rng = np.random.default_rng([_SEED.value, folder, 5])
        laboratory, rows = one_laboratory(rng), []
        for number in range(folder * _SCANS.value, (folder + 1) * _SCANS.value):
            entry = int(plan[number])
            try:
                measured = simulated_measurement(
                    atoms_of(library, entry), int(library.crystal_system[entry]),
                    int(prototypes.kind[entry]), prototypes, number, _SEED.value + 1, laboratory,
                )  # fmt: skip
                placed = on_grid(measured.scan, GRID)
            except (UserError, ValueError):
                continue
            if placed.signal:
                continue
            truth = true_pattern(measured, placed, GRID)
            pair = Simulated(placed, truth, float(measured.scan.counts.max()))
            rows.append((measured.scan, pair, entry))
        scans, made, entries = (list(column) for column in zip(*rows, strict=True))
        pairs = with_rivals(made, entries, prototypes)
        banks = [
            draw_shifted(prototypes, *own) for own in zip(pairs.entry, pairs.shift, strict=True)
        ]
        placed, truth = [one.placed for one in made], np.stack([one.truth for one in made])
        looks = {
            "raw": np.stack([one.pattern for one in placed]), "refined": refiner(placed),
            "adapted": refiner.adapted(scans, seed=_SEED.value)(placed),
        }  # fmt: skip
        apart = {look: l1(x, truth).mean() for look, x in looks.items()}
        cells = [f"{laboratory.counts[0]:.0f}", f"{len(rows)}"]
        cells += [f"{100 * apart[look] / apart['raw']:.1f}" for look in ("refined", "adapted")]
        cells += [f"{nearest(x, pairs.mask, np.stack(banks)):.0f}" for x in looks.values()]
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    app.run(main)
