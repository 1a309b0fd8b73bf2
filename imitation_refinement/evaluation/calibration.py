"""How far a probability can be believed: temperature scaling, calibration error, risk and coverage.

Belongs here: pure NumPy functions of probabilities or logits and labels. Nothing here knows what a
pattern is or reads a file; the rule that turns these numbers into a verdict is in `acceptance`.

Shapes: n examples, K classes; labels int `[n]`, probabilities float `[n, K]` with rows that sum
to 1. The confidence of an example is its largest probability.
"""

from typing import NamedTuple

import numpy as np
import scipy.optimize
import scipy.special
from numpy.typing import ArrayLike, NDArray

from imitation_refinement.evaluation.metrics import GroupResamples

Array = NDArray[np.float64]

BINS = 15  # of confidence, equally wide: the customary number (Guo et al. 2017)
TEMPERATURES = (0.05, 20.0)  # outside of which a classifier is of no use


def softmax_at(logits: ArrayLike, temperature: float) -> Array:
    """Returns softmax(logits / T), float64 `[n, K]` (Guo et al. 2017, arXiv:1706.04599, Eq. 9)."""
    return scipy.special.softmax(np.asarray(logits, np.float64) / temperature, axis=1)


def temper(probabilities: ArrayLike, temperature: float) -> Array:
    """Returns probabilities as another temperature would have them: softmax(log(p) / T), `[n, K]`.

    `temper(softmax_at(z, t), 1 / t)` is `softmax_at(z, 1)`.
    """
    tiny = np.finfo(np.float64).tiny
    return softmax_at(np.log(np.maximum(np.asarray(probabilities, np.float64), tiny)), temperature)


def negative_log_likelihood(logits: ArrayLike, labels: ArrayLike, temperature: float) -> float:
    """Returns the mean of -log softmax(logits / T) of the true classes, in nats."""
    log_probs = scipy.special.log_softmax(np.asarray(logits, np.float64) / temperature, axis=1)
    labels = np.asarray(labels)
    return -float(np.mean(log_probs[np.arange(len(labels)), labels]))


def fit_temperature(logits: ArrayLike, labels: ArrayLike) -> float:
    """Returns the temperature that makes the labels likeliest, within `TEMPERATURES`.

    The likelihood is convex in 1/T, so the one minimum is found by a bounded search over log T.

    Args:
        logits: float `[n, K]`.
        labels: int `[n]`, of examples that the classifier was not trained on.

    Raises:
        ValueError: no examples.
    """
    if not len(np.asarray(labels)):
        raise ValueError("fit_temperature: expected labelled examples, got none")
    found = scipy.optimize.minimize_scalar(
        lambda log_t: negative_log_likelihood(logits, labels, float(np.exp(log_t))),
        bounds=tuple(np.log(TEMPERATURES)),
        options={"xatol": 1e-6},
    )
    return float(np.exp(found.x))


def brier_terms(probabilities: ArrayLike, labels: ArrayLike) -> Array:
    """Returns sum_k (p_k - y_k)^2 of each example, float64 `[n]`."""
    probabilities, labels = _checked(probabilities, labels)
    truth = np.eye(probabilities.shape[1])[labels]
    return np.square(probabilities - truth).sum(axis=1)


class Reliability(NamedTuple):
    """A reliability diagram; float64 `[bins]`, NaN where a bin is empty.

    Attributes:
        confidence: mean confidence of the examples in each bin.
        accuracy: share of them that are right.
        size: how many there are.
    """

    confidence: Array
    accuracy: Array
    size: Array


def reliability(probabilities: ArrayLike, labels: ArrayLike, bins: int = BINS) -> Reliability:
    """Returns mean confidence and accuracy in equally wide bins (a, b] of confidence."""
    probabilities, labels = _checked(probabilities, labels)
    confidence, correct, place = _binned(probabilities, labels, bins)
    count = np.bincount(place, minlength=bins).astype(np.float64)

    def mean(values: NDArray) -> Array:
        total = np.bincount(place, values, bins)
        return np.divide(total, count, out=np.full(bins, np.nan), where=count > 0)

    return Reliability(mean(confidence), mean(correct), count)


