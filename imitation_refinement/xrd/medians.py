"""Medians and quantiles of one row, as `np.median` and `np.quantile` have them, to the bit.

Belongs here: what those functions do for one row of numbers, without what they look for first: of
3,000 numbers they take three times as long, and a scan needs a dozen.
"""

import numpy as np


def median(values: np.ndarray) -> float:
    """Returns the median.

    Args:
        values: float64 `[n]`, n >= 1, no NaN among them.
    """
    half = len(values) // 2
    part = np.partition(values, half)
    high = float(part[half])
    return high if len(values) % 2 else (float(part[:half].max()) + high) / 2.0


def quantile(values: np.ndarray, share: float) -> float:
    """Returns the value that a share of the values is below, between two of them linearly.

    Args:
        values: float64 `[n]`, n >= 1, no NaN among them.
        share: 0 to 1.
    """
    at = (len(values) - 1) * share
    below = int(at)
    part = np.partition(values, below)
    low, into = float(part[below]), at - below
    if below + 1 == len(values):
        return low
    high = float(part[below + 1 :].min())
    # The form that rounds alike on both sides, as NumPy's.
    return high - (high - low) * (1.0 - into) if into >= 0.5 else low + (high - low) * into
