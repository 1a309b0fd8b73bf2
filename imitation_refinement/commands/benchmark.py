"""A model on labelled measured patterns: a manifest in; benchmark.json, a table and a page out.

Belongs here: the way from files to arrays and back. What is a pattern's own, up to its distances
from its crystal, is found out chunk by chunk; all are scored together. What is measured is in
`benchmark_scores`, how it looks in `benchmark_page`; the columns of a manifest are in `manifest`,
shards in `benchmark_shards`.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import logging

from imitation_refinement.commands.benchmark_page import write_page
from imitation_refinement.commands.benchmark_scores import (
    Answers,
    Compared,
    Quality,
    quality_of,
    score,
)
from imitation_refinement.commands.ledger import exit_status, in_a_line
from imitation_refinement.errors import UserError
from imitation_refinement.evaluation.calibration import temper
from imitation_refinement.evaluation.peaks import PeakCounts
from imitation_refinement.model.model import Model
from imitation_refinement.model.placed import as_arrays
from imitation_refinement.runtime.files import atomic_write_json, atomic_write_text
from imitation_refinement.xrd.crystals import CRYSTAL_SYSTEMS
from imitation_refinement.xrd.grid import Grid
from imitation_refinement.xrd.library import Diffraction, truth_pattern
from imitation_refinement.xrd.manifest import Entry, read_entry, read_manifest
from imitation_refinement.xrd.profiles import normalize_max
from imitation_refinement.xrd.scans import on_grid
from imitation_refinement.xrd.structures.collection import read_cif

CHUNK = 256  # patterns that are read, refined and compared together
_KINDS = ("raw", "refined")


class Chunk(NamedTuple):
    """Some labelled lines of a manifest.

    Attributes:
        number: among all, from 0.
        entries: the lines.
    """

    number: int
    entries: tuple[Entry, ...]


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
    about, every = labelled(model, manifest)
    return write_results(about, [answered(model, chunk.entries) for chunk in every], output)


def labelled(model: Model, manifest: Path) -> tuple[dict[str, Any], list[Chunk]]:
    """Reads a manifest; the patterns that it names are not opened.

    Returns:
        What is known of the whole benchmark, as JSON takes it, and its labelled lines.

    Raises:
        UserError: it cannot be read, or names no labelled pattern.
    """
    troubles: list[str] = []
    entries = read_manifest(manifest, troubles)
    used = [entry for entry in entries if entry.kind == "labelled" and _label(model, entry) >= 0]
    if not used:
        raise UserError(
            f"{manifest}: no pattern has kind `labelled` and a crystal_system that the"
            f" model knows ({', '.join(model.class_names)})"
            + (f"; first trouble: {troubles[0]}" if troubles else "")
        )
    left_out = Counter(entry.kind for entry in entries)
    left_out["labelled"] -= len(used)
    lines = {entry.line for entry in used}
    about = {
        "model": model.describe(),
        "class_names": list(model.class_names),
        "grid": model.grid._asdict(),
        "manifest": str(manifest),
        "left_out": {kind: count for kind, count in left_out.items() if count},
        "lines_left_out": [_why_not(entry) for entry in entries if entry.line not in lines],
        "troubles": troubles,
    }
    return about, list(_chunks(used))


def _chunks(entries: Sequence[Entry]) -> Iterator[Chunk]:
    for number, first in enumerate(range(0, len(entries), CHUNK)):
        yield Chunk(number, tuple(entries[first : first + CHUNK]))


def _why_not(entry: Entry) -> str:
    known = "no class of the model" if entry.kind == "labelled" else f"kind {entry.kind}"
    return f"{entry.line}: {entry.sample}: {known}"


# --- A chunk -------------------------------------------------------------------------------------


def answered(model: Model, entries: Sequence[Entry]) -> dict[str, np.ndarray]:
    """Returns all that is found out about some patterns, each by itself.

    Of all n that could be read: the columns of `patterns.csv`, the model's probabilities with and
    without temperature scaling, and whether it is `compared`. Of the m that are: `distances`,
    `peaks` (see `Quality`), and for pictures `curves` (raw, refined, truth, float32 `[m, 3, L]`)
    and `measured`. Besides, sentences on what failed.
    """
    placed = place(entries, model.grid)
    found: dict[str, np.ndarray] = {"failures": np.array(placed.failures, np.str_)}
    if not placed.entries:
        return found
    answer = model.assess(placed.pattern, placed.mask)
    calibrated = {"raw": answer.raw_probabilities, "refined": answer.probabilities}
    scaled_by = {
        "raw": model.calibration.raw_temperature,
        "refined": model.calibration.temperature,
    }
    compared, troubles = compare(placed, answer.refined, model.grid)
    rows = np.arange(len(placed.entries))
    found |= {
        "sample": np.array([entry.sample for entry in placed.entries]),
        "source": np.array([entry.source for entry in placed.entries]),
        "group": np.array([entry.group for entry in placed.entries]),
        "label": np.array([_label(model, entry) for entry in placed.entries]),
        "confidence": answer.confidence,
        "verdict": np.asarray(answer.verdict, np.str_),
        "reason": np.asarray(answer.reason, np.str_),
        "compared": np.isin(rows, () if compared is None else compared.rows),
        "not_compared": np.array(troubles, np.str_),
    }
    for kind, values in calibrated.items():
        found[kind] = values
        found[f"{kind}_uncalibrated"] = temper(values, 1.0 / scaled_by[kind])
    if compared is not None:
        quality = quality_of(compared)
        curves = np.stack([compared.raw, compared.refined, compared.truth], axis=1)
        found |= {
            "distances": quality.distances,
            "peaks": np.stack(quality.peaks, axis=1),
            "curves": curves.astype(np.float32),
            "measured": compared.mask,
        }
    return found


def joined(parts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Returns what chunks, in order, have found out together."""
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: np.concatenate([one[name] for one in parts if name in one]) for name in names}


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


