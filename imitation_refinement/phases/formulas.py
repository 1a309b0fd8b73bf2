"""Formulas as names of phases: which elements they have, and one form for equal compositions.

Belongs here: what makes two formulas the same phase. Reading their text is `xrd.formula`'s.
"""

from functools import lru_cache, reduce
from math import gcd

from imitation_refinement.xrd.formula import parsed_formula

_MULTIPLES = range(1, 13)  # by which decimals are tried to be made whole
_NEAR = 0.02  # what decimals of a refined composition may miss a whole number by


@lru_cache(maxsize=1 << 18)
def amounts(formula: str) -> tuple[tuple[str, float], ...]:
    """Returns (element, amount) of a formula like Ca3Al2(SiO4)3, by element; of none nothing."""
    try:
        return tuple(sorted(parsed_formula(formula).items()))
    except ValueError:
        return ()


def elements(formula: str) -> frozenset[str]:
    """Returns the elements that a formula names."""
    return frozenset(element for element, _ in amounts(formula))


@lru_cache(maxsize=1 << 18)
def heavier_elements(formula: str) -> frozenset[str]:
    """Returns the elements that X-rays see: all but hydrogen, which many sources leave out."""
    return elements(formula) - {"H", "D"}


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
