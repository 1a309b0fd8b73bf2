"""The stages of a run in order: data, training, evaluation, model file, report.

Each stage looks for its finished result in the work directory first, so a second run takes seconds
and a killed one goes on where it stopped. Everything numeric is elsewhere.
"""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
from absl import logging

from imitation_refinement.config import to_json
from imitation_refinement.errors import UserError
from imitation_refinement.evaluation.evaluation import evaluate
from imitation_refinement.evaluation.inputs import (
    EvaluationInputs,
    Scores,
    from_arrays,
    to_arrays,
)
from imitation_refinement.model.of_run import model_from_run
from imitation_refinement.model.portable import MODEL_FILE, save_model
from imitation_refinement.report.page import write_report
from imitation_refinement.report.pictures import shared_pictures
from imitation_refinement.runtime import devices
from imitation_refinement.runtime.ahead import compiled_ahead
from imitation_refinement.runtime.files import (
    atomic_write_json,
    atomic_write_npz,
    read_json,
    read_npz,
)
from imitation_refinement.runtime.workdir import command
from imitation_refinement.stages.ahead import programs_ahead
from imitation_refinement.stages.classifiers import (
    TrainedClassifier,
    classifier_stage,
    judge_stages,
)
from imitation_refinement.stages.refiners import (
    TrainedModel,
    folds,
    refined_patterns,
    trained_model,
)
from imitation_refinement.stages.run import Run


def evaluation_stage(
    run: Run, model: TrainedModel, judges: dict[str, TrainedClassifier]
) -> tuple[EvaluationInputs, dict[str, Any]]:
    """Refines each test fold with its refiner and measures everything, or loads what was measured.

    Args:
        run: the run.
        model: the frozen classifier and, for each fold, the refiner that never saw that fold.
        judges: classifiers that no refiner ever saw, by name.

    Returns:
        The arrays (kept in evaluation/arrays.npz) and the figures (evaluation/results.json).
    """
    folder = run.workdir.path / "evaluation"
    arrays_path, results_path = folder / "arrays.npz", folder / "results.json"
    if run.workdir.stage_done("evaluate") and arrays_path.exists() and results_path.exists():
        return from_arrays(read_npz(arrays_path)), read_json(results_path)
    data, fold = run.task.imperfect, folds(run)
    tested = (fold >= 0) & (fold < len(model.refiners))
    rows = np.flatnonzero(tested & (data.label >= 0))
    if not len(rows):
        raise UserError(
            f"evaluation needs labels, and none of the {tested.sum()} test {run.task.noun} has "
            "one; refine them with --mode=refine, or give labels"
        )
    raw = data.pattern[rows]
    refined = np.empty_like(raw)
    for number, params in enumerate(model.refiners):
        test = fold[rows] == number
        refined[test] = refined_patterns(run, params, raw[test])
    kinds = {"raw": raw, "refined": refined}
    # The figures of quality are over all or none.
    if data.truth is not None and np.isfinite(data.truth[rows]).all():
        kinds["truth"] = data.truth[rows]
    fields: dict[str, Any] = {"truth": None}
    for kind, examples in kinds.items():
        own = model.classifier.predict(run, examples)
        fields[kind] = examples[..., 0]
        fields[f"logits_{kind}"] = own.logits
        fields[f"prototype_{kind}"] = own.prototype_log_probs
        fields[f"embedding_{kind}"] = own.embedding
    inputs = EvaluationInputs(
        **fields,
        labels=data.label[rows],
        groups=data.group[rows],
        fold=fold[rows],
        judges={
            name: Scores(*(np.asarray(judge.predict(run, x).logits) for x in kinds.values()))
            for name, judge in judges.items()
        },
    )
    results = evaluate(
        inputs,
        class_names=run.task.class_names,
        seed=run.config.seed,
        resamples=run.config.evaluate.bootstrap,
        noun=run.task.noun,
        group_noun=run.task.group_noun,
        readers=[name for name in judges if run.config.judges[name].data == "imperfect"],
    )
    measures = run.task.measures(inputs)
    results["measures"] = {name: measure._asdict() for name, measure in measures.items()}
    accuracy = results["accuracy"]
    accuracy["classifier"]["held_out"] = run.workdir.stage_summary("classifier")
    for name in judges:
        accuracy["judges"][name]["held_out"] = run.workdir.stage_summary(f"judge/{name}")
    if devices.is_main_process():
        atomic_write_npz(arrays_path, to_arrays(inputs))
        atomic_write_json(results_path, results)
    run.workdir.mark_done("evaluate", results["verdict"])
    return inputs, results


def model_stage(run: Run, trained: TrainedModel) -> None:
    """Keeps what an XRD run trained as one calibrated model file, for `--mode=refine`."""
    path = run.workdir.path / MODEL_FILE
    if run.workdir.stage_done("model") and path.exists():
        return
    model = model_from_run(run, trained)
    if devices.is_main_process():
        save_model(model, path)
    run.workdir.mark_done("model")


def report_stage(
    run: Run, classifier: TrainedClassifier, inputs: EvaluationInputs, results: dict[str, Any]
) -> None:
    """Draws the pictures and writes report.html, once; only on the main process."""
    path = run.workdir.path / "report.html"
    if run.workdir.stage_done("report") and path.exists():
        logging.info("nothing left to do; report: %s", path)
        return
    if not devices.is_main_process():
        return
    pictures = dict(run.task.pictures(inputs, results)) | shared_pictures(
        inputs,
        results,
        prototypes=np.asarray(classifier.tree.prototypes),
        metrics=run.workdir.read_metrics(),
        seed=run.config.seed,
    )
    context = {
        "config": json.loads(to_json(run.config)),
        "environment": read_json(run.workdir.path / "environment.json"),
        "command": command(),
    }
    write_report(path, results, pictures.values(), context)
    run.workdir.mark_done("report")
    logging.info("report: %s", path)


def run_stages(
    run: Run, mode: str, keep: Callable[[Run, TrainedModel], None] | None = None
) -> None:
    """Runs the stages that a mode asks for, after those that they need.

    Args:
        run: the run.
        mode: `all`, or the stage to end with.
        keep: keeps what was trained for use on new examples; None for an application that has none.
    """
    with compiled_ahead(programs_ahead(run, mode)):
        _run_stages(run, mode, keep)


def _run_stages(run: Run, mode: str, keep: Callable[[Run, TrainedModel], None] | None) -> None:
    if mode == "data":
        data = run.task.ideal, run.task.imperfect
        logging.info("data: %d ideal and %d imperfect", *(len(part.label) for part in data))
        return
    if mode == "judge":
        judge_stages(run)
        return
    if mode == "classifier":
        classifier_stage(run, "classifier")
        return
    model = trained_model(run)
    if mode == "refiner":
        return
    judges = judge_stages(run)
    if mode == "train":
        return
    inputs, results = evaluation_stage(run, model, judges)
    if mode == "evaluate":
        return
    if keep:
        keep(run, model)
    report_stage(run, model.classifier, inputs, results)
