"""Figures of merit of a model on labelled, measured patterns: arrays in, a nested dict out.

Belongs here: which figures, over which patterns, with which intervals. No files, no pictures. Every
estimate is {'value', 'low', 'high'}: 95 % bootstrap over groups (near-identical samples stay
together), low and high None where fewer than MIN_GROUPS groups make an interval meaningless.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imitation_refinement.evaluation.calibration import (
    brier_terms,
    expected_calibration_error,
    reliability,
    resampled_calibration_error,
    risk_coverage,
)
from imitation_refinement.evaluation.metrics import (
    METRICS,
    GroupResamples,
    estimate,
    mean_estimate,
    ratio_estimate,
    resample_groups,
    resampled_ratio,
)
from imitation_refinement.evaluation.peaks import PeakCounts, invented_and_lost
from imitation_refinement.model.acceptance import VERDICTS

COVERAGES = (0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
QUALITY = ("l1", "l2", "kl", "kl_normalized", "ncc")
KINDS = ("raw", "refined")


class Answers(NamedTuple):
    """What a model answered about n labelled patterns of K classes.

    Attributes:
        labels: int `[n]`.
        groups: str `[n]`, what is resampled together.
        sources: str `[n]`, collections.
        probabilities: by kind (`raw`, `refined`), calibrated, float64 `[n, K]`.
        uncalibrated: the same before temperature scaling.
        verdict: of the refined pattern, str `[n]`.
    """

    labels: NDArray
    groups: NDArray
    sources: NDArray
    probabilities: dict[str, NDArray]
    uncalibrated: dict[str, NDArray]
    verdict: NDArray


class Compared(NamedTuple):
    """m patterns beside the simulated pattern of their crystal.

    Attributes:
        rows: which of the answers they are, int `[m]`.
        raw, refined, truth: float `[m, L]`, maximum 1, 0 outside the mask.
        mask: bool `[m, L]`, true where measured.
    """

    rows: NDArray
    raw: NDArray
    refined: NDArray
    truth: NDArray
    mask: NDArray


class Quality(NamedTuple):
    """How near m patterns are to the simulated pattern of their crystal.

    Attributes:
        rows: which of the answers they are, int `[m]`.
        distances: of QUALITY, raw and refined, float64 `[m, len(QUALITY), 2]`.
        peaks: int64 `[m]` each.
    """

    rows: NDArray
    distances: NDArray
    peaks: PeakCounts


def quality_of(compared: Compared) -> Quality:
    """Returns the distances over the measured range and the peaks of each pattern by itself."""
    distances = [
        [
            [METRICS[name].function(x[None, m], y[None, m])[0] for x in (before, after)]
            for name in QUALITY
        ]
        for before, after, y, m in zip(*compared[1:], strict=True)
    ]
    peaks = invented_and_lost(compared.raw, compared.refined, compared.truth)
    return Quality(compared.rows, np.array(distances, np.float64), peaks)


def score(
    answers: Answers,
    quality: Quality | None,
    class_names: Sequence[str],
    *,
    seed: int = 0,
    resamples: int = 2000,
) -> dict[str, Any]:
    """All figures of merit.

    Args:
        answers: at least one.
        quality: of those with a known crystal, None if there are none.
        class_names: K.
        seed: of the bootstrap.
        resamples: of the bootstrap.
    """
    everything = np.arange(len(answers.labels))

    def over(rows: NDArray) -> dict[str, Any]:
        return _accuracy(answers, rows, seed, resamples)

    draws = resample_groups(answers.groups, seed=seed, resamples=resamples)
    return {
        "patterns": len(everything),
        "groups": draws.times.shape[1],
        "resamples": resamples,
        "class_names": list(class_names),
        "overall": over(everything),
        "by_source": {
            str(name): over(np.flatnonzero(answers.sources == name))
            for name in np.unique(answers.sources)
        },
        "by_class": {
            class_names[k]: over(np.flatnonzero(answers.labels == k))
            for k in np.unique(answers.labels)
        },
        "confusion": {kind: _confusion(answers, kind, len(class_names)) for kind in KINDS},
        "risk_coverage": {kind: _risk(answers, kind) for kind in KINDS},
        "calibration": {kind: _calibration(answers, kind, draws) for kind in KINDS},
        "verdicts": _verdicts(answers, draws),
        "quality": None if quality is None else _quality(answers, quality, seed, resamples),
    }


def balanced_accuracy(labels: NDArray, correct: NDArray) -> float:
    """Mean over the classes that occur of the share of their patterns that is right."""
    return float(np.mean([correct[labels == k].mean() for k in np.unique(labels)]))


def _accuracy(answers: Answers, rows: NDArray, seed: int, resamples: int) -> dict[str, Any]:
    """Top-1, top-2 and balanced accuracy of some answers, raw and refined, and the gain."""
    draws = resample_groups(answers.groups[rows], seed=seed, resamples=resamples)
    labels = answers.labels[rows]
    found: dict[str, Any] = {"patterns": len(rows), "groups": draws.times.shape[1]}
    first = {}
    for kind in KINDS:
        order = np.argsort(-answers.probabilities[kind][rows], axis=1, kind="stable")
        hits = order == labels[:, None]
        first[kind] = hits[:, 0].astype(np.float64)
        recall = [resampled_ratio(draws, first[kind] * (labels == k), labels == k)
                  for k in np.unique(labels)]  # fmt: skip
        every = np.isfinite(recall)  # a resample may lack a class
        balanced = np.where(every, recall, 0.0).sum(axis=0) / np.maximum(every.sum(axis=0), 1)
        found[kind] = {
            "top1": mean_estimate(draws, first[kind]),
            "top2": mean_estimate(draws, hits[:, :2].any(axis=1)),
            "balanced": estimate(draws, balanced_accuracy(labels, first[kind]), balanced),
        }
    found["gain"] = mean_estimate(draws, first["refined"] - first["raw"])
    return found


def _confusion(answers: Answers, kind: str, classes: int) -> list[list[int]]:
    """Counts `[K, K]`, rows the true class."""
    flat = answers.labels * classes + answers.probabilities[kind].argmax(axis=1)
    return np.bincount(flat, minlength=classes**2).reshape(classes, classes).tolist()


def _risk(answers: Answers, kind: str) -> dict[str, Any]:
    """Accuracy of the surest share of the answers, and the whole curve."""
    probabilities = answers.probabilities[kind]
    correct = probabilities.argmax(axis=1) == answers.labels
    coverage, risk = risk_coverage(probabilities.max(axis=1), correct)
    at = np.minimum(np.searchsorted(coverage, np.array(COVERAGES) - 1e-9), len(coverage) - 1)
    accuracy = 1.0 - risk
    return {
        "accuracy_at": dict(zip(map(str, COVERAGES), accuracy[at].tolist(), strict=True)),
        "coverage": coverage.tolist(),
        "accuracy": accuracy.tolist(),
    }


def _calibration(answers: Answers, kind: str, draws: GroupResamples) -> dict[str, Any]:
    """Calibration error, Brier score and reliability before and after temperature scaling."""
    found = {}
    for name, given in (("before", answers.uncalibrated), ("after", answers.probabilities)):
        probabilities = given[kind]
        samples = resampled_calibration_error(draws, probabilities, answers.labels)
        error = expected_calibration_error(probabilities, answers.labels)
        bins = reliability(probabilities, answers.labels)
        used = bins.size > 0
        found[name] = {
            "calibration_error": estimate(draws, error, samples),
            "brier": mean_estimate(draws, brier_terms(probabilities, answers.labels)),
            "mean_confidence": float(probabilities.max(axis=1).mean()),
            "reliability": {
                "confidence": bins.confidence[used].tolist(),
                "accuracy": bins.accuracy[used].tolist(),
                "patterns": bins.size[used].astype(int).tolist(),
            },
        }
    return found


def _verdicts(answers: Answers, draws: GroupResamples) -> dict[str, Any]:
    """How often each verdict was given, and how often the answer with it was right."""
    correct = answers.probabilities["refined"].argmax(axis=1) == answers.labels
    found = {}
    for name in VERDICTS:
        given = (answers.verdict == name).astype(np.float64)
        found[name] = {
            "patterns": int(given.sum()),
            "share": mean_estimate(draws, given),
            "accuracy": ratio_estimate(draws, correct * given, given),
        }
    return found


def _quality(answers: Answers, quality: Quality, seed: int, resamples: int) -> dict[str, Any]:
    """Distances to the simulated patterns over the measured range, and peaks."""
    draws = resample_groups(answers.groups[quality.rows], seed=seed, resamples=resamples)
    distances = {}
    for name, (raw, refined) in zip(QUALITY, quality.distances.transpose(1, 2, 0), strict=True):
        better = refined < raw if METRICS[name].better == "lower" else refined > raw
        distances[name] = {
            "raw": mean_estimate(draws, raw),
            "refined": mean_estimate(draws, refined),
            "change": mean_estimate(draws, refined - raw),
            "improved": float(better.mean()),
        }
    peaks = quality.peaks
    over = {
        "invented": peaks.refined,
        "spurious_raw": peaks.raw,
        "spurious_refined": peaks.refined,
        "missed_raw": peaks.truth,
        "missed_refined": peaks.truth,
        "lost": peaks.truth,
        "recovered": peaks.truth,
    }
    return {
        "patterns": len(quality.rows),
        "groups": draws.times.shape[1],
        "distances": distances,
        "peaks": {
            "counts": {name: int(values.sum()) for name, values in peaks._asdict().items()},
            "rates": {
                name: ratio_estimate(draws, getattr(peaks, name), n) for name, n in over.items()
            },
        },
    }
