"""Doing the jobs of a comparison, one folder each, and finding what is done.

Belongs here: which data, classifier and training folds a job is given, what is trained once for
all jobs of a seed, and the clock. What the jobs are is in `methods`, how their outcome is measured
in `measure`, tables and page in `tables` and `page`. A stopped job goes on where it was.
"""

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import logging
from ml_collections import ConfigDict

from imitation_refinement.baselines import denoise
from imitation_refinement.baselines.stages import adda_stage, gta_stage
from imitation_refinement.comparison import measure
from imitation_refinement.comparison.methods import (
    METHODS,
    OURS,
    OURS_BLIND,
    Job,
    classifiers,
    job_config,
    jobs,
    shared_config,
)
from imitation_refinement.comparison.page import write_page
from imitation_refinement.comparison.study import Result
from imitation_refinement.config_spec import MAY_DIFFER
from imitation_refinement.errors import UserError
from imitation_refinement.method.classifier import Prediction
from imitation_refinement.runtime import devices
from imitation_refinement.runtime.files import (
    atomic_write_json,
    atomic_write_npz,
    read_json,
    read_npz,
)
from imitation_refinement.runtime.workdir import WorkDir
from imitation_refinement.stages.classifiers import (
    TrainedClassifier,
    classifier_stage,
    imperfect_as_ideal,
    judge_stages,
    simulated_as_ideal,
)
from imitation_refinement.stages.refiners import (
    folds,
    pretraining_stage,
    refined_patterns,
    refiner_stage,
)
from imitation_refinement.stages.run import Run
from imitation_refinement.tasks import TRAIN, Task

MODES = ("all", "report")


class Answer(NamedTuple):
    """What a method makes of the test patterns of one fold.

    Attributes:
        pattern: float32 `[n, L, 1]`; None if it leaves them as they are.
        prediction: its answer.
        settings: what it chose on the training folds, for result.json.
    """

    pattern: np.ndarray | None
    prediction: Prediction
    settings: dict[str, Any]


def run_tables(config: ConfigDict, folder: Path, mode: str, command: str) -> None:
    """Does every job that is not done and writes tables and page into `folder`.

    After each job the tables are written with what there is; pictures come at the end.

    Args:
        config: of task `xrd_tables`.
        folder: work directory.
        mode: `all`, or `report` to write tables and page from the jobs that are done.
        command: that made this, for the page.

    Raises:
        UserError: another mode.
    """
    if mode not in MODES:
        raise UserError(f"--mode={mode}: tables know the modes {' and '.join(MODES)} only")
    every = jobs(config)
    waiting = [job for job in every if not _result(folder, job).exists()] if mode == "all" else []
    bench = Bench(config, folder)
    for job in waiting:
        left = time_left(every, {job: found.summary for job, found in results(folder, every)})
        number = every.index(job) + 1
        logging.info("job %d of %d: %s; time left: %s", number, len(every), job.folder, left)
        bench.do(job)
        if devices.is_main_process():
            write_page(folder, config, dict(results(folder, every)), command, pictures=False)
    if devices.is_main_process():
        write_page(folder, config, dict(results(folder, every)), command, pictures=True)
        logging.info("tables: %s", folder / "report.html")


def results(folder: Path, every: list[Job]) -> Iterator[tuple[Job, Result]]:
    """Yields the jobs that are done with what was measured of them."""
    for job in every:
        path = _result(folder, job)
        if path.exists():
            yield job, Result(read_json(path), read_npz(path.with_name("arrays.npz")), path.parent)


def time_left(every: list[Job], done: dict[Job, dict[str, Any]]) -> str:
    """Returns how long the jobs that are not done will take, in words.

    Each as long as the same job of other seeds took on average, else as jobs do on average.
    """
    if not done:
        return "not known before the first job is done"
    total = 0.0
    for job in every:
        if job not in done:
            same = [d["seconds"] for j, d in done.items() if j[1:] == job[1:]]
            total += np.mean(same or [d["seconds"] for d in done.values()])
    return f"{total / 3600:.1f} h" if total >= 3600 else f"{total / 60:.0f} min"


