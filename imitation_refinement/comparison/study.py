"""Figures of finished jobs: means over seeds and paired differences with their intervals.

Belongs here: statistics of arrays that `measure` made, as cells of tables. Pure: no files, no
wording of tables.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imitation_refinement.comparison.methods import Job
from imitation_refinement.evaluation.answer import MINUS
from imitation_refinement.evaluation.paired import over_seeds, paired_difference
from imitation_refinement.report.page import number

Arrays = Mapping[str, NDArray[Any]]
Pair = tuple[str, str]  # classifier, method


class Result(NamedTuple):
    """A finished job.

    Attributes:
        summary: of result.json.
        arrays: of `measure.measure`.
        folder: of the job.
    """

    summary: dict[str, Any]
    arrays: Arrays
    folder: Path


class Cell(NamedTuple):
    """A figure of a table; without a value it is not known.

    Attributes:
        value: mean over seeds.
        sd: their sample standard deviation; None for one.
        low, high: 95 % interval, where one is given.
        form: `percent` (a fraction), `points` (a difference of fractions, signed), `change` (a
            relative change, signed), `signed` or `number`.
    """

    value: float | None = None
    sd: float | None = None
    low: float | None = None
    high: float | None = None
    form: str = "number"

    @property
    def text(self) -> str:
        """Value ± standard deviation (interval); fractions in hundredths, a dash for nothing."""
        if self.value is None:
            return "–"
        text = self._one(self.value)
        if self.sd is not None:
            text += f" ± {self._spread(self.sd, text)}"
        if self.low is not None and self.high is not None:
            text += f" ({self._one(self.low)} to {self._one(self.high)})"
        return text

    def _spread(self, sd: float, text: str) -> str:
        """Returns the standard deviation with as many decimals as the text of the value."""
        if self.form in ("number", "signed") and "e" not in text:
            return f"{sd:.{len(text.partition('.')[2])}f}"
        return self._one(sd).lstrip("+")

    def _one(self, value: float) -> str:
        if self.form == "percent":
            text = f"{100 * value:.1f}"
        elif self.form in ("points", "change"):
            text = f"{100 * value:+.1f}"
        else:
            text = ("+" if self.form == "signed" and value > 0 else "") + number(value)
        return text.replace("-", MINUS)


class Study:
    """Asks finished jobs for figures.

    Args:
        done: results by job.
        same_examples: whether all seeds test the same examples, so that groups stay together over
            seeds (measured patterns); else each seed has its own.
        seed: of bootstraps.
        resamples: of bootstraps.
    """

    def __init__(
        self,
        done: Mapping[Job, Result],
        *,
        same_examples: bool = False,
        seed: int = 0,
        resamples: int = 2000,
    ):
        self._same, self._seed, self._resamples = same_examples, seed, resamples
        self._arrays: dict[Pair, dict[int, Arrays]] = {}
        for job, result in done.items():
            self._arrays.setdefault((job.classifier, job.method), {})[job.seed] = result.arrays

    def seeds(self, pair: Pair, key: str = "hit") -> list[int]:
        """Returns the seeds for which a method through a classifier is done and has a figure."""
        found = self._arrays.get(pair, {})
        return sorted(seed for seed, arrays in found.items() if key in arrays)

    def mean(self, pair: Pair, key: str, form: str = "percent") -> Cell:
        """Returns mean ± standard deviation over seeds of the mean of an array."""
        return self._over_seeds([pair], lambda arrays: _mean(arrays[key]), key, form)

    def median(self, pair: Pair, key: str, form: str = "number") -> Cell:
        """Returns the same of the median."""
        return self._over_seeds([pair], lambda arrays: _median(arrays[key]), key, form)

    def ratio(self, pair: Pair, above: str, below: str) -> Cell:
        """Returns the same of the sum of one array over that of another, as a percentage."""

        def share(arrays: Arrays) -> float:
            known = arrays[below] >= 0
            return float(arrays[above][known].sum() / max(arrays[below][known].sum(), 1))

        return self._over_seeds([pair], share, below, "percent")

    def improvement(self, pair: Pair, base: Pair, key: str, of_median: bool, form: str) -> Cell:
        """Returns how much a mean or median is above that of `base`, over seeds.

        Args:
            pair: the method.
            base: what it is compared with.
            key: of the array.
            of_median: the median in the place of the mean.
            form: `change` for the relative change, else the difference.
        """
        middle = _median if of_median else _mean

        def change(mine: Arrays, other: Arrays) -> float:
            now, before = middle(mine[key]), middle(other[key])
            return now / before - 1.0 if form == "change" and before else now - before

        return self._over_seeds([pair, base], change, key, form)

    def difference(
        self,
        pair: Pair,
        base: Pair,
        key: str,
        form: str = "points",
        *,
        over_seeds: bool = False,
        base_key: str = "",
    ) -> Cell:
        """Returns the paired difference pair - base with its 95 % interval.

        Args:
            pair: the method.
            base: what it is compared with.
            key: of the array.
            form: of the cell.
            over_seeds: the interval over seeds (Student's t) in the place of that over groups.
            base_key: of the array of `base`, if another.
        """
        other = base_key or key
        seeds = [s for s in self.seeds(pair, key) if s in self.seeds(base, other)]
        a, b, groups = [], [], []
        for seed in seeds:
            mine, its = self._arrays[pair][seed], self._arrays[base][seed]
            known = np.isfinite(mine[key].astype(float)) & np.isfinite(its[other].astype(float))
            a.append(mine[key][known])
            b.append(its[other][known])
            groups.append(mine["group"][known])
        if not seeds or not len(a[0]):
            return Cell(form=form)
        together = self._same and all(np.array_equal(groups[0], each) for each in groups)
        found = paired_difference(
            a, b, groups[:1] if together else groups, seed=self._seed, resamples=self._resamples
        )
        if over_seeds:
            return Cell(found.value, None, found.seeds_low, found.seeds_high, form)
        return Cell(found.value, found.sd, found.low, found.high, form)

    def _over_seeds(
        self, pairs: Sequence[Pair], figure: Callable[..., float], key: str, form: str
    ) -> Cell:
        seeds = [
            s for s in self.seeds(pairs[0], key) if all(s in self.seeds(p, key) for p in pairs)
        ]
        values = [figure(*(self._arrays[pair][seed] for pair in pairs)) for seed in seeds]
        values = [value for value in values if np.isfinite(value)]
        if not values:
            return Cell(form=form)
        summary = over_seeds(values)
        return Cell(summary.mean, summary.sd, form=form)


def _known(values: NDArray) -> NDArray:
    values = np.asarray(values, float)
    return values[np.isfinite(values)]


def _mean(values: NDArray) -> float:
    known = _known(values)
    return float(known.mean()) if known.size else float("nan")


def _median(values: NDArray) -> float:
    known = _known(values)
    return float(np.median(known)) if known.size else float("nan")
