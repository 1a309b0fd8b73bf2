"""Fitting the calibration of the phases to examples: the weights, and the levels of `confident`.

Belongs here: the posteriors fitted to all examples, one to those of which elements are known;
answers to each example by weights that were fitted to examples of other formulas; and what these
answers decide: which prototypes lead, the trees that tell known from unknown, and the levels.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import beta, rankdata

from imitation_refinement.phases.candidates import Calibration
from imitation_refinement.phases.compositions import COMPLETE, preferred
from imitation_refinement.phases.evidence import FEATURES
from imitation_refinement.phases.fitting import ABSENT, KNOWN, Examples
from imitation_refinement.phases.leading import Leaders, leading
from imitation_refinement.phases.posterior import Posterior, fit_posterior, probabilities
from imitation_refinement.phases.stacking import FIGURES, Trees, absent, fit_trees, look, rescaled

WEIGHTS = (1.0, 0.8, 0.4)  # of examples that are OTHER, ABSENT, ITSELF
FOLDS = 5  # of the formulas
ACCURACY = 0.97  # of the systems of phases in the library that are called confident
UNKNOWN_CONFIDENT = 0.05  # largest share of the phases not in the library that are, in each scope
_SYSTEMS = 7
_SIZE = FEATURES.index("log_size")


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
    examples: Examples,
    deviating: Callable[[np.ndarray, Leaders], np.ndarray],
    *,
    seed: int = 0,
    **options: Any,
) -> tuple[Calibration, tuple[Answered, Answered]]:
    """Fits the posterior, and the levels on answers of weights that have not seen the formula.

    Args:
        examples: of `make_examples`.
        deviating: returns how scans deviate from their leaders, see `leading.deviations_of`,
            `[m, D]`, of the numbers of m scans and their libraries, int `[m]`, and the leaders
            by weights that have not seen the formula.
        seed: see `fit_posterior`.
        **options: of `fit_posterior`.

    Returns:
        (the calibration, the answers from which its levels were chosen: of patterns alone, and
        together with the refined ones).
    """
    fold, known = examples.formula % FOLDS, examples.scope == KNOWN
    begin = np.unique(examples.look, return_index=True)[1]
    said: dict[int, tuple[_Said, _Said, Leaders]] = {}
    for own, named in itertools.product(np.unique(fold), (False, True)):
        posterior = _fitted(examples, (fold != own) & (known == named), seed, options)
        for i in begin[(fold[begin] == own) & (known[begin] == named)].tolist():
            said[i] = _both_answers(examples, i, posterior)
    first, second, of_leaders = zip(*(said[i] for i in begin.tolist()), strict=True)
    looks = [_Said(*map(np.array, zip(*one, strict=True))) for one in (first, second)]
    leaders = Leaders(*map(np.array, zip(*of_leaders, strict=True)))
    of_each = Examples(*(column[begin] for column in examples))
    alone = _answered(of_each, *looks[0][:3])
    both, stacks = _stacked(of_each, looks, deviating(of_each.look, leaders), seed)
    levels = [[_level(one, named) for one in (alone, both)] for named in (False, True)]
    blind, informed = (_fitted(examples, known == named, seed, options) for named in (False, True))
    calibration = Calibration(blind, informed, stacks[0], stacks[1], np.array(levels))
    return calibration, (alone, both)


class _Said(NamedTuple):
    """What is said of examples: `inside`, `none`, `first` of `Answered`, and their `look`."""

    inside: Any
    none: Any
    first: Any
    figures: Any


def _answered(
    examples: Examples, inside: np.ndarray, none: np.ndarray, first: np.ndarray
) -> Answered:
    return Answered(
        inside, none, first, examples.true_system, examples.situation == ABSENT, examples.scope,
        examples.counts,
    )  # fmt: skip


def _stacked(
    examples: Examples, looks: Sequence[_Said], deviating: np.ndarray, seed: int
) -> tuple[Answered, tuple[Trees, ...]]:
    """Answers of two looks together, by trees that have not seen the formula, and the trees.

    `first` is what the look at the pattern says. The looks are by weights that have not seen the
    formula; those that the trees were fitted to may have.
    """
    known, fold = examples.scope == KNOWN, examples.formula % FOLDS
    unknown = examples.situation == ABSENT
    weight = np.asarray(WEIGHTS)[examples.situation]
    figures = np.concatenate([looks[0].figures, looks[1].figures, deviating], axis=1)

    def fitted(rows: np.ndarray) -> Trees:
        return fit_trees(figures[rows], unknown[rows], weight[rows], seed=seed)

    none = np.zeros(len(fold))
    for own, named in itertools.product(np.unique(fold), (False, True)):
        rows = (fold == own) & (known == named)
        trees = fitted((fold != own) & (known == named))
        none[rows] = absent(figures[rows], trees)
    before = 0.5 * (looks[0].none + looks[1].none)
    inside = 0.5 * (looks[0].inside + looks[1].inside) * np.exp(rescaled(before, none))[:, None]
    stacks = tuple(fitted(known == named) for named in (False, True))
    return _answered(examples, inside, none, looks[0].first), stacks


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


def _both_answers(
    examples: Examples, row: int, posterior: Posterior
) -> tuple[_Said, _Said, Leaders]:
    """What is said of both looks at a scan, the first of which is an example, and the leaders."""
    rows = row, row + 1
    (first, logs), (second, more) = (_one_answer(examples, one, posterior) for one in rows)

    def both(values: np.ndarray) -> np.ndarray:
        return np.concatenate([values[one][examples.system[one] >= 0] for one in rows])

    return first, second, leading(
        np.concatenate([logs, more]), both(examples.entry), both(examples.shift),
        both(examples.displacement), np.exp(both(examples.features[:, :, _SIZE])),
    )  # fmt: skip


def _one_answer(examples: Examples, row: int, posterior: Posterior) -> tuple[_Said, np.ndarray]:
    """What is said of one example, and ln of the probability of each of its prototypes."""
    there = examples.system[row] >= 0
    features = examples.features[row][None, there]
    found = probabilities(features, posterior)
    logs, none = found.log, found.none
    if examples.scope[row] == KNOWN:
        extra = COMPLETE * examples.complete[row][None, there]
        logs, none = preferred(logs, none, extra)
    inside = np.bincount(examples.system[row, there], np.exp(logs[0]), _SYSTEMS)
    figures = look(logs, none, features[:, :, [FEATURES.index(name) for name in FIGURES]])
    first = bool(examples.right[row, there][logs[0].argmax()])
    return _Said(inside, none[0], first, figures[0]), logs[0]


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
