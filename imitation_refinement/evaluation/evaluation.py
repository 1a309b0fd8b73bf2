"""Did refinement help? Arrays in, one nested dict of plain numbers out.

Belongs here: the choice of figures of merit and their intervals. Metrics themselves are in
`metrics`, peaks in `peaks`, the answer in `answer`, pictures, words and layout in `report`. No
files.

Shapes: n test examples (patterns of L points, or images, taken as rows of L points), K classes, D
embedding dimensions. Every estimate with an interval is {'value', 'low', 'high'}: 95 % bootstrap
over groups (libraries), low and high None where fewer than MIN_GROUPS groups or a zero denominator
make an interval meaningless. Accuracies are fractions in [0, 1]. Where nobody knows the truth, what
needs it is None or left out.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imitation_refinement.evaluation.answer import answer
from imitation_refinement.evaluation.inputs import EvaluationInputs, Scores, check, scores_of
from imitation_refinement.evaluation.metrics import (
    METRICS,
    GroupResamples,
    estimate,
    max_normalized,
    mean_change,
    mean_estimate,
    ratio_estimate,
    resample_groups,
    resampled_mean,
    resampled_median,
)
from imitation_refinement.evaluation.peaks import THRESHOLD, TOLERANCE, invented_and_lost


def evaluate(
    inputs: EvaluationInputs,
    *,
    class_names: Sequence[str] | None = None,
    readers: Sequence[str] = (),
    noun: str = "patterns",
    group_noun: str = "libraries",
    seed: int = 0,
    resamples: int = 2000,
    threshold: float = THRESHOLD,
    tolerance: int = TOLERANCE,
) -> dict[str, Any]:
    """All figures of merit of a refinement, JSON-able.

    Patterns are scaled to a maximum of 1 for the quality metrics, as the metrics demand; the mean
    change is on the same scale. threshold and tolerance are those of peaks.py; peaks are counted
    where the truth is known and has one axis. readers are the judges that were trained on imperfect
    examples; noun and group_noun are what to call examples and groups.

    Raises:
        ValueError: shapes or labels disagree, or a number is not finite.
    """
    names = check(inputs, class_names)
    draws = resample_groups(inputs.groups, seed=seed, resamples=resamples)
    raw, refined = _rows(inputs.raw), _rows(inputs.refined)
    truth = None if inputs.truth is None else _rows(inputs.truth)
    scores = Scores(inputs.logits_raw, inputs.logits_refined, inputs.logits_truth)
    own = _hits(scores, inputs.labels)
    prototype = scores_of(inputs, "prototype")
    quality = {}
    if truth is not None:
        for name, metric in METRICS.items():
            quality[name] = metric.function(raw, truth), metric.function(refined, truth)
        if inputs.embedding_raw is not None:
            quality["embedding"] = _embedding_distances(inputs)
    folds = np.zeros(len(raw), int) if inputs.fold is None else np.asarray(inputs.fold)
    change = mean_change(refined, raw)
    results: dict[str, Any] = {
        "noun": noun,
        "group_noun": group_noun,
        "counts": {
            "patterns": len(raw),
            "groups": draws.times.shape[1],
            "folds": len(np.unique(folds)),
            "classes": len(names),
            "length": raw.shape[1],
            "resamples": resamples,
        },
        "class_names": names,
        "accuracy": {
            "classifier": _accuracy(draws, scores, inputs.labels),
            "prototype": prototype and _accuracy(draws, prototype, inputs.labels),
            "judges": {
                name: _judge(draws, judge, inputs.labels, own) | {"reader": name in readers}
                for name, judge in inputs.judges.items()
            },
        },
        "fixed": int((~own["raw"] & own["refined"]).sum()),
        "broken": int((own["raw"] & ~own["refined"]).sum()),
        "per_class": _per_class(inputs, own, quality.get("l1"), names, seed, resamples),
        "per_fold": _per_fold(folds, own, quality),
        "quality": {
            name: _quality(draws, *pair, METRICS[name].better if name in METRICS else "lower")
            for name, pair in quality.items()
        },
        "peaks": None
        if truth is None or np.ndim(inputs.raw) != 2
        else _peaks(draws, raw, refined, truth, threshold, tolerance),
        "change": {
            "mean": estimate(draws, float(change.mean()), resampled_mean(draws, change)),
            "median": float(np.median(change)),
        },
        "measures": {},
        "confusion": {
            kind: confusion(inputs.labels, logits)
            for kind, logits in scores._asdict().items()
            if logits is not None
        },
    }
    results["verdict"] = answer(results)  # under the name that files have had
    return results


# ---- Parts ----


def _rows(examples: NDArray) -> NDArray[np.float64]:
    """Examples [n, *spatial] as rows [n, L] with a maximum of 1."""
    return max_normalized(np.reshape(examples, (len(examples), -1)))


def _hits(scores: Scores, labels: NDArray) -> dict[str, NDArray]:
    """Whether each example is recognised, bool [n], by kind of example."""
    return {
        kind: np.argmax(logits, axis=1) == labels
        for kind, logits in scores._asdict().items()
        if logits is not None
    }


def _top2(scores: NDArray, labels: NDArray) -> float:
    best = np.argsort(-np.asarray(scores), axis=1, kind="stable")[:, :2]
    return float((best == np.asarray(labels)[:, None]).any(axis=1).mean())


def _accuracy(draws: GroupResamples, scores: Scores, labels: NDArray) -> dict[str, Any]:
    """Accuracy and top-2 of one classifier on raw, refined and truth, and the gain."""
    hits = _hits(scores, labels)
    result: dict[str, Any] = {
        kind: mean_estimate(draws, hit) | {"top2": _top2(getattr(scores, kind), labels)}
        for kind, hit in hits.items()
    }
    result["gain"] = mean_estimate(draws, hits["refined"].astype(float) - hits["raw"])
    result["gain_top2"] = result["refined"]["top2"] - result["raw"]["top2"]
    return result


def _judge(
    draws: GroupResamples, scores: Scores, labels: NDArray, own: dict[str, NDArray]
) -> dict[str, Any]:
    """Accuracies of a judge, and the gain that it does not share: a large one is adversarial."""
    mine, judges = (
        hits["refined"].astype(float) - hits["raw"] for hits in (own, _hits(scores, labels))
    )
    return _accuracy(draws, scores, labels) | {
        "own_minus_gain": mean_estimate(draws, mine - judges)
    }


def _per_class(
    inputs: EvaluationInputs,
    own: dict[str, NDArray],
    l1: tuple[NDArray, NDArray] | None,
    names: list[str],
    seed: int,
    resamples: int,
) -> list[dict[str, Any]]:
    """Accuracy, gain and, with a truth, l1 of each class that has test examples."""
    rows = []
    for label, name in enumerate(names):
        member = np.asarray(inputs.labels) == label
        if not member.any():
            continue
        draws = resample_groups(np.asarray(inputs.groups)[member], seed=seed, resamples=resamples)
        gain = own["refined"][member].astype(float) - own["raw"][member]
        row: dict[str, Any] = {"name": name, "patterns": int(member.sum())}
        row |= {kind: float(own[kind][member].mean()) for kind in own}
        row["gain"] = mean_estimate(draws, gain)
        if l1 is not None:
            row["l1_raw"], row["l1_refined"] = (float(values[member].mean()) for values in l1)
        rows.append(row)
    return rows


def _per_fold(
    folds: NDArray, own: dict[str, NDArray], quality: dict[str, tuple[NDArray, NDArray]]
) -> dict[str, Any]:
    """Headline numbers of each fold, with mean and sample standard deviation over them."""
    rows = []
    for fold in np.unique(folds):
        chosen = folds == fold
        row: dict[str, Any] = {"part": str(fold), "patterns": int(chosen.sum())}
        row |= {kind: float(own[kind][chosen].mean()) for kind in own}
        row["gain"] = row["refined"] - row["raw"]
        for name in ("l1", "kl", "ncc"):
            if name not in quality:
                continue
            row[f"{name}_raw"], row[f"{name}_refined"] = (
                float(values[chosen].mean()) for values in quality[name]
            )
        rows.append(row)
    columns = [name for name in rows[0] if name not in ("part", "patterns")]
    table = np.array([[row[name] for name in columns] for row in rows])
    spread = table.std(axis=0, ddof=1).tolist() if len(rows) > 1 else [None] * len(columns)
    return {
        "parts": rows,
        "mean": dict(zip(columns, table.mean(axis=0).tolist(), strict=True)),
        "std": dict(zip(columns, spread, strict=True)),
    }


def _quality(draws: GroupResamples, raw: NDArray, refined: NDArray, better: str) -> dict[str, Any]:
    """Mean and median raw beside refined [n], absolute and relative change with intervals."""
    mean_raw, mean_refined = float(raw.mean()), float(refined.mean())
    median_raw, median_refined = float(np.median(raw)), float(np.median(refined))
    samples_raw, samples_refined = resampled_median(draws, raw), resampled_median(draws, refined)
    medians = np.divide(
        samples_refined, samples_raw, out=np.full_like(samples_raw, np.nan), where=samples_raw > 0
    )
    improved = {"lower": refined < raw, "higher": refined > raw}.get(better)
    return {
        "raw": {"mean": mean_raw, "median": median_raw},
        "refined": {"mean": mean_refined, "median": median_refined},
        "change": mean_estimate(draws, refined - raw),
        "relative_change": {
            "mean": ratio_estimate(draws, refined, raw, offset=-1.0),
            "median": estimate(
                draws, median_refined / median_raw - 1 if median_raw > 0 else None, medians - 1
            ),
        },
        "improved": None if improved is None else float(improved.mean()),
    }


def _peaks(
    draws: GroupResamples,
    raw: NDArray,
    refined: NDArray,
    truth: NDArray,
    threshold: float,
    tolerance: int,
) -> dict[str, Any]:
    """Counts and rates of peaks.invented_and_lost over all patterns."""
    found = invented_and_lost(raw, refined, truth, threshold=threshold, tolerance=tolerance)
    over = {
        "invented": found.refined,
        "spurious_refined": found.refined,
        "spurious_raw": found.raw,
        "missed_raw": found.truth,
        "missed_refined": found.truth,
        "lost": found.truth,
        "recovered": found.truth,
    }
    counts = {name: int(values.sum()) for name, values in found._asdict().items()}
    rates = {name: ratio_estimate(draws, getattr(found, name), base) for name, base in over.items()}
    return {"threshold": threshold, "tolerance": tolerance, "counts": counts, "rates": rates}


def confusion(labels: NDArray, scores: NDArray) -> list[list[int]]:
    """Counts [K, K], rows the true class and columns the predicted one."""
    classes = np.shape(scores)[1]
    flat = np.asarray(labels, np.int64) * classes + np.argmax(scores, axis=1)
    return np.bincount(flat, minlength=classes**2).reshape(classes, classes).tolist()


def _embedding_distances(inputs: EvaluationInputs) -> tuple[NDArray, NDArray]:
    """Root mean square distance to the embedding of the truth, raw [n] and refined [n]."""
    truth = np.asarray(inputs.embedding_truth, np.float64)
    raw, refined = (
        np.sqrt(np.square(np.asarray(a, np.float64) - truth).mean(axis=1))
        for a in (inputs.embedding_raw, inputs.embedding_refined)
    )
    return raw, refined
