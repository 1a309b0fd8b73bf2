"""A model on labelled measured patterns: a manifest in; benchmark.json, a table and a page out.

Belongs here: the way from files to arrays and back. What is measured is in `benchmark_scores`, how
it looks in `benchmark_page`; the columns of a manifest are in `manifest`.
"""

import csv
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import logging

from imitation_refinement.commands.benchmark_page import write_page
from imitation_refinement.commands.benchmark_scores import Answers, Compared, score
from imitation_refinement.commands.ledger import exit_status, in_a_line
from imitation_refinement.errors import UserError
from imitation_refinement.evaluation.calibration import temper
from imitation_refinement.model.model import Assessment, Model
from imitation_refinement.model.placed import as_arrays
from imitation_refinement.runtime.files import atomic_write_json, atomic_write_text
from imitation_refinement.xrd.crystals import CRYSTAL_SYSTEMS
from imitation_refinement.xrd.grid import Grid
from imitation_refinement.xrd.library import Diffraction, truth_pattern
from imitation_refinement.xrd.manifest import Entry, read_entry, read_manifest
from imitation_refinement.xrd.profiles import normalize_max
from imitation_refinement.xrd.scans import on_grid
from imitation_refinement.xrd.structures.collection import read_cif


class Placed(NamedTuple):
    """Labelled patterns on a grid.

    Attributes:
        entries: n lines of the manifest.
        pattern: float32 `[n, L, 1]`, all zero where nothing rises above the noise.
        mask: bool `[n, L]`.
        failures: what could not be used, one sentence each.
    """

    entries: list[Entry]
    pattern: np.ndarray
    mask: np.ndarray
    failures: list[str]


def run_benchmark(model: Model, manifest: Path, output: Path) -> int:
    """Measures a model on the labelled patterns of a manifest.

    Writes `benchmark.json`, `patterns.csv` (one row per pattern) and `benchmark.html`. Patterns
    that are not of one known phase, and those whose class the model does not know, are left out
    and named. Trouble with one line of the manifest is its own alone.

    Args:
        model: of crystal systems, or of some of them.
        manifest: see `manifest`.
        output: folder for the results.

    Returns:
        The exit status: 0 if every labelled pattern was used, 3 if some, 1 if none.

    Raises:
        UserError: the manifest cannot be read, names no labelled pattern, or the output cannot be
            written.
    """
    troubles: list[str] = []
    entries = read_manifest(manifest, troubles)
    labelled = [
        entry for entry in entries if entry.kind == "labelled" and _label(model, entry) >= 0
    ]
    if not labelled:
        raise UserError(
            f"{manifest}: no pattern has kind `labelled` and a crystal_system that the"
            f" model knows ({', '.join(model.class_names)})"
            + (f"; first trouble: {troubles[0]}" if troubles else "")
        )
    left_out = Counter(entry.kind for entry in entries)
    left_out["labelled"] -= len(labelled)
    used = {entry.line for entry in labelled}
    not_used = [_why_not(entry) for entry in entries if entry.line not in used]
    placed = place(labelled, model.grid)
    placed = placed._replace(failures=[*troubles, *placed.failures])
    for failure in placed.failures:
        logging.warning("failed: %s", failure)
    for reason in not_used:
        logging.info("left out: %s", reason)
    ledger: dict[str, Any] = {
        "model": model.describe(),
        "manifest": str(manifest),
        "left_out": {kind: count for kind, count in left_out.items() if count},
        "lines_left_out": not_used,
        "unreadable": placed.failures,
    }
    if not placed.entries:
        atomic_write_json(output / "benchmark.json", ledger)
        return exit_status(0, len(placed.failures))
    assessment = model.assess(placed.pattern, placed.mask)
    answers = answers_of(model, placed.entries, assessment)
    compared, not_compared = compare(placed, assessment.refined, model.grid)
    for trouble in not_compared:
        logging.warning("not compared with its crystal: %s", trouble)
    results = ledger | {
        "not_compared": not_compared,
        **score(answers, compared, model.class_names),
    }
    atomic_write_json(output / "benchmark.json", results)
    atomic_write_text(output / "patterns.csv", table(model, placed.entries, assessment))
    write_page(output / "benchmark.html", results, compared, model.grid)
    overall = results["overall"]
    logging.info(
        "%d patterns: top-1 %.1f %% raw, %.1f %% refined; top-2 %.1f %%, %.1f %%; written to %s",
        results["patterns"],
        *(100 * overall[kind][top]["value"] for top in ("top1", "top2") for kind in _KINDS),
        output,
    )
    return exit_status(len(placed.entries), len(placed.failures))


