"""Measured scans: checking them, placing them on the model's grid, writing results.

Belongs here: everything between the columns of a measured file, which `formats` reads, and the
array that a network is given, and back.
Angles are 2 theta in degrees, wavelengths in angstrom, q = 2 pi / d in 1/angstrom.
"""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.ndimage import uniform_filter1d

from imitation_refinement.errors import UserError
from imitation_refinement.runtime.files import atomic_file
from imitation_refinement.xrd.background import snip
from imitation_refinement.xrd.cells import cell_means, cell_noise
from imitation_refinement.xrd.grid import Grid, grid_q, q_from_two_theta, two_theta_from_q
from imitation_refinement.xrd.profiles import normalize_max
from imitation_refinement.xrd.signal import missing_signal

# Angstrom; CuKa and the like are the means of the doublet weighted 2:1, CuKa1 its stronger line.
# Customary values after J. A. Bearden, Rev. Mod. Phys. 39, 78 (1967).
WAVELENGTHS = {
    "CuKa": 1.54184,
    "CuKa1": 1.54056,
    "CoKa": 1.79026,
    "MoKa": 0.71073,
    "CrKa": 2.29100,
    "FeKa": 1.93735,
    "AgKa": 0.560885,
}
SHORTEST, LONGEST = 0.1, 5.0  # angstrom; what a powder diffractometer can use

MIN_POINTS = 20
_MIN_DISTINCT = 0.1  # share of distinct angles; fewer: a decimal comma was read as a separator
_DECIMALS = 6  # of angles; no goniometer is finer, and points closer than this are one
_LARGEST, _SMALLEST = 1e30, 1e-30  # what lies beyond is no count; keeps squares within floats
_GAP = 10.0  # a step this many times the median step is a hole in the scan, not a step
_MIN_COVERED = 0.1  # share of the grid that a scan must cover
_SNIP_SCALE = 1e4  # largest value that SNIP is given, so that the unit of counts does not matter
_SNIP_SMOOTHING = 9  # points; SNIP would follow the lower edge of unsmoothed noise
_FLOOR = 3.0  # standard deviations; what rises less above background is noise


class Scan(NamedTuple):
    """One measured powder pattern.

    Attributes:
        two_theta: angles in degrees, float64 `[n]`, strictly increasing.
        counts: intensity at these angles, float64 `[n]`, finite and not negative.
        wavelength: of the radiation, in angstrom.
        name: what to call the scan in results (file name without its ending).
        notes: what had to be mended while reading, in sentences; empty if nothing.
        wavelength_source: `file` if the file states the wavelength, else `option`.
        k_alpha2: whether the second line of the doublet is in the pattern: `present`, `stripped`
            or `unknown`.
    """

    two_theta: np.ndarray
    counts: np.ndarray
    wavelength: float
    name: str
    notes: tuple[str, ...] = ()
    wavelength_source: str = "option"
    k_alpha2: str = "unknown"


class PlacedScan(NamedTuple):
    """A scan on the grid of a network.

    Attributes:
        pattern: float32 `[L]`, largest value 1 or all zero; zero where nothing was measured.
        mask: bool `[L]`, true where the scan has data.
        background: what was subtracted, float32 `[L]`, in units of the pattern; zero outside.
        scale: intensity per unit of q of pattern value 1. Intensity as measured, at an angle, is
            (pattern + background) * scale * `q_per_radian`, but for the noise.
        signal: empty, or why the scan has no peaks that could be recognised.
    """

    pattern: np.ndarray
    mask: np.ndarray
    background: np.ndarray
    scale: float
    signal: str = ""


def parse_wavelength(value: str | float | None) -> float:
    """Returns a wavelength in angstrom, given by name (`CuKa`, `Co Kα`, `mo-ka`) or as a number.

    There is no default: the wrong wavelength moves every peak and nothing would tell.

    Raises:
        UserError: not given, not a known name, or not between 0.1 and 5 angstrom.
    """
    known = ", ".join(WAVELENGTHS)
    if value is None or not str(value).strip():
        raise UserError(f"wavelength: not given; name one of {known} or a number in angstrom")
    text = str(value).strip()
    key = re.sub(r"[\s_-]", "", text.lower()).replace("alpha", "a").replace("α", "a")
    for name, wavelength in WAVELENGTHS.items():
        if key == name.lower():
            return wavelength
    try:
        number = float(text)
    except ValueError:
        raise UserError(
            f"wavelength: {text!r} is not known; name one of {known} or a number in angstrom"
        ) from None
    if not SHORTEST <= number <= LONGEST:
        raise UserError(
            f"wavelength: {number:g} is not between {SHORTEST:g} and {LONGEST:g} angstrom;"
            " give it in angstrom"
        )
    return number


# --- checking --------------------------------------------------------------------------------


