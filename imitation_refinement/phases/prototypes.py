"""Prototypes: line lists of known structures as root patterns on the grid, ready to be matched.

Belongs here: the one representation in which scans and structures are compared. Both are square
roots of intensity per unit of q, which show weak lines beside strong ones, on half as many points
of ln q as the grid, on which a larger cell is a shift. Two resolutions: a coarse one of all
structures, which chooses some hundreds for a scan, and the exact one, drawn for these alone.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.ndimage import uniform_filter1d

from imitation_refinement.phases import compiled
from imitation_refinement.phases.kept import KeptRows
from imitation_refinement.phases.side_by_side import side_by_side
from imitation_refinement.phases.sketch import Sketch, sketch_of
from imitation_refinement.xrd.diffraction import lorentz_polarization
from imitation_refinement.xrd.grid import Grid, grid_q, two_theta_from_q
from imitation_refinement.xrd.imperfections import K_ALPHA
from imitation_refinement.xrd.profiles import IDEAL_SIZE_NM, SIGMA_PER_FWHM, scherrer_fwhm

GRID = Grid(0.65, 5.65, 2000)  # for which the shipped calibration was fitted
FOLD = 2  # points of the grid in one of a root pattern
SMOOTH = 3  # points of a root pattern over which it is averaged
COARSE = 4  # points of a root pattern in one of its coarse form
_PER_TASK = 512  # structures drawn at once
_LINES_PER_TASK = 1 << 16  # whose heights are computed at once, in the nearest memory
_LEVELS = 127  # of the coarse patterns, int8

MEASURED, OLDER_COMPUTED, NEWER_COMPUTED = range(3)


class Prototypes(NamedTuple):
    """Structures that scans are matched against, N of them, as lines and as coarse root patterns.

    Attributes:
        q: positions of all lines, 1/angstrom, float32 `[M]`; structure i owns
            `[offsets[i]:offsets[i + 1]]`.
        height: integrated intensity of each with the Lorentz-polarisation factor of Cu K-alpha,
            float32 `[M]`.
        offsets: int64 `[N + 1]`.
        kind: MEASURED, OLDER_COMPUTED or NEWER_COMPUTED, int8 `[N]`.
        coarse: root patterns of norm about 127, int8 `[N, L / 8]`.
        grid: of the patterns that are matched.
        sketch: of `coarse`.
        kept: root patterns of those that were drawn before.
    """

    q: np.ndarray
    height: np.ndarray
    offsets: np.ndarray
    kind: np.ndarray
    coarse: np.ndarray
    grid: Grid
    sketch: Sketch
    kept: KeptRows

    @property
    def size(self) -> int:
        """N; a named tuple's length is the number of its fields."""
        return len(self.kind)

    def roots(self, chosen: np.ndarray) -> np.ndarray:
        """Returns `draw_roots` of some, float32 `[C, L / 2]`, to 16 bits; drawn once and kept."""

        def draw(some: np.ndarray) -> np.ndarray:
            return draw_roots(self.q, self.height, self.offsets, some, self.grid)

        return self.kept.rows(chosen, draw)


