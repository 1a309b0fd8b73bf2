"""Measured scans: reading two-column files, placing them on the model's grid, writing results.

Belongs here: everything between a measured file and the array that a network is given, and back.
Angles are 2 theta in degrees, wavelengths in angstrom, q = 2 pi / d in 1/angstrom.
"""

import codecs
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.ndimage import median_filter, uniform_filter1d

from imitation_refinement.errors import UserError
from imitation_refinement.files import atomic_file
from imitation_refinement.xrd.background import snip
from imitation_refinement.xrd.grid import Grid, grid_q, q_from_two_theta, two_theta_from_q
from imitation_refinement.xrd.profiles import normalize_max

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
_SHORTEST, _LONGEST = 0.1, 5.0  # angstrom; what a powder diffractometer can use

_MIN_POINTS = 20
_MAX_SKIPPED = 0.1  # share of the lines after the first data line that may be unreadable
_MIN_DISTINCT = 0.1  # share of distinct angles; fewer: a decimal comma was read as a separator
_GAP = 10.0  # a step this many times the median step is a hole in the scan, not a step
_MIN_COVERED = 0.1  # share of the grid that a scan must cover
_SNIP_SCALE = 1e4  # largest value that SNIP is given, so that the unit of counts does not matter
_SNIP_SMOOTHING = 9  # points; SNIP would follow the lower edge of unsmoothed noise
_NOISE_WINDOW = 201  # points of the scan over which the noise is estimated
_FLOOR = 3.0  # standard deviations; what rises less above background is noise
_SIGNAL = 6.0  # standard deviations; a scan in which nothing rises more has no peaks
_MIN_SIGNAL = 1e-3  # of the largest count, for scans without noise


class Scan(NamedTuple):
    """One measured powder pattern.

    Attributes:
        two_theta: angles in degrees, float64 `[n]`, strictly increasing.
        counts: intensity at these angles, float64 `[n]`, finite and not negative.
        wavelength: of the radiation, in angstrom.
        name: what to call the scan in results (file name without its ending).
        notes: what had to be mended while reading, in sentences; empty if nothing.
    """

    two_theta: np.ndarray
    counts: np.ndarray
    wavelength: float
    name: str
    notes: tuple[str, ...] = ()


class PlacedScan(NamedTuple):
    """A scan on the grid of a network.

    Attributes:
        pattern: float32 `[L]`, largest value 1, zero where nothing was measured.
        mask: bool `[L]`, true where the scan has data.
    """

    pattern: np.ndarray
    mask: np.ndarray


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
    if not _SHORTEST <= number <= _LONGEST:
        raise UserError(
            f"wavelength: {number:g} is not between {_SHORTEST:g} and {_LONGEST:g} angstrom;"
            " give it in angstrom"
        )
    return number


# --- reading ---------------------------------------------------------------------------------


