"""The calibration of the phases on disk: one file of plain arrays, verified when it is read.

Belongs here: the names of the arrays and what the header says; bytes are `model_file`'s.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np

from imitation_refinement.errors import UserError
from imitation_refinement.model.model_file import read_model_file, write_model_file
from imitation_refinement.phases.candidates import Calibration
from imitation_refinement.phases.deviations import FIGURES as DEVIATIONS
from imitation_refinement.phases.evidence import FEATURES
from imitation_refinement.phases.posterior import Posterior
from imitation_refinement.phases.stacking import Trees

_VERSION = 2  # 1 held networks in the place of trees
_SECTIONS: dict[str, Any] = {
    "posterior": Posterior,
    "known": Posterior,
    "stack": Trees,
    "known_stack": Trees,
}
SHIPPED = Path(__file__).parents[1] / "pretrained" / "phases.npz"


def save_calibration(path: str | os.PathLike[str], calibration: Calibration, made: str) -> None:
    """Writes a calibration; `made` says how it was fitted, in a sentence.

    Raises:
        UserError: it cannot be written.
    """
    header = {
        "kind": "phases",
        "version": _VERSION,
        "features": list(FEATURES),
        "deviations": list(DEVIATIONS),
        "levels": np.asarray(calibration.levels).tolist(),
        "absent": calibration.absent,
        "made": made,
    }
    arrays = {
        f"{section}/{name}": np.asarray(array, np.float32) if kind is Posterior else array
        for section, kind in _SECTIONS.items()
        for name, array in getattr(calibration, section)._asdict().items()
    }
    write_model_file(path, header, arrays)


def load_calibration(path: str | os.PathLike[str] | None = None) -> Calibration:
    """Reads a calibration; the shipped one without a path.

    Raises:
        UserError: missing or damaged, or fitted to other figures than this version computes.
    """
    path = SHIPPED if path is None else path
    header, arrays = read_model_file(path)
    names = {f"{section}/{name}" for section, kind in _SECTIONS.items() for name in kind._fields}
    if header.get("kind") != "phases":
        raise UserError(f"{path}: holds no calibration of phases; fit it again")
    version = header.get("version", 1)
    if version != _VERSION:
        raise UserError(
            f"{path}: calibration of phases of version {version}, this program reads {_VERSION};"
            " use the version of the program that wrote it, or fit it again"
        )
    if set(arrays) != names:
        raise UserError(f"{path}: holds no calibration of phases; fit it again")
    if (header["features"], header["deviations"]) != (list(FEATURES), list(DEVIATIONS)):
        raise UserError(
            f"{path}: was fitted to other figures than this version computes; fit it again"
        )
    weights = {
        section: kind(**{name: arrays[f"{section}/{name}"] for name in kind._fields})
        for section, kind in _SECTIONS.items()
    }
    return Calibration(**weights, levels=np.array(header["levels"]), absent=header["absent"])
