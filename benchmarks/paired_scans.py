"""Measures what refining does for short scans of mixtures that were measured longer, too.

    python benchmarks/paired_scans.py --simulated=400 --output=paired
    python benchmarks/paired_scans.py --manifest=manifest.csv --output=paired

Either simulates raw counts of formulas that no training has seen and splits them binomially into a
fifth and four fifths, which are independent measurements, one four times as long as the other. Or
takes the mixtures of a manifest whose names differ by `--2min` and `--8min` alone, for looking
only, and also counts how many of the weighed formulas are among the five likeliest candidates for
the pattern, or for what its first phases leave. Compares the pattern of the short scan, raw, by the
shipped model, and denoised and refined by the refiner of phases, with the raw one of the long scan
and, where it is simulated, with the truth. Writes `paired-scans-table.md` into `--output`.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import app, flags

from imitation_refinement.errors import UserError
from imitation_refinement.evaluation.metrics import l1, max_normalized
from imitation_refinement.evaluation.peaks import invented_and_lost
from imitation_refinement.model.find import load_model
from imitation_refinement.model.placed import as_arrays
from imitation_refinement.phases.fitting import simulated_measurement
from imitation_refinement.phases.formulas import reduced
from imitation_refinement.phases.identify import Phases, load_phases
from imitation_refinement.phases.named import Identified
from imitation_refinement.phases.pairs import QUICK, atoms_of, planned, true_pattern
from imitation_refinement.phases.prototypes import GRID
from imitation_refinement.phases.refiner_file import PhaseRefiner, load_refiner
from imitation_refinement.runtime.files import atomic_write_text, user_cache
from imitation_refinement.xrd.manifest import Entry, read_entry, read_manifest
from imitation_refinement.xrd.scans import PlacedScan, on_grid

_MANIFEST = flags.DEFINE_string("manifest", None, "Measured mixtures.")
_SIMULATED = flags.DEFINE_integer("simulated", 400, "Scans to simulate without a manifest.")
_OUTPUT = flags.DEFINE_string("output", None, "Folder of the table.", required=True)
_LIBRARY = flags.DEFINE_multi_string("library", ["shipped"], "Libraries of phases.")
_REFINER = flags.DEFINE_string("refiner", None, "Refiner of phases; the shipped one without.")

_SHORT, _LONG = "--2min", "--8min"
_LISTED = 5
_SEED = 1  # of the simulated scans
_SHARE = 0.2  # of the counts: the other scan has four times as many
_LEVELS = (0, 16, 50, 170, 550, 3000, np.inf)  # counts of the strongest point, short scan


def paired(manifest: Path) -> tuple[list[Entry], list[PlacedScan], list[PlacedScan]]:
    """Returns the mixtures that were measured twice, and their short and long scans."""
    entries = {entry.sample: entry for entry in read_manifest(manifest)}
    short = [name for name in entries if name.endswith(_SHORT)]
    both = [(name, name.removesuffix(_SHORT) + _LONG) for name in short]
    both = [names for names in both if names[1] in entries]
    if not both:
        raise UserError(f"{manifest}: names no scan twice, as {_SHORT} and as {_LONG}")
    placed = [[on_grid(read_entry(entries[name]), GRID) for name in names] for names in both]
    firsts = [entries[name] for name, _ in both]
    return firsts, [one for one, _ in placed], [one for _, one in placed]


def found_of(entry: Entry, told: Identified) -> tuple[int, int]:
    """Returns how many of the weighed formulas are named, and how many there are.

    A sample is called `NiO_0p6007-Bi2O3_0p4008--2min`: formulas with their shares.
    """
    weighed = [part.split("_")[0] for part in entry.sample.removesuffix(_SHORT).split("-")]
    named = {
        reduced(one.formula)
        for candidates in (told.candidates, *told.further)
        for one in candidates[:_LISTED]
    }
    return sum(reduced(formula) in named for formula in weighed), len(weighed)


def phases_found(entries: Sequence[Entry], scans: Sequence[PlacedScan], phases: Phases) -> str:
    """Returns 'n of m phases'."""
    told = phases.identify(scans)
    counts = np.array([found_of(*pair) for pair in zip(entries, told, strict=True)])
    return "{} of {}".format(*counts.sum(axis=0))


def split_scans(
    phases: Phases, count: int
) -> tuple[list[PlacedScan], list[PlacedScan], list[np.ndarray]]:
    """Returns simulated short and long scans of held-out structures, and the truth of the short.

    What shows no peaks is left out.
    """
    library, prototypes = phases.library, phases.prototypes
    laboratories = [one._replace(smoothed=0.0, subtracted=0.0) for one in QUICK]
    short, long, truth = [], [], []
    for number, entry in enumerate(planned(library, count, _SEED, held=True)):
        try:
            measured = simulated_measurement(
                atoms_of(library, entry), int(library.crystal_system[entry]),
                int(prototypes.kind[entry]), prototypes, number, _SEED,
                laboratories[number % len(laboratories)],
            )  # fmt: skip
            scan, counts = measured.scan, measured.scan.counts.astype(np.int64)
            fifth = np.random.default_rng([_SEED, number, 7]).binomial(counts, _SHARE)
            both = [
                on_grid(scan._replace(counts=own * 1.0), GRID) for own in (fifth, counts - fifth)
            ]
        except (UserError, ValueError):
            continue
        if not (both[0].signal or both[1].signal):
            short.append(both[0])
            long.append(both[1])
            part = measured._replace(expected=_SHARE * measured.expected)
            truth.append(true_pattern(part, both[0], GRID))
    return short, long, truth


def looks(
    refiner: PhaseRefiner, short: Sequence[PlacedScan], mask: np.ndarray
) -> dict[str, np.ndarray]:
    """Returns the patterns of the short scans by look, `[n, L]` each with maximum 1.

    Args:
        refiner: of phases.
        short: n scans.
        mask: where they are compared, bool `[n, L]`.
    """
    made = refiner.both(short)
    patterns = {
        "raw": np.stack([one.pattern for one in short]),
        "model": load_model().assess(*as_arrays(short, GRID.length)).refined[..., 0],
        "denoised": made.denoised,
        "refined": made.pattern,
    }
    return {name: max_normalized(rows * mask) for name, rows in patterns.items()}


def simulated_table(refiner: PhaseRefiner, phases: Phases) -> str:
    """Returns distances and peaks of simulated short scans by counts, in %."""
    short, long, expected = split_scans(phases, _SIMULATED.value)
    mask = np.stack([one.mask & two.mask for one, two in zip(short, long, strict=True)])
    patterns = looks(refiner, short, mask)
    others = {
        "the long one": max_normalized(np.stack([one.pattern for one in long]) * mask),
        "the truth": max_normalized(np.stack(expected) * mask),
    }
    strongest = np.array([one.strongest for one in short])
    lines = [f"{len(short)} simulated scans."]
    for other, target in others.items():
        lines += [
            "",
            f"| counts | scans | pattern | ℓ1 to {other} | − raw | missed | spurious | invented"
            " | lost |",
            "|" + " --- |" * 9,
        ]
        for low, high in [*zip(_LEVELS, _LEVELS[1:], strict=False), (0, np.inf)]:
            rows = (strongest >= low) & (strongest < high)
            before = l1(patterns["raw"][rows], target[rows])
            for name, pattern in patterns.items():
                own = l1(pattern[rows], target[rows])
                peaks = invented_and_lost(patterns["raw"][rows], pattern[rows], target[rows])
                head = [f"{low} to {high:g}", f"{rows.sum()}"] if name == "raw" else ["", ""]
                cells = [
                    *head, name, f"{own.mean():.2f}",
                    "" if name == "raw" else f"{100 * (own / before - 1.0).mean():+.0f} %",
                    _share(peaks.missed_refined, peaks.truth),
                    _share(peaks.spurious_refined, peaks.refined),
                    _share(peaks.invented, peaks.refined),
                    _share(peaks.lost, peaks.truth),
                ]  # fmt: skip
                lines.append("| " + " | ".join(cells).replace("-", "−") + " |")
    return "\n".join([*lines, ""])


def measured_table(refiner: PhaseRefiner, phases: Phases, manifest: Path) -> str:
    """Returns distances, peaks in % and phases found of measured short scans."""
    entries, short, long = paired(manifest)
    mask = np.stack([one.mask & two.mask for one, two in zip(short, long, strict=True)])
    patterns = looks(refiner, short, mask)
    truth = max_normalized(np.stack([one.pattern for one in long]) * mask)
    alone = dataclasses.replace(phases, refiner=None)
    before = l1(patterns["raw"], truth)
    top = sorted(one.strongest for one in short)
    lines = [
        f"{len(entries)} mixtures; strongest point of the short scans {top[0]:g} to {top[-1]:g}"
        " counts.", "",
        "| short scan | ℓ1 to the long one | − raw | closer | missed | spurious | invented | lost"
        " | phases found |",
        "|" + " --- |" * 9,
    ]  # fmt: skip
    for name, pattern in patterns.items():
        own = l1(pattern, truth)
        peaks = invented_and_lost(patterns["raw"], pattern, truth)
        again = [one._replace(pattern=row) for one, row in zip(short, pattern, strict=True)]
        lines.append(
            f"| {name} | {own.mean():.2f} | {100 * (own / before - 1.0).mean():+.0f} %"
            f" | {np.count_nonzero(own < before)} | {_share(peaks.missed_refined, peaks.truth)} %"
            f" | {_share(peaks.spurious_refined, peaks.refined)} %"
            f" | {_share(peaks.invented, peaks.refined)} % | {_share(peaks.lost, peaks.truth)} %"
            f" | {phases_found(entries, again, alone)} |"
        )
    both = dataclasses.replace(phases, refiner=refiner)
    lines.append(f"| raw and refined | | | | | | | | {phases_found(entries, short, both)} |")
    return "\n".join([*lines, ""])


def main(_: list[str]) -> None:
    phases = load_phases(_LIBRARY.value, user_cache("phases"))
    refiner = load_refiner(_REFINER.value)
    if _MANIFEST.value:
        text = measured_table(refiner, phases, Path(_MANIFEST.value))
    else:
        text = simulated_table(refiner, phases)
    atomic_write_text(Path(_OUTPUT.value) / "paired-scans-table.md", text)
    print(text)


def _share(above: np.ndarray, below: np.ndarray) -> str:
    return f"{100 * above.sum() / max(below.sum(), 1):.1f}"


if __name__ == "__main__":
    app.run(main)
