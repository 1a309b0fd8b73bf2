"""Measured scans through a model, batch by batch: files in; patterns, tables and a page out.

Belongs here: which files an input names, the order of the work, progress, and going on after a bad
file. Reading is `formats`'s, the model's answer `model.Model.assess`'s, writing `scan_outputs`' and
`batch_page`'s. Never more than one batch of patterns is held.
"""

import contextlib
import glob
import itertools
import os
import shlex
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from absl import logging

from imitation_refinement.commands.batch_page import BatchPage
from imitation_refinement.commands.cif_match import CifMatcher, Match
from imitation_refinement.commands.peak_table import peak_table
from imitation_refinement.commands.scan_figure import ScanFigure
from imitation_refinement.commands.scan_outputs import ENDINGS, BatchTables, write_patterns
from imitation_refinement.commands.scan_results import Failed, Names, Refined
from imitation_refinement.errors import UserError
from imitation_refinement.model.model import Model
from imitation_refinement.model.placed import as_arrays
from imitation_refinement.runtime.files import writing
from imitation_refinement.xrd.formats import SUFFIXES, read_patterns
from imitation_refinement.xrd.scans import PlacedScan, Scan, on_grid, parse_wavelength

BATCH = 256  # patterns that go through the model together
PICTURES = 200  # patterns that get a PNG; drawing one takes longer than all the rest
ALL_WORKED, NONE_WORKED, SOME_FAILED = 0, 1, 3  # exit status
_INTERRUPTED = 130  # exit status after Ctrl-C, as shells have it
_BETWEEN_REPORTS = 10.0  # seconds
_FULL = 0.99  # share of the grid from which on nothing is said of what is missing

Placed = tuple[Path, Scan, PlacedScan]


def refine_scans(
    model: Model,
    inputs: Sequence[str],
    output: Path,
    wavelength: str | float | None,
    cif: Path | None = None,
) -> int:
    """Refines and classifies measured patterns and writes what was found.

    For each pattern the files of `scan_outputs.ENDINGS`, the picture for the first PICTURES; for
    all, `summary.csv` and `results.json` with one record of each, failed ones too, and
    `report.html`. An input that cannot be used is named in the log and in these, and the others go
    on.

    Args:
        model: what refines and classifies.
        inputs: files, folders (all files in them that look like patterns) and glob patterns.
        output: folder for the results; created.
        wavelength: for files that do not say theirs; see `scans.parse_wavelength`.
        cif: a CIF file or a folder of them to compare with; see `cif_match.CifMatcher`.

    Returns:
        Exit status: 0 if all inputs could be used, 3 if some could, 1 if none could.

    Raises:
        UserError: the wavelength or `cif` is wrong, or the output cannot be written.
    """
    if wavelength is not None:
        parse_wavelength(wavelength)
    matcher = CifMatcher(model.grid, cif)
    files = find_files(inputs)
    names, done, started = Names(), Counter[str](), _Progress(len(files))
    header = {
        "model": model.describe(),
        "classes": list(model.class_names),
        "command": shlex.join(["python", *sys.argv]),
    }
    with writing(output):
        output.mkdir(parents=True, exist_ok=True)
    interrupted, draw = False, ScanFigure()
    page = BatchPage(model.grid, model.class_names, header)
    with BatchTables(output, model.class_names, header) as tables:
        stream = _placed(files, model, wavelength, started)
        try:
            for batch in _chunks(stream, BATCH):
                for result in _assessed(model, batch, matcher, names):
                    written: list[str] = []
                    if isinstance(result, Refined):
                        pen = draw if done.total() < PICTURES else None
                        written = write_patterns(output, result, model.grid, pen)
                    tables.add(result, written)
                    page.add(result)
                    done[result.verdict if isinstance(result, Refined) else "failed"] += 1
        except KeyboardInterrupt:
            interrupted = True
    page.write(output / "report.html")
    counts = ", ".join(f"{count} {verdict}" for verdict, count in done.most_common())
    logging.info("%s; look at %s", counts or "nothing was done", output / "report.html")
    if interrupted:
        logging.warning("stopped after %d patterns; what was finished is written", done.total())
        return _INTERRUPTED
    return exit_status(done.total() - done["failed"], done["failed"])


