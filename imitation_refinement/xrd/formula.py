"""Chemical formulas: element symbols, and the reduced formula of a composition.

Belongs here: text and numbers only. Formulas are written as pymatgen writes them, which is what the
Materials Project shows: elements by electronegativity, a repeated pair at the end in brackets.
"""

import math
import re
from collections.abc import Mapping

SYMBOLS = (
    "", "H", "He", "Li", "Be", "B", "C", "N", "O", "F", "Ne", "Na", "Mg", "Al", "Si", "P", "S",
    "Cl", "Ar", "K", "Ca", "Sc", "Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Cu", "Zn", "Ga", "Ge",
    "As", "Se", "Br", "Kr", "Rb", "Sr", "Y", "Zr", "Nb", "Mo", "Tc", "Ru", "Rh", "Pd", "Ag", "Cd",
    "In", "Sn", "Sb", "Te", "I", "Xe", "Cs", "Ba", "La", "Ce", "Pr", "Nd", "Pm", "Sm", "Eu", "Gd",
    "Tb", "Dy", "Ho", "Er", "Tm", "Yb", "Lu", "Hf", "Ta", "W", "Re", "Os", "Ir", "Pt", "Au", "Hg",
    "Tl", "Pb", "Bi", "Po", "At", "Rn", "Fr", "Ra", "Ac", "Th", "Pa", "U", "Np", "Pu", "Am", "Cm",
    "Bk", "Cf", "Es", "Fm", "Md", "No", "Lr",
)  # fmt: skip
NUMBERS = {symbol: number for number, symbol in enumerate(SYMBOLS) if number}

# Pauling's electronegativity by atomic number, 1 to 98; noble gases without one come last.
_LAST = math.inf
_ELECTRONEGATIVITY = (
    0, 2.2, _LAST, 0.98, 1.57, 2.04, 2.55, 3.04, 3.44, 3.98, _LAST, 0.93, 1.31, 1.61, 1.9, 2.19,
    2.58, 3.16, _LAST, 0.82, 1, 1.36, 1.54, 1.63, 1.66, 1.55, 1.83, 1.88, 1.91, 1.9, 1.65, 1.81,
    2.01, 2.18, 2.55, 2.96, 3, 0.82, 0.95, 1.22, 1.33, 1.6, 2.16, 1.9, 2.2, 2.28, 2.2, 1.93, 1.69,
    1.78, 1.96, 2.05, 2.1, 2.66, 2.6, 0.79, 0.89, 1.1, 1.12, 1.13, 1.14, 1.13, 1.17, 1.2, 1.2, 1.1,
    1.22, 1.23, 1.24, 1.25, 1.1, 1.27, 1.3, 1.5, 2.36, 1.9, 2.2, 2.2, 2.28, 2.54, 2, 1.62, 2.33,
    2.02, 2, 2.2, 2.2, 0.7, 0.9, 1.1, 1.3, 1.5, 1.38, 1.36, 1.28, 1.3, 1.3, 1.3, 1.3, 1.3, 1.3,
    1.3, 1.3, 1.3,
)  # fmt: skip

# What is not divided further: molecules and peroxides.
_SPECIAL = {
    "LiO": "Li2O2", "NaO": "Na2O2", "KO": "K2O2", "HO": "H2O2", "CsO": "Cs2O2", "RbO": "Rb2O2",
    "O": "O2", "N": "N2", "F": "F2", "Cl": "Cl2", "H": "H2",
}  # fmt: skip
_BRACKETS_BELOW = 1.65  # difference in electronegativity of a pair that is written in brackets
_WHOLE = 1e-4  # amounts closer than that to a whole number are one
_TERM = re.compile(r"\s*(?:([A-Z][a-z]?)|(\()|(\))|([\[{])|([\]}]))\s*(\d*\.?\d*)")


def reduced_formula(amounts: Mapping[str, float]) -> str:
    """Returns the formula of a composition: of whole amounts the reduced one, else as it is.

    Args:
        amounts: how much of each element, by symbol.
    """
    kept = {symbol: value for symbol, value in amounts.items() if value > 1e-8}
    if not all(abs(value - round(value)) < _WHOLE for value in kept.values()):
        return "".join(symbol + _amount(kept[symbol]) for symbol in _ordered(kept))
    whole = {symbol: round(value) for symbol, value in kept.items() if round(value)}
    divisor = math.gcd(*whole.values())
    formula = _written({symbol: value // divisor for symbol, value in whole.items()})
    return _SPECIAL.get(formula, formula)


def anonymous_formula(amounts: Mapping[str, float]) -> str:
    """Returns the formula with A, B, ... for the elements, least first; amounts must be whole."""
    whole = [round(value) for value in amounts.values()]
    divisor = math.gcd(*whole)
    letters = (chr(65 + i) if i < 26 else f"A{chr(39 + i)}" for i in range(len(whole)))
    return "".join(
        letter + (str(n // divisor) if n != divisor else "")
        for letter, n in zip(letters, sorted(whole), strict=True)
    )


def parsed_formula(text: str) -> dict[str, float]:
    """Returns the amount of each element in a formula, such as `Ca(O H)2` or `Fe0.9 O`.

    Deuterium counts as hydrogen.

    Raises:
        ValueError: it is no formula.
    """
    stack: list[dict[str, float]] = [{}]
    place = 0
    text = text.strip().strip("'\"")
    while place < len(text):
        term = _TERM.match(text, place)
        if term is None or term.end() == place:
            raise ValueError(f"{text[:60]!r} is no formula")
        place = term.end()
        symbol, opened, closed, opened2, closed2, digits = term.groups()
        amount = float(digits) if digits not in ("", ".") else 1.0
        if symbol:
            symbol = "H" if symbol in ("D", "T") else symbol
            if symbol not in NUMBERS:
                raise ValueError(f"{text[:60]!r} is no formula: {symbol} is no element")
            stack[-1][symbol] = stack[-1].get(symbol, 0.0) + amount
        elif opened or opened2:
            stack.append({})
        elif (closed or closed2) and len(stack) > 1:
            for symbol, inner in stack.pop().items():
                stack[-1][symbol] = stack[-1].get(symbol, 0.0) + inner * amount
        else:
            raise ValueError(f"{text[:60]!r} is no formula: a bracket is missing")
    if len(stack) != 1 or not stack[0]:
        raise ValueError(f"{text[:60]!r} is no formula")
    return stack[0]


def _ordered(symbols: Mapping[str, float]) -> list[str]:
    return sorted(symbols, key=lambda symbol: (_electronegativity(symbol), symbol))


def _electronegativity(symbol: str) -> float:
    return _ELECTRONEGATIVITY[NUMBERS[symbol]]


def _written(whole: Mapping[str, int]) -> str:
    order = _ordered(whole)
    tail = ""
    if len(order) >= 3:
        first, second = order[-2:]
        repeats = math.gcd(whole[first], whole[second])
        near = _electronegativity(second) - _electronegativity(first) < _BRACKETS_BELOW
        if repeats > 1 and near:
            pair = {first: whole[first] // repeats, second: whole[second] // repeats}
            tail, order = f"({_written(pair)}){repeats}", order[:-2]
    return "".join(symbol + _amount(whole[symbol]) for symbol in order) + tail


def _amount(value: float) -> str:
    if abs(value - round(value)) < _WHOLE:
        return "" if round(value) == 1 else str(round(value))
    return f"{value:.8f}".rstrip("0")
