"""A finished training run as a model: its networks, and a calibration by what they never saw.

Belongs here: the way from a work directory to a `Model`. It brings the training code with it, which
a model that was saved does not need.
"""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import cast

import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from imitation_refinement import __version__
from imitation_refinement.config import to_json
from imitation_refinement.errors import UserError
from imitation_refinement.method.classifier import Classifier
from imitation_refinement.model.acceptance import Calibration, Cloud, HeldOut, fit_calibration
from imitation_refinement.model.model import (
    ClassifierSpec,
    Model,
    RefinerSpec,
    pattern_statistics,
)
from imitation_refinement.model.portable import MODEL_FILE, is_model, save_model
from imitation_refinement.runtime.files import read_json
from imitation_refinement.runtime.workdir import WorkDir
from imitation_refinement.stages.fields import check
from imitation_refinement.stages.refiners import TrainedModel, folds, trained_model
from imitation_refinement.stages.run import Run
from imitation_refinement.xrd.fields import XRD
from imitation_refinement.xrd.grid import Grid
from imitation_refinement.xrd.task import XrdTask

GENERATED = 1000  # simulated pairs by which a model of measured patterns is calibrated


def load_run_model(folder: Path) -> Model:
    """Returns the model of a finished run and keeps it there as `model.npz` for the next time.

    Raises:
        UserError: no finished run, or one of a config that this version does not know.
    """
    if not is_model(folder):
        raise UserError(f"{folder}: holds no finished run; train one with --workdir={folder}")
    config = ConfigDict(read_json(folder / "config.json"))
    if config.task != "xrd":
        raise UserError(
            f"{folder}: config.task = {config.task!r}: only runs of task 'xrd' have a model"
        )
    check(config, XRD)
    config.run.workers = 1  # a script that imports us cannot be started again in worker processes
    run = Run(config, WorkDir(folder), XrdTask)
    model = model_from_run(run, trained_model(run))
    try:
        save_model(model, folder / MODEL_FILE)
    except UserError as error:
        logging.warning("%s", error)
    return model


def model_from_run(run: Run, trained: TrainedModel) -> Model:
    """Returns what a run of X-ray patterns trained as a calibrated model.

    Args:
        run: whose task is an `XrdTask`.
        trained: its networks.

    Raises:
        UserError: its test patterns have no labels.
    """
    config = run.config
    refiners = trained.refiners
    if config.refiner.steps == 0:
        refiners = refiners[:1]  # that of every fold is the pre-trained one
    classifier = jax.device_get(trained.classifier.tree)
    resolved = config.to_dict()
    del resolved["run"]  # how it was run, with folders of the machine
    model = Model(
        class_names=tuple(run.task.class_names),
        grid=Grid(**config.data.grid, wavelength=config.data.wavelength),
        classifier_spec=ClassifierSpec(*(config.classifier[f] for f in ClassifierSpec._fields)),
        classifier=Classifier(*classifier),
        refiner_spec=RefinerSpec(*(config.refiner[f] for f in RefinerSpec._fields)),
        refiners=tuple(jax.device_get(params) for params in refiners),
        calibration=Calibration(1.0, 1.0, None, {}, _no_cloud(classifier), {}),
        origin={
            "name": run.workdir.path.name,
            "version": __version__,
            "config_sha256": hashlib.sha256(to_json(resolved).encode()).hexdigest(),
            "config": resolved,
        },
    )
    found = fit_calibration(
        held_out(run, model),
        model.class_names,
        seed=config.seed,
        resamples=config.evaluate.bootstrap,
    )
    scores = found.figures["refined"]
    logging.info(
        "calibrated on %d generated patterns: temperature %.2f, calibration error %.3f -> %.3f",
        found.figures["patterns"],
        found.temperature,
        scores["calibration_error_before"]["value"],
        scores["calibration_error_after"]["value"],
    )
    return replace(model, calibration=found)


def held_out(run: Run, model: Model) -> HeldOut:
    """Puts each generated test pattern through the refiner that never saw its library.

    Of a run on measured patterns (`config.data.imperfect.measured`), whose labels are few or none,
    GENERATED simulated pairs of held-out crystals through the mean of all refiners.

    Raises:
        UserError: there is none.
    """
    if run.config.data.imperfect.measured:
        rng = np.random.default_rng(run.seed("calibration"))
        pairs = [cast(XrdTask, run.task).held_out_pair(rng) for _ in range(GENERATED)]
        raw = np.stack([pattern for pattern, _, _ in pairs])
        label = np.array([label for _, _, label in pairs])
        return _answers(model, raw, model.refine(raw), label, np.arange(len(raw)))
    data, fold = run.task.imperfect, folds(run)
    tested = (fold >= 0) & (fold < run.config.evaluate.run_folds)
    rows = np.flatnonzero(tested & (data.label >= 0))
    if not rows.size:
        raise UserError("config.data.imperfect: no labelled test pattern to calibrate with")
    raw = data.pattern[rows]
    refined = np.empty_like(raw)
    refiner = np.minimum(fold[rows], len(model.refiners) - 1)  # one alone saw no fold
    for index in range(len(model.refiners)):
        own = refiner == index
        refined[own] = model.refine_with(index, raw[own])
    return _answers(model, raw, refined, data.label[rows], data.group[rows])


def _answers(
    model: Model, raw: np.ndarray, refined: np.ndarray, label: np.ndarray, group: np.ndarray
) -> HeldOut:
    after = model.predict(refined)
    everywhere = np.ones(raw.shape[:2], bool)
    return HeldOut(
        logits=after.logits,
        raw_logits=model.predict(raw).logits,
        embedding=after.embedding,
        statistics=pattern_statistics(raw, refined, everywhere, after),
        labels=label,
        groups=group,
    )


def _no_cloud(classifier: Classifier) -> Cloud:
    width = classifier.prototypes.shape[1]
    return Cloud(np.zeros(width, np.float32), np.eye(width, dtype=np.float32))
