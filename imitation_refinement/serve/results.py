"""What the command line would write for the files of a session: the command, and a zip of it.

Belongs here: the words of the command. What is written is `refine_files`', the same code that
--mode=refine runs, with the same arguments.
"""

import csv
import io
import shlex
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from imitation_refinement.commands.inputs import MANIFEST
from imitation_refinement.commands.refine_scans import refine_files
from imitation_refinement.model.model import Model
from imitation_refinement.phases.compositions import parse_elements
from imitation_refinement.phases.identify import Phases
from imitation_refinement.serve.store import File

OUTPUT = "refined"
MANIFEST_NAME = "manifest.csv"
_NAMED = 12  # files that a command names one by one


def is_plain(files: Sequence[File]) -> bool:
    """Returns whether flags say all: no manifest is needed."""
    settings = {(file.one.wavelength, file.elements) for file in files}
    return len(settings) <= 1 and len(files) <= _NAMED


def command_of(files: Sequence[File], options: Sequence[str]) -> str:
    """Returns the command that gives the same results, run where the files lie.

    Args:
        files: of the session.
        options: --model and --library, as they must be given.
    """
    words = ["python", "main.py", "--mode=refine"]
    if is_plain(files):
        words += [f"--input={file.one.path}" for file in files]
        wavelength, elements = files[0].one.wavelength, files[0].elements
        words += [f"--wavelength={wavelength}"] if wavelength else []
        words += [f"--elements={elements}"] if elements else []
    else:
        words.append(f"--input={MANIFEST_NAME}")
    return shlex.join([*words, *options, f"--output={OUTPUT}"])


def manifest_of(files: Sequence[File]) -> str:
    """Returns a manifest of the files, see `inputs.MANIFEST`."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(MANIFEST)
    for file in files:
        table.writerow([str(file.one.path), file.one.wavelength or "", file.elements])
    return text.getvalue()


def write_results(
    model: Model,
    phases: Phases | None,
    files: Sequence[File],
    options: Sequence[str],
    folder: Path,
) -> Path:
    """Refines all files, writes what the command would, and packs it; returns the zip.

    Args:
        model: what refines and classifies.
        phases: what scans are compared with.
        files: of the session, at least one.
        options: see `command_of`.
        folder: where the zip goes; everything else is removed.

    Raises:
        UserError: it cannot be written.
    """
    plain, first = is_plain(files), files[0]
    given = parse_elements(first.elements) if plain and first.elements else None
    inputs = [file.one._replace(elements=given) if plain else file.one for file in files]
    packed = folder / f"{OUTPUT}.zip"
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        output = Path(temporary, OUTPUT)
        refine_files(
            model, inputs, [], output,
            first.one.wavelength if plain else None, phases=phases, elements=given,
            said=command_of(files, options),
        )  # fmt: skip
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(output.iterdir()):
                archive.write(path, f"{OUTPUT}/{path.name}")
            if not plain:
                archive.writestr(MANIFEST_NAME, manifest_of(files))
    return packed
