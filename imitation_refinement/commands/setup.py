"""What a large batch is done with: in words that another process understands, and loaded.

Belongs here: model and libraries of phases by name, what names their content, and loading them once
for a process. Inputs are cut up elsewhere: `chunks`, `benchmark` and `unmix_shards`.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from imitation_refinement import __version__
from imitation_refinement.commands.cif_match import CifMatcher
from imitation_refinement.errors import UserError
from imitation_refinement.model.find import load_model
from imitation_refinement.model.model import Model
from imitation_refinement.model.portable import MODEL_FILE, shipped_model
from imitation_refinement.phases.compositions import Elements
from imitation_refinement.phases.identify import Phases, load_phases
from imitation_refinement.phases.library import shipped_library
from imitation_refinement.runtime import devices
from imitation_refinement.runtime.files import user_cache


class Setup(NamedTuple):
    """What all chunks of a job have in common, in words that another process understands.

    Attributes:
        folder: that paths are relative to.
        model: file or folder of the model; '' for the shipped one.
        libraries: of phases; none for the classes of the model.
        cif: see `refine_scans`; '' for none.
    """

    folder: str
    model: str = ""
    libraries: tuple[str, ...] = ()
    cif: str = ""


class Tools(NamedTuple):
    """What a setup names, loaded."""

    model: Model
    phases: Phases | None
    matcher: CifMatcher


@lru_cache(maxsize=4)
def setup_key(setup: Setup) -> str:
    """Names program, model, libraries and structures by their content, wherever they lie."""
    digest = hashlib.sha256(json.dumps([__version__, *map(bool, setup)]).encode())
    model = shipped_model() if not setup.model else _model_file(Path(setup.folder, setup.model))
    digest.update(model.read_bytes() if model.is_file() else b"")
    for name in filter(None, (*setup.libraries, setup.cif)):
        path = Path(setup.folder, name).expanduser()
        if name == "shipped":
            digest.update(shipped_library().read_bytes())
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                digest.update(file.name.encode(errors="surrogateescape"))
                digest.update(file.read_bytes())
    return digest.hexdigest()


def _model_file(path: Path) -> Path:
    return path / MODEL_FILE if path.is_dir() else path


def content_key(setup: Setup, items: Iterable[Any], *more: Any) -> str:
    """Names what a chunk is: its items, what is known of them, and what they are done with.

    Args:
        setup: with what.
        items: named tuples, such as `inputs.Input` and `manifest.Entry`.
        more: that the result depends on, as JSON takes it.
    """
    told = [[type(one).__name__, *map(_plain, one)] for one in items]
    text = json.dumps([setup_key(setup), told, *more], default=str)
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, Elements):
        return [None if one is None else sorted(one) for one in value]
    return value


@lru_cache(maxsize=1)
def load_tools(setup: Setup) -> Tools:
    """Loads what a setup names, once for this process.

    Raises:
        UserError: something is missing or damaged, or this machine has not the folder.
    """
    try:
        os.chdir(setup.folder)
    except OSError as error:
        raise UserError(
            f"{setup.folder}: cannot be entered on this machine ({error.strerror}); workers must"
            " see the files under the same path"
        ) from error
    devices.enable_compilation_cache()
    devices.keep_freed_memory()
    model = load_model(setup.model or None)
    libraries = list(setup.libraries)
    phases = load_phases(libraries, user_cache("phases")) if libraries else None
    return Tools(model, phases, CifMatcher(model.grid, Path(setup.cif) if setup.cif else None))
