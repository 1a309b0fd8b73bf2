"""The answer in words: sentences worked out by hand; a table of the rule is in test_evaluation."""

import pytest

from imitation_refinement.evaluation.answer import answer, percent, points, words


def estimate(value, low=None, high=None):
    return {"value": value, "low": low, "high": high}


def head(gain, raw=0.25, refined=0.5, **more):
    return {"raw": estimate(raw), "refined": estimate(refined), "gain": gain, **more}


def judge(gain, rest, reader=False):
    return head(gain, own_minus_gain=estimate(rest), reader=reader)


GAIN = estimate(0.25, 0.125, 0.375)
LOSS = estimate(-0.25, -0.375, -0.125)
DOUBT = estimate(0.0, -0.125, 0.125)


def said(gain=GAIN, l1=LOSS, kl=LOSS, truth=True, **judges):
    classifier = head(gain, **({"truth": estimate(0.875)} if truth else {}))
    changes = {"l1": l1, "kl": kl} if truth else {}
    return answer(
        {
            "noun": "patterns",
            "group_noun": "libraries",
            "accuracy": {"classifier": classifier, "judges": judges},
            "quality": {name: {"relative_change": {"mean": c}} for name, c in changes.items()},
        }
    )


def test_a_whole_answer():
    found = said(
        other_seed=judge(estimate(0.125, 0.0625, 0.1875), 0.125),
        print_reader=judge(estimate(0.0, -0.005, 0.005), 0.25, reader=True),
    )
    assert found == {
        "helped": "yes",
        "answers": {
            "recognised": "yes", "closer": "yes", "confirmed": "yes", "legible": "yes",
        },
        "headline": "Yes, refinement helped.",
        "sentences": [
            "The frozen classifier recognises 50.0 % of the refined patterns, against 25.0 % of "
            "the raw ones: a gain of 25.0 points (95 % interval +12.5 to +37.5). On the true "
            "patterns it reaches 87.5 %.",
            "Against the known truth, the mean ℓ1 distance fell by 25 % (95 % interval −37.5 to "
            "−12.5) and the KL divergence fell by 25 % (95 % interval −37.5 to −12.5).",
            "A classifier that the refiner never saw (other seed) gains 12.5 points (95 % interval "
            "+6.2 to +18.8); its change is 12.5 points below the frozen classifier's.",
            "A reader of imperfect patterns (print reader) gains 0.0 points (95 % interval −0.5 to "
            "+0.5), from 25.0 % of the raw to 50.0 % of the refined ones.",
        ],
    }  # fmt: skip


def test_losses_are_named_all_of_them():
    found = said(LOSS, GAIN, GAIN, other=judge(LOSS, -0.125), reader=judge(LOSS, 0.0, reader=True))
    assert found["helped"] == "no" and set(found["answers"].values()) == {"no"}
    assert found["headline"] == (
        "No, refinement did not help: the refined patterns are recognised less often, the refined "
        "patterns are further from the truth, a classifier that the refiner never saw recognises "
        "them less often and a reader of imperfect ones recognises them less often."
    )
    first, second, third, fourth = found["sentences"]
    assert "a loss of 25.0 points (95 % interval −37.5 to −12.5)." in first
    assert "ℓ1 distance rose by 25 % (95 % interval +12.5 to +37.5)" in second
    assert "(other) loses 25.0 points (95 % interval −37.5 to −12.5); its change is 12.5" in third
    assert third.endswith("12.5 points above the frozen classifier's.")
    assert "(reader) loses 25.0 points" in fourth
    one = said(LOSS)["headline"]
    assert one == ("No, refinement did not help: the refined patterns are recognised less often.")


