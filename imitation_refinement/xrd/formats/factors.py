"""Columns beside the counts that say how each point was measured: time, monitor, attenuator.

Belongs here: whether such a column was already divided out, and doing it where it was not; and
whether numbers are the errors of others. Pure functions of arrays and names.
"""

import re
from collections.abc import Mapping

import numpy as np

from imitation_refinement.xrd.formats.names import plain

_KINDS = (
    ("counting time", re.compile(
        r"(step|count(ing)?|live|exposure|acquisition|dwell)[\s_]*time|^time|^seconds?$|^sec\.?$|"
        r"^t[\s_]*[\[(]\s*s")),
    ("monitor", re.compile(r"^mon(itor)?(?![a-z])|^i_?0(?![a-z0-9])|ion[\s_]*chamber")),
    ("attenuator", re.compile(r"^att(en|[\s_]*fac|[\s_]*$)|absorber")),
)  # fmt: skip
_VARIES, _JUMP = 0.02, 0.1  # shares of the median; less is the stability of a source
_AROUND = 3  # points on either side of a jump
_ALIKE, _TOGETHER = 0.05, 0.99  # of the power of counts that errors are; their correlation
_RISING = 0.9  # share of rising steps from which a time is that of the clock


def one_scale(
    counts: np.ndarray, columns: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Returns counts as with one counting time, monitor and attenuator throughout, and notes.

    Where the column jumps, the counts jump with it unless it was divided out before. Where they
    tell neither, they are left and noted.

    Args:
        counts: float64 `[n]`.
        columns: name and values, float64 `[n]`, of the columns that are no intensities.
    """
    notes: list[str] = []
    for name, values in columns.items():
        kind = next((kind for kind, pattern in _KINDS if pattern.search(plain(name))), "")
        if not kind or not np.all(values > 0) or not np.isfinite(values).all():
            continue
        middle = float(np.median(values))
        clock = kind == "counting time" and np.mean(np.diff(values) > 0) > _RISING
        if clock or np.ptp(values) <= _VARIES * middle:
            continue
        factor = values / middle if kind == "attenuator" else middle / values
        before, after = _jumps(counts, factor), _jumps(counts * factor, factor)
        if after < 0.5 * before:
            counts = counts * factor
            notes.append(f"{kind} varies ({name.strip()}): intensities brought to one")
        elif not before < 0.5 * after:
            notes.append(f"{kind} varies ({name.strip()}): intensities not brought to one")
    return counts, tuple(notes)


def _jumps(counts: np.ndarray, factor: np.ndarray) -> float:
    """Returns by how much counts change where the factor jumps, as a sum of logarithms."""
    change = np.abs(np.diff(factor)) / np.minimum(factor[1:], factor[:-1])
    total = 0.0
    for at in np.flatnonzero(change > _JUMP) + 1:
        left, right = counts[max(0, at - _AROUND) : at], counts[at : at + _AROUND]
        low, high = sorted((float(np.median(left)), float(np.median(right))))
        total += np.log(high / low) if low > 0 else 0.0
    return total


def unlike_errors(counts: np.ndarray, errors: np.ndarray) -> float:
    """Returns how much errors differ from a multiple of the root of counts."""
    ratio = np.abs(errors) / np.sqrt(np.maximum(counts, 1.0))
    middle = float(np.median(ratio))
    return float(np.median(np.abs(ratio - middle))) / middle if middle > 0 else np.inf


def are_errors(values: np.ndarray, counts: np.ndarray) -> bool:
    """Returns whether values are the errors of counts: they go as their root, but for a factor."""
    if not (np.all(values > 0) and np.all(counts > 0) and np.ptp(values) and np.ptp(counts)):
        return False
    errors, logs = np.log(values), np.log(counts)
    power = float(np.std(errors) / np.std(logs))
    return bool(abs(power - 0.5) < _ALIKE and np.corrcoef(errors, logs)[0, 1] > _TOGETHER)
