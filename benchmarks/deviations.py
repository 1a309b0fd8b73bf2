"""Measures whether deviations line by line tell known phases from unknown ones better.

    python benchmarks/deviations.py --parts=parts

After `fit_phases.py`, with its `--parts`, `--scans` and `--seed`. The calibration is fitted as
there, and again without the deviations; posteriors, leaders and folds are the same. Prints areas
under the ROC curve with the whole library, parts of it and known elements, what deviations add,
with intervals of 95 % by a bootstrap of formulas, and what is called confident of known and of
unknown phases. The posteriors are fitted twice: some 25 minutes of CPU. Nothing is written.
"""

import numpy as np
from absl import app
from fit_phases import _LIBRARY, _SEED, deviating, examples, facts

from imitation_refinement.phases.calibrating import Answered, fit_calibration, roc_area
from imitation_refinement.phases.fitting import KNOWN, PART, WHOLE, Examples
from imitation_refinement.phases.leading import Leaders
from imitation_refinement.phases.library import load_library
from imitation_refinement.phases.prototypes import GRID, build_prototypes
from imitation_refinement.runtime.shard import Shard

_BOOTSTRAPS = 200


def nothing(look: np.ndarray, _: Leaders) -> np.ndarray:
    """Returns no figures of deviations, `[m, 0]`."""
    return np.zeros((len(look), 0))


def area(of: Answered, rows: np.ndarray) -> float:
    unknown = of.absent[rows]
    return roc_area(of.none[rows][unknown], of.none[rows][~unknown])


def table(with_them: Answered, without: Answered, levels: np.ndarray, formula: np.ndarray) -> str:
    """Returns the table; `levels` with deviations and without, for any and for known elements."""
    formulas = [np.flatnonzero(formula == number) for number in np.unique(formula)]
    rng = np.random.default_rng(0)
    again = [
        np.concatenate([formulas[i] for i in rng.integers(len(formulas), size=len(formulas))])
        for _ in range(_BOOTSTRAPS)
    ]
    lines = [
        "| library | area without | with | gain | confident without | with"
        " | unknown without | with |",
        "|" + " --- |" * 8,
    ]
    names = ((WHOLE, "whole"), (PART, "parts"), (KNOWN, "elements known"))
    for scope, name in names:
        own = with_them.scope == scope
        gains = [area(with_them, r[own[r]]) - area(without, r[own[r]]) for r in again]
        low, high = np.percentile(gains, [2.5, 97.5])
        before, after = (area(of, np.flatnonzero(own)) for of in (without, with_them))
        shares = [
            f"{100.0 * (of.confidence >= level)[own & which].mean():.1f}"
            for which in (~with_them.absent, with_them.absent)
            for of, level in zip(
                (without, with_them), levels[::-1, int(scope == KNOWN)], strict=True
            )
        ]
        gain = f"{after - before:+.4f} ({low:+.4f} to {high:+.4f})"
        lines.append(f"| {name} | {before:.4f} | {after:.4f} | {gain} | {' | '.join(shares)} |")
    return "\n".join(lines)


def main(_: list[str]) -> None:
    library = load_library(_LIBRARY.value)
    prototypes = build_prototypes(
        library.q, library.amplitude, library.offsets, library.computed, GRID
    )
    known = facts(library, prototypes)
    parts = examples(known, library, prototypes, Shard(0, 1))
    found = Examples(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    both = [
        fit_calibration(found, measured, seed=_SEED.value)
        for measured in (deviating(known, library, prototypes), nothing)
    ]
    levels = np.stack([calibration.levels[:, 1] for calibration, _ in both])
    formula = found.formula[np.unique(found.look, return_index=True)[1]]
    print(table(both[0][1][1], both[1][1][1], levels, formula))


if __name__ == "__main__":
    app.run(main)