def expected_calibration_error(
    probabilities: ArrayLike, labels: ArrayLike, bins: int = BINS
) -> float:
    """Returns the mean over examples of |accuracy - confidence| of their bin, from 0 to 1.

     Naeini et al. 2015. It is biased upwards: a perfect classifier of n examples has up to about
    0.4 sqrt(bins / n).
    """
    table = reliability(probabilities, labels, bins)
    gap = np.abs(table.accuracy - table.confidence)
    return float(np.nansum(gap * table.size) / table.size.sum())


def resampled_calibration_error(
    draws: GroupResamples, probabilities: ArrayLike, labels: ArrayLike, bins: int = BINS
) -> Array:
    """Returns the expected calibration error in each bootstrap resample of groups, `[R]`.

    For `metrics.percentile_interval`.
    """
    probabilities, labels = _checked(probabilities, labels)
    confidence, correct, place = _binned(probabilities, labels, bins)
    gaps = np.zeros((draws.times.shape[1], bins))  # by group and bin: sum of correct - confidence
    np.add.at(gaps, (draws.group, place), correct - confidence)
    total = draws.times @ np.bincount(draws.group)
    return np.abs(draws.times @ gaps).sum(axis=1) / total


def risk_coverage(confidence: ArrayLike, correct: ArrayLike) -> tuple[Array, Array]:
    """Returns (coverage, risk): answer the k surest examples only, and what share is wrong.

    One point for each distinct confidence, from the highest to the lowest: examples that are
    equally sure are answered together.

    Args:
        confidence: float `[n]`.
        correct: bool `[n]`.

    Returns:
        coverage: share of the examples that is answered, increasing, the last 1, float64 `[m]`.
        risk: share of these that is wrong, float64 `[m]`.
    """
    confidence, correct = np.asarray(confidence, np.float64), np.asarray(correct, np.float64)
    order = np.argsort(-confidence)
    answered = np.arange(1, len(order) + 1)
    wrong = np.cumsum(1.0 - correct[order])
    last = np.append(np.diff(confidence[order]) != 0, True)[: len(order)]
    return answered[last] / max(len(order), 1), wrong[last] / answered[last]


def confidence_level(
    confidence: ArrayLike, correct: ArrayLike, accuracy: float, fewest: int
) -> float | None:
    """Returns the lowest confidence from which on the answers are right often enough.

    Args:
        confidence: float `[n]`.
        correct: bool `[n]`.
        accuracy: share of the answers that must be right.
        fewest: answers that must be left, so that a lucky few do not set the level.

    Returns:
        The level, None if there is none.
    """
    confidence = np.asarray(confidence, np.float64)
    coverage, risk = risk_coverage(confidence, correct)
    enough = np.round(coverage * len(confidence)) >= fewest
    fits = np.flatnonzero(enough & (1.0 - risk >= accuracy))
    return float(np.unique(confidence)[::-1][fits[-1]]) if fits.size else None


def _binned(
    probabilities: Array, labels: NDArray[np.intp], bins: int
) -> tuple[Array, Array, NDArray[np.intp]]:
    """Confidence, whether right (0 or 1) and bin of each example, `[n]` each."""
    confidence = probabilities.max(axis=1)
    correct = (probabilities.argmax(axis=1) == labels).astype(np.float64)
    # Rounding may leave a confidence just above 1.
    place = np.minimum(np.ceil(confidence * bins).astype(np.intp), bins) - 1
    return confidence, correct, place


def _checked(probabilities: ArrayLike, labels: ArrayLike) -> tuple[Array, NDArray[np.intp]]:
    probabilities, labels = np.asarray(probabilities, np.float64), np.asarray(labels, np.intp)
    if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1] or not labels.size:
        raise ValueError(
            f"expected probabilities [n, K] and labels [n], n > 0, got {probabilities.shape} "
            f"and {labels.shape}"
        )
    return probabilities, labels
