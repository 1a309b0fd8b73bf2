"""Measured scans: checking them, placing them on the model's grid, writing results.

Belongs here: everything between the columns of a measured file, which `formats` reads, and the
array that a network is given, and back.
Angles are 2 theta in degrees, wavelengths in angstrom, q = 2 pi / d in 1/angstrom.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.ndimage import median_filter, uniform_filter1d

from imitation_refinement.errors import UserError
from imitation_refinement.runtime.files import atomic_file
from imitation_refinement.xrd.background import snip
from imitation_refinement.xrd.cells import cell_means, cell_noise, spacing
from imitation_refinement.xrd.grid import Grid, grid_q, q_from_two_theta, two_theta_from_q
from imitation_refinement.xrd.medians import median
from imitation_refinement.xrd.profiles import normalize_max
from imitation_refinement.xrd.signal import missing_signal
from imitation_refinement.xrd.validity import valid_points
from imitation_refinement.xrd.wavelengths import parse_wavelength as parse_wavelength

MIN_POINTS = 20
_MIN_DISTINCT = 0.1  # share of distinct angles; fewer: a decimal comma was read as a separator
_DECIMALS = 6  # of angles; no goniometer is finer, and points closer than this are one
_SMALLEST = 1e-30  # what is smaller is no count
STRAY = 0.01  # share of points out of order that may be dropped
_EVEN = 0.5  # share of the points that must lie about halfway between their neighbours
_GAP = 10.0  # a step this many times the steps around is a hole in the scan, not a step
_APART = 50.0  # steps that a first or last point may be away from its neighbour
_NEAR = 15  # steps on either side that are the steps around
_MIN_COVERED = 0.1  # share of the grid that a scan must cover
_RADIANS = ", whether the angles are degrees (name the column `2theta (rad)` if not)"
SNIP_SCALE = 1e4  # largest value that SNIP is given, so that the unit of counts does not matter
SNIP_SMOOTHING = 9  # points; SNIP would follow the lower edge of unsmoothed noise
FLOOR = 3.0  # standard deviations; what rises less above background is noise
TOGETHER = 4.5  # standard deviations that a point and its two neighbours must rise together
_NOTHING = np.zeros(0, np.float32)


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
        unmeasured: (first, last) angle in degrees of each stretch inside the scan in which the
            detector did not measure; no point of it is among the angles.
    """

    two_theta: np.ndarray
    counts: np.ndarray
    wavelength: float
    name: str
    notes: tuple[str, ...] = ()
    wavelength_source: str = "option"
    k_alpha2: str = "unknown"
    unmeasured: tuple[tuple[float, float], ...] = ()


class PlacedScan(NamedTuple):
    """A scan on the grid of a network.

    Attributes:
        pattern: float32 `[L]`, largest value 1 or all zero; zero where nothing was measured.
        mask: bool `[L]`, true where the scan has data.
        background: what was subtracted, float32 `[L]`, in units of the pattern; zero outside.
        scale: intensity per unit of q of pattern value 1. Intensity as measured, at an angle, is
            (pattern + background) * scale * `q_per_radian`, but for the noise.
        signal: empty, or why the scan has no peaks that could be recognised.
        excess: what rises above the background before anything is taken for noise, in units of the
            pattern, of either sign, float32 `[L]`; zero where nothing was measured.
        noise: standard deviation of the excess by counting, in units of the pattern, float32
            `[L]`.
        strongest: counts of the strongest point on the grid, where they are whole numbers as a
            detector gives them; infinite where they are not.
    """

    pattern: np.ndarray
    mask: np.ndarray
    background: np.ndarray
    scale: float
    signal: str = ""
    excess: np.ndarray = _NOTHING
    noise: np.ndarray = _NOTHING
    strongest: float = np.inf


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
    """Returns a scan from raw columns: angles that rise, one point each, and only measurements.

    Angles must rise or fall as they stand: they are never sorted, as what is out of order is not
    one scan (see `parts`). What is no measurement is left out, see `validity.valid_points`.
    Negative intensities, as subtracting a background leaves them, are kept: all are raised.

    Args:
        two_theta: angles in degrees, float `[n]`.
        counts: float `[n]`.
        wavelength: in angstrom.
        name: of the scan.
        source: what to name in errors; the scan's name by default.
        notes: what was mended before.

    Raises:
        UserError: angles of 180 degrees or more, too few different ones, out of order or spaced as
            in a list of peaks, or no count above zero.
    """
    source, notes = source or name, list(notes or [])
    two_theta, counts, dropped = _possible_angles(two_theta, counts, source)
    notes += dropped
    distinct = len(_distinct(two_theta))
    if distinct < max(MIN_POINTS, _MIN_DISTINCT * two_theta.size):
        raise UserError(
            f"{source}: only {distinct} distinct angles in {two_theta.size} points; write"
            " decimals with a point and 2 theta in the first column"
        )
    pieces = parts(two_theta)
    if len(pieces) > 1:
        longest = max(pieces, key=lambda piece: piece.stop - piece.start)
        left = two_theta.size - (longest.stop - longest.start)
        if left > STRAY * two_theta.size:
            at = pieces[0].stop
            raise UserError(
                f"{source}: angles neither rise nor fall: {two_theta[at]:g} follows"
                f" {two_theta[at - 1]:g} (point {at + 1}); the first column must be 2 theta of one"
                " scan, in the order of measuring"
            )
        notes.append(f"{left} points out of order dropped")
        two_theta, counts = two_theta[longest], counts[longest]
    if two_theta[0] > two_theta[-1]:
        two_theta, counts = two_theta[::-1], counts[::-1]
    if not _is_even(_distinct(two_theta)):
        raise UserError(
            f"{source}: the angles are spaced as in a list of peaks, not as in a scan; give the"
            " scan that the peaks were found in"
        )
    two_theta, counts, merged = _one_point_per_angle(two_theta, counts)
    notes += merged
    if not np.any(counts > 0) and np.any(counts < 0):
        raise UserError(f"{source}: no count above zero; the second column must be counts")
    valid = valid_points(two_theta, counts)
    two_theta, counts = two_theta[valid.keep], counts[valid.keep]
    notes += valid.notes
    if len(two_theta) < MIN_POINTS:
        raise UserError(
            f"{source}: only {len(two_theta)} points have a count, at least {MIN_POINTS} are"
            " needed; the second column must be counts"
        )
    if counts.min() < 0:
        notes.append(
            f"{np.count_nonzero(counts < 0)} negative intensities (a background was subtracted):"
            f" all raised by {-counts.min():.4g}"
        )
        counts = counts - counts.min()
    counts = np.where(counts < _SMALLEST, 0.0, counts)
    return Scan(two_theta, counts, wavelength, name, tuple(notes), unmeasured=valid.stretches)


