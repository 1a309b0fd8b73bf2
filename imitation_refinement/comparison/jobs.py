"""Doing the jobs of a comparison, one folder each.

Belongs here: which data, classifier and training folds a job is given, and what is trained once for
all jobs of a seed. What the jobs are is in `methods`, what a method does in `answers`, how its
outcome is measured in `measure`, tables and page in `tables` and `page`.
"""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from imitation_refinement.comparison import measure
from imitation_refinement.comparison.answers import Answer, Setting
from imitation_refinement.comparison.methods import (
    METHODS,
    OURS,
    Job,
    classifiers,
    job_config,
    jobs,
    method_of,
    names_of,
    shared_config,
)
from imitation_refinement.comparison.page import write_page
from imitation_refinement.comparison.study import Result
from imitation_refinement.config import MAY_DIFFER
from imitation_refinement.runtime import devices
from imitation_refinement.runtime.files import atomic_write_npz, read_json, read_npz
from imitation_refinement.runtime.workdir import WorkDir, command
from imitation_refinement.stages.classifiers import (
    TrainedClassifier,
    classifier_stage,
    judge_stages,
)
from imitation_refinement.stages.jobs import result_file, run_jobs
from imitation_refinement.stages.refiners import folds
from imitation_refinement.stages.run import Run
from imitation_refinement.tasks import TRAIN, Task


def run_tables(run: Run, mode: str) -> None:
    """Does every job that is not done and writes tables and page into the work directory.

    After each job the tables are written with what there is; pictures come at the end.

    Args:
        run: of task `xrd_tables`.
        mode: `all`, or `report` to write tables and page from the jobs that are done.

    Raises:
        UserError: another mode.
    """
    every, folder = jobs(run.config), run.workdir.path

    def write(last: bool) -> None:
        done = dict(results(folder, every))
        write_page(folder, run.config, done, command(), pictures=last)

    run_jobs(every, folder, Bench(run).do, write, mode)


def results(folder: Path, every: list[Job]) -> Iterator[tuple[Job, Result]]:
    """Yields the jobs that are done with what was measured of them."""
    for job in every:
        path = result_file(folder, job)
        if path.exists():
            yield job, Result(read_json(path), read_npz(path.with_name("arrays.npz")), path.parent)


class Bench:
    """Where jobs are done: what those of one seed have in common is made once.

    Args:
        run: of task `xrd_tables`.
    """

    def __init__(self, run: Run):
        self._config, self._folder, self._make_task = run.config, run.workdir.path, run.make_task
        self._task: tuple[int, Task] | None = None

    def do(self, job: Job) -> dict[str, Any]:
        """Trains what the job needs, answers all folds, writes arrays.npz; returns its summary."""
        shared = self._shared(job)
        run = self._run(job_config(self._config, job), job, job.method)
        with closing(shared.workdir), closing(run.workdir):
            frozen = classifier_stage(shared, "classifier")
            rows, answers = self._answers(job, Setting(run, shared, frozen))
            arrays, kept = measure.measure(
                run, rows, answers, frozen, self._judges(job.seed), ideal=job.method == "raw"
            )
        if job.method == "raw":
            held_out = shared.workdir.stage_summary("classifier")
            arrays |= {f"held_out_{name}": np.array([x]) for name, x in held_out.items()}
        if devices.is_main_process():
            folder = self._folder / job.folder
            if job.seed == self._config.seed and self._is_main(job):
                atomic_write_npz(folder / "patterns.npz", kept)
            atomic_write_npz(folder / "arrays.npz", arrays)
        return {
            "device": devices.describe(),
            "class_names": list(run.task.class_names),
            "noun": run.task.noun,
            "group_noun": run.task.group_noun,
            "ideal": int(np.sum(run.task.ideal.split == TRAIN)) if job.method == "raw" else None,
            "settings": [answer.settings for answer in answers if answer.settings],
        }

    def _is_main(self, job: Job) -> bool:
        return job.classifier == next(iter(classifiers(self._config))) and job.method in METHODS

    def _shared(self, job: Job) -> Run:
        config = shared_config(self._config, job.seed, job.classifier)
        return self._run(config, job._replace(method=OURS), "shared")

    def _run(self, config: ConfigDict, job: Job, name: str) -> Run:
        workdir = WorkDir(self._folder / f"seed_{job.seed}" / job.classifier / name)
        names = names_of(self._config, job)
        workdir.claim(config, MAY_DIFFER, names)
        return Run(config, workdir, self._task_of_seed, names)

    def _task_of_seed(self, config: ConfigDict, cache_dir: Path, workers: int) -> Task:
        """The task of the last seed asked for, which all of its runs share."""
        if self._task is None or self._task[0] != config.seed:
            same = {}
            if self._task and config.data.imperfect.measured:
                # Measured patterns are the same for every seed, and reading them takes a minute.
                same = {"imperfect": self._task[1].imperfect}
            self._task = config.seed, self._make_task(config, cache_dir, workers, **same)
        return self._task[1]

    def _judges(self, seed: int) -> dict[str, TrainedClassifier]:
        """The judges of a seed, trained beside the main classifier."""
        main = Job(seed, next(iter(classifiers(self._config))), OURS)
        run = self._shared(main)
        with closing(run.workdir):
            return judge_stages(run)

    def _answers(self, job: Job, setting: Setting) -> tuple[list[np.ndarray], list[Answer]]:
        """Test rows and answer of each fold."""
        run = setting.run
        data, fold = run.task.imperfect, folds(run)
        answer = method_of(self._config, job.method).answer(setting)
        rows, answers = [], []
        for number in range(run.config.evaluate.run_folds):
            test = np.flatnonzero((fold == number) & (data.label >= 0))
            training = np.flatnonzero((fold != number) & (data.label >= 0))
            rows.append(test)
            answers.append(answer(number, training, data.pattern[test]))
        return rows, answers
