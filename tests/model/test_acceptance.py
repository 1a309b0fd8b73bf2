import json

import numpy as np
import pytest

from imitation_refinement.model.acceptance import (
    AMBIGUOUS,
    CONFIDENT,
    NO_SIGNAL,
    NOT_RECOGNISED,
    STATISTICS,
    Calibration,
    Cloud,
    HeldOut,
    fit_calibration,
    fit_cloud,
    remoteness,
    shape_statistics,
    verdicts,
)

NAMES = ("cubic", "hexagonal", "trigonal")
LIMITS = dict.fromkeys(STATISTICS, 1.0)
CALIBRATION = Calibration(1.0, 1.0, 0.6, LIMITS, Cloud(np.zeros(2), np.eye(2)), {})


def one(probabilities, signal=True, calibration=CALIBRATION, **statistics):
    found = {name: np.array([statistics.get(name, 0.5)]) for name in STATISTICS}
    verdict, reason = verdicts(calibration, np.array([probabilities]), found, [signal], NAMES)
    return verdict[0], reason[0]


def test_a_sure_answer_is_confident():
    assert one([0.7, 0.2, 0.1]) == (CONFIDENT, "")
    assert one([0.6, 0.3, 0.1]) == (CONFIDENT, "")  # just at both limits


def test_an_answer_below_the_level_is_ambiguous():
    verdict, reason = one([0.59, 0.21, 0.2])
    assert verdict == AMBIGUOUS and "0.590 is below 0.600" in reason


def test_two_classes_that_are_nearly_as_likely_are_ambiguous():
    verdict, reason = one([0.62, 0.0, 0.38])
    assert verdict == AMBIGUOUS
    assert "trigonal (0.38)" in reason and "cubic (0.62)" in reason


def test_without_a_level_nothing_is_confident():
    assert one([1.0, 0.0, 0.0], calibration=CALIBRATION._replace(level=None))[0] == AMBIGUOUS


@pytest.mark.parametrize("name", STATISTICS)
def test_a_statistic_beyond_its_limit_is_not_recognised_however_sure_the_answer(name):
    assert one([1.0, 0.0, 0.0], **{name: 1.01}) == (NOT_RECOGNISED, STATISTICS[name])


def test_every_reason_is_given():
    reason = one([1.0, 0.0, 0.0], occupancy=2.0, distance=2.0)[1]
    assert reason == f"{STATISTICS['occupancy']}; {STATISTICS['distance']}"


def test_nothing_above_zero_is_not_recognised():
    assert one([1.0, 0.0, 0.0], signal=False) == (NOT_RECOGNISED, NO_SIGNAL)


def test_no_patterns_no_verdicts():
    empty = {name: np.zeros(0) for name in STATISTICS}
    verdict, reason = verdicts(CALIBRATION, np.zeros((0, 3)), empty, np.zeros(0, bool), NAMES)
    assert verdict.shape == reason.shape == (0,)


def test_shape_statistics_by_hand():
    raw = np.array([[0.0, 1.0, 0.05, 0.2], [0.0, 0.0, 0.0, 0.0]])
    refined = np.array([[0.0, 0.75, 0.0, 0.2], [0.5, 0.0, 0.0, 0.0]])
    mask = np.array([[False, True, True, True], [True] * 4])
    found = shape_statistics(raw, refined, mask)
    np.testing.assert_allclose(found["occupancy"], [2 / 3, 0.0])
    np.testing.assert_allclose(found["change"], [0.3 / 1.25, 0.0])


def test_statistics_do_not_depend_on_the_scale():
    rng = np.random.default_rng(0)
    raw, refined = rng.random((2, 4, 30))
    mask = np.ones((4, 30), bool)
    once, thrice = (
        shape_statistics(raw, refined, mask),
        shape_statistics(3 * raw, 3 * refined, mask),
    )
    for name in once:
        np.testing.assert_allclose(once[name], thrice[name])


def test_remoteness_is_the_mahalanobis_distance():
    rng = np.random.default_rng(0)
    embedding = rng.normal(size=(500, 3)) @ rng.normal(size=(3, 3)) + 5.0
    offset = embedding - embedding.mean(axis=0)
    inverse = np.linalg.inv(np.cov(embedding.T, bias=True))
    by_loop = [float(row @ inverse @ row) / 3 for row in offset]
    found = remoteness(fit_cloud(embedding), embedding)
    np.testing.assert_allclose(found, by_loop, rtol=0.05)  # the ridge
    assert found.mean() == pytest.approx(1.0, rel=0.02)


