"""Many runs by one command: jobs that leave a result each, done one after another, and the clock.

Belongs here: which jobs wait, how long they took, what is written when. What a job is and what it
trains is in `comparison` and `digits.sweep`. A stopped job goes on where it was.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from absl import logging

from imitation_refinement.errors import UserError
from imitation_refinement.runtime import devices
from imitation_refinement.runtime.files import atomic_write_json, read_json

MODES = ("all", "report")


class Job(Protocol):
    """What makes one result; a tuple whose first element is the seed."""

    @property
    def folder(self) -> str:
        """Its folder within that of all jobs."""


def result_file(folder: Path, job: Job) -> Path:
    """Returns where a job's result is; it is written last and says that the job is done."""
    return folder / job.folder / "result.json"


def run_jobs(
    every: Sequence[Any],
    folder: Path,
    do: Callable[[Any], Mapping[str, Any]],
    write: Callable[[bool], None],
    mode: str,
) -> None:
    """Does every job that is not done; tables are there from the first one on.

    Args:
        every: the jobs, in order.
        folder: of all of them.
        do: does one and returns its result, to which its seconds are added.
        write: `whether it is the last time -> None`; writes tables and figures of the jobs that are
            done. Called on the main process alone.
        mode: `all`, or `report` to write without doing any job.

    Raises:
        UserError: another mode.
    """
    if mode not in MODES:
        raise UserError(f"--mode={mode}: many runs know the modes {' and '.join(MODES)} only")
    waiting = [job for job in every if not result_file(folder, job).exists()]
    for job in waiting if mode == "all" else []:
        done = {each: read_json(path) for each in every
                if (path := result_file(folder, each)).exists()}  # fmt: skip
        logging.info(
            "job %d of %d: %s; time left: %s",
            every.index(job) + 1, len(every), job.folder, time_left(every, done),
        )  # fmt: skip
        with clock(folder / job.folder / "seconds.json") as seconds:
            found = do(job)
        if devices.is_main_process():
            atomic_write_json(result_file(folder, job), {"seconds": seconds(), **found})
            write(False)
    if devices.is_main_process():
        write(True)


def time_left(every: Sequence[Any], done: Mapping[Any, Mapping[str, Any]]) -> str:
    """Returns how long the jobs that are not done will take, in words.

    Each as long as the same job of other seeds took on average, else as jobs do on average. Results
    without seconds, of an earlier version, do not count.
    """
    known = {job: found["seconds"] for job, found in done.items() if "seconds" in found}
    if not known:
        return "not known before the first job is done"
    total = 0.0
    for job in every:
        if job not in done:
            same = [seconds for other, seconds in known.items() if other[1:] == job[1:]]
            total += np.mean(same or list(known.values()))
    return f"{total / 3600:.1f} h" if total >= 3600 else f"{total / 60:.0f} min"


@contextmanager
def clock(path: Path) -> Iterator[Callable[[], float]]:
    """Adds up the seconds of a job over interruptions; gives a function that says how many."""
    before = read_json(path) if path.exists() else 0.0
    began = time.monotonic()

    def seconds() -> float:
        return before + time.monotonic() - began

    try:
        yield seconds
    finally:
        if devices.is_main_process():
            atomic_write_json(path, seconds())
