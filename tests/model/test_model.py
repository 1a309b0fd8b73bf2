from functools import partial

import jax
import numpy as np
import pytest
from scipy.special import softmax
from tiny_model import LENGTH, patterns, tiny_model

from imitation_refinement.method import losses, networks
from imitation_refinement.method.classifier import Prediction, classify
from imitation_refinement.method.refiner import refine
from imitation_refinement.model.acceptance import NO_SIGNAL, NOT_RECOGNISED, VERDICTS
from imitation_refinement.model.model import ROWS, classifier_network

CLOSE = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture(scope="module")
def model():
    return tiny_model()


def test_refined_is_the_mean_of_the_refiners(model):
    x = patterns(3)
    network = networks.build_refiner(model.refiner_spec)
    every = [np.asarray(refine(params, x, network=network)) for params in model.refiners]
    assert np.abs(every[0] - every[1]).max() > 0.01
    refined = model.refine(x)
    np.testing.assert_allclose(refined, (every[0] + every[1]) / 2, **CLOSE)
    np.testing.assert_allclose(model.refine_with(1, x), every[1], **CLOSE)
    assert refined.dtype == np.float32 and refined.shape == x.shape


def test_predict_is_the_frozen_classifier(model):
    x = patterns(3)
    network = classifier_network(model.classifier_spec, 7)
    output = jax.jit(partial(classify, network=network))(model.classifier, x)
    found = model.predict(x)
    assert type(found) is Prediction  # the same as in training
    np.testing.assert_allclose(found.logits, output.logits, **CLOSE)
    np.testing.assert_allclose(found.embedding, output.embedding, **CLOSE)
    apart = np.square(np.asarray(output.embedding)[:, None] - model.classifier.prototypes)
    np.testing.assert_allclose(found.distances, apart.mean(axis=2), **CLOSE)
    expected = losses.prototype_log_probs(np.asarray(found.distances))
    np.testing.assert_allclose(found.prototype_log_probs, expected, **CLOSE)


def test_a_pattern_gets_the_same_answer_alone_and_in_any_batch(model):
    x = patterns(2 * ROWS + 5)
    together = model.assess(x)
    for row in (0, ROWS, len(x) - 1):
        alone = model.assess(x[row : row + 1])
        for name, values in alone._asdict().items():
            of_all = getattr(together, name)[row]
            if values.dtype.kind == "U":
                assert values[0] == of_all
            else:
                np.testing.assert_allclose(values[0], of_all, **CLOSE)


def test_assessment_is_what_the_parts_give(model):
    x = patterns(4)
    found = model.assess(x)
    refined = model.refine(x)
    np.testing.assert_allclose(found.refined, refined, **CLOSE)
    after, before = model.predict(refined), model.predict(x)
    calibration = model.calibration
    np.testing.assert_allclose(
        found.probabilities, softmax(after.logits / calibration.temperature, axis=1), **CLOSE
    )
    np.testing.assert_allclose(
        found.raw_probabilities, softmax(before.logits / calibration.raw_temperature, axis=1),
        **CLOSE,
    )  # fmt: skip
    np.testing.assert_array_equal(found.confidence, found.probabilities.max(axis=1))
    np.testing.assert_allclose(found.distances, after.distances, **CLOSE)
    np.testing.assert_allclose(found.change, np.abs(refined - x).mean(axis=(1, 2)), **CLOSE)
    assert set(found.verdict) <= set(VERDICTS)


def test_what_was_not_measured_has_no_part_in_it(model):
    x, mask = patterns(2), np.ones((2, LENGTH), bool)
    mask[:, 100:150] = False
    other = x.copy()
    other[:, 100:150] = 1.0
    first, second = model.assess(x, mask), model.assess(other, mask)
    np.testing.assert_array_equal(first.refined, second.refined)
    np.testing.assert_array_equal(first.probabilities, second.probabilities)
    assert not first.refined[:, 100:150].any()
    cut = x * mask[..., None]
    apart = np.abs(first.refined - cut)[..., 0].sum(axis=1) / (LENGTH - 50)
    np.testing.assert_allclose(first.change, apart, rtol=1e-5)


def test_nothing_is_not_recognised(model):
    x = np.concatenate([np.zeros((1, LENGTH, 1), np.float32), patterns(1)])
    found = model.assess(x)
    assert (found.verdict[0], found.reason[0]) == (NOT_RECOGNISED, NO_SIGNAL)
    assert found.reason[1] != NO_SIGNAL
    assert np.isfinite(found.probabilities).all()
    unmeasured = model.assess(patterns(1), np.zeros((1, LENGTH), bool))
    assert unmeasured.verdict[0] == NOT_RECOGNISED and unmeasured.change[0] == 0.0


def test_no_patterns_give_no_answers(model):
    found = model.assess(patterns(1)[:0])
    assert found.refined.shape == (0, LENGTH, 1) and found.probabilities.shape == (0, 7)
    assert found.verdict.shape == (0,)


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int32, bool])
def test_any_real_numbers_are_taken(model, dtype):
    x = (patterns(2) > 0.5).astype(dtype)
    found = model.refine(x)
    np.testing.assert_array_equal(found, model.refine(x.astype(np.float32)))
    assert found.dtype == np.float32


def test_patterns_that_do_not_fit_are_refused(model):
    x = patterns(2)
    for wrong in (x[..., 0], x[0], x[:, :-1], x[..., None]):
        with pytest.raises(ValueError, match=r"expected shape \[n, 256, 1\], got"):
            model.assess(wrong)
    with pytest.raises(TypeError, match="expected real numbers, got complex64"):
        model.refine(x.astype(np.complex64))
    with pytest.raises(TypeError, match="expected real numbers, got <U"):
        model.predict(x.astype(str))
    x[1, 3] = np.nan
    with pytest.raises(ValueError, match="pattern 1 holds numbers that are not finite"):
        model.assess(x)
    with pytest.raises(ValueError, match=r"mask: expected shape \(2, 256\), got \(2, 255\)"):
        model.assess(patterns(2), np.ones((2, 255), bool))


def test_description_names_model_and_version(model):
    assert model.describe() == "tiny (version 0, 7 classes, 2 refiners)"