def read_scan(path: str | Path, wavelength: str | float | None) -> Scan:
    """Reads a text file with two columns, 2 theta in degrees and counts.

    Columns may be separated by blanks, tabs, commas or semicolons; decimals may have a comma where
    that is not ambiguous; further columns are ignored. Lines that are not numbers (headers,
    comments, empty or broken lines) are skipped. Points that are not finite are dropped, negative
    counts are set to 0, points at the same angle are averaged, and all are sorted by angle.

    Args:
        path: the file.
        wavelength: see `parse_wavelength`.

    Raises:
        UserError: the file cannot be read or is not such a file, or the wavelength is missing.
    """
    path = Path(path)
    wavelength = parse_wavelength(wavelength)
    rows, skipped, columns = _number_rows(_read_text(path).splitlines())
    if len(rows) < _MIN_POINTS:
        raise UserError(
            f"{path}: {len(rows)} lines with two numbers, at least {_MIN_POINTS} are needed;"
            " export the scan as text with two columns, 2 theta in degrees and counts"
        )
    if len(skipped) > _MAX_SKIPPED * len(rows):
        raise UserError(
            f"{path}: {len(skipped)} lines among the data are not two numbers (first: line"
            f" {skipped[0]}); export the scan as text with two columns"
        )
    two_theta, counts = np.array(rows).T
    notes = []
    if skipped:
        notes.append(f"{len(skipped)} unreadable lines skipped (first: line {skipped[0]})")
    if columns > 2:
        notes.append(f"columns 3 to {columns} ignored")
    return clean_scan(two_theta, counts, wavelength, path.stem, source=str(path), notes=notes)


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
        UserError: angles of 180 degrees or more, too few different ones, or nothing above zero.
    """
    source, notes = source or name, list(notes or [])
    finite = np.isfinite(two_theta) & np.isfinite(counts)
    if not finite.all():
        notes.append(f"{np.count_nonzero(~finite)} points that are not numbers dropped")
    two_theta, counts = two_theta[finite], counts[finite]
    if two_theta.size and two_theta.max() >= 180:
        raise UserError(
            f"{source}: {two_theta.max():g} in the first column is no angle below 180 degrees;"
            " the first column must be 2 theta in degrees"
        )
    forward = two_theta > 0
    if not forward.all():
        notes.append(f"{np.count_nonzero(~forward)} points at or below 0 degrees dropped")
        two_theta, counts = two_theta[forward], counts[forward]
    negative = counts < 0
    if negative.any():
        notes.append(f"{np.count_nonzero(negative)} negative counts set to 0")
        counts = np.where(negative, 0.0, counts)
    distinct, group = np.unique(two_theta, return_inverse=True)
    if distinct.size < max(_MIN_POINTS, _MIN_DISTINCT * two_theta.size):
        raise UserError(
            f"{source}: only {distinct.size} distinct angles in {two_theta.size} points; write"
            " decimals with a point and 2 theta in the first column"
        )
    if distinct.size < two_theta.size:
        notes.append(f"{two_theta.size - distinct.size} repeated angles averaged")
    counts = np.bincount(group, weights=counts) / np.bincount(group)
    if not counts.max() > 0:
        raise UserError(f"{source}: no count above zero; the second column must be counts")
    return Scan(distinct, counts, wavelength, name, tuple(notes))


def _read_text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", errors="replace")
    if b"\0" in data:
        raise UserError(f"{path}: a binary file; export the scan as text with two columns")
    return data.decode("utf-8-sig", errors="replace")


def _number_rows(lines: list[str]) -> tuple[list[tuple[float, float]], list[int], int]:
    """Returns the first two numbers of each row, the unreadable lines and the number of columns.

    Rows are the lines with the commonest count of numbers, at least two. Unreadable lines are
    numbered from 1 and counted from the first row on: what stands before is a header. Empty lines
    and comments count as neither.
    """
    numbers: dict[int, list[float]] = {}
    for number, line in enumerate(lines, start=1):
        line = line.strip()
        if line and line[0] not in "#!%*;'\"/":
            try:
                numbers[number] = [float(field) for field in _fields(line)]
            except ValueError:
                numbers[number] = []
    widths = Counter(len(values) for values in numbers.values() if len(values) >= 2)
    if not widths:
        return [], [], 0
    columns = widths.most_common(1)[0][0]
    is_row = {number: len(values) == columns for number, values in numbers.items()}
    first = next(number for number in is_row if is_row[number])
    rows = [(numbers[number][0], numbers[number][1]) for number in is_row if is_row[number]]
    return rows, [number for number in is_row if number > first and not is_row[number]], columns


def _fields(line: str) -> list[str]:
    """Splits a line at semicolons, else at blanks, else at commas.

    In the first two cases a comma left inside a field is a decimal comma.
    """
    if ";" in line:
        fields = line.split(";")
    else:
        fields = re.sub(r",\s+|\s+,", " ", line).split()
        if len(fields) == 1:
            return [field for field in line.split(",") if field]
    return [field.strip().replace(",", ".") for field in fields if field.strip()]


# --- placing on the grid ---------------------------------------------------------------------


def on_grid(scan: Scan, grid: Grid) -> PlacedScan:
    """Returns a scan as a network takes it: on the grid of q, without background, largest value 1.

    Counts per degree become intensity per unit of q (the simulator's measure), averaged over each
    cell of the grid, so that the area of a peak does not depend on the step of the scan. Background
    is subtracted by SNIP and what is left within the noise is set to 0, as for the simulated
    imperfect patterns. Parts that were not measured are 0 and false in the mask.

    Raises:
        UserError: the scan covers less than a tenth of the grid, or nothing rises above its noise.
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
    jacobian = _q_per_radian(scan.two_theta, scan.wavelength)
    averaged = cell_means(q, scan.counts / jacobian, cells)
    scale = _SNIP_SCALE / averaged[mask].max(initial=np.finfo(np.float64).tiny)
    sigma = cell_noise(q, scan.counts / jacobian, cells)
    pattern = np.zeros(len(cells))
    for part in _runs(mask):
        smooth = uniform_filter1d(scale * averaged[part], _SNIP_SMOOTHING, mode="nearest")
        excess = averaged[part] - snip(smooth) / scale
        pattern[part] = np.where(excess > _FLOOR * sigma[part], excess, 0.0)
    if not np.any(pattern > np.maximum(_SIGNAL * sigma, _MIN_SIGNAL * averaged[mask].max())):
        raise UserError(f"{scan.name}: nothing rises above background and noise")
    return PlacedScan(normalize_max(pattern.astype(np.float32)), mask)


def cell_means(x: np.ndarray, y: np.ndarray, centers: np.ndarray) -> np.ndarray:
    """Returns the mean over each cell of the polygon through the points (x, y), float64 `[L]`.

    Exact for any spacing: fine scans are averaged, coarse ones interpolated, and the area under the
    polygon is kept. Beyond its ends the polygon is continued by its end values.

    Args:
        x: positions, float64 `[n]`, strictly increasing.
        y: values, float64 `[n]`.
        centers: cell centers, float64 `[L]`, increasing; cells meet halfway between them.
    """
    inner = 0.5 * (centers[1:] + centers[:-1])
    edges = np.concatenate([[2 * centers[0] - inner[0]], inner, [2 * centers[-1] - inner[-1]]])
    low, high = min(edges[0], x[0]) - 1.0, max(edges[-1], x[-1]) + 1.0
    x, y = np.concatenate([[low], x, [high]]), np.concatenate([y[:1], y, y[-1:]])
    step = np.diff(x)
    area = np.concatenate([[0.0], np.cumsum(0.5 * (y[1:] + y[:-1]) * step)])
    left = np.searchsorted(x, edges, side="right") - 1
    into = edges - x[left]
    slope = np.diff(y) / step
    integral = area[left] + y[left] * into + 0.5 * slope[left] * into**2
    return np.diff(integral) / np.diff(edges)


def cell_noise(x: np.ndarray, y: np.ndarray, centers: np.ndarray) -> np.ndarray:
    """Returns the standard deviation of each value of `cell_means` by noise, float64 `[L]`.

    From second differences of neighbouring points, which a smooth curve hardly has: their median in
    a moving window, which peaks do not move much. Nothing is assumed about the unit of y; the noise
    of neighbouring points is taken to be independent.

    Args:
        x: positions, float64 `[n]`, increasing.
        y: values, float64 `[n]`.
        centers: cell centers, float64 `[L]`.
    """
    second = np.abs(y[:-2] - 2.0 * y[1:-1] + y[2:])
    # The median size of a normal deviate is 0.6745; second differences have 1 + 4 + 1 times the
    # variance of a point.
    sigma = median_filter(second, min(_NOISE_WINDOW, len(second))) / (0.6745 * np.sqrt(6.0))
    points_per_cell = np.gradient(centers) / np.interp(centers, x, np.gradient(x))
    return np.interp(centers, x[1:-1], sigma) / np.sqrt(np.maximum(points_per_cell, 1.0))


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


def _q_per_radian(two_theta: np.ndarray, wavelength: float) -> np.ndarray:
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
    intensity = np.asarray(pattern, np.float64)[mask] * _q_per_radian(two_theta, wavelength)
    intensity *= 100.0 / max(intensity.max(), np.finfo(np.float64).tiny)
    header = f"refined from {source}; wavelength {wavelength:g} angstrom\ntwo_theta intensity"
    with atomic_file(path) as file:
        np.savetxt(file, np.column_stack([two_theta, intensity]), fmt="%.5f", header=header)
