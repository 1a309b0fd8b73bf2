"""Measured scans through a model, batch by batch: files in; patterns, tables and a page out.

Belongs here: the order of the work, progress, and going on after a bad file. Which files an input
names is in `inputs`, reading them in `formats`; the model's answer is `model.Model.assess`'s, the
phases are `phases.identify`'s, writing is `scan_outputs`' and `batch_page`'s. Never more than one
batch of patterns is held.
"""

import itertools
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import logging

from imitation_refinement.commands.batch_page import BatchPage
from imitation_refinement.commands.cif_match import CifMatcher, Match
from imitation_refinement.commands.inputs import Input, list_inputs, read_each
from imitation_refinement.commands.ledger import LeftOut, Notes, exit_status, in_a_line
from imitation_refinement.commands.peak_table import peak_table
from imitation_refinement.commands.scan_figure import ScanFigure
from imitation_refinement.commands.scan_outputs import BatchTables, write_candidates, write_patterns
from imitation_refinement.commands.scan_results import Failed, Names, Refined
from imitation_refinement.errors import UserError
from imitation_refinement.model.model import Model
from imitation_refinement.model.placed import as_arrays
from imitation_refinement.phases.identify import Elements, Identified, Phases
from imitation_refinement.phases.prototypes import GRID
from imitation_refinement.runtime.files import writing
from imitation_refinement.runtime.workdir import command
from imitation_refinement.xrd.grid import Grid
from imitation_refinement.xrd.scans import PlacedScan, Scan, on_grid
from imitation_refinement.xrd.wavelengths import parse_wavelength

BATCH = 256  # patterns that go through the model together
PICTURES = 200  # patterns that get a PNG and CIF files; drawing takes longer than all the rest
_INTERRUPTED = 130  # exit status after Ctrl-C, as shells have it
_BETWEEN_REPORTS = 10.0  # seconds
_NOTES = 20  # kinds of notes that are told in the log
_FULL = 0.99  # share of the grid from which on nothing is said of what is missing


class _Read(NamedTuple):
    """One pattern of a file, or why there is none.

    Attributes:
        input: the file.
        name: of the pattern.
        scan, placed: as read, and on the model's grid; None if it cannot be used.
        error: why not.
    """

    input: Input
    name: str
    scan: Scan | None = None
    placed: PlacedScan | None = None
    error: str = ""