def test_remoteness_hardly_changes_with_shift_and_scale():
    rng = np.random.default_rng(1)
    embedding = rng.normal(size=(200, 4))
    other = 7.0 * embedding + 3.0
    np.testing.assert_allclose(
        remoteness(fit_cloud(embedding), embedding), remoteness(fit_cloud(other), other), rtol=1e-4
    )


def test_a_direction_without_spread_does_no_harm():
    embedding = np.random.default_rng(2).normal(size=(50, 3)) * np.array([1.0, 1.0, 0.0])
    found = remoteness(fit_cloud(embedding), embedding)
    assert np.isfinite(found).all() and found.max() < 10.0
    assert remoteness(fit_cloud(embedding), np.array([[0.0, 0.0, 1.0]]))[0] > 100.0


def held_out(count=2000, classes=3, width=4, sharpness=4.0, seed=0) -> HeldOut:
    """Labels drawn from softmax(logits / 2): the temperature to be found is 2."""
    rng = np.random.default_rng(seed)
    logits = sharpness * rng.normal(size=(count, classes))
    share = np.exp(logits / 2.0)
    share = (share / share.sum(axis=1, keepdims=True)).cumsum(axis=1)
    labels = np.minimum((rng.random((count, 1)) > share).sum(axis=1), classes - 1)
    statistics = {name: rng.random(count) for name in STATISTICS if name != "remoteness"}
    embedding = rng.normal(size=(count, width))
    return HeldOut(logits, logits / 2, embedding, statistics, labels, np.arange(count) // 4)


def test_calibration_finds_temperatures_level_and_limits():
    given = held_out()
    found = fit_calibration(given, NAMES, resamples=100)
    assert found.temperature == pytest.approx(2.0, rel=0.1)
    assert found.raw_temperature == pytest.approx(1.0, rel=0.1)
    for name, values in given.statistics.items():
        assert (values > found.limits[name]).mean() == pytest.approx(0.005, abs=0.001)
    assert found.level is not None and 1 / 3 < found.level < 0.8
    figures = found.figures
    scores = figures["refined"]
    assert figures["patterns"] == 2000 and figures["groups"] == 500
    assert scores["calibration_error_after"]["value"] < scores["calibration_error_before"]["value"]
    assert scores["brier_after"]["value"] < scores["brier_before"]["value"]
    # Logits and half of them at their own temperatures are the same probabilities.
    assert scores["brier_after"]["value"] == pytest.approx(
        figures["raw"]["brier_after"]["value"], rel=1e-3
    )
    assert figures["verdicts"][CONFIDENT]["accuracy"] >= 0.8
    shares = [figures["verdicts"][name]["share"]["value"] for name in figures["verdicts"]]
    assert sum(shares) == pytest.approx(1.0)
    assert 0.01 < figures["verdicts"][NOT_RECOGNISED]["share"]["value"] < 0.03
    json.dumps(figures)


def test_a_classifier_that_guesses_is_never_confident():
    given = held_out(seed=1)
    guesses = given._replace(labels=np.random.default_rng(5).integers(3, size=2000))
    found = fit_calibration(guesses, NAMES, resamples=20)
    assert found.level is None
    assert found.figures["verdicts"][CONFIDENT] == {
        "share": {"value": 0.0, "low": 0.0, "high": 0.0}, "accuracy": None,
    }  # fmt: skip


def test_limit_of_remoteness_holds_for_patterns_that_did_not_fit_the_cloud():
    # As many dimensions as a fifth of the patterns: within the cloud they would look too close.
    width = 40
    found = fit_calibration(held_out(200, width=width), NAMES, resamples=20)
    fresh = np.random.default_rng(9).normal(size=(2000, width))
    assert (remoteness(found.cloud, fresh) > found.limits["remoteness"]).mean() < 0.02


def test_one_group_can_be_calibrated_without_intervals():
    given = held_out(50)._replace(groups=np.zeros(50, int))
    found = fit_calibration(given, NAMES, resamples=20)
    assert found.figures["refined"]["accuracy"]["low"] is None
