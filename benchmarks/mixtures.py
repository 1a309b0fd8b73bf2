"""Measures how well the phases of mixtures are found, on simulated and on measured ones.

    python benchmarks/mixtures.py --parts=parts
    python benchmarks/mixtures.py --parts=parts --manifest=a/manifest.csv

A phase is found among five (ten) if it is among the first five (ten) proposals. Proposals are the
candidates of the first, second and third phase in turns, each once: first the likeliest of each
list, then the second of each. Simulated samples have one to three phases in turns; of each phase
the entry that was simulated is left out of the library if that has another determination. A
manifest states its mixtures' phases in the column `phases`: `NiO[225]:0.4;TiO2:0.6`, formula, space
group and share, of which the latter two may be absent; minerals may be named, see MINERALS. Shares
in percent with 95 % bootstrap intervals over samples; measured twice, a sample counts as one group.
Measured mixtures are for looking only.
"""

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import app, flags, logging

from imitation_refinement.errors import UserError
from imitation_refinement.evaluation.metrics import GroupResamples, mean_estimate, resample_groups
from imitation_refinement.model.acceptance import CONFIDENT
from imitation_refinement.phases.alike import Twins
from imitation_refinement.phases.compositions import Elements
from imitation_refinement.phases.formulas import elements, reduced
from imitation_refinement.phases.further import is_mixed, with_further
from imitation_refinement.phases.identify import Phases, load_phases
from imitation_refinement.phases.match import match, match_looks
from imitation_refinement.phases.named import Identified
from imitation_refinement.phases.pairs import atoms_of
from imitation_refinement.phases.prototypes import GRID, MEASURED
from imitation_refinement.phases.refiner_file import load_refiner
from imitation_refinement.phases.simulated_mixtures import simulated_mixture
from imitation_refinement.runtime.files import atomic_write_npz, read_npz
from imitation_refinement.xrd.manifest import read_entry, read_manifest
from imitation_refinement.xrd.scans import PlacedScan, on_grid

_MANIFEST = flags.DEFINE_string("manifest", None, "Mixtures with their phases.")
_PARTS = flags.DEFINE_string("parts", None, "Folder of simulated scans and caches.", required=True)
_SCANS = flags.DEFINE_integer("scans", 450, "Simulated samples; 0 for none.", lower_bound=0)
_SEED = flags.DEFINE_integer("seed", 1, "Of the simulation; by seed 0 the rules were chosen.")

_BATCH = 16
_DEPTHS = (5, 10)
MINERALS = {
    "Quartz": "SiO2", "K_feldspar": "KAlSi3O8", "Plagioclase": "NaAlSi3O8",
    "Corundum": "Al2O3[167]", "Kaolinite": "Al2Si2O9", "Illite": "KAl3Si3O12",
    "Dioctahedral_smectite": "CaAl2Si4O12",
}  # fmt: skip


class Sample(NamedTuple):
    """Which entries are of each phase of one sample, and the group that it is resampled with."""

    right: list[frozenset[int]]
    group: str


class Names:
    """The phases of a library by formula and space group."""

    def __init__(self, phases: Phases):
        library = phases.library
        texts = zip(library.formula, library.composition, strict=True)
        self._of = [{reduced(str(f)), reduced(str(c) or str(f))} for f, c in texts]
        self._group = library.space_group.astype(int)

    def entries(self, label: str) -> frozenset[int]:
        """Returns the entries that `formula[space group]`, or a formula alone, names."""
        formula, _, group = label.partition("[")
        name = reduced(formula)
        kept = [i for i, own in enumerate(self._of) if name in own]
        if group:
            kept = [i for i in kept if self._group[i] == int(group.rstrip("]"))]
        return frozenset(kept)


def found_among(one: Identified, right: Sequence[frozenset[int]], depth: int) -> list[bool]:
    """Returns which phases are among the first `depth` proposals of all lists in turns."""
    lists = (one.candidates, *one.further)
    proposals: list[frozenset[int]] = []
    for rank in range(max(map(len, lists), default=0)):
        for some in lists:
            own = frozenset(some[rank].candidate.members) if rank < len(some) else frozenset()
            if own and own not in proposals:
                proposals.append(own)
    return [any(own & members for members in proposals[:depth]) for own in right]


