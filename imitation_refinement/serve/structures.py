"""Structures of a visitor's own: a library of dropped CIF files, joined with the shipped one.

Belongs here: from the bytes of CIF files to `Phases`. Reading them is `phases.build`'s, in a
process of its own. The result is that of `--library=shipped --library=cifs`.
"""

import json
import re
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np

from imitation_refinement.errors import UserError
from imitation_refinement.phases.build import build_library
from imitation_refinement.phases.calibration_file import load_calibration
from imitation_refinement.phases.identify import Phases
from imitation_refinement.phases.library import Library, concatenate
from imitation_refinement.phases.prototypes import GRID, build_prototypes
from imitation_refinement.phases.refiner_file import load_refiner

FOLDER = "cifs"  # what the folder of own structures is called, and their source
MOST = 500  # files
_LONGEST = 60  # characters of a name


def read_structures(files: Mapping[str, bytes]) -> tuple[Library, list[tuple[str, str]]]:
    """Returns a library of CIF files, and (name, why) of those that are not in it.

    Args:
        files: bytes by name, see `file_name`.

    Raises:
        UserError: there is no usable structure in them.
    """
    with tempfile.TemporaryDirectory(prefix="imitation-refinement-") as folder:
        place = Path(folder, FOLDER)
        place.mkdir()
        for name, data in files.items():
            (place / name).write_bytes(data)
        try:
            built = build_library([place], Path(folder, "own.npz"))
        except UserError as error:
            raise UserError(
                str(error).replace(f"{place}: ", "").replace(str(place), FOLDER)
            ) from None
        lines = built.ledger.read_text(encoding="utf-8").splitlines()
        built.library.digest  # noqa: B018  # reads all members before the file goes
        left = [json.loads(line) for line in lines]
    return built.library, [(one["name"], one["why"]) for one in left]


def file_name(label: str) -> str:
    """Returns the name under which a CIF file may lie in a folder of ours."""
    stem = re.sub(r"[^\w+().-]+", "_", PurePosixPath(label).stem).strip("._")[:_LONGEST]
    return f"{stem or 'structure'}.cif"


def joined(phases: Phases | None, own: Library) -> Phases:
    """Returns the phases of a library and of own structures, which come last.

    Args:
        phases: of the library; None for own structures alone.
        own: at least one structure.
    """
    drawn = build_prototypes(own.q, own.amplitude, own.offsets, own.computed, GRID)
    if phases is None:
        return Phases(own, drawn, load_calibration(), load_refiner())
    library = concatenate([phases.library, own])
    coarse = np.concatenate([phases.prototypes.coarse, drawn.coarse])
    prototypes = build_prototypes(
        library.q, library.amplitude, library.offsets, library.computed, GRID, coarse=coarse
    )
    return replace(phases, library=library, prototypes=prototypes)