_KINDS = ("raw", "refined")


def _why_not(entry: Entry) -> str:
    known = "no class of the model" if entry.kind == "labelled" else f"kind {entry.kind}"
    return f"{entry.line}: {entry.sample}: {known}"


def place(entries: Sequence[Entry], grid: Grid) -> Placed:
    """Reads the patterns that entries name and puts them on a grid."""
    used, scans, failures = [], [], []
    for entry in entries:
        try:
            scans.append(on_grid(read_entry(entry), grid))
        except Exception as error:  # whatever it is, it is this line's trouble alone
            failures.append(f"{entry.line}: {in_a_line(entry.file, error)}")
            continue
        used.append(entry)
    return Placed(used, *as_arrays(scans, grid.length), failures)


def answers_of(model: Model, entries: Sequence[Entry], assessment: Assessment) -> Answers:
    """Returns what a model answered, in the form that is scored."""
    calibrated = {"raw": assessment.raw_probabilities, "refined": assessment.probabilities}
    temperature = {
        "raw": model.calibration.raw_temperature,
        "refined": model.calibration.temperature,
    }
    return Answers(
        labels=np.array([_label(model, entry) for entry in entries]),
        groups=np.array([entry.group for entry in entries]),
        sources=np.array([entry.source or "no source" for entry in entries]),
        probabilities=calibrated,
        uncalibrated={
            kind: temper(values, 1.0 / temperature[kind]) for kind, values in calibrated.items()
        },
        verdict=assessment.verdict,
    )


def compare(placed: Placed, refined: np.ndarray, grid: Grid) -> tuple[Compared | None, list[str]]:
    """Returns the patterns whose crystal is known beside its simulated pattern, and troubles.

    Both are scaled to a maximum of 1 over the measured range.
    """
    rows, truths, troubles = [], [], []
    for row, entry in enumerate(placed.entries):
        if len(entry.cifs) != 1:
            continue
        try:
            truth = truth_pattern(read_cif(entry.cifs[0]), Diffraction(grid))
        except Exception as error:
            troubles.append(in_a_line(entry.cifs[0], error))
            continue
        rows.append(row)
        truths.append(normalize_max(truth * placed.mask[row]))
    if not rows:
        return None, troubles
    raw = placed.pattern[rows, :, 0]
    scaled = np.stack([normalize_max(pattern) for pattern in refined[rows, :, 0]])
    return Compared(np.array(rows), raw, scaled, np.stack(truths), placed.mask[rows]), troubles


def table(model: Model, entries: Sequence[Entry], assessment: Assessment) -> str:
    """Returns one row of CSV for each pattern: what it is and what the model says."""
    text = io.StringIO()
    writer = csv.writer(text)
    names = model.class_names
    writer.writerow(
        ["sample", "source", "group", "crystal_system", "raw_system", "refined_system",
         "confidence", "verdict", "reason", *(f"p_{name}" for name in names)]
    )  # fmt: skip
    for row, entry in enumerate(entries):
        raw, refined = assessment.raw_probabilities[row], assessment.probabilities[row]
        writer.writerow(
            [entry.sample, entry.source, entry.group, names[_label(model, entry)],
             names[raw.argmax()], names[refined.argmax()], f"{assessment.confidence[row]:.4f}",
             assessment.verdict[row], assessment.reason[row], *(f"{p:.4f}" for p in refined)]
        )  # fmt: skip
    return text.getvalue()


def _label(model: Model, entry: Entry) -> int:
    """The model's class of an entry's crystal system, -1 if it has none."""
    name = "" if entry.system is None else CRYSTAL_SYSTEMS[entry.system]
    return model.class_names.index(name) if name in model.class_names else -1