def table(title: str, samples: Sequence[Sample], answers: Sequence[Identified]) -> None:
    """Prints the rows of a table, by number of phases."""
    for count in sorted({len(sample.right) for sample in samples}):
        own = [i for i, sample in enumerate(samples) if len(sample.right) == count]
        draws = resample_groups(np.array([samples[i].group for i in own]), seed=0)
        cells = []
        for depth in _DEPTHS:
            hits = [found_among(answers[i], samples[i].right, depth) for i in own]
            cells += [_share(draws, [float(np.mean(one)) for one in hits])]
            cells += [_share(draws, [float(all(one)) for one in hits])]
        for more in (1, 2):
            told = np.mean([len(answers[i].further) >= more for i in own])
            cells.append(f"{100.0 * told:.1f}")
        wrong = [
            answers[i].answer.verdict == CONFIDENT
            and not any(found_among(answers[i]._replace(further=()), samples[i].right, 1))
            for i in own
        ]
        cells.append(f"{100.0 * np.mean(wrong):.1f}")
        print(f"| {title} | {count} | {len(own)} | " + " | ".join(cells) + " |", flush=True)


def _share(draws: GroupResamples, values: Sequence[float]) -> str:
    found = mean_estimate(draws, np.array(values, float))
    low, high = found["low"], found["high"]
    interval = "" if low is None or high is None else f" ({100 * low:.0f} to {100 * high:.0f})"
    return f"{100.0 * np.mean(values):.1f}{interval}"


def head(title: str) -> None:
    """Prints the title and the head of a table."""
    names = (
        "", "phases", "samples", "found among 5", "all of them", "found among 10", "all of them",
        "a second told", "a third", "confident, phase wrong",
    )  # fmt: skip
    print(f"\n{title}:\n\n| " + " | ".join(names) + " |\n|" + " --- |" * len(names))


def simulated(phases: Phases, count: int, seed: int) -> dict[str, np.ndarray]:
    """Returns simulated mixtures, `entries` `[n, 3]` and arrays `[n, L]`.

    These are `pattern`, `refined`, `mask`, `excess` and `noise`.
    """
    path = Path(_PARTS.value) / f"noisy-mixtures-{seed}-{count}.npz"
    if path.exists():
        return read_npz(path)
    library, prototypes, refiner = phases.library, phases.prototypes, load_refiner()
    phase = _phases(phases)
    rng = np.random.default_rng([seed, 5])
    measured = rng.permutation(np.flatnonzero(library.computed == MEASURED))
    _, first = np.unique(phase[measured], return_index=True)
    once = rng.permutation(measured[np.sort(first)])
    rows: list[tuple[np.ndarray, ...]] = []
    at = number = 0
    while len(rows) < count:
        many = 1 + len(rows) % 3
        own = once[at : at + many]
        at, number = at + many, number + 1
        try:
            scan, _ = simulated_mixture(
                [atoms_of(library, int(i)) for i in own],
                [int(library.crystal_system[i]) for i in own],
                [int(prototypes.kind[i]) for i in own], prototypes, number, seed,
            )  # fmt: skip
        except (UserError, ValueError):
            continue
        if scan.signal:
            continue
        entries = np.pad(own, (0, 3 - many), constant_values=-1)
        seen = scan.pattern, refiner([scan])[0], scan.mask, scan.excess, scan.noise
        rows.append((*seen, entries))
        if not len(rows) % 50:
            logging.info("%d of %d simulated mixtures", len(rows), count)
    names = ("pattern", "refined", "mask", "excess", "noise", "entries")
    columns = zip(*rows, strict=True)
    made = {name: np.stack(column) for name, column in zip(names, columns, strict=True)}
    atomic_write_npz(path, made)
    return made


def _phases(phases: Phases) -> np.ndarray:
    """The number of the phase of each entry, by reduced formula and space group."""
    library = phases.library
    names = [
        f"{reduced(str(f))} {g}" for f, g in zip(library.formula, library.space_group, strict=True)
    ]
    return np.unique(np.array(names), return_inverse=True)[1]


