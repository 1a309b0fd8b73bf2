"""Finding the model to use: a file, a finished run, or the one that is shipped."""

import dataclasses
from importlib import resources
from pathlib import Path

from imitation_refinement.errors import UserError
from imitation_refinement.model.model import Model
from imitation_refinement.model.portable import MODEL_FILE, load_file, shipped_model


def load_model(path: str | Path | None = None) -> Model:
    """Loads a model and verifies it.

    Args:
        path: a file that `save_model` wrote; the work directory of a finished run; None for the
            model that is shipped with the package.

    Raises:
        UserError: there is none; the run is not finished; the file is damaged or does not fit this
            version of the program.
    """
    if path is None:
        with resources.as_file(shipped_model()) as shipped:
            if not shipped.exists():
                raise UserError(
                    f"{shipped.name}: this installation has no model; give --model=FILE.npz or "
                    "--workdir of a finished run"
                )
            return dataclasses.replace(load_file(shipped), shipped=True)
    path = Path(path).expanduser()
    if path.is_file() or path.suffix == ".npz":
        return load_file(path)
    if (path / MODEL_FILE).exists():
        return load_file(path / MODEL_FILE)
    from imitation_refinement.model.of_run import load_run_model  # brings the training code

    return load_run_model(path)
