"""How much counting time a method saves: recognition against counts, read the other way round.

Belongs here: two curves and the ratio of the counts at which they are equal. Pure NumPy.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def counts_needed(counts: ArrayLike, curve: ArrayLike, value: float) -> float:
    """Returns the fewest counts at which a curve reaches a value, linear in ln counts between.

    More counts never harm but by chance, so the curve is taken as its running maximum. Where the
    first point reaches the value already, its counts; where none does, infinity.

    Args:
        counts: rising, above 0, `[m]`.
        curve: recognition at these, `[m]`.
        value: to be reached.
    """
    axis = np.log(np.asarray(counts, np.float64))
    best = np.maximum.accumulate(np.asarray(curve, np.float64))
    at = int(np.searchsorted(best, value, side="left"))
    if at == 0:
        return float(np.exp(axis[0]))
    if at == len(best):
        return float("inf")
    share = (value - best[at - 1]) / (best[at] - best[at - 1])
    return float(np.exp(axis[at - 1] + share * (axis[at] - axis[at - 1])))


def shortening(counts: ArrayLike, base: ArrayLike, other: ArrayLike) -> NDArray[np.float64]:
    """Returns how many times longer `base` must count to be as good as `other`, `[m]`.

    At each of the counts; 1 where other is not better, infinity where base is never as good.

    Args:
        counts: rising, above 0, `[m]`.
        base: recognition by the method compared with, `[m]`.
        other: recognition by the method that is to save time, `[m]`.
    """
    counts, other = np.asarray(counts, np.float64), np.asarray(other, np.float64)
    needed = np.array([counts_needed(counts, base, value) for value in other])
    return np.maximum(needed / counts, 1.0)
