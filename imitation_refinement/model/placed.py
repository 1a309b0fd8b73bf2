"""Scans on the grid as the arrays that a model is given.

Belongs here: what a model is shown of a scan, and in which shape.
"""

from collections.abc import Sequence

import numpy as np

from imitation_refinement.xrd.scans import PlacedScan


def as_arrays(scans: Sequence[PlacedScan], length: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns scans as `Model.assess` takes them.

    A scan without a signal holds noise alone, which is not to be shown to the networks: its pattern
    is zero, by which the model is told so.

    Args:
        scans: n scans, perhaps none.
        length: L, number of points of the grid on which they lie.

    Returns:
        Patterns float32 `[n, L, 1]`, and where they were measured, bool `[n, L]`.
    """
    patterns = [scan.pattern * (not scan.signal) for scan in scans]
    raw = np.array(patterns, np.float32).reshape(len(scans), length, 1)
    return raw, np.array([scan.mask for scan in scans], bool).reshape(len(scans), length)
