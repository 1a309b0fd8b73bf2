"""Fitting the calibration of the phases to examples: the weights, and the levels of `confident`.

Belongs here: the posteriors fitted to all examples, one to those of which elements are known, and
answers to each example by weights that were fitted to examples of other formulas, from which the
levels are chosen.
"""

import itertools
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import beta, rankdata

from imitation_refinement.phases.candidates import Calibration
from imitation_refinement.phases.compositions import COMPLETE, preferred
from imitation_refinement.phases.fitting import ABSENT, KNOWN, Examples
from imitation_refinement.phases.posterior import Posterior, fit_posterior, probabilities

WEIGHTS = (1.0, 0.8, 0.4)  # of examples that are OTHER, ABSENT, ITSELF
FOLDS = 5  # of the formulas
ACCURACY = 0.97  # of the systems of phases in the library that are called confident
UNKNOWN_CONFIDENT = 0.05  # largest share of the phases not in the library that are, in each scope
_SYSTEMS = 7


class Answered(NamedTuple):
    """Answers to m scans with their libraries, by weights fitted to other formulas.

    Attributes:
        inside: probability of each crystal system's prototypes, float64 `[m, 7]`.
        none: probability that the phase is none of the library's, float64 `[m]`.
        first: whether the likeliest prototype is of the phase, bool `[m]`.
        true_system: int `[m]`.
        absent: whether the phase is not in the library, bool `[m]`.
        scope: WHOLE, PART or KNOWN, int `[m]`.
        counts: of the strongest point, `[m]`.
    """

    inside: np.ndarray
    none: np.ndarray
    first: np.ndarray
    true_system: np.ndarray
    absent: np.ndarray
    scope: np.ndarray
    counts: np.ndarray

    @property
    def confidence(self) -> np.ndarray:
        """Of each answer, `[m]`."""
        return np.asarray(self.inside.max(axis=1))

    @property
    def correct(self) -> np.ndarray:
        """Whether its crystal system is right, bool `[m]`."""
        return np.asarray(self.inside.argmax(axis=1) == self.true_system)


def fit_calibration(
    examples: Examples, *, seed: int = 0, **options: Any
) -> tuple[Calibration, tuple[Answered, Answered]]:
    """Fits the posterior, and the levels on answers of weights that have not seen the formula.

    Args:
        examples: of `make_examples`.
        seed: see `fit_posterior`.
        **options: of `fit_posterior`.

    Returns:
        (the calibration, the answers from which its levels were chosen: of patterns alone, and
        together with the refined ones).
    """
    fold, known = examples.formula % FOLDS, examples.scope == KNOWN
    count = len(fold)
    inside, none, first = np.zeros((count, _SYSTEMS)), np.zeros(count), np.zeros(count, bool)
    for own, named in itertools.product(np.unique(fold), (False, True)):
        posterior = _fitted(examples, (fold != own) & (known == named), seed, options)
        for i in np.flatnonzero((fold == own) & (known == named)).tolist():
            inside[i], none[i], first[i] = _one_answer(examples, i, posterior)
    begin = np.unique(examples.look, return_index=True)[1]
    alone = Examples(*(column[begin] for column in examples))
    answered = (
        _pooled(alone, inside[begin], none[begin], first[begin]),
        _pooled(examples, inside, none, first),
    )
    levels = np.array([[_level(one, named) for one in answered] for named in (False, True)])
    blind, informed = (_fitted(examples, known == named, seed, options) for named in (False, True))
    return Calibration(blind, informed, levels), answered


def _level(answered: Answered, known: bool) -> float:
    """The level of the answers where the elements of the sample are known, or of the others."""
    of = answered.confidence, answered.correct, answered.absent, answered.scope
    return confident_level(*(column[(answered.scope == KNOWN) == known] for column in of))


def _fitted(examples: Examples, rows: np.ndarray, seed: int, options: dict[str, Any]) -> Posterior:
    alike = examples.system == examples.true_system[:, None]
    looks = np.unique(examples.look, return_inverse=True, return_counts=True)
    weight = np.asarray(WEIGHTS)[examples.situation] / looks[2][looks[1]]
    return fit_posterior(
        examples.features[rows], examples.right[rows], alike[rows], weight[rows], seed=seed,
        **options,
    )  # fmt: skip


def _one_answer(
    examples: Examples, row: int, posterior: Posterior
) -> tuple[np.ndarray, float, bool]:
    """The fields `inside`, `none`, `first` of `Answered` for one example."""
    there = examples.system[row] >= 0
    found = probabilities(examples.features[row][None, there], posterior)
    logs, none = found.log, found.none
    if examples.scope[row] == KNOWN:
        extra = COMPLETE * examples.complete[row][None, there]
        logs, none = preferred(logs, none, extra)
    inside = np.bincount(examples.system[row, there], np.exp(logs[0]), _SYSTEMS)
    return inside, float(none[0]), bool(examples.right[row, there][logs[0].argmax()])


def _pooled(
    examples: Examples, inside: np.ndarray, none: np.ndarray, first: np.ndarray
) -> Answered:
    """The mean of what the looks at one scan say; `first` is what the look at its pattern says."""
    _, begin, number, count = np.unique(
        examples.look, return_index=True, return_inverse=True, return_counts=True
    )
    sums = np.zeros((len(begin), _SYSTEMS))
    np.add.at(sums, number, inside)
    return Answered(
        sums / count[:, None],
        np.bincount(number, none) / count,
        first[begin],
        examples.true_system[begin],
        examples.situation[begin] == ABSENT,
        examples.scope[begin],
        examples.counts[begin],
    )


def confident_level(
    confidence: np.ndarray, correct: np.ndarray, absent: np.ndarray, scope: np.ndarray
) -> float:
    """Returns the lowest level at which enough of the confident answers are right.

    At this level 97 % of the systems are right where the phase is in the library, and of the phases
    that are not at most 5 % are called confident: in each scope the upper Clopper-Pearson bound
    (one-sided, 95 %; C. J. Clopper, E. S. Pearson, Biometrika 26, 404, 1934) of their share.
    Neither depends on how many phases are unknown, which differs from user to user. Above 1 where
    there is no such level: nothing is confident then.

    Args:
        confidence: of each answer, `[n]`.
        correct: whether its crystal system is right, bool `[n]`.
        absent: whether its phase is not in the library, bool `[n]`.
        scope: what part of the library it is from, int `[n]`.
    """
    order = np.argsort(-confidence, kind="stable")
    present = ~absent[order]
    fits = np.cumsum(correct[order] & present) >= ACCURACY * np.cumsum(present)
    for own in np.unique(scope):
        unknown = absent & (scope == own)
        confident, count = np.cumsum(unknown[order]), int(unknown.sum())
        if count:
            share = beta.ppf(0.95, confident + 1, np.maximum(count - confident, 1e-9))
            fits &= share <= UNKNOWN_CONFIDENT
    last = np.flatnonzero(fits)
    return float(confidence[order][last[-1]]) if last.size else 1.01


def roc_area(absent: np.ndarray, present: np.ndarray) -> float:
    """Returns the area under the ROC curve: how often a score of `absent` is the larger one."""
    ranks = rankdata(np.concatenate([absent, present]))
    count = len(absent)
    pairs = count * len(present)
    return float((ranks[:count].sum() - 0.5 * count * (count + 1)) / pairs)
