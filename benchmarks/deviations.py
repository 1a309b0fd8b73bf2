"""Measures whether deviations line by line tell known phases from unknown ones better.

    python benchmarks/deviations.py --parts=parts --scans=9000 --output=deviations

`--parts` are those that `fit_phases.py` made of as many scans or more, with the shipped library,
the same refiner and seed. The scans are made and matched again, for the figures of
`phases/deviations.py` of the likeliest two candidates, those of weights that have not seen the
formula. Then known and unknown are told, in the same five folds of formulas, from what both looks
say, and from that and the figures: by the network of `stacking.py`, and by boosted trees. Prints
areas under the ROC curve of the whole library and of parts of it, intervals of 95 % by a bootstrap
of formulas, and what would be called confident. Kept in `--output`; killed and run again it goes
on. 100 scans take some 8 seconds of CPU.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import app, logging
from fit_phases import _OUTPUT, _PARTS, _SCANS, _SEED, facts, planned
from scipy.special import expit, logit
from sklearn.ensemble import HistGradientBoostingClassifier

from imitation_refinement.errors import UserError
from imitation_refinement.phases.calibrating import FOLDS, WEIGHTS, confident_level, roc_area
from imitation_refinement.phases.deviations import FIGURES, deviations
from imitation_refinement.phases.evidence import FEATURES
from imitation_refinement.phases.fitting import (
    ABSENT,
    KNOWN,
    PART,
    WHOLE,
    Examples,
    drawn_libraries,
    simulated_placed,
)
from imitation_refinement.phases.library import Library, load_library
from imitation_refinement.phases.match import Weighed, weighed
from imitation_refinement.phases.named import Moved
from imitation_refinement.phases.posterior import Posterior, fit_posterior, probabilities
from imitation_refinement.phases.prototypes import GRID, Prototypes, build_prototypes, scan_roots
from imitation_refinement.phases.refiner_file import load_refiner
from imitation_refinement.phases.stacking import FIGURES as READ
from imitation_refinement.phases.stacking import absent, fit_stack, look, rescaled
from imitation_refinement.runtime.files import atomic_write_npz, read_npz
from imitation_refinement.xrd.scans import PlacedScan

_LEADERS = 2  # candidates whose deviations are looked at
_PART = 100  # scans in a part, as in fit_phases
_SYSTEMS, _BOOTSTRAPS, _TOGETHER = 7, 200, 32


class Said(NamedTuple):
    """Of m scans with their libraries: what both looks say, the figures, and what is true."""

    looks: np.ndarray  # [m, 2, S / 2]
    inside: np.ndarray  # of both looks, [m, 7]
    none: np.ndarray  # mean of both looks, [m]
    figures: np.ndarray  # [m, 2 F]
    system: np.ndarray
    situation: np.ndarray
    scope: np.ndarray
    formula: np.ndarray


def blind(path: Path) -> Examples:
    """Returns the examples of a part whose elements are not known."""
    found = Examples(**read_npz(path))
    return Examples(*(column[found.scope != KNOWN] for column in found))


def posteriors(parts: list[Path], folder: Path) -> list[Posterior]:
    """Returns the weights for each fifth of the formulas, fitted to the others."""
    files = [folder / f"posterior-{fold}.npz" for fold in range(FOLDS)]
    if not all(file.exists() for file in files):
        found = Examples(*(np.concatenate(c) for c in zip(*map(blind, parts), strict=True)))
        alike = found.system == found.true_system[:, None]
        weight = 0.5 * np.asarray(WEIGHTS)[found.situation]
        for fold, file in enumerate(files):
            rows = found.formula % FOLDS != fold
            fitted = fit_posterior(
                found.features[rows], found.right[rows], alike[rows], weight[rows],
                seed=_SEED.value,
            )  # fmt: skip
            atomic_write_npz(file, fitted._asdict())
    return [Posterior(**read_npz(file)) for file in files]


def figures_of(
    scan: PlacedScan,
    both: list[Weighed],
    posterior: Posterior,
    library: Library,
    prototypes: Prototypes,
) -> np.ndarray:
    """Returns the deviations of the likeliest two, `[2 F]`; zeros where there is no second."""
    share: dict[int, float] = {}
    place: dict[int, tuple[Weighed, int]] = {}
    for own in both:
        told = np.exp(probabilities(own.evidence.features[None], posterior).log[0])
        for row, entry in enumerate(own.entry.tolist()):
            share[entry] = share.get(entry, 0.0) + told[row]
            place.setdefault(entry, (own, row))
    leaders = sorted(share, key=lambda entry: -share[entry])[:_LEADERS]
    root = scan_roots(scan.pattern[None], scan.mask[None], 1)[0][0]
    figures = np.zeros((_LEADERS, len(FIGURES)))
    for number, entry in enumerate(leaders):
        own, row = place[entry]
        moved = Moved(entry, float(own.evidence.shift[row]), float(own.evidence.displacement[row]))
        size = float(np.exp(own.evidence.features[row, FEATURES.index("log_size")]))
        figures[number] = deviations(scan, root, moved, library, prototypes, size)
    return figures.ravel()


def part_of(
    first: int,
    entries: np.ndarray,
    known: Any,
    library: Library,
    prototypes: Prototypes,
    refiner: Any,
    fitted: list[Posterior],
) -> dict[str, np.ndarray]:
    """Makes and matches a part's scans again; returns `look` and `figures` of each example."""
    scans: list[tuple[int, int, PlacedScan]] = []
    for number, entry in enumerate(entries.tolist(), first):
        atoms, system = known.atoms_of(entry), int(known.system[entry])
        kind = int(prototypes.kind[entry])
        try:
            scan = simulated_placed(atoms, system, kind, prototypes, number, _SEED.value)
        except (UserError, ValueError):
            continue
        if not scan.signal:
            scans.append((number, entry, scan))
    plan = []
    for (number, entry, scan), refined in zip(
        scans, refiner([scan for *_, scan in scans]), strict=True
    ):
        rng = np.random.default_rng([_SEED.value, number, 1])
        drawn = drawn_libraries(entry, known.phase, known.within(entry), rng)
        for place, (_, scope, kept) in enumerate(drawn):
            if scope != KNOWN:
                plan.append((8 * number + place, entry, scan, refined, kept))
    rows = []
    for start in range(0, len(plan), _TOGETHER):
        some = plan[start : start + _TOGETHER]
        looks = [np.stack([scan.pattern for _, _, scan, *_ in some])]
        looks.append(np.stack([refined for *_, refined, _ in some]))
        masks = np.stack([scan.mask for _, _, scan, *_ in some])
        allowed = np.stack([kept for *_, kept in some])
        found = weighed(looks, masks, prototypes, allowed=allowed)
        for (number, entry, scan, *_), both in zip(some, found, strict=True):
            posterior = fitted[known.formula[entry] % FOLDS]
            rows.append((number, figures_of(scan, both, posterior, library, prototypes)))
    numbers, figures = zip(*rows, strict=True)
    return {"look": np.array(numbers), "figures": np.array(figures)}


