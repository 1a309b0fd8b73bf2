import json

import numpy as np
import pytest

from imitation_refinement.evaluation.answer import answer
from imitation_refinement.evaluation.evaluation import evaluate
from imitation_refinement.evaluation.inputs import (
    EvaluationInputs,
    Scores,
    from_arrays,
    to_arrays,
)

GRID = np.arange(200)


def one_hot(predicted, classes=3):
    """Logits whose argmax is predicted and whose runner-up is the class after it."""
    logits = np.zeros((len(predicted), classes), np.float32)
    rows = np.arange(len(predicted))
    logits[rows, predicted] = 2
    logits[rows, (np.asarray(predicted) + 1) % classes] = 1
    return logits


def line(position, height=1.0, width=3.0):
    return height * np.exp(-0.5 * ((GRID - position) / width) ** 2)


LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2])
RAW = np.array([0, 0, 2, 2, 1, 0, 0, 0, 2, 1, 1, 1])  # 4 of 12 right, 3 more are second guesses
REFINED = np.array([0, 1, 0, 0, 1, 1, 1, 0, 2, 2, 2, 1])  # 1 broken, 6 fixed: 9 of 12
JUDGE = np.array([0, 0, 0, 2, 1, 0, 0, 0, 2, 1, 1, 1])  # 5 of 12


def small(**changes):
    truth = np.array([line(40 + 10 * k) + line(160, 0.5) for k in range(12)])
    raw = truth + 0.2 * line(100, 1.0, 30.0)
    inputs = EvaluationInputs(
        raw=raw,
        refined=(raw + truth) / 2,
        truth=truth,
        labels=LABELS,
        groups=np.arange(12) // 2,
        logits_raw=one_hot(RAW),
        logits_refined=one_hot(REFINED),
        logits_truth=one_hot(LABELS),
        judges={"other": Scores(one_hot(RAW), one_hot(JUDGE), one_hot(LABELS))},
        fold=np.array([0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]),
    )
    return inputs._replace(**changes)


@pytest.fixture(scope="module")
def results():
    return evaluate(small(), class_names=("a", "b", "c"), resamples=500)


def test_accuracies_and_gains_by_hand(results):
    head = results["accuracy"]["classifier"]
    assert head["raw"]["value"] == pytest.approx(4 / 12)
    assert head["refined"]["value"] == pytest.approx(9 / 12)
    assert head["truth"]["value"] == 1.0
    assert head["gain"]["value"] == pytest.approx(5 / 12)
    assert head["gain"]["low"] < 5 / 12 < head["gain"]["high"]
    judge = results["accuracy"]["judges"]["other"]
    assert judge["gain"]["value"] == pytest.approx(1 / 12)
    assert judge["own_minus_gain"]["value"] == pytest.approx(4 / 12)
    assert not judge["reader"]
    assert results["accuracy"]["prototype"] is None


def test_top2_counts_the_second_guess(results):
    seconds = (RAW + 1) % 3
    expected = ((RAW == LABELS) | (seconds == LABELS)).mean()
    assert results["accuracy"]["classifier"]["raw"]["top2"] == pytest.approx(expected)
    assert expected > 4 / 12


def test_fixed_and_broken(results):
    assert (results["fixed"], results["broken"]) == (6, 1)


def test_per_class_and_per_fold(results):
    rows = {row["name"]: row for row in results["per_class"]}
    assert [rows[name]["raw"] for name in "abc"] == [0.5, 0.25, 0.25]
    assert [rows[name]["refined"] for name in "abc"] == [0.75, 0.75, 0.75]
    assert [rows[name]["gain"]["value"] for name in "abc"] == pytest.approx([0.25, 0.5, 0.5])
    folds = results["per_fold"]
    assert [row["gain"] for row in folds["parts"]] == pytest.approx([0.25, 0.5, 0.5])
    assert folds["mean"]["gain"] == pytest.approx(5 / 12)
    assert folds["std"]["gain"] == pytest.approx(np.std([0.25, 0.5, 0.5], ddof=1))


def test_confusion_has_a_row_per_true_class(results):
    assert results["confusion"]["raw"] == [[2, 0, 2], [3, 1, 0], [0, 3, 1]]
    assert results["confusion"]["truth"] == [[4, 0, 0], [0, 4, 0], [0, 0, 4]]


def test_quality_halves_when_the_error_is_halved():
    truth = np.array([line(60)] * 12)
    raw = truth + np.linspace(0.1, 0.3, 12)[:, None] * line(150)
    results = evaluate(small(raw=raw, refined=(raw + truth) / 2, truth=truth), resamples=50)
    l1, l2 = results["quality"]["l1"], results["quality"]["l2"]
    area = line(150).sum()
    assert l1["raw"]["mean"] == pytest.approx(0.2 * area)
    assert l1["refined"]["median"] == pytest.approx(0.1 * area)
    for kind in ("mean", "median"):
        assert l1["relative_change"][kind]["value"] == pytest.approx(-0.5)
        assert l2["relative_change"][kind]["value"] == pytest.approx(-0.75)
    # Every pattern halves, so no choice of libraries can change the ratio.
    assert l1["relative_change"]["mean"]["low"] == pytest.approx(-0.5)
    assert l1["relative_change"]["mean"]["high"] == pytest.approx(-0.5)
    assert l1["improved"] == 1.0
    assert results["change"]["mean"]["value"] == pytest.approx(0.1 * area / 200)


