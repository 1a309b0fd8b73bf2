import numpy as np
import pytest

from imitation_refinement.evaluation.calibration import (
    brier_terms,
    confidence_level,
    expected_calibration_error,
    fit_temperature,
    negative_log_likelihood,
    reliability,
    resampled_calibration_error,
    risk_coverage,
    softmax_at,
    temper,
)
from imitation_refinement.evaluation.metrics import resample_groups


def drawn(temperature: float, count: int = 40_000, classes: int = 5):
    """Logits, and labels drawn from what they say at a temperature."""
    rng = np.random.default_rng(0)
    logits = 3.0 * rng.normal(size=(count, classes))
    share = softmax_at(logits, temperature).cumsum(axis=1)
    labels = (rng.random((count, 1)) > share).sum(axis=1)
    return logits, np.minimum(labels, classes - 1)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_temperature_with_which_labels_were_drawn_is_found(temperature):
    assert fit_temperature(*drawn(temperature)) == pytest.approx(temperature, rel=0.03)


def test_no_other_temperature_is_likelier():
    logits, labels = drawn(1.7, count=500)
    best = fit_temperature(logits, labels)
    least = negative_log_likelihood(logits, labels, best)
    for other in np.geomspace(0.05, 20.0, 200):
        assert least <= negative_log_likelihood(logits, labels, float(other)) + 1e-9


def test_temperature_by_hand():
    # sigmoid(1 / T) = 3/4 where 3 of 4 are right, so T = 1 / ln 3; all right: the lowest there is.
    logits = np.array([[1.0, 0.0]] * 4)
    assert fit_temperature(logits, [0, 0, 1, 0]) == pytest.approx(1 / np.log(3), rel=1e-6)
    seven_of_ten = np.array([[2.0, 0.0]] * 10), [0] * 7 + [1] * 3
    assert fit_temperature(*seven_of_ten) == pytest.approx(2 / np.log(7 / 3), rel=5e-7)
    assert fit_temperature(logits, [0, 0, 0, 0]) == pytest.approx(0.05, rel=1e-4)
    assert fit_temperature(logits, [1, 1, 1, 1]) == pytest.approx(20.0, rel=1e-4)


def test_single_precision_is_taken_as_double():
    narrow = np.array([[3.0, 1.0, -2.0], [0.1, 0.5, 0.7]], np.float32)
    wide = narrow.astype(np.float64)
    assert softmax_at(narrow, 3.0).dtype == np.float64
    np.testing.assert_array_equal(softmax_at(narrow, 3.0), softmax_at(wide, 3.0))
    assert negative_log_likelihood(narrow, [0, 1], 3.0) == negative_log_likelihood(wide, [0, 1], 3)
    # exp(-3) / (1 + exp(-3) + exp(-2)) and the like, in nats
    expected = np.log(1 + np.exp(-2) + np.exp(-5)) + np.log(1 + np.exp(-0.4) + np.exp(0.2))
    assert negative_log_likelihood(narrow, [0, 1], 1.0) == pytest.approx(expected / 2, rel=1e-6)
    # A probability of 1e-30 squared is nothing in single precision.
    np.testing.assert_allclose(temper(np.float32([[1.0, 1e-30]]), 0.5)[0, 1], 1e-60, rtol=1e-4)


def test_temperature_scales_with_the_logits():
    logits, labels = drawn(1.7, count=500)
    found = fit_temperature(3.0 * logits, labels)
    assert found == pytest.approx(3.0 * fit_temperature(logits, labels), rel=1e-4)


def test_temperature_needs_examples():
    with pytest.raises(ValueError, match="^fit_temperature: expected labelled examples, got none$"):
        fit_temperature(np.zeros((0, 3)), np.zeros(0, int))


def test_tempering_undoes_itself_and_keeps_the_order():
    probabilities = softmax_at(np.array([[3.0, 1.0, -2.0], [0.0, 0.5, 9.0]]), 1.0)
    flat = temper(probabilities, 4.0)
    np.testing.assert_allclose(temper(flat, 0.25), probabilities, rtol=1e-12)
    assert (flat.argmax(axis=1) == probabilities.argmax(axis=1)).all()
    assert (flat.max(axis=1) < probabilities.max(axis=1)).all()
    # softmax of (2, 0) / 2 is e / (e + 1)
    np.testing.assert_allclose(softmax_at([[2.0, 0.0]], 2.0)[0, 0], np.e / (np.e + 1.0))


def test_tempering_takes_a_probability_of_zero():
    np.testing.assert_allclose(temper(np.array([[1.0, 0.0]]), 1.0), [[1.0, 0.0]], atol=1e-300)


def test_brier_terms_by_hand():
    probabilities = np.array([[0.7, 0.3], [0.2, 0.8]])
    # 0.3^2 + 0.3^2 and 0.8^2 + 0.8^2
    np.testing.assert_allclose(brier_terms(probabilities, np.array([0, 0])), [0.18, 1.28])
    np.testing.assert_array_equal(brier_terms(np.eye(3), np.arange(3)), np.zeros(3))
    np.testing.assert_array_equal(brier_terms(np.eye(2), np.array([1, 0])), [2.0, 2.0])


# Confidences 0.6, 0.7 in the first bin of two above 0.5, 0.9, 1.0 in the last.
BY_HAND = np.array([[0.6, 0.4], [0.3, 0.7], [0.9, 0.1], [0.0, 1.0]])
LABELS = np.array([0, 0, 0, 1])