def said(path: Path, made: dict[str, np.ndarray], fitted: list[Posterior]) -> Said:
    """Returns what is said of the examples of a part."""
    examples, rows = blind(path), []
    read = [FEATURES.index(name) for name in READ]
    begin = np.unique(examples.look, return_index=True)[1]
    assert np.array_equal(examples.look[begin], made["look"]), f"{path}: of other scans"
    for i in begin.tolist():
        posterior, looks, inside, none = fitted[examples.formula[i] % FOLDS], [], [], []
        for row in (i, i + 1):
            there = examples.system[row] >= 0
            x = examples.features[row][None, there]
            told = probabilities(x, posterior)
            looks.append(look(told.log, told.none, x[:, :, read])[0])
            systems = examples.system[row, there]
            inside.append(np.bincount(systems, np.exp(told.log[0]), _SYSTEMS))
            none.append(told.none[0])
        rows.append((looks, np.mean(inside, axis=0), np.mean(none)))
    columns = (np.array(column) for column in zip(*rows, strict=True))
    true = examples.true_system, examples.situation, examples.scope, examples.formula
    return Said(*columns, made["figures"], *(column[begin] for column in true))


def by_network(x: Said, more: np.ndarray) -> np.ndarray:
    """Returns ln of the odds of unknown, by stacks that have not seen the formula, `[m]`."""
    first, second = x.looks[:, 0], np.concatenate([x.looks[:, 1], more], axis=1)
    unknown, weight = x.situation == ABSENT, np.asarray(WEIGHTS)[x.situation]
    odds = np.zeros(len(unknown))
    for fold in range(FOLDS):
        own = x.formula % FOLDS == fold
        stack = fit_stack(first[~own], second[~own], unknown[~own], weight[~own], seed=_SEED.value)
        odds[own] = logit(np.clip(absent(first[own], second[own], stack), 1e-9, 1.0 - 1e-9))
    return odds


