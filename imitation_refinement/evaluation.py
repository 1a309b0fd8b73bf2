"""Did refinement help? Arrays in, one nested dict of plain numbers out.

Here belong the choice of figures of merit, their intervals and the verdict. Metrics themselves are
in metrics.py, peaks in peaks.py, pictures in figures.py, words and layout in report.py. No files.

Shapes: n test patterns of L points, K classes, D embedding dimensions. Every estimate with an
interval is {'value', 'low', 'high'}: 95 % bootstrap over groups (libraries), low and high None
where fewer than MIN_GROUPS groups or a zero denominator make an interval meaningless. Accuracies
are fractions in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imitation_refinement.metrics import (
    METRICS,
    GroupResamples,
    max_normalized,
    mean_change,
    percentile_interval,
    resample_groups,
    resampled_mean,
    resampled_median,
    resampled_ratio,
)
from imitation_refinement.peaks import THRESHOLD, TOLERANCE, invented_and_lost
from imitation_refinement.verdict import verdict

MIN_GROUPS = 5  # with fewer libraries there is no interval worth printing

Estimate = dict[str, float | None]


class EvaluationInputs(NamedTuple):
    """What evaluate() needs; every pattern was refined by a refiner that never saw its library."""

    raw: NDArray[Any]  # [n, L] imperfect patterns
    refined: NDArray[Any]  # [n, L]
    truth: NDArray[Any]  # [n, L] ideal patterns of the true phases
    labels: NDArray[Any]  # [n] int
    groups: NDArray[Any]  # [n] int or str: the library of each pattern
    logits_raw: NDArray[Any]  # [n, K] of the frozen classifier that the refiner was trained through
    logits_refined: NDArray[Any]
    logits_truth: NDArray[Any]
    prototype_raw: NDArray[Any] | None = None  # [n, K] log-probabilities by nearest prototype
    prototype_refined: NDArray[Any] | None = None
    prototype_truth: NDArray[Any] | None = None
    judge_raw: NDArray[Any] | None = None  # [n, K] logits of a classifier the refiner never saw
    judge_refined: NDArray[Any] | None = None
    judge_truth: NDArray[Any] | None = None
    embedding_raw: NDArray[Any] | None = None  # [n, D] of the frozen classifier
    embedding_refined: NDArray[Any] | None = None
    embedding_truth: NDArray[Any] | None = None
    fold: NDArray[Any] | None = None  # [n] int: the fold in which it was a test pattern
    run: NDArray[Any] | None = None  # [n] int: which independent seed, when several are stacked


def evaluate(
    inputs: EvaluationInputs,
    *,
    class_names: Sequence[str] | None = None,
    seed: int = 0,
    resamples: int = 2000,
    threshold: float = THRESHOLD,
    tolerance: int = TOLERANCE,
) -> dict[str, Any]:
    """All figures of merit of a refinement, JSON-able.

    Patterns are scaled to a maximum of 1 for the quality metrics, as the metrics demand; the mean
    change is on the same scale. threshold and tolerance are those of peaks.py.

    Raises:
        ValueError: shapes or labels disagree, or a number is not finite.
    """
    names = _check(inputs, class_names)
    draws = resample_groups(inputs.groups, seed=seed, resamples=resamples)
    raw, refined, truth = (max_normalized(a) for a in (inputs.raw, inputs.refined, inputs.truth))
    own = _hits(_scores(inputs, "logits"), inputs.labels)
    quality = {
        name: (metric.function(raw, truth), metric.function(refined, truth))
        for name, metric in METRICS.items()
    }
    if inputs.embedding_raw is not None:
        quality["embedding"] = _embedding_distances(inputs)
    folds = np.zeros(len(raw), int) if inputs.fold is None else np.asarray(inputs.fold)
    runs = np.zeros(len(raw), int) if inputs.run is None else np.asarray(inputs.run)
    change = mean_change(refined, raw)
    results: dict[str, Any] = {
        "counts": {
            "patterns": len(raw),
            "libraries": draws.times.shape[1],
            "folds": len(np.unique(folds)),
            "runs": len(np.unique(runs)),
            "classes": len(names),
            "length": raw.shape[1],
            "resamples": resamples,
        },
        "class_names": names,
        "accuracy": {
            "classifier": _accuracy(draws, inputs, "logits", own),
            "prototype": _accuracy(draws, inputs, "prototype"),
            "judge": _accuracy(draws, inputs, "judge"),
            "own_minus_judge_gain": _own_minus_judge(draws, inputs, own),
        },
        "fixed": int((~own["raw"] & own["refined"]).sum()),
        "broken": int((own["raw"] & ~own["refined"]).sum()),
        "per_class": _per_class(inputs, own, quality["l1"], names, seed, resamples),
        "per_fold": _per_part(folds, own, quality),
        "per_run": _per_part(runs, own, quality),
        "quality": {
            name: _quality(draws, *pair, METRICS[name].better if name in METRICS else "lower")
            for name, pair in quality.items()
        },
        "peaks": _peaks(draws, raw, refined, truth, threshold, tolerance),
        "change": {
            "mean": _estimate(draws, float(change.mean()), resampled_mean(draws, change)),
            "median": float(np.median(change)),
        },
        "confusion": {
            "raw": _confusion(inputs.labels, inputs.logits_raw),
            "refined": _confusion(inputs.labels, inputs.logits_refined),
            "truth": _confusion(inputs.labels, inputs.logits_truth),
        },
    }
    results["verdict"] = verdict(results)
    return results


# ---- Parts ----


def _scores(inputs: EvaluationInputs, head: str) -> dict[str, Any]:
    """Scores [n, K] of one head by kind of pattern, each None where it was not given."""
    return {kind: getattr(inputs, f"{head}_{kind}") for kind in ("raw", "refined", "truth")}


def _hits(scores: dict[str, NDArray], labels: NDArray) -> dict[str, NDArray]:
    """Whether each pattern is recognised, bool [n], by kind of pattern."""
    return {name: np.argmax(score, axis=1) == labels for name, score in scores.items()}


def _top2(scores: NDArray, labels: NDArray) -> float:
    best = np.argsort(-np.asarray(scores), axis=1, kind="stable")[:, :2]
    return float((best == np.asarray(labels)[:, None]).any(axis=1).mean())


def _accuracy(
    draws: GroupResamples, inputs: EvaluationInputs, head: str, hits: dict | None = None
) -> dict[str, Any] | None:
    """Accuracy and top-2 of one head on raw, refined and truth, and the gain; None without it."""
    scores = _scores(inputs, head)
    if scores["raw"] is None:
        return None
    hits = hits or _hits(scores, inputs.labels)
    result: dict[str, Any] = {
        kind: _mean(draws, hits[kind]) | {"top2": _top2(scores[kind], inputs.labels)}
        for kind in scores
    }
    result["gain"] = _mean(draws, hits["refined"].astype(float) - hits["raw"])
    result["gain_top2"] = result["refined"]["top2"] - result["raw"]["top2"]
    return result


def _own_minus_judge(
    draws: GroupResamples, inputs: EvaluationInputs, own: dict[str, NDArray]
) -> Estimate | None:
    """How much of the gain the unseen classifier does not share: large means adversarial."""
    scores = _scores(inputs, "judge")
    if scores["raw"] is None:
        return None
    judge = _hits(scores, inputs.labels)
    gains = [hits["refined"].astype(float) - hits["raw"] for hits in (own, judge)]
    return _mean(draws, gains[0] - gains[1])


def _per_class(
    inputs: EvaluationInputs,
    own: dict[str, NDArray],
    l1: tuple[NDArray, NDArray],
    names: list[str],
    seed: int,
    resamples: int,
) -> list[dict[str, Any]]:
    """Accuracy, gain and l1 of each class that has test patterns."""
    rows = []
    for label, name in enumerate(names):
        member = np.asarray(inputs.labels) == label
        if not member.any():
            continue
        draws = resample_groups(np.asarray(inputs.groups)[member], seed=seed, resamples=resamples)
        gain = own["refined"][member].astype(float) - own["raw"][member]
        rows.append(
            {"name": name, "patterns": int(member.sum())}
            | {kind: float(own[kind][member].mean()) for kind in own}
            | {"gain": _mean(draws, gain)}
            | {"l1_raw": float(l1[0][member].mean()), "l1_refined": float(l1[1][member].mean())}
        )
    return rows


def _per_part(
    parts: NDArray, own: dict[str, NDArray], quality: dict[str, tuple[NDArray, NDArray]]
) -> dict[str, Any]:
    """Headline numbers of each fold or run, with mean and sample standard deviation over them."""
    rows = []
    for part in np.unique(parts):
        chosen = parts == part
        row: dict[str, Any] = {"part": str(part), "patterns": int(chosen.sum())}
        row |= {kind: float(own[kind][chosen].mean()) for kind in own}
        row["gain"] = row["refined"] - row["raw"]
        for name in ("l1", "kl", "ncc"):
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
        "change": _mean(draws, refined - raw),
        "relative_change": {
            "mean": _ratio(draws, refined, raw, offset=-1.0),
            "median": _estimate(
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
    rates = {name: _ratio(draws, getattr(found, name), base) for name, base in over.items()}
    return {"threshold": threshold, "tolerance": tolerance, "counts": counts, "rates": rates}


def _confusion(labels: NDArray, scores: NDArray) -> list[list[int]]:
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


# ---- Estimates with intervals ----


def _mean(draws: GroupResamples, values: NDArray) -> Estimate:
    return _estimate(draws, float(np.mean(values)), resampled_mean(draws, values))


def _ratio(draws: GroupResamples, above: NDArray, below: NDArray, offset: float = 0.0) -> Estimate:
    total = float(np.sum(below))
    value = float(np.sum(above)) / total + offset if total != 0 else None
    return _estimate(draws, value, resampled_ratio(draws, above, below) + offset)


def _estimate(draws: GroupResamples, value: float | None, samples: NDArray) -> Estimate:
    groups = draws.times.shape[1]
    if value is None or groups < MIN_GROUPS or not np.isfinite(samples).any():
        return {"value": value, "low": None, "high": None}
    low, high = percentile_interval(samples, groups)
    return {"value": value, "low": low, "high": high}


# ---- Checks ----


def _check(inputs: EvaluationInputs, class_names: Sequence[str] | None) -> list[str]:
    """Class names; ValueError naming the first field that does not fit."""
    count, length = np.shape(inputs.raw)
    classes = np.shape(inputs.logits_raw)[1]
    width = 0 if inputs.embedding_raw is None else np.shape(inputs.embedding_raw)[1]
    if not count:
        raise ValueError("no test patterns")
    for trio in ("prototype", "judge", "embedding"):
        given = [field is not None for field in _scores(inputs, trio).values()]
        if any(given) and not all(given):
            raise ValueError(f"{trio}_raw, {trio}_refined and {trio}_truth belong together")
    for name, values in inputs._asdict().items():
        if values is None:
            continue
        shape = np.shape(values)
        if name in ("raw", "refined", "truth"):
            expected: tuple[int, ...] = (count, length)
        elif name.startswith("embedding"):
            expected = (count, width)
        elif name in ("labels", "groups", "fold", "run"):
            expected = (count,)
        else:
            expected = (count, classes)
        if shape != expected:
            raise ValueError(f"{name}: expected shape {expected}, got {shape}")
        if np.issubdtype(np.asarray(values).dtype, np.floating) and not np.isfinite(values).all():
            raise ValueError(f"{name}: holds numbers that are not finite")
    if np.min(inputs.labels) < 0 or np.max(inputs.labels) >= classes:
        raise ValueError(f"labels: expected 0 to {classes - 1}")
    if inputs.fold is not None:
        runs = np.zeros(count, int) if inputs.run is None else np.asarray(inputs.run)
        homes: dict[tuple[str, str], str] = {}
        for run, group, fold in zip(runs, inputs.groups, inputs.fold, strict=True):
            if homes.setdefault((str(run), str(group)), str(fold)) != str(fold):
                raise ValueError(f"fold: library {group} is in more than one fold")
    names = [str(k) for k in range(classes)] if class_names is None else list(class_names)
    if len(names) != classes:
        raise ValueError(f"class_names: expected {classes}, got {len(names)}")
    return names
