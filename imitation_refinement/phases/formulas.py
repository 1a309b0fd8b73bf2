"""Formulas: which elements they name and how many of each.

Belongs here: reading the text of a formula, with parentheses and decimals. No structure is known.
"""

import re
from functools import lru_cache, reduce
from math import gcd

_TOKEN = re.compile(r"([A-Z][a-z]?|\(|\))(\d*\.?\d*)")
_MULTIPLES = range(1, 13)  # by which decimals are tried to be made whole
_NEAR = 0.02  # what decimals of a refined composition may miss a whole number by


@lru_cache(maxsize=1 << 18)
def amounts(formula: str) -> tuple[tuple[str, float], ...]:
    """Returns (element, amount) of a formula like Ca3Al2(SiO4)3, by element; D counts as H."""
    stack: list[dict[str, float]] = [{}]
    for token, digits in _TOKEN.findall(formula):
        times = float(digits) if digits not in ("", ".") else 1.0
        if token == "(":
            stack.append({})
            continue
        group = {"H" if token == "D" else token: 1.0}
        if token == ")":
            group = stack.pop() if len(stack) > 1 else {}
        for element, amount in group.items():
            stack[-1][element] = stack[-1].get(element, 0.0) + amount * times
    return tuple(sorted(stack[0].items()))


def elements(formula: str) -> frozenset[str]:
    """Returns the elements that a formula names."""
    return frozenset(element for element, _ in amounts(formula))


@lru_cache(maxsize=1 << 18)
def reduced(formula: str) -> str:
    """Returns a formula with elements in alphabetic order and whole numbers without common factor.

    Decimals become whole by a factor up to 12 where one does; else they are rounded to hundredths.
    """
    parts = amounts(formula)
    values = [amount for _, amount in parts]
    for times in _MULTIPLES:
        if all(abs(times * value - round(times * value)) < _NEAR * times for value in values):
            whole = [round(times * value) for value in values]
            break
    else:
        whole = [round(100.0 * value) for value in values]
    factor = reduce(gcd, whole, 0) or 1
    return "".join(
        f"{element}{count // factor}" for (element, _), count in zip(parts, whole, strict=True)
    )
