"""Is method A better than method B on the same examples, and how sure are we?

Belongs here: paired differences over several seeds, with intervals. Pure NumPy; no files, no names
of methods.

Two intervals tell two things. That over groups redraws the samples that were tested, with the
trained models as they are: would it hold on other samples? That over seeds redraws everything that
a seed decides: would it hold if it were done again?
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.stats
from numpy.typing import ArrayLike

from imitation_refinement.evaluation.metrics import (
    GroupResamples,
    estimate,
    resample_groups,
    resampled_mean,
)


class SeedSummary(NamedTuple):
    """A figure over S seeds; sd, low and high None for one seed.

    Attributes:
        mean: over the seeds.
        sd: sample standard deviation over the seeds.
        low, high: 95 % interval of the mean, Student's t with S - 1 degrees of freedom.
    """

    mean: float
    sd: float | None
    low: float | None
    high: float | None


class PairedDifference(NamedTuple):
    """Method A minus method B.

    Attributes:
        value: mean over seeds of the mean difference of each.
        low, high: its 95 % bootstrap interval over groups; None with too few groups.
        per_seed: the mean difference of each seed.
        sd, seeds_low, seeds_high: over seeds, see `SeedSummary`; None for one seed.
        mcnemar: p of the exact test, see `mcnemar`; of one seed and truth values only, else None.
    """

    value: float
    low: float | None
    high: float | None
    per_seed: tuple[float, ...]
    sd: float | None
    seeds_low: float | None
    seeds_high: float | None
    mcnemar: float | None


def paired_difference(
    a: Sequence[ArrayLike],
    b: Sequence[ArrayLike],
    groups: Sequence[ArrayLike],
    *,
    seed: int = 0,
    resamples: int = 2000,
) -> PairedDifference:
    """Compares two methods on the same examples, seed by seed.

    Args:
        a: S arrays `[n]`, one for each seed: hits, errors or any figure of each example under A;
            n may differ between seeds.
        b: the same examples in the same order under B.
        groups: what is drawn together. One array `[n]` if all seeds test the same examples, which
            then stay together over the seeds; else S arrays `[n]`, and equal names in two seeds are
            two groups.
        seed: of the bootstrap.
        resamples: how many are drawn.

    Raises:
        ValueError: shapes disagree, there are no examples, or a figure is not finite.
    """
    _check(a, b, groups)
    differences = [
        np.asarray(x, np.float64) - np.asarray(y, np.float64) for x, y in zip(a, b, strict=True)
    ]
    per_seed = [float(one.mean()) for one in differences]
    summary = over_seeds(per_seed)
    if len(groups) == 1:
        differences = [np.mean(differences, axis=0)]
    draws = [
        resample_groups(names, seed=seed + index, resamples=resamples)
        for index, names in enumerate(groups)
    ]
    samples = np.mean(
        [resampled_mean(*pair) for pair in zip(draws, differences, strict=True)], axis=0
    )
    fewest = min(draws, key=_group_count)  # sets how much the interval is widened
    interval = estimate(fewest, summary.mean, samples)
    truth_values = all(np.asarray(x).dtype == bool for x in (*a, *b))
    return PairedDifference(
        value=summary.mean,
        low=interval["low"],
        high=interval["high"],
        per_seed=tuple(per_seed),
        sd=summary.sd,
        seeds_low=summary.low,
        seeds_high=summary.high,
        mcnemar=mcnemar(a[0], b[0]) if truth_values and len(a) == 1 else None,
    )


def over_seeds(values: ArrayLike) -> SeedSummary:
    """Returns mean, standard deviation and interval of a figure `[S]`, one for each seed."""
    values = np.asarray(values, np.float64)
    mean, count = float(values.mean()), len(values)
    if count < 2:
        return SeedSummary(mean, None, None, None)
    sd = float(values.std(ddof=1))
    half = float(scipy.stats.t.ppf(0.975, count - 1)) * sd / np.sqrt(count)
    return SeedSummary(mean, sd, float(mean - half), float(mean + half))


def mcnemar(a: ArrayLike, b: ArrayLike) -> float:
    """Returns the two-sided p of the exact McNemar test of two classifiers' hits, bool `[n]`.

    Binomial test of the examples that just one of them gets right; 1 without any. It takes examples
    for independent: where groups share flaws, trust the interval over groups.
    """
    a, b = np.asarray(a, bool), np.asarray(b, bool)
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    if only_a + only_b == 0:
        return 1.0
    return float(scipy.stats.binomtest(only_a, only_a + only_b).pvalue)


def _group_count(draws: GroupResamples) -> int:
    return draws.times.shape[1]


def _check(a: Sequence[ArrayLike], b: Sequence[ArrayLike], groups: Sequence[ArrayLike]) -> None:
    shapes = [[np.shape(one) for one in part] for part in (a, b, groups)]
    expected = shapes[0] if len(groups) != 1 else shapes[0][:1] * len(a)
    if not len(a) or any(len(shape) != 1 or not shape[0] for shape in shapes[0]):
        raise ValueError(f"expected one array [n], n > 0, for each seed, got {shapes[0]}")
    if shapes[1] != shapes[0] or shapes[0] != expected or shapes[2] != expected[: len(groups)]:
        raise ValueError(f"a, b and groups do not fit: {shapes[0]}, {shapes[1]} and {shapes[2]}")
    if not all(np.isfinite(np.asarray(one, np.float64)).all() for one in (*a, *b)):
        raise ValueError("a or b holds a number that is not finite")