def of_simulated(phases: Phases) -> None:
    """Prints the table of simulated mixtures."""
    made = simulated(phases, _SCANS.value, _SEED.value)
    phase, twins = _phases(phases), Twins(phases.library.formula, phases.prototypes)
    others = np.bincount(phase)[phase] > 1
    samples, allowed = [], np.ones((len(made["entries"]), phases.prototypes.size), bool)
    for row, entries in enumerate(made["entries"]):
        own = [int(entry) for entry in entries if entry >= 0]
        allowed[row, [entry for entry in own if others[entry]]] = False
        right = [
            frozenset(np.flatnonzero(phase == phase[one]).tolist())
            | frozenset(twins.of(one).tolist())
            for one in own
        ]
        samples.append(Sample(right, str(row)))
    answers: dict[str, list[Identified]] = {"raw": [], "refined": [], "both": []}
    for first in range(0, len(samples), _BATCH):
        part = slice(first, first + _BATCH)
        patterns, masks, may = made["pattern"][part], made["mask"][part], allowed[part]
        to_match = masks, phases.prototypes, phases.calibration.posterior
        denoised = made["refined"][part]
        alone = [match(look, *to_match, allowed=may) for look in (patterns, denoised)]
        looks = match_looks([patterns, denoised], *to_match, allowed=may)
        columns = (made[name][part] for name in ("pattern", "mask", "excess", "noise"))
        placed = [
            PlacedScan(pattern, mask, np.zeros_like(pattern), 1.0, "", excess, noise)
            for pattern, mask, excess, noise in zip(*columns, strict=True)
        ]
        both, _ = phases.by_both(placed, *looks)
        for name, left, found in (
            ("raw", patterns, alone[0]),
            ("refined", denoised, alone[1]),
            ("both", patterns, both),
        ):
            told = phases.told(found, None, refined=name == "both")
            answers[name] += _with_further(phases, told, left, masks, may)
    for name, told in answers.items():
        table(f"{name}, any element", samples, told)


def _with_further(
    phases: Phases, told: list[Identified], patterns: np.ndarray, masks: np.ndarray, may: np.ndarray
) -> list[Identified]:
    rows = [row for row, one in enumerate(told) if is_mixed(one)]
    if rows:
        more = with_further(
            [told[row] for row in rows], patterns[rows], masks[rows], phases.prototypes,
            phases.calibration.posterior, may[rows], lambda found: phases.told(found, None),
        )  # fmt: skip
        for row, one in zip(rows, more, strict=True):
            told[row] = one
    return told


def of_measured(phases: Phases, manifest: Path) -> None:
    """Prints the table of measured mixtures."""
    with manifest.open(encoding="utf-8-sig", newline="") as lines:
        stated = {row["file"]: row["phases"] for row in csv.DictReader(lines)}
    entries = [entry for entry in read_manifest(manifest) if entry.kind == "mixture"]
    names, samples, known = Names(phases), [], []
    for entry in entries:
        parts = [
            one.split(":")[0]
            for one in stated[str(entry.file.relative_to(manifest.parent))].split(";")
        ]
        labels = [MINERALS.get(part, part) for part in parts]
        samples.append(
            Sample([names.entries(label) for label in labels], entry.sample.split("--")[0])
        )
        formulas = [elements(label.partition("[")[0]) for label in labels]
        known.append(Elements(may=frozenset().union(*formulas)))
    scans = [on_grid(read_entry(entry), GRID) for entry in entries]
    patterns = load_refiner()(scans)
    refined = [scan._replace(pattern=own) for scan, own in zip(scans, patterns, strict=True)]
    alone = replace(phases, refiner=None)
    absent = sum(not own for sample in samples for own in sample.right)
    logging.info("%d phases of the mixtures are not in the library", absent)
    for name, some, looked in (
        ("raw", alone, scans),
        ("refined", alone, refined),
        ("both", phases, scans),
    ):
        for words, limits in (("any element", None), ("elements known", known)):
            table(f"{name}, {words}", samples, some.identify(looked, limits))


def main(_: list[str]) -> None:
    phases = load_phases(["shipped"], _PARTS.value)
    if _SCANS.value:
        head("simulated")
        of_simulated(phases)
    if _MANIFEST.value:
        head("measured")
        of_measured(phases, Path(_MANIFEST.value))


if __name__ == "__main__":
    app.run(main)