def by_trees(x: Said, more: np.ndarray) -> np.ndarray:
    """Returns the same by boosted trees, `[m]`."""
    features = np.concatenate([x.looks.reshape(len(x.looks), -1), more], axis=1)
    unknown, weight = x.situation == ABSENT, np.asarray(WEIGHTS)[x.situation]
    odds = np.zeros(len(unknown))
    for fold in range(FOLDS):
        own = x.formula % FOLDS == fold
        trees = HistGradientBoostingClassifier(
            max_iter=150, learning_rate=0.05, max_leaf_nodes=12, min_samples_leaf=60,
            l2_regularization=5.0, max_features=0.3, early_stopping=False,
            random_state=_SEED.value,
        )  # fmt: skip
        trees.fit(features[~own], unknown[~own], sample_weight=weight[~own])
        odds[own] = trees.decision_function(features[own])
    return odds


def table(x: Said, odds: dict[str, np.ndarray]) -> list[str]:
    """Returns areas, what they gain over the first of `odds`, and confident shares in percent."""
    unknown, (first, *_) = x.situation == ABSENT, odds
    formulas = [np.flatnonzero(x.formula == number) for number in np.unique(x.formula)]
    rng = np.random.default_rng(0)
    again = [
        np.concatenate([formulas[i] for i in rng.integers(len(formulas), size=len(formulas))])
        for _ in range(_BOOTSTRAPS)
    ]

    def area(name: str, rows: np.ndarray) -> float:
        own = odds[name][rows]
        return roc_area(own[unknown[rows]], own[~unknown[rows]])

    lines = [
        "| told from | library | area | gain | confident | unknown confident |",
        "|" + " --- |" * 6,
    ]
    for name in odds:
        scale = np.exp(rescaled(x.none, expit(odds[name])))[:, None]
        confidence, correct = (x.inside * scale).max(axis=1), x.inside.argmax(axis=1) == x.system
        level = confident_level(confidence, correct, unknown, x.scope)
        for scope, text in ((WHOLE, "whole"), (PART, "parts")):
            own = x.scope == scope
            gains = [area(name, r[own[r]]) - area(first, r[own[r]]) for r in again]
            rows = np.flatnonzero(own)
            low, high = np.percentile(gains, [2.5, 97.5])
            confident = confidence >= level
            shares = [100.0 * confident[own & which].mean() for which in (~unknown, unknown)]
            lines.append(
                f"| {name} | {text} | {area(name, rows):.4f} |"
                f" {area(name, rows) - area(first, rows):+.4f} ({low:+.4f} to {high:+.4f}) |"
                f" {shares[0]:.1f} | {shares[1]:.1f} |"
            )
    return lines


def main(_: list[str]) -> None:
    library, folder = load_library(), Path(_OUTPUT.value)
    prototypes = build_prototypes(
        library.q, library.amplitude, library.offsets, library.computed, GRID
    )
    parts = sorted(Path(_PARTS.value).glob("*.npz"))
    folder.mkdir(parents=True, exist_ok=True)
    fitted = posteriors(parts, folder)
    known, refiner = facts(library, prototypes), load_refiner()
    plan, found = planned(library, _SCANS.value, _SEED.value), []
    for first in range(0, len(plan), _PART):
        path = folder / f"{first:06d}.npz"
        if not path.exists():
            entries = plan[first : first + _PART]
            made = part_of(first, entries, known, library, prototypes, refiner, fitted)
            atomic_write_npz(path, made)
            logging.info("%d of %d scans", first + _PART, len(plan))
        found.append(said(Path(_PARTS.value) / path.name, read_npz(path), fitted))
    x = Said(*(np.concatenate(column) for column in zip(*found, strict=True)))
    nothing = np.zeros((len(x.none), 0))
    odds = {
        "looks, network": by_network(x, nothing),
        "looks, trees": by_trees(x, nothing),
        "and deviations, network": by_network(x, x.figures),
        "and deviations, trees": by_trees(x, x.figures),
    }
    print("\n".join(table(x, odds)))


if __name__ == "__main__":
    app.run(main)