class Bench:
    """Where jobs are done: what those of one seed have in common is made once.

    Args:
        config: of task `xrd_tables`.
        folder: work directory.
    """

    def __init__(self, config: ConfigDict, folder: Path):
        self._config, self._folder = config, folder
        self._task: tuple[int, Task] | None = None

    def do(self, job: Job) -> None:
        """Trains what the job needs, answers all folds, and writes arrays.npz and result.json."""
        with _clock(self._folder / job.folder / "seconds.json") as seconds:
            shared = self._run(shared_config(self._config, job.seed, job.classifier), job, "shared")
            run = self._run(job_config(self._config, job), job, job.method)
            frozen = classifier_stage(shared, "classifier")
            rows, answers = self._answers(job, shared, run, frozen)
            arrays, kept = measure.measure(
                run, rows, answers, frozen, self._judges(job.seed), ideal=job.method == "raw"
            )
            if job.method == "raw":
                held_out = shared.workdir.stage_summary("classifier")
                arrays |= {f"held_out_{name}": np.array([x]) for name, x in held_out.items()}
            for each in (shared, run):
                each.workdir.close()
        if not devices.is_main_process():
            return
        path = _result(self._folder, job)
        if job.seed == self._config.seed and self._is_main(job):
            atomic_write_npz(path.with_name("patterns.npz"), kept)
        atomic_write_npz(path.with_name("arrays.npz"), arrays)
        summary = {
            "seconds": seconds(),
            "device": devices.describe(),
            "class_names": list(run.task.class_names),
            "noun": run.task.noun,
            "group_noun": run.task.group_noun,
            "ideal": int(np.sum(run.task.ideal.split == TRAIN)) if job.method == "raw" else None,
            "settings": [answer.settings for answer in answers if answer.settings],
        }
        atomic_write_json(path, summary)  # last: it says that the job is done

    def _is_main(self, job: Job) -> bool:
        return job.classifier == next(iter(classifiers(self._config))) and job.method in METHODS

    def _run(self, config: ConfigDict, job: Job, name: str) -> Run:
        run = Run(config, WorkDir(self._folder / f"seed_{job.seed}" / job.classifier / name))
        run.workdir.claim(config, MAY_DIFFER)
        if self._task is None or self._task[0] != job.seed:
            old, self._task = self._task, (job.seed, run.task)
            if old is not None and config.data.imperfect.measured:
                # Measured patterns are the same for every seed, and reading them takes a minute.
                vars(run.task)["imperfect"] = old[1].imperfect
        run.task = self._task[1]
        return run

    def _judges(self, seed: int) -> dict[str, TrainedClassifier]:
        """The judges of a seed, trained beside the main classifier."""
        main = Job(seed, next(iter(classifiers(self._config))), "")
        run = self._run(shared_config(self._config, seed, main.classifier), main, "shared")
        judges = judge_stages(run)
        run.workdir.close()
        return judges

    def _answers(
        self, job: Job, shared: Run, run: Run, frozen: TrainedClassifier
    ) -> tuple[list[np.ndarray], list[Answer]]:
        """Test rows and answer of each fold."""
        data, fold = run.task.imperfect, folds(run)
        answer = _method(job, shared, run, frozen)
        rows, answers = [], []
        for number in range(run.config.evaluate.run_folds):
            test = np.flatnonzero((fold == number) & (data.label >= 0))
            training = np.flatnonzero((fold != number) & (data.label >= 0))
            rows.append(test)
            answers.append(answer(number, training, data.pattern[test]))
        return rows, answers


def _method(
    job: Job, shared: Run, run: Run, frozen: TrainedClassifier
) -> Callable[[int, np.ndarray, np.ndarray], Answer]:
    """Returns `(fold, training rows, test patterns) -> Answer` of a job."""
    kind = METHODS[job.method].kind if job.method in METHODS else "refiner"
    data = run.task.imperfect
    if kind == "denoise":
        logits = remembered(lambda x: frozen.predict(run, x[..., None]).logits)

        def denoised(fold: int, training: np.ndarray, x: np.ndarray) -> Answer:
            known = data.pattern[training][..., 0]
            chosen = denoise.choose(
                job.method, known, data.label[training], data.group[training], logits, job.seed
            )
            clean = denoise.fit(job.method, chosen.settings, known)(x[..., 0])[..., None]
            settings = {**chosen.settings, "accuracy": chosen.accuracy}
            return Answer(clean, frozen.predict(run, clean), settings)

        return denoised
    if kind == "refiner":
        pretrained = None
        if job.method in (OURS, OURS_BLIND) and run.config.refiner.pretrain_steps > 0:
            pretrained = pretraining_stage(shared, frozen)  # on pairs: targeted or not, it is one

        def refined(fold: int, training: np.ndarray, x: np.ndarray) -> Answer:
            pattern = refined_patterns(run, refiner_stage(run, frozen, fold, pretrained), x)
            return Answer(pattern, frozen.predict(run, pattern), {})

        return refined
    if kind == "adda":

        def adapted(fold: int, training: np.ndarray, x: np.ndarray) -> Answer:
            found = adda_stage(run, frozen, f"adda/fold_{fold}", training, run.config.method)
            return Answer(None, found.predict(run, x), {})

        return adapted
    if kind == "gta":

        def generated(fold: int, training: np.ndarray, x: np.ndarray) -> Answer:
            found = gta_stage(run, frozen, f"gta/fold_{fold}", training, run.config.method)
            return Answer(found.generate(x), found.classifier.predict(run, x), {})

        return generated
    if kind == "classifier":
        start = frozen.frozen if job.method == "fine_tuned" else None

        def trained(fold: int, training: np.ndarray, x: np.ndarray) -> Answer:
            if job.method == "simulated":  # without imperfect patterns: one for all folds
                name, examples = "classifier", simulated_as_ideal(run)
            else:
                name, examples = f"classifier/fold_{fold}", imperfect_as_ideal(data, training)
            found = classifier_stage(run, name, start, section=run.config.method, data=examples)
            return Answer(None, found.predict(run, x), {})

        return trained
    return lambda fold, training, x: Answer(x, frozen.predict(run, x), {})


def remembered(logits: Callable[[np.ndarray], Any]) -> Callable[[np.ndarray], np.ndarray]:
    """Returns the same function of patterns `[n, L]`, which it asks only once for equal rows.

    The folds of a cross-validation ask for the same denoised patterns again and again.
    """
    known: dict[bytes, np.ndarray] = {}

    def ask(patterns: np.ndarray) -> np.ndarray:
        keys = [hashlib.sha256(row.tobytes()).digest() for row in patterns]
        new = {key: index for index, key in enumerate(keys) if key not in known}
        if new:
            answers = np.asarray(logits(patterns[list(new.values())]))
            known.update(zip(new, answers, strict=True))
        return np.stack([known[key] for key in keys])

    return ask


@contextmanager
def _clock(path: Path) -> Iterator[Callable[[], float]]:
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


def _result(folder: Path, job: Job) -> Path:
    return folder / job.folder / "result.json"
