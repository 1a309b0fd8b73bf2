"""Confident, ambiguous or not recognised: the rule that turns a model's numbers into a verdict.

Belongs here: the rule, what it is fitted to, and the figures it had there. Pure NumPy, no files.

A pattern is, in this order,

1. `not recognised` if nothing in it rises above zero, or if one of `STATISTICS` is larger than for
   all but one in 200 of the generated patterns by which the rule was fitted: the model has seen
   nothing like it, and what it says of it means nothing;
2. `ambiguous` if its calibrated confidence is below the level from which on 80 % of the generated
   patterns were classified rightly, or if the second class is more than half as likely as the
   first;
3. `confident` otherwise.

Temperatures, level and limits are fitted to *generated* imperfect patterns alone: those that the
refiner was not trained on, of crystals that the classifier was not trained on. No measured pattern
has a part in them. How far they hold for measured ones has to be measured (`--mode=benchmark`).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike, NDArray

from imitation_refinement.evaluation.calibration import (
    brier_terms,
    confidence_level,
    expected_calibration_error,
    fit_temperature,
    resampled_calibration_error,
    softmax_at,
)
from imitation_refinement.evaluation.metrics import (
    GroupResamples,
    percentile_interval,
    resample_groups,
    resampled_mean,
)

Array = NDArray[np.float64]

CONFIDENT, AMBIGUOUS, NOT_RECOGNISED = VERDICTS = ("confident", "ambiguous", "not recognised")
ACCURACY = 0.8  # of the answers that are called confident, on generated patterns
FEWEST = 20  # generated patterns that must be left when the level is set
SECOND = 0.5  # of the first class's probability: a likelier second class makes it ambiguous
OUTSIDE = 0.005  # share of the generated patterns beyond each limit
HIGH = 0.1  # of the maximum: where a point counts as occupied
RIDGE = 1e-3  # of the mean variance, added to each: the embedding has directions without spread
PARTS = 5  # into which groups are cut, so that figures come from patterns that fitted nothing

# The reason for a pattern that lies beyond the limit of a statistic.
STATISTICS = {
    "occupancy": "no separate peaks",
    "change": "most of it was removed as noise",
    "distance": "far from the prototype of every class",
    "remoteness": "unlike the patterns that the model was made for",
}
NO_SIGNAL = "nothing rises above background and noise"


class Cloud(NamedTuple):
    """Where the embeddings of generated patterns lie.

    Attributes:
        center: their mean, float32 `[D]`.
        whitening: W with W W^T the inverse of their covariance, float32 `[D, D]`.
    """

    center: np.ndarray
    whitening: np.ndarray


class Calibration(NamedTuple):
    """What a model's numbers mean.

    Attributes:
        temperature: divides the logits of refined patterns.
        raw_temperature: divides those of patterns as they came.
        level: confidence from which on an answer counts as confident; None: none does.
        limits: the largest value of each of `STATISTICS` that is recognised.
        cloud: for `remoteness`.
        figures: what was measured when it was fitted; see `fit_calibration`.
    """

    temperature: float
    raw_temperature: float
    level: float | None
    limits: Mapping[str, float]
    cloud: Cloud
    figures: Mapping[str, Any]


class HeldOut(NamedTuple):
    """Generated imperfect patterns through networks that were not trained on them.

    Attributes:
        logits: of the refined patterns, `[n, K]`.
        raw_logits: of the patterns as they came, `[n, K]`.
        embedding: of the refined patterns, `[n, D]`.
        statistics: `occupancy`, `change`, `distance`, `[n]` each.
        labels: int `[n]`.
        groups: which patterns belong together, `[n]`.
    """

    logits: np.ndarray
    raw_logits: np.ndarray
    embedding: np.ndarray
    statistics: Mapping[str, np.ndarray]
    labels: np.ndarray
    groups: np.ndarray


# ---- Statistics ----


def shape_statistics(raw: ArrayLike, refined: ArrayLike, mask: ArrayLike) -> dict[str, Array]:
    """Returns what noise and humps have more of than peaks, float64 `[n]` each.

    `occupancy` is the share of the measured points that are higher than a tenth of the maximum:
    most of them, where there are no separate peaks. `change` is sum |refined - raw| / sum raw.

    Args:
        raw: not negative, 0 outside the mask, `[n, L]`.
        refined: the same patterns, refined.
        mask: where they were measured, bool `[n, L]`.
    """
    raw, refined = np.asarray(raw, np.float64), np.asarray(refined, np.float64)
    high = (raw > HIGH * raw.max(axis=1, keepdims=True)).sum(axis=1)
    total = raw.sum(axis=1)
    apart = np.abs(refined - raw).sum(axis=1)
    return {
        "occupancy": high / np.maximum(np.asarray(mask).sum(axis=1), 1),
        "change": np.divide(apart, total, out=np.zeros_like(total), where=total > 0),
    }


def fit_cloud(embedding: ArrayLike) -> Cloud:
    """Returns mean and whitening of embeddings `[n, D]`, of a covariance with a small ridge."""
    embedding = np.asarray(embedding, np.float64)
    center = embedding.mean(axis=0)
    covariance = np.atleast_2d(np.cov(embedding, rowvar=False, bias=True))
    size = len(covariance)
    ridge = max(RIDGE * np.trace(covariance) / size, np.finfo(np.float32).tiny)
    factor = scipy.linalg.cholesky(covariance + ridge * np.eye(size), lower=True)
    whitening = scipy.linalg.solve_triangular(factor, np.eye(size), lower=True).T
    return Cloud(center.astype(np.float32), whitening.astype(np.float32))


def remoteness(cloud: Cloud, embedding: ArrayLike) -> Array:
    """Returns the squared Mahalanobis distance of embeddings over D, about 1 in the cloud, `[n]`.

    After Lee et al. 2018 (arXiv:1807.03888), with one cloud for all classes.
    """
    offset = np.asarray(embedding, np.float64) - cloud.center
    return np.square(offset @ np.asarray(cloud.whitening, np.float64)).mean(axis=1)


# ---- The rule ----


def verdicts(
    calibration: Calibration,
    probabilities: Array,
    statistics: Mapping[str, Array],
    signal: ArrayLike,
    class_names: Sequence[str],
) -> tuple[np.ndarray, np.ndarray]:
    """Applies the rule at the head of this module.

    Args:
        calibration: see `fit_calibration`.
        probabilities: calibrated, float64 `[n, K]`.
        statistics: all of `STATISTICS`, `[n]` each.
        signal: whether anything rises above zero, bool `[n]`.
        class_names: K.

    Returns:
        (verdict, reason), str `[n]`; a confident one has an empty reason.
    """
    found = []
    for row, (values, present) in enumerate(zip(probabilities, np.asarray(signal), strict=True)):
        beyond = [
            reason
            for name, reason in STATISTICS.items()
            if statistics[name][row] > calibration.limits[name]
        ]
        if not present:
            found.append((NOT_RECOGNISED, NO_SIGNAL))
        elif beyond:
            found.append((NOT_RECOGNISED, "; ".join(beyond)))
        else:
            doubt = _doubt(calibration.level, values, class_names)
            found.append((AMBIGUOUS if doubt else CONFIDENT, doubt))
    verdict, reason = zip(*found, strict=True) if found else ((), ())
    return np.array(verdict, np.str_), np.array(reason, np.str_)


def _doubt(level: float | None, probabilities: Array, class_names: Sequence[str]) -> str:
    """Returns why an answer is not confident; empty if it is."""
    first, second = np.argsort(-probabilities, kind="stable")[:2]
    if level is None:
        return "on generated patterns no confidence was high enough to be trusted"
    if probabilities[first] < level:
        return f"confidence {probabilities[first]:.3f} is below {level:.3f}"
    if probabilities[second] > SECOND * probabilities[first]:
        return (
            f"{class_names[second]} ({probabilities[second]:.2f}) is nearly as likely as "
            f"{class_names[first]} ({probabilities[first]:.2f})"
        )
    return ""


# ---- Fitting ----


def fit_calibration(
    held_out: HeldOut, class_names: Sequence[str], *, seed: int = 0, resamples: int = 2000
) -> Calibration:
    """Fits temperatures, level and limits, and measures what they do.

    The figures of the calibrated probabilities come from temperatures that were fitted to other
    groups; each is {'value', 'low', 'high'} with a 95 % bootstrap interval over groups.

    Args:
        held_out: generated patterns.
        class_names: K.
        seed: of the bootstrap.
        resamples: of the bootstrap.
    """
    labels, groups = np.asarray(held_out.labels), np.asarray(held_out.groups)
    draws = resample_groups(groups, seed=seed, resamples=resamples)
    temperature = fit_temperature(held_out.logits, labels)
    raw_temperature = fit_temperature(held_out.raw_logits, labels)
    calibrated = softmax_at(held_out.logits, temperature)
    correct = calibrated.argmax(axis=1) == labels
    level = confidence_level(calibrated.max(axis=1), correct, ACCURACY, FEWEST)

    apart = np.empty(len(labels))
    for part, rest in _parts(groups):
        apart[part] = remoteness(fit_cloud(held_out.embedding[rest]), held_out.embedding[part])
    statistics = {**held_out.statistics, "remoteness": apart}
    limits = {name: float(np.quantile(statistics[name], 1.0 - OUTSIDE)) for name in STATISTICS}

    fitted = Calibration(
        temperature, raw_temperature, level, limits, fit_cloud(held_out.embedding), {}
    )
    verdict, _ = verdicts(fitted, calibrated, statistics, np.ones(len(labels), bool), class_names)
    figures = {
        "patterns": len(labels),
        "groups": draws.times.shape[1],
        "refined": _figures(draws, held_out.logits, labels, groups),
        "raw": _figures(draws, held_out.raw_logits, labels, groups),
        "verdicts": {
            name: {
                "share": _estimate(draws, verdict == name),
                "accuracy": float(correct[verdict == name].mean())
                if np.any(verdict == name)
                else None,
            }
            for name in VERDICTS
        },
    }
    return fitted._replace(figures=figures)


def _figures(
    draws: GroupResamples, logits: np.ndarray, labels: np.ndarray, groups: np.ndarray
) -> dict[str, Any]:
    """Accuracy, calibration error and Brier score before and after scaling."""
    before = softmax_at(logits, 1.0)
    after = np.empty_like(before)
    for part, rest in _parts(groups):
        after[part] = softmax_at(logits[part], fit_temperature(logits[rest], labels[rest]))
    found: dict[str, Any] = {"accuracy": _estimate(draws, before.argmax(axis=1) == labels)}
    for name, probabilities in (("before", before), ("after", after)):
        samples = resampled_calibration_error(draws, probabilities, labels)
        error = expected_calibration_error(probabilities, labels)
        found[f"calibration_error_{name}"] = _interval(draws, error, samples)
        found[f"brier_{name}"] = _estimate(draws, brier_terms(probabilities, labels))
    return found


def _parts(groups: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields masks (part, the rest) that split no group; a single group is its own rest."""
    names, index = np.unique(groups, return_inverse=True)
    for number in range(min(PARTS, len(names))):
        part = index % PARTS == number
        yield part, ~part if len(names) > 1 else part


def _estimate(draws: GroupResamples, values: np.ndarray) -> dict[str, float | None]:
    return _interval(draws, float(np.mean(values)), resampled_mean(draws, values))


def _interval(draws: GroupResamples, value: float, samples: Array) -> dict[str, float | None]:
    count = draws.times.shape[1]
    low, high = percentile_interval(samples, count) if count > 1 else (None, None)
    return {"value": value, "low": low, "high": high}
