"""Raw counts of a detector made into those of other measurements of the same sample.

Belongs here: what can be done to counts because they are counts. A photon that a measurement of
time t counted falls with probability p into a part of it that lasted p t, whatever became of the
others. So binomial thinning of Poisson counts gives exactly the counts of a shorter measurement;
nothing is simulated. It holds for whole numbers as a detector gave them: intensities that were
scaled, smoothed or stripped are refused.
"""

import numpy as np

from imitation_refinement.errors import UserError


def thinned(
    counts: np.ndarray, strongest: float, rng: np.random.Generator, *, source: str = "counts"
) -> np.ndarray:
    """Returns the counts of a measurement so short that its strongest point has few.

    Args:
        counts: as measured, whole numbers, `[n]`.
        strongest: counts that the strongest point is to have on average, above 0. Where it has no
            more than these already, the measurement is returned as it is.
        rng: draws them.
        source: what to name in errors.

    Returns:
        float64 `[n]`, whole numbers.

    Raises:
        UserError: counts are not whole numbers, or negative.
        ValueError: `strongest` is not above 0.
    """
    if not strongest > 0:
        raise ValueError(f"strongest: expected a number above 0, got {strongest}")
    whole = _whole(counts, source)
    top = int(whole.max(initial=0))
    if top <= strongest:
        return whole.astype(np.float64)
    return rng.binomial(whole, strongest / top).astype(np.float64)


def halves(
    counts: np.ndarray, rng: np.random.Generator, *, source: str = "counts"
) -> tuple[np.ndarray, np.ndarray]:
    """Returns two independent measurements of half the time whose counts add up to these.

    Each photon falls into the first or the second with the same probability: of Poisson counts of
    mean m both halves are Poisson counts of mean m / 2, and knowing one says nothing of the other.

    Args:
        counts: as measured, whole numbers, `[n]`.
        rng: draws them.
        source: what to name in errors.

    Returns:
        float64 `[n]` each, whole numbers.

    Raises:
        UserError: counts are not whole numbers, or negative.
    """
    whole = _whole(counts, source)
    one = rng.binomial(whole, 0.5)
    return one.astype(np.float64), (whole - one).astype(np.float64)


def dispersion(counts: np.ndarray) -> float:
    """Returns the variance of the noise over its mean: 1 for Poisson counts, less if smoothed.

    From second differences d of neighbours, sum d^2 / 6 over the sum of their means, of the half of
    the points where it is lowest: peaks bend and background hardly does.

    Args:
        counts: `[n]`, n >= 3, not all zero.
    """
    counts = np.asarray(counts, np.float64)
    mean = (counts[:-2] + counts[1:-1] + counts[2:]) / 3.0
    squared = (counts[:-2] - 2.0 * counts[1:-1] + counts[2:]) ** 2 / 6.0
    low = mean <= np.median(mean)
    return float(squared[low].sum() / max(mean[low].sum(), 1e-12))


def _whole(counts: np.ndarray, source: str) -> np.ndarray:
    """Returns counts as int64."""
    counts = np.asarray(counts, np.float64)
    wrong = ~(np.isfinite(counts) & (counts >= 0) & (counts == np.round(counts)))
    if wrong.any():
        at = int(np.argmax(wrong))
        raise UserError(
            f"{source}: point {at} has {counts.flat[at]:g} counts and only whole numbers can be"
            " thinned; give the detector's raw counts, not scaled or smoothed intensities"
        )
    return counts.astype(np.int64)
