"""From what a method makes of test patterns to figures for each of them.

Belongs here: the arrays that a job keeps, from which all tables are made. Metrics are in `metrics`
and `peaks`; means and intervals in `tables`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from imitation_refinement.evaluation.metrics import METRICS, max_normalized
from imitation_refinement.evaluation.peaks import invented_and_lost
from imitation_refinement.stages.classifiers import TrainedClassifier
from imitation_refinement.stages.run import Run

QUALITY = ("l1", "l2", "kl", "ncc")
PEAKS = ("refined", "truth", "invented", "lost")


def measure(
    run: Run,
    rows: Sequence[np.ndarray],
    answers: Sequence[Any],
    frozen: TrainedClassifier,
    judges: Mapping[str, TrainedClassifier],
    *,
    ideal: bool,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Returns the figures of each test example, and what is kept for pictures.

    Args:
        run: of the job.
        rows: test examples of each fold, indices into the imperfect set.
        answers: of each fold, `jobs.Answer`.
        frozen: the classifier of ideal patterns.
        judges: unseen classifiers by name.
        ideal: whether the true patterns are to be classified too (`hit_truth`).

    Returns:
        First arrays `[n, ...]`, sorted by example: `row`, `fold`, `group`, `label`; `logits`,
        `hit` and `prototype_hit` of the method's own answer; where it makes patterns `hit_frozen`,
        `hit_<judge>`, and with a truth `l1`, `l2`, `kl`, `ncc` and `peaks_*` (NaN, or -1, where
        the truth of an example is not known). Then `pattern`, `raw` and `truth` `[n, L]`,
        `embedding` `[n, D]`, `prototypes` `[K, D]`.
    """
    order = np.argsort(np.concatenate(rows), kind="stable")

    def joined(parts: Sequence[Any]) -> np.ndarray:
        return np.concatenate([np.asarray(part) for part in parts])[order]

    row = joined(rows)
    data = run.task.imperfect
    label = data.label[row]
    logits = joined([answer.prediction.logits for answer in answers])
    prototype = joined([answer.prediction.prototype_log_probs for answer in answers])
    arrays = {
        "row": row,
        "fold": joined([np.full(len(part), k) for k, part in enumerate(rows)]),
        "group": data.group[row],
        "label": label,
        "logits": logits,
        "hit": np.argmax(logits, axis=1) == label,
        "prototype_hit": np.argmax(prototype, axis=1) == label,
    }
    kept = {
        "raw": data.pattern[row][..., 0],
        "embedding": joined([answer.prediction.embedding for answer in answers]),
        "prototypes": np.asarray(frozen.tree.prototypes),
    }
    truth = None if data.truth is None else data.truth[row]
    if truth is not None:
        kept["truth"] = truth[..., 0]
    if ideal and truth is not None:
        known = np.isfinite(truth).all(axis=(1, 2))
        hit = np.zeros(len(row))
        hit[known] = np.argmax(frozen.predict(run, truth[known]).logits, axis=1) == label[known]
        arrays["hit_truth"] = np.where(known, hit, np.nan)
    if answers[0].pattern is None:
        return arrays, kept
    pattern = joined([answer.pattern for answer in answers])
    kept["pattern"] = pattern[..., 0]
    for name, judge in {"frozen": frozen, **judges}.items():
        arrays[f"hit_{name}"] = np.argmax(judge.predict(run, pattern).logits, axis=1) == label
    if truth is not None:
        arrays |= quality(kept["raw"], kept["pattern"], kept["truth"])
    return arrays, kept


def quality(raw: np.ndarray, pattern: np.ndarray, truth: np.ndarray) -> dict[str, np.ndarray]:
    """Returns distances of patterns to their truth, and counts of peaks, by name.

    All are scaled to a maximum of 1 first. Where the truth of a pattern is not known (not finite),
    distances are NaN and counts -1.

    Args:
        raw: `[n, L]`.
        pattern: `[n, L]`, what a method made of it.
        truth: `[n, L]`.
    """
    known = np.isfinite(truth).all(axis=1)
    three = [max_normalized(np.maximum(x[known], 0.0)) for x in (raw, pattern, truth)]
    found: dict[str, np.ndarray] = {}
    for name in QUALITY:
        found[name] = np.full(len(known), np.nan)
        found[name][known] = METRICS[name].function(three[1], three[2])
    counts = invented_and_lost(*three)
    for name in PEAKS:
        found[f"peaks_{name}"] = np.full(len(known), -1)
        found[f"peaks_{name}"][known] = getattr(counts, name)
    return found