def test_scale_of_the_patterns_does_not_matter(results):
    inputs = small()
    scaled = evaluate(
        inputs._replace(refined=7 * inputs.refined), class_names=("a", "b", "c"), resamples=500
    )
    for name, values in results["quality"].items():
        expected = values["refined"]["mean"]
        assert scaled["quality"][name]["refined"]["mean"] == pytest.approx(expected)


def test_peaks_are_counted_over_all_patterns():
    inputs = small()
    refined = inputs.truth.copy()
    refined[3] = line(70) + line(160, 0.5) + line(20, 0.1)  # one invented line
    refined[5] = line(90)  # one lost line
    peaks = evaluate(inputs._replace(refined=refined), resamples=50)["peaks"]
    found = peaks["counts"]
    truths = found["truth"]
    assert (found["invented"], found["lost"], found["spurious_refined"]) == (1, 1, 1)
    assert peaks["rates"]["invented"]["value"] == pytest.approx(1 / found["refined"])
    assert peaks["rates"]["lost"]["value"] == pytest.approx(1 / truths)


def test_embedding_distance_is_the_rms_difference():
    truth = np.zeros((12, 4))
    results = evaluate(
        small(embedding_raw=truth + 2, embedding_refined=truth - 1, embedding_truth=truth),
        resamples=20,
    )
    assert results["quality"]["embedding"]["raw"]["mean"] == pytest.approx(2)
    assert results["quality"]["embedding"]["refined"]["mean"] == pytest.approx(1)


def numbers(tree):
    for value in tree.values() if isinstance(tree, dict) else tree:
        if isinstance(value, dict | list):
            yield from numbers(value)
        else:
            yield value


def test_plain_json_without_nan_even_in_degenerate_cases(results):
    inputs = small()
    empty = np.zeros_like(inputs.raw)
    cases = [
        inputs._replace(refined=empty),
        inputs._replace(raw=inputs.truth, refined=inputs.truth),
        inputs._replace(raw=empty, refined=empty, truth=empty),
        inputs._replace(groups=np.zeros(12, int), fold=None),
        from_arrays({name: values[:1] for name, values in to_arrays(inputs).items()}),
        without_truth(inputs),
    ]
    for case in [evaluate(case, resamples=20) for case in cases] + [results]:
        text = json.dumps(case, allow_nan=False)
        assert json.loads(text) == case
        assert all(isinstance(v, str | int | float | None) for v in numbers(case))