def clean_scan(
    two_theta: np.ndarray,
    counts: np.ndarray,
    wavelength: float,
    name: str,
    *,
    source: str = "",
    notes: list[str] | None = None,
) -> Scan:
    """Returns a scan from raw columns: finite, sorted, one point per angle, no negative counts.

    Args:
        two_theta: angles in degrees, float `[n]`.
        counts: float `[n]`.
        wavelength: in angstrom.
        name: of the scan.
        source: what to name in errors; the scan's name by default.
        notes: what was mended before.

    Raises:
        UserError: angles of 180 degrees or more, too few different ones, or all counts negative.
    """
    source, notes = source or name, list(notes or [])
    finite = np.isfinite(two_theta) & (np.abs(counts) <= _LARGEST)
    if not finite.all():
        notes.append(f"{np.count_nonzero(~finite)} points that are not numbers dropped")
    two_theta, counts = two_theta[finite], counts[finite]
    if two_theta.size and two_theta.max() >= 180:
        raise UserError(
            f"{source}: {two_theta.max():g} in the first column is no angle below 180 degrees;"
            " the first column must be 2 theta in degrees"
        )
    two_theta = np.round(two_theta, _DECIMALS)
    forward = two_theta > 0
    if not forward.all():
        notes.append(f"{np.count_nonzero(~forward)} points at or below 0 degrees dropped")
        two_theta, counts = two_theta[forward], counts[forward]
    negative = counts < 0
    if negative.any():
        notes.append(f"{np.count_nonzero(negative)} negative counts set to 0")
        counts = np.where(negative, 0.0, counts)
    distinct, group = np.unique(two_theta, return_inverse=True)
    if distinct.size < max(MIN_POINTS, _MIN_DISTINCT * two_theta.size):
        raise UserError(
            f"{source}: only {distinct.size} distinct angles in {two_theta.size} points; write"
            " decimals with a point and 2 theta in the first column"
        )
    if distinct.size < two_theta.size:
        notes.append(f"{two_theta.size - distinct.size} repeated angles averaged")
    counts = np.bincount(group, weights=counts) / np.bincount(group)
    if negative.all():
        raise UserError(f"{source}: no count above zero; the second column must be counts")
    counts[counts < _SMALLEST] = 0.0
    return Scan(distinct, counts, wavelength, name, tuple(notes))


# --- placing on the grid ---------------------------------------------------------------------


def on_grid(scan: Scan, grid: Grid) -> PlacedScan:
    """Returns a scan as a network takes it: on the grid of q, without background, largest value 1.

    Counts per degree become intensity per unit of q (the simulator's measure), averaged over each
    cell of the grid, so that the area of a peak does not depend on the step of the scan. Background
    is subtracted by SNIP and what is left within the noise is set to 0, as for the simulated
    imperfect patterns. Parts that were not measured are 0 and false in the mask. Where
    `missing_signal` finds no peaks, what is left is noise or a hump, and `signal` says so: it must
    not be classified.

    Raises:
        UserError: the scan covers less than a tenth of the grid.
    """
    q = q_from_two_theta(scan.two_theta, scan.wavelength)
    cells = grid_q(grid)
    mask = _measured(q, cells)
    if np.mean(mask) < _MIN_COVERED:
        raise UserError(
            f"{scan.name}: covers q from {q[0]:.2f} to {q[-1]:.2f} 1/angstrom and the model needs"
            f" {cells[0]:.2f} to {cells[-1]:.2f}; check the wavelength ({scan.wavelength:g}"
            " angstrom) or measure a wider range"
        )
    density = scan.counts / q_per_radian(scan.two_theta, scan.wavelength)
    # Differences of sums: rounding may leave a cell without counts just below zero.
    averaged = np.where(mask, np.maximum(cell_means(q, density, cells), 0.0), 0.0)
    top = averaged.max() or 1.0
    sigma = cell_noise(q, density, cells)
    background = np.zeros(len(cells))
    for part in _runs(mask):
        smooth = uniform_filter1d(
            _SNIP_SCALE / top * averaged[part], _SNIP_SMOOTHING, mode="nearest"
        )
        background[part] = snip(np.maximum(smooth, 0.0)) * (top / _SNIP_SCALE)
    excess = averaged - background
    pattern = np.where(excess > _FLOOR * sigma, excess, 0.0) * mask
    inside = (q >= cells[0]) & (q <= cells[-1])
    signal = missing_signal(q[inside], scan.counts[inside], density[inside])
    scale = float(pattern.max() or top)
    return PlacedScan(
        normalize_max(pattern.astype(np.float32)),
        mask,
        (background / scale).astype(np.float32),
        scale,
        signal,
    )


def _measured(q: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Returns which cell centers lie between two neighbouring points of the scan, bool `[L]`."""
    step = np.diff(q)
    right = np.searchsorted(q, cells, side="left")
    inside = (right > 0) & (right < len(q))
    width = step[np.clip(right - 1, 0, len(step) - 1)]
    return inside & (width <= _GAP * np.median(step))


def _runs(mask: np.ndarray) -> list[slice]:
    """Returns the stretches of a mask that are true."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [slice(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]


def q_per_radian(two_theta: np.ndarray, wavelength: float) -> np.ndarray:
    """Returns dq / d(2 theta) = 2 pi cos(theta) / wavelength, 2 theta in radians."""
    return 2.0 * np.pi / wavelength * np.cos(np.deg2rad(0.5 * two_theta))


# --- writing ---------------------------------------------------------------------------------


def write_refined(
    path: str | Path,
    pattern: np.ndarray,
    mask: np.ndarray,
    grid: Grid,
    wavelength: float,
    source: str,
) -> None:
    """Writes a refined pattern as text with two columns, 2 theta in degrees and intensity.

    Intensity is per degree again, as in a measured scan, with the largest value 100. Only what was
    measured is written: elsewhere the refiner had nothing to refine.

    Args:
        path: file to write; an existing one is replaced.
        pattern: refined pattern on the grid, float `[L]`.
        mask: where the scan has data, bool `[L]`.
        grid: the grid.
        wavelength: of the scan, in angstrom.
        source: what was refined, for the header.

    Raises:
        UserError: the file cannot be written.
    """
    two_theta = two_theta_from_q(grid_q(grid)[mask], wavelength)
    intensity = np.asarray(pattern, np.float64)[mask] * q_per_radian(two_theta, wavelength)
    intensity *= 100.0 / max(intensity.max(), np.finfo(np.float64).tiny)
    header = f"refined from {source}; wavelength {wavelength:g} angstrom\ntwo_theta intensity"
    with atomic_file(path) as file:
        np.savetxt(file, np.column_stack([two_theta, intensity]), fmt="%.5f", header=header)