def test_doubts_are_named_all_of_them():
    found = said(
        DOUBT, DOUBT, DOUBT, other=judge(DOUBT, 0.0), reader=judge(DOUBT, 0.0, reader=True)
    )
    assert found["helped"] == "unclear" and set(found["answers"].values()) == {"unclear"}
    doubts = (
        "it is not clear that they are closer to the truth (ℓ1 and KL must both fall), a "
        "classifier that the refiner never saw does not clearly confirm the gain and it is not "
        "clear that a reader of imperfect ones recognises them as before."
    )
    assert found["headline"] == (
        "Unclear whether refinement helped: the change in accuracy is within the uncertainty, "
        + doubts
    )
    better = said(
        GAIN, DOUBT, DOUBT, other=judge(DOUBT, 0.0), reader=judge(DOUBT, 0.0, reader=True)
    )
    assert better["headline"] == (
        "Unclear: the refined patterns are better recognised, but " + doubts
    )


def test_both_distances_must_fall():
    for l1, kl, closer in (
        (LOSS, LOSS, "yes"), (GAIN, GAIN, "no"), (DOUBT, DOUBT, "unclear"),
        (LOSS, GAIN, "unclear"), (GAIN, LOSS, "unclear"), (LOSS, DOUBT, "unclear"),
    ):  # fmt: skip
        assert said(l1=l1, kl=kl)["answers"] == {"recognised": "yes", "closer": closer}


def test_an_interval_that_ends_at_zero_decides_nothing():
    for low, high in ((0.0, 0.5), (-0.5, 0.0)):
        assert said(estimate(0.1, low, high))["answers"]["recognised"] == "unclear"


def test_a_reader_may_lose_a_hundredth():
    for low, high, legible in (
        (-0.0099, 0.1, "yes"), (-0.01, 0.1, "unclear"), (-0.1, -0.01, "unclear"),
        (-0.1, -0.0101, "no"),
    ):  # fmt: skip
        found = said(reader=judge(estimate(0.0, low, high), 0.0, reader=True))
        assert found["answers"]["legible"] == legible
        assert "confirmed" not in found["answers"]


def test_the_worst_of_several_judges_counts():
    yes, no, unclear = (judge(gain, 0.0) for gain in (GAIN, LOSS, DOUBT))
    assert said(a=yes, b=yes)["answers"]["confirmed"] == "yes"
    assert said(a=yes, b=unclear)["answers"]["confirmed"] == "unclear"
    assert said(a=unclear, b=no, c=yes)["answers"]["confirmed"] == "no"


def test_without_truth_and_without_intervals():
    none = estimate(0.0)
    found = said(none, truth=False)
    assert found["headline"] == "Unclear: too few libraries to say whether refinement helped."
    assert found["answers"] == {"recognised": "unclear"}
    assert found["sentences"] == [
        "The frozen classifier recognises 50.0 % of the refined patterns, against 25.0 % of the "
        "raw ones: a gain of 0.0 points."
    ]
    half = said(estimate(0.0, None, 0.5))
    assert half["answers"]["recognised"] == "unclear" and "interval" not in half["sentences"][0]
    half = said(estimate(0.0, 0.5, None))
    assert half["answers"]["recognised"] == "unclear" and "interval" not in half["sentences"][0]
    unknown = said(l1=estimate(None), kl=estimate(-0.5))["sentences"][1]
    assert "ℓ1 distance has no relative change (raw is at zero) and the KL divergence" in unknown
    zero = said(l1=estimate(0.0), kl=estimate(-0.004))["sentences"][1]
    assert "ℓ1 distance rose by 0 % and the KL divergence fell by 0 %." in zero
    assert "ℓ1 distance fell by 75 %" in said(l1=estimate(-0.75))["sentences"][1]
    same = said(other=judge(GAIN, 0.0))["sentences"][2]
    assert same.endswith("; its change is 0.0 points below the frozen classifier's.")
    blind = said(reader=judge(estimate(None), 0.0, reader=True))["sentences"][2]
    assert "gains 0.0 points, from" in blind


@pytest.mark.parametrize(
    ("value", "share", "difference"),
    [(None, "–", "–"), (0.6123, "61.2 %", "+61.2"), (-0.5, "−50.0 %", "−50.0")],
)
def test_numbers_as_text(value, share, difference):
    assert (percent(value), points(value)) == (share, difference)
    assert words("judge_other_seed") == "judge other seed"
