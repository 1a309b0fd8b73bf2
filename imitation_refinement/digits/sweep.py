"""The paper's Fig. 7 and the lines it should be compared with: many runs by one command.

Belongs here: the list of jobs (seed, method, images per class), what each trains and measures, and
finding what is done. A job has a folder of its own with checkpoints and result.json; classifiers
are trained once per seed. Nothing here trains: the stages do. Tables and figures are in
`sweep_page`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import logging
from ml_collections import ConfigDict

from imitation_refinement.baselines.stages import adda_stage, gta_stage
from imitation_refinement.config_spec import MAY_DIFFER
from imitation_refinement.digits.honesty import off_stroke_change
from imitation_refinement.digits.sweep_page import write_page
from imitation_refinement.runtime import devices
from imitation_refinement.runtime.files import atomic_write_json, atomic_write_npz, read_json
from imitation_refinement.runtime.workdir import WorkDir
from imitation_refinement.stages.classifiers import (
    TrainedClassifier,
    classifier_stage,
    imperfect_as_ideal,
    judge_stages,
)
from imitation_refinement.stages.refiners import pretraining_stage, refined_patterns, refiner_stage
from imitation_refinement.stages.run import Run
from imitation_refinement.tasks import ImperfectData

# Refiners through the frozen classifier, then classifiers of the few images, from scratch, from the
# frozen one, and adapted to them without and with their labels.
TARGETED, NON_TARGETED, ONE_FONT = "targeted", "non_targeted", "one_font"
ALPHA_0 = "alpha_0"  # targeted without regularisation: what may go wrong
SCRATCH_AS_PAPER, SCRATCH, FINE_TUNED = "scratch_as_paper", "scratch", "fine_tuned"
ADAPTED = ("adda", "adda_labels", "gta", "gta_labels")  # of which the config says the ones to do
KEPT = 200  # test images of each refiner that are kept for figures


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


def run_sweep(config: ConfigDict, folder: Path) -> None:
    """Does every job that is not done; tables and figures are in `folder` from the first one on."""
    waiting = [job for job in jobs(config) if not _result(folder, job).exists()]
    logging.info("sweep: %d of %d jobs to do", len(waiting), len(jobs(config)))
    for index, job in enumerate(waiting):
        logging.info("sweep: %s (%d of %d)", job.folder, index + 1, len(waiting))
        _do(config, folder, job)
        _write(config, folder)
    if not waiting:
        _write(config, folder)


def _write(config: ConfigDict, folder: Path) -> None:
    if devices.is_main_process():
        write_page(folder, list(results(config, folder)))


def results(config: ConfigDict, folder: Path) -> Iterator[dict[str, Any]]:
    """Yields job and measurements of each job that is done."""
    for job in jobs(config):
        path = _result(folder, job)
        if path.exists():
            yield job._asdict() | {"folder": str(path.parent)} | read_json(path)


def job_config(config: ConfigDict, job: Job) -> ConfigDict:
    """Returns the config of a single run that does what the job does."""
    own = ConfigDict({name: part for name, part in config.to_dict().items() if name != "sweep"})
    own.task = "digits"
    own.seed = job.seed
    own.data.images_per_class = job.number
    own.refiner.targeted = job.method != NON_TARGETED
    if job.method == ALPHA_0:
        own.refiner.regularization_weight = 0.0
    if job.font:
        own.data.fonts = (job.font,)
    if job.method in (SCRATCH_AS_PAPER, SCRATCH, FINE_TUNED):
        own.classifier = ConfigDict(config.sweep[job.method].to_dict())
    return own


def _do(config: ConfigDict, folder: Path, job: Job) -> None:
    own = job_config(config, job)
    run = Run(own, WorkDir(folder / job.folder))
    run.workdir.claim(own, MAY_DIFFER)
    shared_config = job_config(config, Job(job.seed, TARGETED, job.number, job.font))
    shared_config.data.images_per_class = max(config.sweep.images_per_class)
    name = f"classifiers_{job.font}" if job.font else "classifiers"
    shared = Run(shared_config, WorkDir(folder / f"seed_{job.seed}" / name))
    shared.workdir.claim(shared_config, MAY_DIFFER)
    frozen = classifier_stage(shared, "classifier")
    if job.method in (TARGETED, NON_TARGETED, ALPHA_0, ONE_FONT):
        judges = judge_stages(shared) if not job.font else {}
        pretrained = None
        if own.refiner.pretrain_steps > 0:  # on pairs alone, so the same for every N
            pretrained = pretraining_stage(shared, frozen)
        found = _measure_refiner(run, frozen, pretrained, judges)
    elif job.method in ADAPTED:
        found = _measure_adapted(run, job.method, frozen, config.sweep)
    else:
        found = _measure_classifier(run, job.method, frozen)
    if devices.is_main_process():
        atomic_write_json(_result(folder, job), found)
    for each in (run, shared):
        each.workdir.close()


def _measure_refiner(
    run: Run,
    classifier: TrainedClassifier,
    pretrained: Any | None,
    judges: dict[str, TrainedClassifier],
) -> dict[str, Any]:
    """Trains a refiner; accuracy of raw and refined test images under each classifier, changes."""
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


def _measure_classifier(run: Run, method: str, frozen: TrainedClassifier) -> dict[str, Any]:
    """Trains a classifier on the few images, from scratch or from the frozen one; its accuracy."""
    few = run.task.imperfect
    data = imperfect_as_ideal(few, _few(few), augment=method != SCRATCH_AS_PAPER)
    start = frozen.frozen if method == FINE_TUNED else None
    return _accuracy(run, classifier_stage(run, "classifier", start=start, data=data))


def _measure_adapted(
    run: Run, method: str, frozen: TrainedClassifier, sweep: ConfigDict
) -> dict[str, Any]:
    """Adapts the frozen classifier to the few images; its accuracy on the test images as they are.

    Labels are seen by the methods that end in `_labels` alone.
    """
    kind, _, labels = method.partition("_")
    section = ConfigDict(sweep[kind].to_dict())
    section.label_weight = sweep.label_weight if labels else 0.0
    rows = _few(run.task.imperfect)
    if kind == "adda":
        return _accuracy(run, adda_stage(run, frozen, method, rows, section))
    return _accuracy(run, gta_stage(run, frozen, method, rows, section).classifier)


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


def _result(folder: Path, job: Job) -> Path:
    return folder / job.folder / "result.json"