def _label(model: Model, entry: Entry) -> int:
    """The model's class of an entry's crystal system, -1 if it has none."""
    name = "" if entry.system is None else CRYSTAL_SYSTEMS[entry.system]
    return model.class_names.index(name) if name in model.class_names else -1


# --- All of them ---------------------------------------------------------------------------------


def write_results(
    about: Mapping[str, Any], parts: Sequence[Mapping[str, np.ndarray]], output: Path
) -> int:
    """Scores what chunks have found out, and writes table, figures and page.

    Args:
        about: of `labelled`.
        parts: of all chunks or of several together, in order; see `answered`.
        output: folder for the results.

    Returns:
        The exit status; see `run_benchmark`.
    """
    found = joined(parts)
    failures = [*about["troubles"], *found["failures"].tolist()]
    for failure in failures:
        logging.warning("failed: %s", failure)
    for reason in about["lines_left_out"]:
        logging.info("left out: %s", reason)
    ledger = {name: about[name] for name in ("model", "manifest", "left_out", "lines_left_out")}
    ledger["unreadable"] = failures
    if "label" not in found:
        atomic_write_json(output / "benchmark.json", ledger)
        return exit_status(0, len(failures))
    not_compared = found["not_compared"].tolist()
    for trouble in not_compared:
        logging.warning("not compared with its crystal: %s", trouble)
    quality, compared = None, None
    if "curves" in found:
        rows = np.flatnonzero(found["compared"])
        quality = Quality(rows, found["distances"], PeakCounts(*found["peaks"].T))
        raw, refined, truth = found["curves"].transpose(1, 0, 2)
        compared = Compared(rows, raw, refined, truth, found["measured"])
    names = about["class_names"]
    results = ledger | {
        "not_compared": not_compared,
        **score(_answers(found), quality, names),
    }
    atomic_write_json(output / "benchmark.json", results)
    atomic_write_text(output / "patterns.csv", _table(found, names))
    write_page(output / "benchmark.html", results, compared, Grid(**about["grid"]))
    overall = results["overall"]
    logging.info(
        "%d patterns: top-1 %.1f %% raw, %.1f %% refined; top-2 %.1f %%, %.1f %%; written to %s",
        results["patterns"],
        *(100 * overall[kind][top]["value"] for top in ("top1", "top2") for kind in _KINDS),
        output,
    )
    return exit_status(len(found["label"]), len(failures))


def _answers(found: Mapping[str, np.ndarray]) -> Answers:
    return Answers(
        labels=found["label"],
        groups=found["group"],
        sources=np.where(found["source"] == "", "no source", found["source"]),
        probabilities={kind: found[kind] for kind in _KINDS},
        uncalibrated={kind: found[f"{kind}_uncalibrated"] for kind in _KINDS},
        verdict=found["verdict"],
    )


def _table(found: Mapping[str, np.ndarray], names: Sequence[str]) -> str:
    """One row of CSV for each pattern: what it is and what the model says."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(
        ["sample", "source", "group", "crystal_system", "raw_system", "refined_system",
         "confidence", "verdict", "reason", *(f"p_{name}" for name in names)]
    )  # fmt: skip
    for row, label in enumerate(found["label"]):
        raw, refined = found["raw"][row], found["refined"][row]
        writer.writerow(
            [found["sample"][row], found["source"][row], found["group"][row], names[label],
             names[raw.argmax()], names[refined.argmax()], f"{found['confidence'][row]:.4f}",
             found["verdict"][row], found["reason"][row], *(f"{p:.4f}" for p in refined)]
        )  # fmt: skip
    return text.getvalue()