def build_prototypes(
    q: np.ndarray,
    amplitude: np.ndarray,
    offsets: np.ndarray,
    kind: np.ndarray,
    grid: Grid,
    *,
    coarse: np.ndarray | None = None,
) -> Prototypes:
    """Returns the prototypes of some line lists.

    Args:
        q: positions of the lines of all structures, 1/angstrom, `[M]`.
        amplitude: root of |F|^2 summed over equivalent reflections, any scale in each, `[M]`.
        offsets: where the lines of each begin, `[N + 1]`.
        kind: of the source, `[N]`.
        grid: of the patterns to be matched, uniform in ln q.
        coarse: what this gave before for the same lines and grid; drawn if not given.

    Raises:
        ValueError: the grid is not uniform in ln q or its length is no multiple of 8.
    """
    if grid.axis != "geometric_q" or grid.length % (FOLD * COARSE):
        raise ValueError(
            f"prototypes need a grid of {FOLD * COARSE} n points uniform in ln q, got"
            f" {grid.length} points uniform in {grid.axis}"
        )
    height = line_heights(q, amplitude)
    offsets = np.asarray(offsets, np.int64)
    position = np.asarray(q, np.float32)
    if coarse is None:
        coarse = _coarse(position, height, offsets, grid)
    return Prototypes(
        position, height, offsets, np.asarray(kind, np.int8), coarse, grid, sketch_of(coarse),
        KeptRows(len(kind), grid.length // FOLD),
    )  # fmt: skip


def _coarse(q: np.ndarray, height: np.ndarray, offsets: np.ndarray, grid: Grid) -> np.ndarray:
    """The coarse root patterns of all structures, in threads: most of it is NumPy's."""
    count = len(offsets) - 1
    coarse = np.empty((count, grid.length // (FOLD * COARSE)), np.int8)

    def draw(start: int) -> None:
        rows = np.arange(start, min(start + _PER_TASK, count))
        drawn = coarsened(draw_roots(q, height, offsets, rows, grid))
        scale = _LEVELS / np.maximum(drawn.max(axis=1, keepdims=True), 1e-12)
        coarse[rows] = np.rint(drawn * scale)

    side_by_side(draw, range(0, count, _PER_TASK))
    return coarse


def line_heights(q: np.ndarray, amplitude: np.ndarray) -> np.ndarray:
    """Returns integrated intensities amplitude^2 LP for Cu K-alpha, float32 `[M]`.

    Lines that copper cannot reach get 0.
    """
    mean = (2.0 * K_ALPHA[0] + K_ALPHA[1]) / 3.0
    height = np.zeros(len(q), np.float32)

    def fill(start: int) -> None:
        part = slice(start, start + _LINES_PER_TASK)
        own, strength = np.asarray(q[part], np.float64), np.asarray(amplitude[part], np.float64)
        reached = own < 0.99 * 4.0 * np.pi / mean
        factor = lorentz_polarization(two_theta_from_q(own[reached], mean))
        height[part][reached] = strength[reached] ** 2 * factor

    side_by_side(fill, range(0, len(q), _LINES_PER_TASK))
    return height


def draw_roots(
    q: np.ndarray,
    height: np.ndarray,
    offsets: np.ndarray,
    chosen: np.ndarray,
    grid: Grid,
    *,
    size_nm: float | np.ndarray = IDEAL_SIZE_NM,
    shift: float | np.ndarray = 0.0,
    fold: int = FOLD,
) -> np.ndarray:
    """Returns root patterns of some structures, float32 `[C, L / fold]`, each of norm 1.

    Gaussian peaks of constant width in q (Scherrer), averaged over the points; one that has no
    line on the grid is 0 everywhere.

    Args:
        q: see `Prototypes`, as the next two.
        height: `[M]`.
        offsets: `[N + 1]`.
        chosen: which structures, int `[C]`.
        grid: see `build_prototypes`.
        size_nm: of the crystallites, of all or of each `[C]`.
        shift: of ln q of the lines, of all or of each `[C]`.
        fold: points of the grid in one of the root pattern.
    """
    axis = log_axis(grid, fold)
    step, count = axis[1] - axis[0], len(chosen)
    width = SIGMA_PER_FWHM * scherrer_fwhm(1.0) / np.broadcast_to(size_nm, count)
    factor = np.exp(np.broadcast_to(np.asarray(shift, np.float64), count))
    drawn = np.empty((count, len(axis)), np.float32)
    begin, end = offsets[chosen], offsets[np.asarray(chosen) + 1]
    compiled.draw_roots(q, height, begin, end, width, factor, axis[0], step, drawn)
    return drawn


def draw_shifted(
    prototypes: Prototypes, chosen: np.ndarray, shift: np.ndarray, *, fold: int = FOLD
) -> np.ndarray:
    """Returns root patterns of some prototypes with their lines moved, float32 `[C, L / fold]`.

    Args:
        prototypes: N of them.
        chosen: which, int `[C]`.
        shift: of ln q of each one's lines, `[C]`.
        fold: see `draw_roots`.
    """
    return draw_roots(
        prototypes.q, prototypes.height, prototypes.offsets, chosen, prototypes.grid, shift=shift,
        fold=fold,
    )  # fmt: skip


def scan_roots(
    patterns: np.ndarray, masks: np.ndarray, fold: int = FOLD
) -> tuple[np.ndarray, np.ndarray]:
    """Returns root patterns of scans and where they were measured.

    Args:
        patterns: of `on_grid`, `[n, L]`.
        masks: bool `[n, L]`.
        fold: points of the grid in one of the root pattern.

    Returns:
        (roots, masks), float32 of norm 1 and bool, `[n, L / fold]` each.
    """
    patterns = np.maximum(np.asarray(patterns, np.float32), 0.0)
    folded = patterns.reshape(len(patterns), -1, fold).mean(axis=2)
    measured = np.min(np.asarray(masks, bool).reshape(len(patterns), -1, fold), axis=2)
    return unit(smoothed(np.sqrt(folded)) * measured), measured


def coarsened(roots: np.ndarray) -> np.ndarray:
    """Returns root patterns smoothed over and taken at every fourth point, float32 `[n, L / 8]`."""
    blocks = roots.reshape(len(roots), -1, COARSE).mean(axis=2)
    return uniform_filter1d(blocks, 2, axis=1, mode="constant")


def smoothed(roots: np.ndarray) -> np.ndarray:
    """Returns the running mean over 3 points, zero beyond the ends, `[n, L / 2]`."""
    mean = roots.copy()
    mean[:, 1:] += roots[:, :-1]
    mean[:, :-1] += roots[:, 1:]
    mean *= np.float32(1.0 / SMOOTH)
    return mean


def unit(rows: np.ndarray) -> np.ndarray:
    """Returns rows of norm 1; those that are zero everywhere stay so."""
    norm = np.sqrt(np.einsum("ij,ij->i", rows, rows))[:, None]
    return rows / np.where(norm > 0.0, norm, 1.0)


@lru_cache(maxsize=16)
def log_axis(grid: Grid, fold: int = FOLD) -> np.ndarray:
    """Returns ln q at the points of a root pattern, float64 `[L / fold]`, not to be written to."""
    axis = np.log(grid_q(grid)).reshape(-1, fold).mean(axis=1)
    axis.flags.writeable = False
    return axis
