"""What a finished stage left: finding it in the work directory, and keeping it there.

Belongs here: the one rule for when a stage counts as finished. What it makes is its own business.
"""

from collections.abc import Callable, Mapping
from typing import Any

from imitation_refinement.runtime.checkpoint import Checkpoints
from imitation_refinement.stages.run import Run

Tree = Any
KEPT = "trained"  # folder in that of the stage


def finished(
    run: Run,
    name: str,
    steps: int,
    like: Callable[[], Mapping[str, Tree]],
    folder: str = KEPT,
) -> dict[str, Tree] | None:
    """Loads what a finished stage left, or returns None if it has to be done.

    A damaged checkpoint that was deleted, as its message advises, means not finished.

    Args:
        run: the run.
        name: of the stage; also its folder.
        steps: of its training.
        like: gives trees of the shapes, dtypes and shardings to load, by name.
        folder: where in the stage's folder it lies; "" for the checkpoints of the training itself.

    Raises:
        UserError: damaged, or not the arrays that are asked for.
    """
    if not run.workdir.stage_done(name):
        return None
    with Checkpoints(run.workdir.path / name / folder) as checkpoints:
        if checkpoints.latest_step() != steps:
            return None
        return dict(checkpoints.restore(None, like())[0])


def keep(
    run: Run,
    name: str,
    steps: int,
    items: Mapping[str, Tree],
    summary: Mapping[str, Any] | None = None,
) -> None:
    """Keeps trees for `finished` to find and marks the stage as done; `summary`: see `mark_done`.

    Raises:
        UserError: they cannot be written.
    """
    with Checkpoints(run.workdir.path / name / KEPT) as checkpoints:
        checkpoints.save(steps, items, {})
    run.workdir.mark_done(name, summary)
