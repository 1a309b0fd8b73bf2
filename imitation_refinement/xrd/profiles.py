"""Peak profiles: from lines (q, intensity) to a pattern on the grid.

Size broadening has a constant width in q (Scherrer: FWHM = 2 pi K / size), microstrain a constant
width in ln q (FWHM = 2 epsilon). Each is therefore one multiplication in the Fourier space of its
own axis. Also here: the training view of an ideal pattern.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft

from imitation_refinement.xrd.grid import Grid, grid_q

SCHERRER_K = 0.9
IDEAL_SIZE_NM = 30.0  # of ground-truth patterns
# Of training views; powers of ten, shares of the maximum, the grid, sigma.
HUMP_AMPLITUDE, HUMP_CENTER, HUMP_WIDTH = (-3.5, -1.3), (-0.1, 1.1), (0.05, 0.3)
NOISE, MOST_CUT = (-4.0, -2.0), 3.0
SIGMA_PER_FWHM = 1.0 / (2.0 * np.sqrt(2.0 * np.log(2.0)))
_STEP = 1e-3  # 1/angstrom; 12 steps per FWHM of 45 nm
_MARGIN = 0.35  # 1/angstrom on both sides, so that nothing wraps around
_EDGE = 0.05  # of the margin, left out on the ln q axis


class _Resampling(NamedTuple):
    """Cubic interpolation from one uniform axis to some points; weights [4, n] of 4 neighbours."""

    left: np.ndarray
    weights: np.ndarray

    def __call__(self, values: np.ndarray) -> np.ndarray:
        left, weights = self
        total = weights[0] * values.take(left)
        for i in range(1, 4):
            total += weights[i] * values.take(left + i)
        return total


class Axes(NamedTuple):
    """The uniform axes on which profiles are convolved, and the ways between them."""

    start: float
    step: float
    points: int
    frequency: np.ndarray
    to_grid: _Resampling
    log_q: np.ndarray
    log_frequency: np.ndarray
    to_log: _Resampling
    log_to_grid: _Resampling


def scherrer_fwhm(size_nm: float) -> float:
    """Returns the full width at half maximum in q, 1/angstrom, for a crystallite size in nm."""
    return 2.0 * np.pi * SCHERRER_K / (10.0 * size_nm)


def transfer(frequency: np.ndarray, fwhm: float, eta: float = 0.0) -> np.ndarray:
    """Returns the Fourier transform of a unit-area pseudo-Voigt, same shape and dtype.

    Args:
        frequency: angular, not negative.
        fwhm: of the Gaussian and of the Lorentzian part, reciprocal units of `frequency`.
        eta: Lorentzian share, 0..1.
    """
    gaussian = np.exp(-0.5 * (np.float32(SIGMA_PER_FWHM * fwhm) * frequency) ** 2)
    if eta == 0.0:
        return gaussian
    lorentzian = np.exp(np.float32(-0.5 * fwhm) * frequency)
    return np.float32(1.0 - eta) * gaussian + np.float32(eta) * lorentzian


def render(
    q_lines: np.ndarray,
    intensity: np.ndarray,
    grid: Grid,
    *,
    size_nm: float,
    microstrain: float = 0.0,
    eta: float = 0.0,
    instrument_fwhm: float = 0.0,
) -> np.ndarray:
    """Returns the pattern of some lines, intensity per unit of q, float32 `[L]`, not normalised.

    Args:
        q_lines: positions, 1/angstrom, `[m]`, in any order; those more than 0.35 outside the grid
            are left out.
        intensity: integrated intensities, `[m]`.
        grid: where to evaluate.
        size_nm: crystallite size of Scherrer's equation with K = 0.9.
        microstrain: epsilon of the strain broadening, FWHM(ln q) = 2 epsilon, Gaussian.
        eta: Lorentzian share of the pseudo-Voigt profile of size and instrument.
        instrument_fwhm: width of the instrument in q, added in quadrature to the size's.
    """
    axes = axes_of(grid)
    width = float(np.hypot(scherrer_fwhm(size_nm), instrument_fwhm))
    spectrum = rfft(_splat(q_lines, intensity, axes))
    spectrum *= transfer(axes.frequency, width, eta)
    fine = irfft(spectrum, axes.points)
    if microstrain == 0.0:
        return np.maximum(axes.to_grid(fine), 0.0)
    # Along ln q; q times the density per q is the density per ln q, whose area is to be kept.
    spectrum = rfft(axes.to_log(fine) * np.exp(axes.log_q))
    spectrum *= transfer(axes.log_frequency, 2.0 * microstrain)
    broad = axes.log_to_grid(irfft(spectrum, len(axes.log_q)))
    return np.maximum(broad / _grid_q32(grid), 0.0)


def normalize_max(pattern: np.ndarray) -> np.ndarray:
    """Returns the pattern divided by its maximum; one that is zero everywhere stays so."""
    top = pattern.max()
    return pattern / top if top > 0 else pattern


def ideal_pattern(q_lines: np.ndarray, intensity: np.ndarray, grid: Grid) -> np.ndarray:
    """Returns the ground-truth pattern of some lines: crystallites of 30 nm, maximum 1, `[L]`."""
    return normalize_max(render(q_lines, intensity, grid, size_nm=IDEAL_SIZE_NM))


def covered(
    rng: np.random.Generator, length: int, coverage: tuple[float, float]
) -> np.ndarray | None:
    """Draws which points a measurement of limited range has, bool [L]; None if it has all.

    Args:
        rng: source of the draws, untouched if nothing is cut off.
        length: L.
        coverage: largest shares missing at the low and the high end.
    """
    if coverage[0] <= 0.0 and coverage[1] <= 0.0:
        return None
    low, high = (rng.uniform(0.0, share) for share in coverage)
    return within(length, low, high)


def within(length: int, low: Any, high: Any) -> Any:
    """Returns which of L points are left without shares `low` and `high` of the ends, bool [L]."""
    place = (np.arange(length) + 0.5) / length
    return (place >= low) & (place <= 1.0 - high)


class IdealViews(NamedTuple):
    """How training views of ideal patterns vary.

    Attributes:
        size_nm: smallest and largest crystallite size, log-uniform.
        lorentzian: largest Lorentzian share of the profile, uniform from 0.
        coverage: largest shares of the grid that are cut off at its ends: see `covered`.
        augment: whether the following is done, and broad humps and white noise are added.
        texture: s of factors exp(N(0, s)) on the lines' intensities.
    """

    size_nm: tuple[float, float] = (20.0, 45.0)
    lorentzian: float = 0.0
    coverage: tuple[float, float] = (0.0, 0.0)
    augment: bool = False
    texture: float = 0.12


class ViewDraws(NamedTuple):
    """The random numbers of a training view; None for what `IdealViews` does not ask for.

    Attributes:
        size_nm: crystallite size.
        eta: Lorentzian share.
        grains: log factors of the lines' intensities, `[m]`.
        humps: amplitude, center and width of two, as shares of maximum and grid, `[2, 3]`.
        sigma: of the noise.
        noise: standard normal, `[L]`.
        cut: what lies below this many sigma is cut to zero.
        window: which points are measured, bool `[L]`.
    """

    size_nm: Any
    eta: Any
    grains: Any = None
    humps: Any = None
    sigma: Any = None
    noise: Any = None
    cut: Any = None
    window: Any = None


def draw_view(rng: np.random.Generator, count: int, length: int, views: IdealViews) -> ViewDraws:
    """Draws the random numbers of a training view.

    Args:
        rng: source of the draws.
        count: lines of the pattern.
        length: points of the grid.
        views: what is drawn from.
    """
    size_nm = float(np.exp(rng.uniform(*np.log(views.size_nm))))
    eta = float(rng.uniform(0.0, views.lorentzian)) if views.lorentzian > 0.0 else 0.0
    draws = ViewDraws(size_nm, eta)
    if views.augment:
        draws = draws._replace(
            grains=rng.normal(0.0, views.texture, count),
            humps=np.array([_hump(rng) for _ in range(2)], np.float32),
            sigma=np.float32(10.0 ** rng.uniform(*NOISE)),
            noise=rng.standard_normal(length, np.float32),
            cut=np.float32(rng.uniform(0.0, MOST_CUT)),
        )
    return draws._replace(window=covered(rng, length, views.coverage))


def view_of(q: np.ndarray, intensity: np.ndarray, grid: Grid, draws: ViewDraws) -> np.ndarray:
    """Returns the training view that some random numbers make of lines: see `ideal_view`."""
    if draws.grains is not None:
        intensity = intensity * np.exp(draws.grains)
    pattern = normalize_max(render(q, intensity, grid, size_nm=draws.size_nm, eta=draws.eta))
    if draws.humps is not None:
        x = np.linspace(0.0, 1.0, len(pattern), dtype=np.float32)
        for amplitude, center, width in draws.humps:
            pattern = pattern + amplitude * np.exp(-0.5 * ((x - center) / width) ** 2)
        pattern = pattern + draws.sigma * draws.noise
        pattern = np.where(pattern < draws.sigma * draws.cut, np.float32(0), pattern)
    return normalize_max(pattern if draws.window is None else pattern * draws.window)


def ideal_view(
    q: np.ndarray, intensity: np.ndarray, grid: Grid, rng: np.random.Generator, views: IdealViews
) -> np.ndarray:
    """Returns a training view of an ideal pattern, float32 `[L]`, maximum 1.

    With `views.augment`: two broad humps of amplitude 10^U(-3.5, -1.3) and white noise of
    10^U(-4, -2), of which what lies below 0..3 sigma is cut to zero.
    """
    return view_of(q, intensity, grid, draw_view(rng, len(q), grid.length, views))


def _hump(rng: np.random.Generator) -> tuple[float, float, float]:
    amplitude = 10.0 ** rng.uniform(*HUMP_AMPLITUDE)
    return amplitude, rng.uniform(*HUMP_CENTER), rng.uniform(*HUMP_WIDTH)


@lru_cache(maxsize=8)
def axes_of(grid: Grid) -> Axes:
    """Returns the axes of a grid; computed once."""
    q = grid_q(grid)
    start, stop = q[0] - _MARGIN, q[-1] + _MARGIN
    points = next_fast_len(int(np.ceil((stop - start) / _STEP)), real=True)
    step = (stop - start) / (points - 1)
    # Steps of ln q that are on average as fine as those of q.
    low = max(start + _EDGE, 0.5 * q[0])
    log_q = np.linspace(np.log(low), np.log(stop - _EDGE), points)
    log_step = log_q[1] - log_q[0]
    return Axes(
        start,
        step,
        points,
        (2.0 * np.pi * np.fft.rfftfreq(points, step)).astype(np.float32),
        _resampling((q - start) / step),
        log_q.astype(np.float32),
        (2.0 * np.pi * np.fft.rfftfreq(points, log_step)).astype(np.float32),
        _resampling((np.exp(log_q) - start) / step),
        _resampling((np.log(q) - log_q[0]) / log_step),
    )


@lru_cache(maxsize=8)
def _grid_q32(grid: Grid) -> np.ndarray:
    return grid_q(grid).astype(np.float32)


def cubic_weights(t: Any) -> tuple[Any, Any, Any, Any]:
    """Returns the Catmull-Rom weights of the 4 neighbours of places t, 0..1 beyond the second.

    They keep area, position and variance of what is shared out with them.
    """
    return (
        t * (-0.5 + t * (1.0 - 0.5 * t)),
        1.0 + t * t * (-2.5 + 1.5 * t),
        t * (0.5 + t * (2.0 - 1.5 * t)),
        t * t * (-0.5 + 0.5 * t),
    )


def _cubic(place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First of the 4 neighbours of each place, and their weights, float64 [4, n]."""
    floor = np.floor(place)
    return floor.astype(np.int64) - 1, np.stack(cubic_weights(place - floor))


def _resampling(place: np.ndarray) -> _Resampling:
    left, weights = _cubic(place)
    return _Resampling(left, weights.astype(np.float32))


def _splat(q_lines: np.ndarray, intensity: np.ndarray, axes: Axes) -> np.ndarray:
    """Lines as a density on the fine axis, float32; each is shared out to 4 neighbours."""
    place = (np.asarray(q_lines, np.float64) - axes.start) / axes.step
    inside = (place >= 1.0) & (place < axes.points - 2)
    left, weights = _cubic(place[inside])
    weights *= np.asarray(intensity, np.float64)[inside] / axes.step
    indices = (left + np.arange(4)[:, None]).ravel()
    return np.bincount(indices, weights.ravel(), axes.points).astype(np.float32)