def test_reliability_by_hand():
    table = reliability(BY_HAND, LABELS, bins=4)
    np.testing.assert_array_equal(table.size, [0, 0, 2, 2])
    np.testing.assert_allclose(table.confidence, [np.nan, np.nan, 0.65, 0.95])
    np.testing.assert_allclose(table.accuracy, [np.nan, np.nan, 0.5, 1.0])
    table = reliability(BY_HAND[:2], LABELS[:2], bins=4)
    np.testing.assert_array_equal(table.size, [0, 0, 2, 0])
    np.testing.assert_allclose(table.accuracy, [np.nan, np.nan, 0.5, np.nan])
    # A bin holds its upper end: 0.5 is of the second of four.
    np.testing.assert_array_equal(reliability([[0.5, 0.5]], [0], bins=4).size, [0, 1, 0, 0])
    assert len(reliability(BY_HAND, LABELS).size) == 15
    np.testing.assert_array_equal(reliability([[1 + 1e-12, 0]], [0], bins=4).size, [0, 0, 0, 1])
    # The nearest single to 0.2 lies above it; 15 times it is 3 in single precision.
    assert np.flatnonzero(reliability(np.full((1, 5), 0.2, np.float32), [0]).size) == [3]
    guess = reliability(np.full((1, 20), 0.05), [0])  # below 1/15
    np.testing.assert_array_equal(guess.size, [1] + [0] * 14)


def test_calibration_error_by_hand():
    # (2 |0.5 - 0.65| + 2 |1 - 0.95|) / 4
    assert expected_calibration_error(BY_HAND, LABELS, bins=4) == pytest.approx(0.1)
    # Of fifteen bins each of the four has one: (0.4 + 0.7 + 0.1 + 0) / 4.
    assert expected_calibration_error(BY_HAND, LABELS) == pytest.approx(0.3)


def test_calibration_error_of_true_probabilities_is_small_and_of_overconfident_ones_is_not():
    logits, labels = drawn(1.0)
    assert expected_calibration_error(softmax_at(logits, 1.0), labels) < 0.01
    assert expected_calibration_error(softmax_at(logits, 0.3), labels) > 0.1


def test_resampled_calibration_error_is_that_of_the_examples_drawn():
    logits, labels = drawn(1.0, count=60, classes=3)
    probabilities, groups = softmax_at(logits, 0.5), np.arange(60) // 4
    draws = resample_groups(groups, seed=1, resamples=5)
    found = resampled_calibration_error(draws, probabilities, labels)
    for times, value in zip(draws.times, found, strict=True):
        rows = np.repeat(np.arange(60), times[groups].astype(int))
        expected = expected_calibration_error(probabilities[rows], labels[rows])
        assert value == pytest.approx(expected, abs=1e-12)
    # From the last to the first: right, right and wrong in one group, right in the other.
    draws = resample_groups([0, 0, 0, 1], resamples=3)
    draws = draws._replace(times=np.array([[2.0, 0.0], [0.0, 2.0], [1.0, 1.0]]))
    found = resampled_calibration_error(draws, BY_HAND[::-1], LABELS[::-1], bins=4)
    # Right less sure, by bin: -0.7 and 0 + 0.1 in the one, 0.4 in the other group.
    np.testing.assert_allclose(found, [(0.7 + 0.1) / 3, 0.4, (0.3 + 0.1) / 4])


def test_risk_and_coverage_by_hand():
    coverage, risk = risk_coverage(np.array([0.8, 0.5, 0.9, 0.8]), np.array([0, 0, 1, 1]))
    np.testing.assert_allclose(coverage, [0.25, 0.75, 1.0])  # the two of 0.8 come together
    np.testing.assert_allclose(risk, [0.0, 1 / 3, 0.5])
    assert [part.tolist() for part in risk_coverage([0.7], [False])] == [[1.0], [1.0]]


def test_risk_and_coverage_of_nothing():
    assert [part.size for part in risk_coverage(np.zeros(0), np.zeros(0, bool))] == [0, 0]


def test_confidence_level_by_hand():
    confidence = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    correct = np.array([1, 1, 0, 1, 0])
    # Right among those from 0.9, 0.8, 0.7, 0.6, 0.5 on: 1, 1, 2/3, 3/4, 3/5.
    assert confidence_level(confidence, correct, accuracy=0.75, fewest=1) == 0.6
    assert confidence_level(confidence, correct, accuracy=0.8, fewest=1) == 0.8
    assert confidence_level(confidence, correct, accuracy=0.8, fewest=2) == 0.8
    assert confidence_level(confidence, correct, accuracy=0.8, fewest=3) is None
    assert confidence_level([0.5, 0.5, 0.9], [1, 1, 1], accuracy=1.0, fewest=3) == 0.5
    assert confidence_level([0.5, 0.5, 0.9], [1, 0, 1], accuracy=0.7, fewest=1) == 0.9
    assert confidence_level(confidence, 1 - correct, accuracy=0.5, fewest=1) is None


@pytest.mark.parametrize(
    ("shape", "labels", "got"),
    [
        ((2, 2), np.zeros(3, int), r"\(2, 2\) and \(3,\)"),
        ((2, 2), np.zeros((2, 1), int), r"\(2, 2\) and \(2, 1\)"),
        ((2,), np.zeros(2, int), r"\(2,\) and \(2,\)"),
        ((0, 2), np.zeros(0, int), r"\(0, 2\) and \(0,\)"),
    ],
)
def test_labels_that_do_not_fit_are_refused(shape, labels, got):
    expected = r"^expected probabilities \[n, K\] and labels \[n\], n > 0, got "
    for function in (expected_calibration_error, brier_terms):
        with pytest.raises(ValueError, match=f"{expected}{got}$"):
            function(np.full(shape, 0.5), labels)
