"""Measures what refining does for short scans of mixtures that were measured longer, too.

    python benchmarks/paired_scans.py --manifest=manifest.csv --output=paired

Takes the mixtures of a manifest whose names differ by `--2min` and `--8min` alone. Compares the
pattern of the short scan, raw and refined, with the raw one of the long scan, and counts how many
of the weighed formulas are among the five likeliest candidates for the pattern, or for what its
first phases leave. Writes `paired-scans-table.md` into `--output`. For looking only.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import app, flags

from imitation_refinement.errors import UserError
from imitation_refinement.evaluation.metrics import l1, max_normalized
from imitation_refinement.evaluation.peaks import invented_and_lost
from imitation_refinement.phases.formulas import reduced
from imitation_refinement.phases.identify import Phases, load_phases
from imitation_refinement.phases.named import Identified
from imitation_refinement.phases.prototypes import GRID
from imitation_refinement.phases.refiner_file import load_refiner
from imitation_refinement.runtime.files import atomic_write_text, user_cache
from imitation_refinement.xrd.manifest import Entry, read_entry, read_manifest
from imitation_refinement.xrd.scans import PlacedScan, on_grid

_MANIFEST = flags.DEFINE_string("manifest", None, "Measured mixtures.", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "Folder of the table.", required=True)
_LIBRARY = flags.DEFINE_multi_string("library", ["shipped"], "Libraries of phases.")
_REFINER = flags.DEFINE_string("refiner", None, "Refiner of phases; the shipped one without.")

_SHORT, _LONG = "--2min", "--8min"
_LISTED = 5


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


def main(_: list[str]) -> None:
    entries, short, long = paired(Path(_MANIFEST.value))
    phases, refiner = (
        load_phases(_LIBRARY.value, user_cache("phases")),
        load_refiner(_REFINER.value),
    )
    alone = dataclasses.replace(phases, refiner=None)
    refined = refiner(short)
    mask = np.stack([one.mask & two.mask for one, two in zip(short, long, strict=True)])
    truth = max_normalized(np.stack([one.pattern for one in long]) * mask)
    raw = max_normalized(np.stack([one.pattern for one in short]) * mask)
    after = max_normalized(refined * mask)
    peaks = invented_and_lost(raw, after, truth)
    again = [one._replace(pattern=row) for one, row in zip(short, refined, strict=True)]
    rows = [
        ("raw", raw, short, peaks.missed_raw, peaks.spurious_raw, peaks.raw),
        ("refined", after, again, peaks.missed_refined, peaks.spurious_refined, peaks.refined),
    ]
    lines = ["| short scan | ℓ1 to the long one | missed | spurious | phases found |",
             "|" + " --- |" * 5]  # fmt: skip
    for name, pattern, scans, missed, spurious, number in rows:
        lines.append(
            f"| {name} | {l1(pattern, truth).mean():.2f} | {_share(missed, peaks.truth)} %"
            f" | {_share(spurious, number)} % | {phases_found(entries, scans, alone)} |"
        )
    both = dataclasses.replace(phases, refiner=refiner)
    lines.append(f"| both | | | | {phases_found(entries, short, both)} |")
    change = l1(after, truth) / l1(raw, truth) - 1.0
    top = sorted(one.strongest for one in short)
    text = "\n".join([
        f"{len(entries)} mixtures; strongest point of the short scans {top[0]:g} to {top[-1]:g}"
        f" counts; ℓ1 refined − raw {100 * change.mean():+.0f} %, lower for"
        f" {np.count_nonzero(change < 0)} of {len(change)}.", "", *lines, "",
    ])  # fmt: skip
    atomic_write_text(Path(_OUTPUT.value) / "paired-scans-table.md", text)
    print(text)


def _share(above: np.ndarray, below: np.ndarray) -> str:
    return f"{100 * above.sum() / max(below.sum(), 1):.1f}"


if __name__ == "__main__":
    app.run(main)
