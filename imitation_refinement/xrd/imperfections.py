"""What makes a measured pattern differ from the ideal one: effects one by one, and all at once.

Belongs here: one small pure function per effect, and `corrupt`, the imperfection of a single
pattern that needs no library. What is drawn from where is in `ranges`. Intensities are relative to
a pattern's maximum unless they are counts.
"""

from functools import lru_cache

import numpy as np

from imitation_refinement.xrd.background import opening
from imitation_refinement.xrd.grid import Grid, grid_q
from imitation_refinement.xrd.profiles import covered, ideal_pattern, normalize_max, render
from imitation_refinement.xrd.ranges import Imperfection, Options

MARCH_RANGE = (0.41, 2.01)
MAX_STRAIN = 0.03
OPENING_SHARE = 0.09  # of the pattern's length; removes as much as SNIP does in a library
INSTRUMENT_FWHM = (0.002, 0.006)  # 1/angstrom
GLASS_HUMPS = ((1.55, 0.35), (2.95, 0.70))  # centers and widths of amorphous humps, 1/angstrom
# Cu K-alpha 1 and 2 (angstrom); intensities 2 : 1.
K_ALPHA = (1.54056, 1.54439)


def spread_factor(rng: np.random.Generator, spread: float) -> float:
    """Returns exp(s z), z normal and clipped at 1 deviation: some libraries are worse than others.

    Without the clipping one library in twenty would be all background.
    """
    return float(np.exp(spread * np.clip(rng.normal(), -1.0, 1.0)))


def log_uniform(rng: np.random.Generator, limits: tuple[float, float]) -> float:
    """Returns a number whose logarithm is uniform between the limits, which are positive."""
    return float(np.exp(rng.uniform(*np.log(limits))))


# --- Lines ---------------------------------------------------------------------------------------


def march_dollase(r: float | np.ndarray, cos_alpha: np.ndarray) -> np.ndarray:
    """Returns the texture factor (r^2 cos^2 a + sin^2 a / r)^(-3/2) of reflections.

    Its average over the sphere is 1. r < 1 favours reflections along the axis (platelets), r > 1
    those across it. W. A. Dollase, J. Appl. Cryst. 19, 267 (1986).

    Args:
        r: March coefficient, positive.
        cos_alpha: cosine of the angle between scattering vector and texture axis.
    """
    squared = cos_alpha * cos_alpha  # arrays of NumPy and of JAX alike
    return (r * r * squared + (1.0 - squared) / r) ** -1.5