def parts(two_theta: np.ndarray) -> list[slice]:
    """Returns the stretches of points over which angles keep rising, or keep falling.

    Equal neighbours do not end a stretch. A scan is one stretch; a second scan in the same columns
    begins another.

    Args:
        two_theta: float64 `[n]`, in the order of the file.
    """
    steps = np.sign(np.diff(two_theta))
    direction = 1.0 if np.count_nonzero(steps > 0) >= np.count_nonzero(steps < 0) else -1.0
    edges = [0, *(np.flatnonzero(steps == -direction) + 1).tolist(), len(two_theta)]
    return [slice(first, last) for first, last in zip(edges[:-1], edges[1:], strict=True)]


def _possible_angles(
    two_theta: np.ndarray, counts: np.ndarray, source: str
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Returns the points at finite angles between 0 and 180 degrees, and notes."""
    notes = []
    finite = np.isfinite(two_theta)
    if not finite.all():
        notes.append(f"{np.count_nonzero(~finite)} points that are not numbers dropped")
    two_theta, counts = np.asarray(two_theta)[finite], np.asarray(counts, np.float64)[finite]
    two_theta = np.round(two_theta, _DECIMALS)
    forward = two_theta > 0
    if not forward.all():
        notes.append(f"{np.count_nonzero(~forward)} points at or below 0 degrees dropped")
    two_theta, counts = two_theta[forward], counts[forward]
    step = np.abs(np.diff(two_theta))
    for end in (0, -1):  # a line of the header or footer that looks like a point
        if len(step) > MIN_POINTS and step[end] > _APART * median(step):
            notes.append(f"a point at {two_theta[end]:g}, far from all others, dropped")
            inside = slice(1, None) if end == 0 else slice(None, -1)
            two_theta, counts, step = two_theta[inside], counts[inside], step[inside]
    if two_theta.size and two_theta.max() >= 180:
        raise UserError(
            f"{source}: {two_theta.max():g} in the first column is no angle below 180 degrees;"
            " the first column must be 2 theta in degrees"
        )
    return two_theta, counts, notes


def _one_point_per_angle(
    two_theta: np.ndarray, counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Returns rising angles, each once with the mean of its counts, and notes."""
    if _rise(two_theta):
        return two_theta, counts, []
    distinct, group = np.unique(two_theta, return_inverse=True)
    with np.errstate(over="ignore", invalid="ignore"):
        mean = np.bincount(group, weights=counts) / np.bincount(group)
    return distinct, mean, [f"{two_theta.size - distinct.size} repeated angles averaged"]


def _rise(values: np.ndarray) -> bool:
    """Returns whether each value is larger than the one before."""
    return bool(np.all(values[1:] > values[:-1]))


def _distinct(values: np.ndarray) -> np.ndarray:
    return values if _rise(values) else np.unique(values)


def _is_even(two_theta: np.ndarray) -> bool:
    """Returns whether most points lie about halfway between their neighbours, as in a scan.

    In a list of peaks hardly any do. The last decimal place of the file may be rounded.
    """
    place = 0.0
    for decimals in range(_DECIMALS + 1):
        scaled = two_theta * 10.0**decimals
        if np.all(np.abs(scaled - np.round(scaled)) < 1e-4):
            place = 10.0**-decimals
            break
    bend = np.abs(two_theta[:-2] - 2.0 * two_theta[1:-1] + two_theta[2:])
    even = bend <= 0.15 * (two_theta[2:] - two_theta[:-2]) + min(2.01 * place, 0.021)
    return bool(np.mean(even) >= _EVEN)


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
    for stretch in scan.unmeasured:
        first, last = q_from_two_theta(np.array(stretch), scan.wavelength)
        before, after = np.searchsorted(q, first) - 1, np.searchsorted(q, last)
        mask &= ~((cells > q[max(before, 0)]) & (cells < q[min(after, len(q) - 1)]))
    if np.mean(mask) < _MIN_COVERED:
        raise UserError(
            f"{scan.name}: covers q from {q[0]:.2f} to {q[-1]:.2f} 1/angstrom and the model needs"
            f" {cells[0]:.2f} to {cells[-1]:.2f}; check the wavelength ({scan.wavelength:g}"
            f" angstrom){_RADIANS if scan.two_theta[-1] < np.pi else ''} or measure a wider range"
        )
    density = scan.counts / q_per_radian(scan.two_theta, scan.wavelength)
    # Differences of sums: rounding may leave a cell without counts just below zero.
    averaged = np.where(mask, np.maximum(cell_means(q, density, cells), 0.0), 0.0)
    top = averaged.max() or 1.0
    sigma = cell_noise(q, density, cells)
    background = np.zeros(len(cells))
    for part in _runs(mask):
        smooth = uniform_filter1d(SNIP_SCALE / top * averaged[part], SNIP_SMOOTHING, mode="nearest")
        background[part] = snip(np.maximum(smooth, 0.0)) * (top / SNIP_SCALE)
    excess = averaged - background
    pattern = np.where(_significant(excess, sigma, q, cells), excess, 0.0) * mask
    inside = (q >= cells[0]) & (q <= cells[-1])
    signal = missing_signal(q[inside], scan.counts[inside], density[inside])
    scale = float(pattern.max() or top)
    return PlacedScan(
        normalize_max(pattern.astype(np.float32)),
        mask,
        (background / scale).astype(np.float32),
        scale,
        signal,
        (excess / scale * mask).astype(np.float32),
        (sigma / scale).astype(np.float32),
        float(scan.counts[inside].max())
        if np.all(scan.counts == np.floor(scan.counts))
        else np.inf,
    )


def _measured(q: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Returns which cell centers lie between two neighbouring points of the scan, bool `[L]`."""
    step = np.diff(q)
    right = np.searchsorted(q, cells, side="left")
    inside = (right > 0) & (right < len(q))
    if step.max() <= _GAP * step.min():  # no step is a hole, whatever the others are
        return inside
    padded = np.pad(step, _NEAR, mode="edge")
    around = median_filter(padded, _NEAR)[_NEAR // 2 : -(_NEAR // 2)]
    usual = np.maximum(around[: len(step)], around[_NEAR + 1 :])  # before it, after it
    at = np.clip(right - 1, 0, len(step) - 1)
    return inside & (step[at] <= _GAP * usual[at])


def _significant(
    excess: np.ndarray, sigma: np.ndarray, q: np.ndarray, cells: np.ndarray
) -> np.ndarray:
    """Returns which cells rise above the noise and are not alone, bool `[L]`.

    A peak spans several points of the scan, noise does not: what rises by `FLOOR` standard
    deviations counts if, together with its neighbours to both sides (a point of the scan or a cell
    away, whichever is further), it rises by `TOGETHER`. On generated scans with peaks of 0.15
    degrees this leaves 1.1 cells of noise standing in place of 9.7, the highest at 1.2 % in place
    of 4.2, and loses 8.5 % in place of 2.9 of peaks whose area is 4 to 9 standard deviations.
    """
    width = np.interp(cells, q, spacing(q)) / spacing(cells)
    reach = np.maximum(1, np.ceil(width)).astype(int)
    index, last = np.arange(len(cells)), len(cells) - 1
    beside = excess[np.maximum(index - reach, 0)] + excess[np.minimum(index + reach, last)]
    return (excess > FLOOR * sigma) & (excess + beside > TOGETHER * np.sqrt(3.0) * sigma)


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
    said = source.encode(errors="backslashreplace").decode()  # names of files may be any bytes
    header = f"# refined from {said}; wavelength {wavelength:g} angstrom\n# two_theta intensity\n"
    # One format string for all: a tenth of the time of np.savetxt.
    body = "%.5f %.5f\n" * len(two_theta) % tuple(np.column_stack([two_theta, intensity]).ravel())
    with atomic_file(path) as file:
        file.write((header + body).encode())
