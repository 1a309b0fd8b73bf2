"""The answer in plain words: did refinement help, by how much, how sure are we?

Belongs here: the rule that turns the numbers of evaluation.evaluate into yes, no or unclear. Four
questions are asked, each answered by a 95 % interval:

- recognised: is the frozen classifier's accuracy gain above zero?
- closer: are the mean l1 and the mean generalised KL to the truth both below those of raw? (left
  out where nobody knows the truth)
- confirmed: is the gain of every judge that was trained on ideal examples above zero? (left out
  where there is none)
- legible: does every reader, a judge that was trained on imperfect examples, lose no more than one
  point? (left out where there is none)

Helped is *yes* when all answers are yes, *no* when any is no, and *unclear* otherwise; l1 and KL
moving in opposite directions is unclear, not yes.
"""

from collections.abc import Iterable
from typing import Any

MINUS = "\N{MINUS SIGN}"
READERS_MAY_LOSE = 0.01  # accuracy

Estimate = dict[str, float | None]


def answer(results: dict[str, Any]) -> dict[str, Any]:
    """Returns {'helped', 'answers', 'headline', 'sentences'} for the dict that evaluate builds."""
    accuracy, quality, noun = results["accuracy"], results["quality"], results["noun"]
    gain = accuracy["classifier"]["gain"]
    answers = {"recognised": _above(gain)}
    sentences = [_recognition(accuracy["classifier"], noun)]
    if quality:
        l1, kl = (quality[name]["relative_change"]["mean"] for name in ("l1", "kl"))
        closer = _below_zero(l1)
        answers["closer"] = closer if closer == _below_zero(kl) else "unclear"
        sentences.append(_closeness(l1, kl))
    judges = {name: head for name, head in accuracy["judges"].items() if not head["reader"]}
    readers = {name: head for name, head in accuracy["judges"].items() if head["reader"]}
    if judges:
        answers["confirmed"] = _all(_above(head["gain"]) for head in judges.values())
    if readers:
        lost = (_above(head["gain"], -READERS_MAY_LOSE) for head in readers.values())
        answers["legible"] = _all(lost)
    sentences += [_judgement(name, head) for name, head in judges.items()]
    sentences += [_reading(name, head, noun) for name, head in readers.items()]
    if "no" in answers.values():
        helped, headline = "no", _refusal(answers, noun)
    elif "unclear" in answers.values():
        helped, headline = "unclear", _doubt(answers, gain, noun, results["group_noun"])
    else:
        helped, headline = "yes", "Yes, refinement helped."
    return {"helped": helped, "answers": answers, "headline": headline, "sentences": sentences}


def _above(estimate: Estimate, limit: float = 0.0) -> str:
    if estimate["low"] is None or estimate["high"] is None:
        return "unclear"
    if estimate["low"] > limit:
        return "yes"
    return "no" if estimate["high"] < limit else "unclear"


def _below_zero(estimate: Estimate) -> str:
    return {"yes": "no", "no": "yes", "unclear": "unclear"}[_above(estimate)]


def _all(answers: Iterable[str]) -> str:
    found = set(answers)
    return "no" if "no" in found else "unclear" if "unclear" in found else "yes"


def _refusal(answers: dict[str, str], noun: str) -> str:
    reasons = {
        "recognised": f"the refined {noun} are recognised less often",
        "closer": f"the refined {noun} are further from the truth",
        "confirmed": "a classifier that the refiner never saw recognises them less often",
        "legible": "a reader of imperfect ones recognises them less often",
    }
    found = [reasons[name] for name, answer in answers.items() if answer == "no"]
    return f"No, refinement did not help: {_and(found)}."


def _doubt(answers: dict[str, str], gain: Estimate, noun: str, group_noun: str) -> str:
    if gain["low"] is None:
        return f"Unclear: too few {group_noun} to say whether refinement helped."
    reasons = {
        "recognised": "the change in accuracy is within the uncertainty",
        "closer": "it is not clear that they are closer to the truth (ℓ1 and KL must both fall)",
        "confirmed": "a classifier that the refiner never saw does not clearly confirm the gain",
        "legible": "it is not clear that a reader of imperfect ones recognises them as before",
    }
    found = [reasons[name] for name, answer in answers.items() if answer == "unclear"]
    if answers["recognised"] == "yes":
        return f"Unclear: the refined {noun} are better recognised, but {_and(found)}."
    return f"Unclear whether refinement helped: {_and(found)}."


def _recognition(head: dict[str, Any], noun: str) -> str:
    gain = head["gain"]
    moved = "a gain" if gain["value"] >= 0 else "a loss"
    sentence = (
        f"The frozen classifier recognises {percent(head['refined']['value'])} of the refined "
        f"{noun}, against {percent(head['raw']['value'])} of the raw ones: {moved} of "
        f"{100 * abs(gain['value']):.1f} points{_interval(gain)}."
    )
    if "truth" in head:
        sentence += f" On the true {noun} it reaches {percent(head['truth']['value'])}."
    return sentence


def _closeness(l1: Estimate, kl: Estimate) -> str:
    return (
        f"Against the known truth, the mean ℓ1 distance {_moved(l1)} and the KL "
        f"divergence {_moved(kl)}."
    )


def _judgement(name: str, judge: dict[str, Any]) -> str:
    rest = judge["own_minus_gain"]["value"]
    return (
        f"A classifier that the refiner never saw ({words(name)}) {_gains(judge['gain'])}; its "
        f"change is {100 * abs(rest):.1f} points {'below' if rest >= 0 else 'above'} the frozen "
        "classifier's."
    )


def _reading(name: str, reader: dict[str, Any], noun: str) -> str:
    return (
        f"A reader of imperfect {noun} ({words(name)}) {_gains(reader['gain'])}, from "
        f"{percent(reader['raw']['value'])} of the raw to {percent(reader['refined']['value'])} of "
        "the refined ones."
    )


def _gains(gain: Estimate) -> str:
    value = gain["value"] or 0.0
    verb = "gains" if value >= 0 else "loses"
    return f"{verb} {100 * abs(value):.1f} points{_interval(gain)}"


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


def words(name: str) -> str:
    """The name of a config section as words."""
    return name.replace("_", " ")


def percent(value: float | None) -> str:
    """A fraction as '61.2 %'; None as a dash."""
    return "–" if value is None else f"{100 * value:.1f} %".replace("-", MINUS)


def points(value: float | None) -> str:
    """A difference of fractions in percentage points, '+12.3'; None as a dash."""
    return "–" if value is None else f"{100 * value:+.1f}".replace("-", MINUS)


def _and(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
