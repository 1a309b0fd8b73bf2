"""The paper's Fig. 7 and the lines it should be compared with: many runs by one command.

Belongs here: the list of jobs (seed, method, images per class), and what each trains and measures.
A job has a folder of its own with checkpoints and result.json; classifiers are trained once per
seed. Nothing here trains: the stages do. Tables and figures are in `sweep_page`.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from imitation_refinement.baselines.stages import adda_stage, gta_stage
from imitation_refinement.config import MAY_DIFFER
from imitation_refinement.digits.honesty import off_stroke_change
from imitation_refinement.digits.sweep_page import write_page
from imitation_refinement.runtime import devices
from imitation_refinement.runtime.files import atomic_write_npz, read_json
from imitation_refinement.runtime.workdir import WorkDir
from imitation_refinement.stages.classifiers import (
    TrainedClassifier,
    classifier_stage,
    imperfect_as_ideal,
    judge_stages,
)
from imitation_refinement.stages.jobs import result_file, run_jobs
from imitation_refinement.stages.refiners import pretraining_stage, refined_patterns, refiner_stage
from imitation_refinement.stages.run import Run
from imitation_refinement.tasks import ImperfectData

# Refiners through the frozen classifier, then classifiers of the few images, from scratch, from the
# frozen one, and adapted to them without and with their labels.
TARGETED, NON_TARGETED, ONE_FONT = "targeted", "non_targeted", "one_font"
ALPHA_0 = "alpha_0"  # targeted without regularisation: what may go wrong
SCRATCH_AS_PAPER, SCRATCH, FINE_TUNED = "scratch_as_paper", "scratch", "fine_tuned"
KEPT = 200  # test images of each refiner that are kept for figures


class Setting(NamedTuple):
    """Where a method works.

    Attributes:
        run: of the job.
        shared: the run of what all jobs of this seed share.
        frozen: the classifier of typeset digits.
        sweep: the section of the config.
    """

    run: Run
    shared: Run
    frozen: TrainedClassifier
    sweep: ConfigDict


class Method(NamedTuple):
    """A line of the figure.

    Attributes:
        measure: trains what it needs and measures it.
        changes: fields of its run's config that it changes.
        classifier: whether `config.sweep` has a section of its name for its run's classifier.
    """

    measure: Callable[[Setting], dict[str, Any]]
    changes: Mapping[str, object] = {}
    classifier: bool = False


class Job(NamedTuple):
    """One result of the sweep.

    Attributes:
        seed: of everything random.
        method: one of the names above.
        number: N, images per class.
        font: for `ONE_FONT`, the only font of the ideal digits.
    """

    seed: int
    method: str
    number: int
    font: str = ""

    @property
    def folder(self) -> str:
        """Its folder within that of the sweep."""
        return f"seed_{self.seed}/{'_'.join(filter(None, [self.method, self.font]))}_{self.number}"


def jobs(config: ConfigDict) -> list[Job]:
    """Returns all jobs, seed by seed.

    Then what is done for one seed, for the pictures; last domain adaptation, the dearest.
    """
    sweep = config.sweep
    seeds = range(config.seed, config.seed + sweep.seeds)
    most = max(sweep.images_per_class)
    found = []
    for seed in seeds:
        for number in sweep.images_per_class:
            methods = (TARGETED, SCRATCH_AS_PAPER, SCRATCH, FINE_TUNED)
            found += [Job(seed, method, number) for method in methods]
        found.append(Job(seed, NON_TARGETED, most))
    found.append(Job(config.seed, ALPHA_0, most))
    if sweep.one_font and len(config.data.fonts) > 1:
        found += [Job(config.seed, ONE_FONT, most, font) for font in config.data.fonts]
    for seed in seeds:
        for number in sweep.adapted_images_per_class:
            found += [Job(seed, method, number) for method in sweep.adapted]
    return found


def run_sweep(run: Run, mode: str) -> None:
    """Does every job that is not done; tables and figures are there from the first one on.

    Args:
        run: of task `digits_sweep`.
        mode: `all`, or `report` to write tables and figures of the jobs that are done.

    Raises:
        UserError: another mode.
    """
    config, folder = run.config, run.workdir.path

    def do(job: Job) -> dict[str, Any]:
        return _do(run, job)

    def write(last: bool) -> None:
        write_page(folder, list(results(config, folder)))

    run_jobs(jobs(config), folder, do, write, mode)


def results(config: ConfigDict, folder: Path) -> Iterator[dict[str, Any]]:
    """Yields job and measurements of each job that is done."""
    for job in jobs(config):
        path = result_file(folder, job)
        if path.exists():
            yield job._asdict() | {"folder": str(path.parent)} | read_json(path)


def job_config(config: ConfigDict, job: Job) -> ConfigDict:
    """Returns the config of a single run that does what the job does."""
    own = ConfigDict({name: part for name, part in config.to_dict().items() if name != "sweep"})
    own.task = "digits"
    own.seed = job.seed
    own.data.images_per_class = job.number
    own.refiner.targeted = True
    method = METHODS[job.method]
    own.update_from_flattened_dict(dict(method.changes))
    if method.classifier:
        own.classifier = ConfigDict(config.sweep[job.method].to_dict())
    if job.font:
        own.data.fonts = (job.font,)
    return own


def _do(sweep: Run, job: Job) -> dict[str, Any]:
    """Trains what a job needs; what was measured."""
    config, folder, method = sweep.config, sweep.workdir.path, METHODS[job.method]
    shared_config = job_config(config, Job(job.seed, TARGETED, job.number, job.font))
    shared_config.data.images_per_class = max(config.sweep.images_per_class)
    name = f"classifiers_{job.font}" if job.font else "classifiers"
    names = {"classifier": f"config.sweep.{job.method}"} if method.classifier else {}
    run = Run(job_config(config, job), WorkDir(folder / job.folder), sweep.make_task, names)
    place = WorkDir(folder / f"seed_{job.seed}" / name)
    shared = Run(shared_config, place, sweep.make_task)
    for each in (run, shared):
        each.workdir.claim(each.config, MAY_DIFFER, each.names)
    with closing(run.workdir), closing(shared.workdir):
        frozen = classifier_stage(shared, "classifier")
        return method.measure(Setting(run, shared, frozen, config.sweep))


def _refined(judged: bool, setting: Setting) -> dict[str, Any]:
    """Trains a refiner; accuracy of raw and refined test images under each classifier, changes."""
    run, shared, classifier, _ = setting
    judges = judge_stages(shared) if judged else {}
    # On pairs alone, so the same for every N.
    own = run.config.refiner.pretrain_steps > 0
    pretrained = pretraining_stage(shared, classifier) if own else None
    params = refiner_stage(run, classifier, 0, pretrained)
    raw, label = _tested(run)
    refined = refined_patterns(run, params, raw)
    hits: dict[str, dict[str, np.ndarray]] = {}
    for name, each in {"classifier": classifier, **judges}.items():
        predictions = {
            kind: each.predict(run, x) for kind, x in (("raw", raw), ("refined", refined))
        }
        hits[name] = {k: np.argmax(p.logits, axis=1) == label for k, p in predictions.items()}
        if name == "classifier":
            hits["prototype"] = {
                k: np.argmax(p.prototype_log_probs, axis=1) == label for k, p in predictions.items()
            }
    before, after = hits["classifier"]["raw"], hits["classifier"]["refined"]
    far, total = off_stroke_change(raw[..., 0], refined[..., 0])
    if devices.is_main_process():
        kept = {"raw": raw[:KEPT, ..., 0], "refined": refined[:KEPT, ..., 0]}
        kept |= {"label": label[:KEPT], "before": before[:KEPT], "after": after[:KEPT]}
        atomic_write_npz(run.workdir.path / "images.npz", kept)
    return {
        "accuracy": {
            name: {kind: float(np.mean(hit)) for kind, hit in each.items()}
            for name, each in hits.items()
        },
        "fixed": int(np.sum(after & ~before)),
        "broken": int(np.sum(before & ~after)),
        "change": float(np.abs(refined - raw).mean()),
        "off_stroke": float(far.sum() / max(total.sum(), 1e-12)),
        "fonts": {font.name: font.sha256 for font in run.task.fonts},  # type: ignore[attr-defined]
    }


def _retrained(augment: bool, from_frozen: bool, setting: Setting) -> dict[str, Any]:
    """Trains a classifier on the few images, from scratch or from the frozen one; its accuracy."""
    run, few = setting.run, setting.run.task.imperfect
    data = imperfect_as_ideal(few, _few(few), augment=augment)
    start = setting.frozen.tree if from_frozen else None
    return _accuracy(run, classifier_stage(run, "classifier", start=start, data=data))


def _adapted(
    name: str, kind: str, labels: bool, classifier: Callable, setting: Setting
) -> dict[str, Any]:
    """Adapts the frozen classifier to the few images; its accuracy on the test images as they are.

    Labels are seen only if so said.
    """
    run, _, frozen, sweep = setting
    section = ConfigDict(sweep[kind].to_dict())
    section.label_weight = sweep.label_weight if labels else 0.0
    rows = _few(run.task.imperfect)
    found = classifier(run, frozen, name, rows, section, f"config.sweep.{kind}")
    return _accuracy(run, found)


def _gta_classifier(*arguments: Any) -> TrainedClassifier:
    return gta_stage(*arguments).classifier


def _accuracy(run: Run, classifier: TrainedClassifier) -> dict[str, Any]:
    raw, label = _tested(run)
    hits = np.argmax(classifier.predict(run, raw).logits, axis=1) == label
    return {"accuracy": {"classifier": {"raw": float(np.mean(hits))}}}


def _few(data: ImperfectData) -> np.ndarray:
    """Returns the rows of the images that are never tested, the first ones."""
    assert data.fold is not None
    return np.flatnonzero(data.fold < 0)


def _tested(run: Run) -> tuple[np.ndarray, np.ndarray]:
    data = run.task.imperfect
    assert data.fold is not None
    tested = data.fold == 0
    return data.pattern[tested], data.label[tested]


ADAPTED = {
    name: Method(partial(_adapted, name, kind, name.endswith("_labels"), stage))
    for kind, stage in (("adda", adda_stage), ("gta", _gta_classifier))
    for name in (kind, f"{kind}_labels")
}
METHODS = {
    TARGETED: Method(partial(_refined, True)),
    NON_TARGETED: Method(partial(_refined, True), {"refiner.targeted": False}),
    ALPHA_0: Method(partial(_refined, True), {"refiner.regularization_weight": 0.0}),
    ONE_FONT: Method(partial(_refined, False)),
    SCRATCH_AS_PAPER: Method(partial(_retrained, False, False), classifier=True),
    SCRATCH: Method(partial(_retrained, True, False), classifier=True),
    FINE_TUNED: Method(partial(_retrained, True, True), classifier=True),
    **ADAPTED,
}
