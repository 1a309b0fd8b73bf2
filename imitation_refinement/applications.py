"""The applications of imitation refinement: the one list that the command line knows.

A new one is a class (`tasks.Task`), a table of its config fields (`stages.fields.TaskFields`) and a
line in `APPLICATIONS`.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from ml_collections import ConfigDict

from imitation_refinement.comparison.fields import TABLES
from imitation_refinement.comparison.jobs import run_tables
from imitation_refinement.config import MAY_DIFFER
from imitation_refinement.digits.fields import DIGITS, SWEEP
from imitation_refinement.digits.sweep import run_sweep
from imitation_refinement.digits.task import DigitsTask
from imitation_refinement.errors import UserError
from imitation_refinement.pipeline import model_stage, run_stages
from imitation_refinement.runtime.workdir import WorkDir
from imitation_refinement.stages import fields
from imitation_refinement.stages.run import Run
from imitation_refinement.tasks import Task
from imitation_refinement.xrd.fields import XRD
from imitation_refinement.xrd.task import XrdTask


class Application(NamedTuple):
    """What `config.task` names.

    Attributes:
        make_task: `(config, folder for generated data, worker processes) -> Task`.
        fields: what its config fields may be.
        run: `(run, mode)`, does what --mode names.
        grows: sections that may differ between runs in one work directory, since what they ask for
            is checked piece by piece.
    """

    make_task: Callable[..., Task]
    fields: fields.TaskFields
    run: Callable[[Run, str], None] = run_stages
    grows: tuple[str, ...] = ()


APPLICATIONS: dict[str, Application] = {
    "xrd": Application(XrdTask, XRD, partial(run_stages, keep=model_stage)),
    "xrd_tables": Application(XrdTask, TABLES, run_tables, ("tables",)),
    "digits": Application(DigitsTask, DIGITS),
    "digits_sweep": Application(DigitsTask, SWEEP, run_sweep),
}


def check_config(config: ConfigDict) -> Application:
    """Checks every field of a config and returns the application that it is for.

    Raises:
        UserError: names the field, the value given and what is allowed.
    """
    name = config.get("task")
    if name not in APPLICATIONS:
        raise UserError(f"config.task = {name!r}: must be one of {', '.join(APPLICATIONS)}")
    fields.check(config, APPLICATIONS[name].fields)
    return APPLICATIONS[name]


def run_application(
    application: Application, config: ConfigDict, workdir: WorkDir, mode: str
) -> None:
    """Does what a mode names in a work directory.

    Args:
        application: that `check_config` gave for the config.
        config: checked.
        workdir: of the run.
        mode: see `pipeline.run_stages`.

    Raises:
        UserError: the directory holds a run of another config.
    """
    workdir.claim(config, (*MAY_DIFFER, *application.grows))
    application.run(Run(config, workdir, application.make_task), mode)