def k_alpha_doublet(q: np.ndarray, intensity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns each line as Cu K-alpha 1 and 2, on an axis made for their weighted mean wavelength.

    A line at q appears at q lambda_i / lambda_mean, with 2/3 and 1/3 of its intensity.

    Args:
        q: [..., m].
        intensity: [..., m].

    Returns:
        (q, intensity), each [..., 2 m]: all K-alpha 1 lines, then all K-alpha 2 lines.
    """
    mean = (2.0 * K_ALPHA[0] + K_ALPHA[1]) / 3.0
    positions = [q * (wavelength / mean) for wavelength in K_ALPHA]
    heights = [intensity * (2.0 / 3.0), intensity * (1.0 / 3.0)]
    return np.concatenate(positions, axis=-1), np.concatenate(heights, axis=-1)


def displaced(q: np.ndarray, displacement: float, wavelength: float) -> np.ndarray:
    """Returns where lines appear when the sample lies off the goniometer's axis.

    Delta 2theta = -2 (h / R) cos(theta), radians (Bragg-Brentano geometry).

    Args:
        q: true positions, 1/angstrom; those that the wavelength cannot reach stay.
        displacement: h / R, height above the axis over the goniometer's radius.
        wavelength: angstrom.
    """
    theta = np.arcsin(np.minimum(q * wavelength / (4.0 * np.pi), 1.0))
    apparent = theta - displacement * np.cos(theta)
    return np.where(
        theta < 0.5 * np.pi, 4.0 * np.pi / wavelength * np.sin(apparent), np.asarray(q, np.float64)
    )


def impurity_lines(
    rng: np.random.Generator, grid: Grid, largest: float
) -> tuple[np.ndarray, np.ndarray]:
    """Draws 1 to 4 foreign lines: ln q uniform on the grid, relative heights uniform to `largest`.

    Returns:
        (q, height), float64 [lines].
    """
    lines = rng.integers(1, 5)
    q = np.exp(rng.uniform(np.log(grid.q_min), np.log(grid.q_max), lines))
    return q, rng.uniform(0.0, largest, lines)


# --- Patterns ------------------------------------------------------------------------------------


def lorentzian_share(rng: np.random.Generator, options: Options) -> float:
    """Draws the Lorentzian share of a pseudo-Voigt, uniform from 0."""
    return float(rng.uniform(0.0, options.lorentzian)) if options.lorentzian > 0.0 else 0.0


def glass_background(grid: Grid, decay: float, height: float, humps: np.ndarray) -> np.ndarray:
    """Returns an exponential decay from the grid's start, with two amorphous humps, float32 [L].

    Args:
        grid: the axis.
        decay: 1/e length, 1/angstrom.
        height: of the decay at q_min.
        humps: [2], heights of the humps near q = 1.55 and 2.95 (silicate glass substrate).
    """
    offset, shapes = _glass_shapes(grid)
    background = np.float32(height) * np.exp(offset / np.float32(decay))
    for shape, hump in zip(shapes, humps, strict=True):
        background += np.float32(hump) * shape
    return background


@lru_cache(maxsize=8)
def _glass_shapes(grid: Grid) -> tuple[np.ndarray, list[np.ndarray]]:
    """q_min - q and the humps at height 1, float32."""
    q = grid_q(grid)
    humps = [np.exp(-0.5 * ((q - center) / width) ** 2) for center, width in GLASS_HUMPS]
    return (grid.q_min - q).astype(np.float32), [hump.astype(np.float32) for hump in humps]


def chebyshev_background(coefficients: np.ndarray, length: int) -> np.ndarray:
    """Returns sum_n c_n T_n(x), x from -1 to 1 along the pattern, lifted to a minimum >= 0, [L]."""
    values = np.polynomial.chebyshev.chebval(np.linspace(-1.0, 1.0, length), coefficients)
    return values - min(values.min(), 0.0)


def draw_background(
    rng: np.random.Generator, grid: Grid, ranges: Imperfection, spread: float, options: Options
) -> np.ndarray:
    """Draws a background for patterns of maximum 1, float32 [L]."""
    height = log_uniform(rng, ranges.background) * spread
    humps = spread * rng.uniform(*ranges.hump, 2)
    background = glass_background(grid, rng.uniform(0.7, 2.0), height, humps)
    if options.chebyshev > 0.0:
        # Higher polynomials are weaker: a background is smooth.
        weights = rng.uniform(-1.0, 1.0, 7) / np.arange(1, 8)
        polynomial = normalize_max(chebyshev_background(weights, grid.length))
        background += (options.chebyshev * rng.random() * polynomial).astype(np.float32)
    return background


def poisson_counts(rng: np.random.Generator, expected: np.ndarray) -> np.ndarray:
    """Returns counts drawn from their expectation (not negative), float32, same shape."""
    return rng.poisson(expected).astype(np.float32)


def spikes(rng: np.random.Generator, shape: tuple[int, ...], expected: float) -> np.ndarray:
    """Returns hot pixels: on average `expected` per pattern, heights uniform in 0.2..1.

    Args:
        rng: source of the draws.
        shape: [..., L].
        expected: per pattern.
    """
    hot = rng.random(shape, np.float32) < expected / shape[-1]
    return np.where(hot, rng.uniform(0.2, 1.0, shape), 0.0).astype(np.float32)


def missing_regions(rng: np.random.Generator, length: int, share: float) -> np.ndarray:
    """Returns which points have data, bool [L]: one to three gaps that cover `share` of them.

    The gaps do not overlap; their summed length is round(share L).
    """
    total = round(share * length)
    gaps = min(int(rng.integers(1, 4)), total)
    present = np.ones(length, bool)
    if gaps == 0:
        return present
    # Cut the missing and the present points into pieces, and lay these out in turn.
    cuts = np.sort(rng.choice(np.arange(1, total), gaps - 1, replace=False))
    missing = np.diff(np.concatenate([[0], cuts, [total]]))
    edges = np.sort(rng.integers(0, length - total + 1, gaps))
    before = np.concatenate([[0], np.cumsum(missing)[:-1]])
    for start, size in zip(edges + before, missing, strict=True):
        present[start : start + size] = False
    return present


def sigma_floor(pattern: np.ndarray, sigma: np.ndarray | float, floor: float) -> np.ndarray:
    """Returns the pattern with everything below `floor` standard deviations set to 0."""
    return np.where(pattern > floor * sigma, pattern, np.zeros_like(pattern))


# --- A single pattern ----------------------------------------------------------------------------


def corrupt(
    q: np.ndarray,
    intensity: np.ndarray,
    neighbour_q: np.ndarray,
    neighbour_intensity: np.ndarray,
    grid: Grid,
    rng: np.random.Generator,
    ranges: Imperfection,
    options: Options = Options(),  # noqa: B008 (immutable)
) -> tuple[np.ndarray, np.ndarray]:
    """Makes an imperfect pattern and its truth from the lines of two phases, without a library.

    What unmixing leaves is imitated: a shift that the truth shares, another one that it does not
    (zero error, averaging over an alloy), widths of size, strain and alloying, heights of lines
    changed as by texture, the neighbour's lines, a residue of the background, and noise
    that was cut at the floor.

    Args:
        q: lines of the phase, 1/angstrom, [m].
        intensity: their intensities, maximum 1, [m].
        neighbour_q: lines of another phase, [k].
        neighbour_intensity: their intensities, maximum 1, [k].
        grid: axis of the patterns.
        rng: source of the draws.
        ranges: see `ranges.profile`.
        options: further imperfections.

    Returns:
        (imperfect, truth), float32 [L], maximum 1.
    """
    spread = spread_factor(rng, ranges.spread)
    strain = min(log_uniform(rng, ranges.strain) * spread, MAX_STRAIN)
    q = q * (1.0 + strain * rng.uniform(-1.0, 1.0))
    truth = ideal_pattern(q, intensity, grid)

    shift = 1.0 + rng.normal(0.0, ranges.zero_error) + rng.normal(0.0, 0.3 * strain)
    # To first order ln W = (3 ln r)(1/2 - 3/2 cos^2 a): its deviation over the sphere is 1.34 ln r.
    texture = 1.34 * ranges.texture * spread
    textured = intensity * np.exp(texture * rng.standard_normal(len(q)))
    bleed = ranges.bleed * rng.random() ** 2
    positions = np.concatenate([q * shift, neighbour_q])
    heights = np.concatenate([textured, bleed * neighbour_intensity])
    if options.displacement > 0.0:
        displacement = rng.normal(0.0, options.displacement)
        positions = displaced(positions, displacement, grid.wavelength)
    if options.impurity > 0.0:
        foreign_q, foreign_height = impurity_lines(rng, grid, options.impurity)
        positions = np.concatenate([positions, foreign_q])
        heights = np.concatenate([heights, foreign_height])
    if options.k_alpha2 > 0.0 and rng.random() < options.k_alpha2:
        positions, heights = k_alpha_doublet(positions, heights)
    mixed = render(
        positions,
        heights,
        grid,
        size_nm=rng.uniform(*ranges.size_nm),
        microstrain=float(np.hypot(rng.uniform(0.0, ranges.microstrain), 0.3 * strain)),
        instrument_fwhm=rng.uniform(*INSTRUMENT_FWHM),
        eta=lorentzian_share(rng, options),
    )
    window = covered(rng, grid.length, options.coverage)
    if window is not None:
        mixed, truth = mixed * window, normalize_max(truth * window)
    mixed = normalize_max(mixed)

    background = draw_background(rng, grid, ranges, spread, options)
    # About ten patterns of a library share in one component, which averages their noise.
    counts = np.float32(10.0 * log_uniform(rng, ranges.counts))
    sigma = np.sqrt((mixed + background) / counts) + np.float32(1e-6)
    # Overlapping peaks lose their common foot to the background subtraction, and of the background
    # a few percent pass for peaks.
    mixed -= opening(mixed, max(1, round(OPENING_SHARE * grid.length)))
    left = 0.03 + ranges.residual * rng.random()
    mixed += np.float32(left) * background
    # The estimated background runs along the lower edge of the noise.
    edge = np.float32(rng.uniform(0.0, ranges.floor))
    mixed += sigma * (edge + rng.standard_normal(grid.length, np.float32))
    mixed = sigma_floor(mixed, sigma, ranges.floor)
    if options.spikes > 0.0:
        mixed += spikes(rng, mixed.shape, options.spikes)
    if options.missing > 0.0:
        mixed *= missing_regions(rng, grid.length, options.missing)
    if window is not None:
        mixed *= window
    return normalize_max(mixed), truth