def refine_scans(
    model: Model,
    inputs: Sequence[str],
    output: Path,
    wavelength: str | float | None,
    cif: Path | None = None,
    *,
    phases: Phases | None = None,
    elements: Elements | None = None,
) -> int:
    """Refines and classifies measured patterns, names their phases, and writes what was found.

    For each pattern the files of `scan_outputs.ENDINGS`, picture and CIF files of the likeliest
    phases for the first PICTURES; for all, `summary.csv`, `candidates.csv` and `results.json` with
    one record of each, failed ones too, and `report.html`. An input that cannot be used is named
    in the log and in these, and the others go on.

    Args:
        model: what refines and classifies.
        inputs: files, folders, glob patterns and manifests; see `inputs.list_inputs`.
        output: folder for the results; created.
        wavelength: for files that do not say theirs; see `wavelengths.parse_wavelength`.
        cif: a CIF file or a folder of them to compare with; see `cif_match.CifMatcher`.
        phases: known structures. With them verdict, crystal system and confidence are theirs;
            without, the model's.
        elements: what is known of the composition of all samples.

    Returns:
        Exit status: 0 if all inputs could be used, 3 if some could, 1 if none could.

    Raises:
        UserError: the wavelength, a manifest or `cif` is wrong, or the output cannot be written.
    """
    if wavelength is not None:
        parse_wavelength(wavelength)
    matcher = CifMatcher(model.grid, cif)
    files, left = list_inputs(inputs, wavelength, elements)
    names, done, progress = Names(), Counter[str](), _Progress(len(files))
    header = {
        "model": model.describe(),
        "library": phases.describe() if phases else None,
        "classes": list(model.class_names),
        "command": command(),
    }
    with writing(output):
        output.mkdir(parents=True, exist_ok=True)
    interrupted, draw, notes = False, ScanFigure(), Notes()
    unused = _unused(wavelength, cif, elements)
    page = BatchPage(model.grid, model.class_names, header)
    with BatchTables(output, model.class_names, header) as tables:
        try:
            for batch in _chunks(_read(files, model, left, names, progress), BATCH):
                for one, result in zip(batch, _each(model, batch, matcher, phases), strict=True):
                    few = done.total() < PICTURES
                    try:
                        written = _write(output, result, model.grid, draw if few else None, phases)
                        page.add(result, phases, written)
                    except UserError:  # the disk is full, say: that is everyone's trouble
                        raise
                    except Exception as error:
                        result, written = _failed(one, error), []
                        page.add(result)
                    tables.add(result, written)
                    if isinstance(result, Refined):
                        notes.add(result.notes)
                        unused -= _used(one, result, wavelength, elements)
                    else:
                        logging.warning("failed: %s", result.error)
                    done[result.verdict if isinstance(result, Refined) else "failed"] += 1
        except KeyboardInterrupt:
            interrupted = True
        told = _no_effect(unused if done.total() > done["failed"] else set())
        tables.left_out = page.left_out = left
        tables.notes = page.notes = told
    for path, reason in left:
        logging.info("left out: %s: %s", path, reason)
    kinds = notes.told()
    for note in kinds[:_NOTES]:
        logging.info("note: %s", note)
    if len(kinds) > _NOTES:
        logging.info("note: %d more kinds of notes in summary.csv", len(kinds) - _NOTES)
    for note in told:
        logging.warning("%s", note)
    page.write(output / "report.html")
    counts = ", ".join(f"{count} {verdict}" for verdict, count in done.most_common())
    logging.info("%s; look at %s", counts or "nothing was done", output / "report.html")
    if interrupted:
        logging.warning("stopped after %d patterns; what was finished is written", done.total())
        return _INTERRUPTED
    return exit_status(done.total() - done["failed"], done["failed"])


def _write(
    output: Path,
    result: Refined | Failed,
    grid: Grid,
    draw: ScanFigure | None,
    phases: Phases | None,
) -> list[str]:
    """Writes the files of one record, picture and CIF files only with `draw`; their names."""
    if isinstance(result, Failed):
        return []
    written = write_patterns(output, result, grid, draw)
    if draw and phases:
        written += write_candidates(output, result, phases.library)
    return written


def _unused(
    wavelength: str | float | None, cif: Path | None, elements: Elements | None
) -> set[str]:
    """The options that were given and have had no effect yet."""
    given = {"--wavelength": wavelength, "--cif": cif, "--elements": elements}
    return {name for name, value in given.items() if value is not None}


def _used(
    one: _Read, result: Refined, wavelength: str | float | None, elements: Elements | None
) -> set[str]:
    """The options that had an effect on one pattern."""
    used = set()
    if result.scan.wavelength_source == "option" and one.input.wavelength == wavelength:
        used.add("--wavelength")
    if result.matches:
        used.add("--cif")
    if result.identified and one.input.elements is elements:
        used.add("--elements")
    return used


def _no_effect(unused: set[str]) -> list[str]:
    why = {
        "--wavelength": "every file, or the manifest, states its own",
        "--cif": "no pattern could be compared with it",
        "--elements": "no phase was looked for, or the manifest states others for every file",
    }
    return [f"{name} had no effect: {why[name]}" for name in sorted(unused)]


class _Progress:
    """Says now and then how many files are done and how long the rest will take."""

    def __init__(self, total: int):
        self._total, self._started = total, time.monotonic()
        self._said = self._started

    def __call__(self, done: int) -> None:
        now = time.monotonic()
        if now - self._said >= _BETWEEN_REPORTS and done < self._total:
            self._said = now
            left = (now - self._started) / done * (self._total - done)
            logging.info("read %d of %d files, about %s left", done, self._total, duration(left))