def test_too_few_libraries_give_no_interval_and_no_verdict():
    results = evaluate(small(groups=np.arange(12) // 4), resamples=20)
    gain = results["accuracy"]["classifier"]["gain"]
    assert (gain["low"], gain["high"]) == (None, None)
    assert results["verdict"]["helped"] == "unclear"
    assert "too few libraries" in results["verdict"]["headline"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": LABELS[:5]}, r"labels: expected shape \(12,\), got \(5,\)"),
        ({"labels": LABELS + 1}, "labels: expected 0 to 2"),
        (
            {"prototype_raw": one_hot(RAW)},
            "prototype_raw, prototype_refined, .* given: raw$",
        ),
        (
            {"judges": {"x_y": Scores(one_hot(RAW), one_hot(RAW))}},
            "judge_x_y_raw, .* belong together; given: raw, refined",
        ),
        ({"truth": None}, "logits_raw, logits_refined belong together; given: raw, refined, truth"),
        ({"logits_refined": np.full((12, 3), np.nan)}, "logits_refined: .* not finite"),
        ({"fold": np.arange(12) % 2}, "group 0 is in more than one fold"),
    ],
)
def test_inputs_that_do_not_fit_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        evaluate(small(**change))


# ---- The verdict's rule ----


def estimate(low, high):
    return {"value": (low + high) / 2, "low": low, "high": high}


def judged(gain, l1, kl, judges, readers=()):
    head = {kind: estimate(0.4, 0.5) for kind in ("raw", "refined", "truth")}

    def judge(gain, reader):
        rest = estimate(0, 0.02)
        return head | {"gain": estimate(*gain), "own_minus_gain": rest, "reader": reader}

    found = {f"judge_{i}": judge(gain, False) for i, gain in enumerate(judges)}
    found |= {f"reader_{i}": judge(gain, True) for i, gain in enumerate(readers)}
    changes = {} if l1 is None else {"l1": l1, "kl": kl}
    return answer(
        {
            "noun": "patterns",
            "group_noun": "libraries",
            "accuracy": {"classifier": head | {"gain": estimate(*gain)}, "judges": found},
            "quality": {
                name: {"relative_change": {"mean": estimate(*value)}}
                for name, value in changes.items()
            },
        }
    )


UP, DOWN, FLAT, SLIGHT = (0.05, 0.1), (-0.2, -0.1), (-0.05, 0.05), (-0.009, 0.001)


@pytest.mark.parametrize(
    ("gain", "l1", "kl", "judges", "readers", "helped"),
    [
        (UP, DOWN, DOWN, [UP], [], "yes"),
        (UP, DOWN, DOWN, [], [], "yes"),
        (UP, DOWN, DOWN, [UP, UP], [], "yes"),
        (UP, DOWN, DOWN, [UP, FLAT], [], "unclear"),  # all must confirm
        (UP, DOWN, DOWN, [DOWN, UP], [], "no"),  # adversarial
        (UP, DOWN, UP, [UP], [], "unclear"),  # recognised, but weak lines deleted
        (UP, UP, UP, [UP], [], "no"),
        (FLAT, DOWN, DOWN, [UP], [], "unclear"),
        (DOWN, DOWN, DOWN, [UP], [], "no"),
        (UP, None, None, [UP], [], "yes"),  # nobody knows the truth
        (UP, None, None, [UP], [SLIGHT], "yes"),  # a reader need not gain
        (UP, None, None, [UP], [UP, FLAT], "unclear"),
        (UP, None, None, [UP], [DOWN], "no"),  # the digit is another one now
    ],
)
def test_verdict_rule(gain, l1, kl, judges, readers, helped):
    result = judged(gain, l1, kl, judges, readers)
    assert result["helped"] == helped
    assert result["headline"].lower().startswith(helped)
    count = 1 + (l1 is not None) + len(judges) + len(readers)
    assert len(result["sentences"]) == count
    for name in [
        *(f"judge {i}" for i in range(len(judges))),
        *(f"reader {i}" for i in range(len(readers))),
    ]:
        assert sum(f"({name})" in sentence for sentence in result["sentences"]) == 1


# ---- Without a truth, and in two dimensions ----


def without_truth(inputs):
    judges = {name: scores._replace(truth=None) for name, scores in inputs.judges.items()}
    return inputs._replace(truth=None, logits_truth=None, judges=judges)


def test_without_a_truth_the_rest_is_the_same(results):
    found = evaluate(without_truth(small()), class_names=("a", "b", "c"), resamples=500)
    assert found["quality"] == {} and found["peaks"] is None
    assert set(found["confusion"]) == {"raw", "refined"}
    assert "truth" not in found["accuracy"]["classifier"]
    for kind in ("raw", "refined", "gain"):
        for head in ("classifier", "judges"):
            expected, got = results["accuracy"][head], found["accuracy"][head]
            if head == "judges":
                expected, got = expected["other"], got["other"]
            assert got[kind] == expected[kind]
    for name in ("fixed", "broken", "change"):
        assert found[name] == results[name]
    assert set(found["verdict"]["answers"]) == {"recognised", "confirmed"}


def test_images_are_measured_like_rows():
    inputs = small()
    images = inputs._replace(
        **{kind: getattr(inputs, kind).reshape(12, 10, 20) for kind in ("raw", "refined", "truth")}
    )
    flat, found = evaluate(inputs, resamples=50), evaluate(images, resamples=50)
    assert found["peaks"] is None  # they are of patterns
    for name in ("accuracy", "quality", "change", "counts", "per_class"):
        assert found[name] == flat[name]


def test_a_reader_is_marked():
    found = evaluate(small(), readers=["other"], resamples=50)
    assert found["accuracy"]["judges"]["other"]["reader"]
    assert "legible" in found["verdict"]["answers"]
    assert "confirmed" not in found["verdict"]["answers"]


def test_arrays_of_a_file_are_the_inputs_again():
    inputs = small(
        judges={n: Scores(one_hot(RAW), one_hot(JUDGE), one_hot(LABELS)) for n in ("a_b", "raw")}
    )
    arrays = to_arrays(inputs)
    assert {"judge_a_b_raw", "judge_a_b_truth", "judge_raw_refined"} < set(arrays)
    assert all(isinstance(values, np.ndarray) for values in arrays.values())
    again = from_arrays(arrays)
    for name, values in inputs._asdict().items():
        if name == "judges":
            assert again.judges.keys() == values.keys()
            for judge, scores in values.items():
                np.testing.assert_array_equal(again.judges[judge], scores)
        elif values is None:
            assert getattr(again, name) is None
        else:
            np.testing.assert_array_equal(getattr(again, name), values)
    assert from_arrays(to_arrays(without_truth(inputs))).truth is None
