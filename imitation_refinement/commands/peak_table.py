"""The peaks of a refined pattern in the units of a measurement.

Belongs here: position, height and width of peaks on the grid of q, and whether the raw pattern
shows them. Which maxima count as peaks is `peaks.find_peaks`'s.
"""

from typing import NamedTuple

import numpy as np
from scipy.signal import peak_widths

from imitation_refinement.evaluation.peaks import (
    COUNTERPART,
    THRESHOLD,
    find_peaks,
    has_counterpart,
)
from imitation_refinement.xrd.grid import Grid, d_from_q, grid_q, two_theta_from_q
from imitation_refinement.xrd.scans import q_per_radian


class PeakTable(NamedTuple):
    """Peaks in order of angle, arrays `[m]`.

    Attributes:
        two_theta: position in degrees, float64.
        d_spacing: in angstrom, float64.
        intensity: height per degree as in a measured scan, per cent of the highest peak, float64.
        fwhm: width in degrees at half of what the peak rises above its foot, float64.
        in_raw: whether the raw pattern has a peak there too (at least half as high as one must be
            to count), bool.
    """

    two_theta: np.ndarray
    d_spacing: np.ndarray
    intensity: np.ndarray
    fwhm: np.ndarray
    in_raw: np.ndarray


def peak_table(
    refined: np.ndarray, raw: np.ndarray, mask: np.ndarray, grid: Grid, wavelength: float
) -> PeakTable:
    """Returns the peaks of a refined pattern.

    Positions are those of the parabola through the highest point and its neighbours, so they are
    finer than the grid. A maximum at the edge of what was measured is no peak.

    Args:
        refined: refined pattern, float `[L]`.
        raw: the same before refinement, float `[L]`.
        mask: where the scan has data, bool `[L]`.
        grid: the grid.
        wavelength: of the scan, in angstrom.
    """
    pattern = np.where(mask, np.asarray(refined, np.float64), 0.0)
    index = find_peaks(pattern)
    index = index[mask[index - 1] & mask[index + 1]]
    before, top, after = pattern[index - 1], pattern[index], pattern[index + 1]
    curvature = before - 2.0 * top + after
    shift = np.divide(
        0.5 * (before - after), curvature, out=np.zeros_like(top), where=curvature != 0.0
    )
    height = top - 0.25 * (before - after) * shift
    # Beyond the limiting sphere nothing was measured, and there is no angle.
    q = np.minimum(grid_q(grid), 4.0 * np.pi / wavelength)
    points = np.arange(grid.length)
    two_theta = two_theta_from_q(q, wavelength)
    position = np.interp(index + shift, points, two_theta)
    left, right = peak_widths(pattern, index, rel_height=0.5)[2:]
    intensity = height * q_per_radian(position, wavelength)
    raw_peaks = find_peaks(np.where(mask, raw, 0.0), COUNTERPART * THRESHOLD)
    return PeakTable(
        position,
        d_from_q(np.interp(index + shift, points, q)),
        100.0 * intensity / max(intensity.max(initial=0.0), np.finfo(np.float64).tiny),
        np.interp(right, points, two_theta) - np.interp(left, points, two_theta),
        has_counterpart(index, raw_peaks),
    )