def duration(seconds: float) -> str:
    """Returns a time in the unit that suits it: 40 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _read(
    files: Sequence[Input], model: Model, left: list[LeftOut], names: Names, progress: "_Progress"
) -> Iterator[_Read]:
    """Reads files one by one and places their patterns on the grid; errors take their place."""
    number, last = 0, None
    for one, record in read_each(files, left):
        if one is not last:
            number, last = number + 1, one
            progress(number)
        name = names(record.name)
        if record.scan is None:
            yield _Read(one, name, error=record.reason)
            continue
        try:
            yield _Read(one, name, record.scan, on_grid(record.scan, model.grid))
        except Exception as error:
            yield _Read(one, name, error=in_a_line(one.path, error))


def _chunks(items: Iterator, size: int) -> Iterator[list]:
    while chunk := list(itertools.islice(items, size)):
        yield chunk


def _failed(one: _Read, error: Exception) -> Failed:
    return Failed(one.name, one.input.path, in_a_line(one.input.path, error))


def _each(
    model: Model, batch: list[_Read], matcher: CifMatcher, phases: Phases | None
) -> list[Refined | Failed]:
    """Returns one record for each item, in order; trouble with one is its own alone."""
    try:
        return list(_assessed(model, batch, matcher, phases))
    except Exception as error:
        if len(batch) == 1:
            return [_failed(batch[0], error)]
        return [result for one in batch for result in _each(model, [one], matcher, phases)]


def _assessed(
    model: Model, batch: list[_Read], matcher: CifMatcher, phases: Phases | None
) -> Iterator[Refined | Failed]:
    """Puts a batch through the model; yields one record for each item, in order."""
    good = [(one.scan, one.placed) for one in batch if one.scan and one.placed]
    identified: list[Identified | None] = [None] * len(good)
    if good:
        raw, mask = as_arrays([placed for _, placed in good], model.grid.length)
        answer = model.assess(raw, mask)
        if phases:
            known = [one.input.elements for one in batch if one.scan]
            identified = list(phases.identify(_on_phase_grid(good, model), known))
    index = 0
    for one in batch:
        scan, placed = one.scan, one.placed
        if scan is None or placed is None:
            yield Failed(one.name, one.input.path, one.error)
            continue
        refined = answer.refined[index, :, 0]
        if placed.signal:  # a refiner may make something out of nothing
            refined = np.zeros_like(refined)
        matches: tuple[Match, ...] = ()
        trouble: tuple[str, ...] = ()
        if np.any(refined[placed.mask] > 0):
            matches, trouble = matcher(one.input.path, refined, placed.mask, scan.wavelength)
        own = identified[index]
        told = own.answer if own else None
        yield Refined(
            name=one.name,
            path=one.input.path,
            scan=scan,
            placed=placed,
            class_names=model.class_names,
            refined=refined,
            raw_probabilities=answer.raw_probabilities[index],
            probabilities=answer.probabilities[index],
            distances=answer.distances[index],
            confidence=float(told.systems.max() if told else answer.confidence[index]),
            verdict=told.verdict if told else str(answer.verdict[index]),
            reason=placed.signal or (told.reason if told else str(answer.reason[index])),
            change=float(answer.change[index]),
            peaks=peak_table(refined, raw[index, :, 0], placed.mask, model.grid, scan.wavelength),
            matches=matches,
            notes=tuple(Notes((*scan.notes, *_coverage(placed.mask), *trouble)).told()),
            identified=own,
        )
        index += 1


def _on_phase_grid(good: list[tuple[Scan, PlacedScan]], model: Model) -> list[PlacedScan]:
    """The scans on the grid of the prototypes, which the shipped model shares."""
    if model.grid == GRID:
        return [placed for _, placed in good]
    return [on_grid(scan, GRID) for scan, _ in good]


def _coverage(mask: np.ndarray) -> tuple[str, ...]:
    share = float(np.mean(mask))
    if share >= _FULL:
        return ()
    return (f"{share:.0%} of the model's range was measured; nothing is said of the rest",)
