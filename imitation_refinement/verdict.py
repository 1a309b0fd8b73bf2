"""The answer in plain words: did refinement help, by how much, how sure are we?

Here belongs the rule that turns the numbers of evaluation.evaluate into yes, no or unclear. Three
questions are asked, each answered by whether a 95 % interval excludes zero:

- recognised: is the frozen classifier's accuracy gain above zero?
- closer: are the mean l1 and the mean generalised KL to the truth both below those of raw?
- confirmed: is the gain of the unseen judge above zero? (left out where there is no judge)

Helped is *yes* when all answers are yes, *no* when any is no, and *unclear* otherwise; l1 and KL
moving in opposite directions is unclear, not yes.
"""

from __future__ import annotations

from typing import Any

MINUS = "\N{MINUS SIGN}"

Estimate = dict[str, float | None]


def verdict(results: dict[str, Any]) -> dict[str, Any]:
    """Returns {'helped', 'answers', 'headline', 'sentences'} for the dict that evaluate builds."""
    accuracy, quality = results["accuracy"], results["quality"]
    gain = accuracy["classifier"]["gain"]
    l1, kl = (quality[name]["relative_change"]["mean"] for name in ("l1", "kl"))
    judge = accuracy["judge"]
    answers = {"recognised": _above_zero(gain), "closer": _both(_below_zero(l1), _below_zero(kl))}
    if judge is not None:
        answers["confirmed"] = _above_zero(judge["gain"])
    if "no" in answers.values():
        helped, headline = "no", _refusal(answers)
    elif "unclear" in answers.values():
        helped, headline = "unclear", _doubt(answers, gain)
    else:
        helped, headline = "yes", "Yes, refinement helped."
    sentences = [_recognition(accuracy["classifier"]), _closeness(l1, kl)]
    if judge is not None:
        sentences.append(_judgement(judge, accuracy["own_minus_judge_gain"]))
    return {"helped": helped, "answers": answers, "headline": headline, "sentences": sentences}


def _above_zero(estimate: Estimate) -> str:
    if estimate["low"] is None or estimate["high"] is None:
        return "unclear"
    if estimate["low"] > 0:
        return "yes"
    return "no" if estimate["high"] < 0 else "unclear"


def _below_zero(estimate: Estimate) -> str:
    return {"yes": "no", "no": "yes", "unclear": "unclear"}[_above_zero(estimate)]


def _both(first: str, second: str) -> str:
    return first if first == second else "unclear"


def _refusal(answers: dict[str, str]) -> str:
    reasons = {
        "recognised": "the refined patterns are recognised less often",
        "closer": "the refined patterns are further from the truth",
        "confirmed": "a classifier that the refiner never saw recognises them less often",
    }
    found = [reasons[name] for name, answer in answers.items() if answer == "no"]
    return f"No, refinement did not help: {_and(found)}."


def _doubt(answers: dict[str, str], gain: Estimate) -> str:
    if gain["low"] is None:
        return "Unclear: too few libraries to say whether refinement helped."
    reasons = {
        "recognised": "the change in accuracy is within the uncertainty",
        "closer": "it is not clear that they are closer to the truth (ℓ1 and KL must both fall)",
        "confirmed": "a classifier that the refiner never saw does not clearly confirm the gain",
    }
    found = [reasons[name] for name, answer in answers.items() if answer == "unclear"]
    if answers["recognised"] == "yes":
        return f"Unclear: the refined patterns are better recognised, but {_and(found)}."
    return f"Unclear whether refinement helped: {_and(found)}."


def _recognition(head: dict[str, Any]) -> str:
    gain = head["gain"]
    moved = "a gain" if gain["value"] >= 0 else "a loss"
    return (
        f"The frozen classifier recognises {percent(head['refined']['value'])} of the refined "
        f"patterns, against {percent(head['raw']['value'])} of the raw ones: {moved} of "
        f"{100 * abs(gain['value']):.1f} points{_interval(gain)}. On the true patterns it reaches "
        f"{percent(head['truth']['value'])}."
    )


def _closeness(l1: Estimate, kl: Estimate) -> str:
    return (
        f"Against the known truth, the mean ℓ1 distance {_moved(l1)} and the KL "
        f"divergence {_moved(kl)}."
    )


def _judgement(judge: dict[str, Any], difference: Estimate) -> str:
    gain, rest = judge["gain"], difference["value"] or 0.0
    verb = "gains" if gain["value"] >= 0 else "loses"
    return (
        f"A second classifier, which the refiner never saw, {verb} {100 * abs(gain['value']):.1f} "
        f"points{_interval(gain)}; its change is {100 * abs(rest):.1f} points "
        f"{'below' if rest >= 0 else 'above'} the frozen classifier's."
    )


def _moved(estimate: Estimate) -> str:
    value = estimate["value"]
    if value is None:
        return "has no relative change (raw is at zero)"
    word = "fell" if value < 0 else "rose"
    return f"{word} by {100 * abs(value):.0f} %{_interval(estimate)}"


def _interval(estimate: Estimate) -> str:
    """' (95 % interval +3.1 to +5.4)' in hundredths, or nothing where there is none."""
    if estimate["low"] is None or estimate["high"] is None:
        return ""
    return f" (95 % interval {points(estimate['low'])} to {points(estimate['high'])})"


def percent(value: float | None) -> str:
    """A fraction as '61.2 %'; None as a dash."""
    return "–" if value is None else f"{100 * value:.1f} %".replace("-", MINUS)


def points(value: float | None) -> str:
    """A difference of fractions in percentage points, '+12.3'; None as a dash."""
    return "–" if value is None else f"{100 * value:+.1f}".replace("-", MINUS)


def _and(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