def exit_status(worked: int, failed: int) -> int:
    """Returns 0 if all inputs worked, 3 if some did and 1 if none did."""
    if not worked:
        return NONE_WORKED
    return SOME_FAILED if failed else ALL_WORKED


def find_files(inputs: Sequence[str]) -> list[Path]:
    """Returns the files that paths, folders and glob patterns name, each once, in order.

    What names nothing is returned as it stands, for its own line of error. Of a folder, and of a
    glob pattern, the files that this program writes are left out.
    """
    found: dict[Path, None] = {}
    for name in inputs:
        # os.path answers where Path.exists raises: no permission, a name that is too long.
        if os.path.isdir(name):
            with contextlib.suppress(OSError):
                files = [file for file in sorted(Path(name).iterdir()) if _is_pattern(file)]
                found |= dict.fromkeys(files or [Path(name)])
                continue
        matches = []
        if glob.has_magic(name) and not os.path.lexists(name):
            matches = [Path(match) for match in sorted(glob.glob(name, recursive=True))]
            matches = [file for file in matches if _not_ours(file) and not file.is_dir()]
        found |= dict.fromkeys(matches or [Path(name)])
    return list(found)


def _is_pattern(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file() and _not_ours(path)


def _not_ours(path: Path) -> bool:
    return not path.name.endswith(ENDINGS) and path.name != "summary.csv"


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


def _placed(
    files: Sequence[Path], model: Model, wavelength: str | float | None, progress: _Progress
) -> Iterator[Placed | tuple[Path, str, UserError]]:
    """Reads files one by one and places their patterns on the grid; errors take their place."""
    for number, path in enumerate(files, start=1):
        try:
            if path.is_dir():
                raise UserError(f"{path}: no file in this folder looks like a pattern")
            scans = read_patterns(path, wavelength)
        except UserError as error:
            yield path, path.stem, error
            continue
        for scan in scans:
            try:
                yield path, scan, on_grid(scan, model.grid)
            except UserError as error:
                yield path, scan.name, error
        progress(number)


def _chunks(items: Iterator, size: int) -> Iterator[list]:
    while chunk := list(itertools.islice(items, size)):
        yield chunk


def _assessed(
    model: Model, batch: list, matcher: CifMatcher, names: Names
) -> Iterator[Refined | Failed]:
    """Puts a batch through the model; yields one record for each item, in order."""
    good: list[Placed] = [item for item in batch if not isinstance(item[2], UserError)]
    if good:
        raw, mask = as_arrays([placed for _, _, placed in good], model.grid.length)
        answer = model.assess(raw, mask)
    index = 0
    for path, scan, placed in batch:
        if isinstance(placed, UserError):
            logging.warning("left out: %s", placed)
            yield Failed(names(scan), path, str(placed))
            continue
        refined = answer.refined[index, :, 0]
        if placed.signal:  # a refiner may make something out of nothing
            refined = np.zeros_like(refined)
        matches: tuple[Match, ...] = ()
        trouble: tuple[str, ...] = ()
        if np.any(refined[placed.mask] > 0):
            matches, trouble = matcher(path, refined, placed.mask, scan.wavelength)
        yield Refined(
            name=names(scan.name),
            path=path,
            scan=scan,
            placed=placed,
            class_names=model.class_names,
            refined=refined,
            raw_probabilities=answer.raw_probabilities[index],
            probabilities=answer.probabilities[index],
            distances=answer.distances[index],
            confidence=float(answer.confidence[index]),
            verdict=str(answer.verdict[index]),
            reason=placed.signal or str(answer.reason[index]),
            change=float(answer.change[index]),
            peaks=peak_table(refined, raw[index, :, 0], placed.mask, model.grid, scan.wavelength),
            matches=matches,
            notes=(*scan.notes, *_coverage(placed.mask), *trouble),
        )
        index += 1


def _coverage(mask: np.ndarray) -> tuple[str, ...]:
    share = float(np.mean(mask))
    if share >= _FULL:
        return ()
    return (f"{share:.0%} of the model's range was measured; nothing is said of the rest",)
