"""Measured scans through a model, batch by batch: files in; patterns, tables and a page out.

Belongs here: the order of the work, progress, and what the log says at the end. What is found out
about each pattern is `assess_scans`'s, writing is `scan_outputs`' and `batch_page`'s. Never more
than one batch of patterns is held.
"""

from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from absl import logging

from imitation_refinement.commands.assess_scans import records
from imitation_refinement.commands.batch_page import BatchPage
from imitation_refinement.commands.cif_match import CifMatcher
from imitation_refinement.commands.inputs import Input, list_inputs
from imitation_refinement.commands.ledger import INTERRUPTED, LeftOut, Notes, exit_status, in_a_line
from imitation_refinement.commands.progress import Progress
from imitation_refinement.commands.read_ahead import read_placed
from imitation_refinement.commands.scan_figure import ScanFigure
from imitation_refinement.commands.scan_outputs import BatchTables, write_candidates, write_patterns
from imitation_refinement.commands.scan_results import Failed, Refined
from imitation_refinement.errors import UserError
from imitation_refinement.model.model import Model
from imitation_refinement.phases.compositions import Elements
from imitation_refinement.phases.identify import Phases
from imitation_refinement.runtime.files import writing
from imitation_refinement.runtime.workdir import command
from imitation_refinement.xrd.grid import Grid
from imitation_refinement.xrd.wavelengths import parse_wavelength

PICTURES = 200  # patterns that get a PNG and CIF files; drawing takes longer than all the rest
_NOTES = 20  # kinds of notes that are told in the log


def refine_scans(
    model: Model,
    inputs: Sequence[str],
    output: Path,
    wavelength: str | float | None,
    cif: Path | None = None,
    *,
    phases: Phases | None = None,
    elements: Elements | None = None,
    pictures: int = PICTURES,
) -> int:
    """Refines and classifies measured patterns, names their phases, and writes what was found.

    For each pattern the files of `scan_outputs.ENDINGS`, picture and CIF files of the likeliest
    phases for the first `pictures`; for all, `summary.csv`, `candidates.csv` and `results.json`
    with one record of each, failed ones too, and `report.html`. An input that cannot be used is
    named in the log and in these, and the others go on.

    Args:
        model: what refines and classifies.
        inputs: files, folders, glob patterns and manifests; see `inputs.list_inputs`.
        output: folder for the results; created.
        wavelength: for files that do not say theirs; see `wavelengths.parse_wavelength`.
        cif: a CIF file or a folder of them to compare with; see `cif_match.CifMatcher`.
        phases: known structures. With them verdict, crystal system and confidence are theirs;
            without, the model's.
        elements: what is known of the composition of all samples.
        pictures: how many patterns get a picture; 0 for no file of any pattern alone.

    Returns:
        Exit status: 0 if all inputs could be used, 3 if some could, 1 if none could.

    Raises:
        UserError: the wavelength, a manifest or `cif` is wrong, or the output cannot be written.
    """
    if wavelength is not None:
        parse_wavelength(wavelength)
    files, left = list_inputs(inputs, wavelength, elements)
    return refine_files(
        model, files, left, output, wavelength, cif, phases=phases, elements=elements,
        pictures=pictures, said=command(),
    )  # fmt: skip


def refine_files(
    model: Model,
    files: Sequence[Input],
    left: list[LeftOut],
    output: Path,
    wavelength: str | float | None = None,
    cif: Path | None = None,
    *,
    phases: Phases | None = None,
    elements: Elements | None = None,
    pictures: int = PICTURES,
    said: str,
) -> int:
    """Does `refine_scans` for files that are listed already.

    Args:
        model: see `refine_scans`, as those that are not named here.
        files: to read, or with their bytes.
        left: what was left out of them.
        output: folder.
        wavelength: that was given for all files, as `cif` and `elements`: to say if it had no use.
        cif: see there.
        phases: see there.
        elements: see `wavelength`.
        pictures: see `refine_scans`.
        said: the command that does this, for the results.
    """
    matcher = CifMatcher(model.grid, cif)
    done, progress = Counter[str](), Progress("files", len(files))
    header = {
        "model": model.describe(),
        "library": phases.describe() if phases else None,
        "classes": list(model.class_names),
        "command": said,
    }
    with writing(output):
        output.mkdir(parents=True, exist_ok=True)
    interrupted, draw, notes = False, ScanFigure(), Notes()
    unused = _unused(wavelength, cif, elements)
    page = BatchPage(model.grid, model.class_names, header)
    with (
        BatchTables(output, model.class_names, header) as tables,
        closing(read_placed(files, model.grid, ahead=True)) as readings,
    ):
        try:
            for one, result in records(readings, left, model, matcher, phases, progress):
                try:
                    written = []
                    if pictures:
                        drawn = draw if done.total() < pictures else None
                        written = _write(output, result, model.grid, drawn, phases)
                    page.add(result, phases, written)
                except UserError:  # the disk is full, say: that is everyone's trouble
                    raise
                except Exception as error:
                    written, result = [], Failed(result.name, one.path, in_a_line(one.path, error))
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
        return INTERRUPTED
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
    one: Input, result: Refined, wavelength: str | float | None, elements: Elements | None
) -> set[str]:
    """The options that had an effect on one pattern."""
    used = set()
    if result.scan.wavelength_source == "option" and one.wavelength == wavelength:
        used.add("--wavelength")
    if result.matches:
        used.add("--cif")
    if result.identified and one.elements is elements:
        used.add("--elements")
    return used


def _no_effect(unused: set[str]) -> list[str]:
    why = {
        "--wavelength": "every file, or the manifest, states its own",
        "--cif": "no pattern could be compared with it",
        "--elements": "no phase was looked for, or the manifest states others for every file",
    }
    return [f"{name} had no effect: {why[name]}" for name in sorted(unused)]
