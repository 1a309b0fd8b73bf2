"""Known or unknown, by both looks at a scan: at its pattern and at the refined one.

Belongs here: boosted trees that read from what each look says, of its likeliest prototypes and of
none, and from how the scan deviates from those that lead, whether the phase is in the library at
all. The two answers become features of another model (stacked generalization: D. H. Wolpert, Neural
Networks 5, 241, 1992), fitted to answers by weights that have not seen the formula. Each look knows
its own figures alone; that both leave the same doubt, or that one of them has none, is seen here.
"""

from typing import Any, NamedTuple

import numpy as np
from scipy.special import expit, logit
from threadpoolctl import threadpool_limits

from imitation_refinement.phases.match import Match, pooled

LEADERS = 3  # likeliest prototypes of each look whose figures are read
FIGURES = ("cosine", "peaks_explained", "missing", "left_over")  # of `evidence`, that are read
_BINS = 255  # of each figure, between which trees choose
_FAR = 12.0  # largest difference of logarithms that is told apart
# Chosen on held-out formulas of simulated scans.
_GROWN = {
    "max_iter": 150,
    "learning_rate": 0.05,
    "max_leaf_nodes": 12,
    "min_samples_leaf": 60,
    "l2_regularization": 5.0,
    "max_features": 0.3,  # of the figures, that each node may ask
}


class Trees(NamedTuple):
    """T boosted trees, whose values are added up (J. H. Friedman, Ann. Statist. 29, 1189, 2001).

    Attributes:
        offset: ln of the odds before any tree, float64 `[]`.
        figure: that each of M nodes of a tree asks, int32 `[T, M]`.
        threshold: up to which the way goes to `below`, float64 `[T, M]`.
        below, above: the next node, a leaf itself, int32 `[T, M]`.
        value: of each leaf, float64 `[T, M]`.
    """

    offset: np.ndarray
    figure: np.ndarray
    threshold: np.ndarray
    below: np.ndarray
    above: np.ndarray
    value: np.ndarray


def together(first: Match, second: Match, deviating: np.ndarray, trees: Trees) -> Match:
    """Returns what two looks at the same scans say together: `pooled`, but for none.

    Args:
        first: of n scans.
        second: of the same scans with the same prototypes, refined patterns.
        deviating: how the scans deviate from their leaders, of `leading.deviations_of`, `[n, D]`.
        trees: fitted to such figures.
    """
    both = pooled(first, second)
    looks = _look_of(first), _look_of(second)
    none = absent(np.concatenate([*looks, deviating], axis=1), trees)
    none = np.where(np.isfinite(both.log_probability[:, 0]), none, 1.0)
    return both._replace(
        log_probability=both.log_probability + rescaled(both.not_in_library, none)[:, None],
        not_in_library=none,
    )


def rescaled(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Returns by how much ln of probabilities of prototypes changes with that of none, `[n]`."""
    least = 1e-12
    return np.log(np.maximum(1.0 - after, least)) - np.log(np.maximum(1.0 - before, least))


def _look_of(found: Match) -> np.ndarray:
    figures = found.cosine, found.explained, found.missing, found.left_over  # FIGURES
    return look(found.log_probability, found.not_in_library, np.stack(figures, axis=2))


def look(log_probability: np.ndarray, none: np.ndarray, figures: np.ndarray) -> np.ndarray:
    """Returns what one look at n scans says, float64 `[n, 3 G + 5]`.

    Args:
        log_probability: ln of each prototype's, `[n, K]`, minus infinity where it may not be.
        none: probability that it is none of them, `[n]`.
        figures: G of each prototype, `[n, K, G]`.
    """
    logs = np.pad(log_probability, ((0, 0), (0, LEADERS)), constant_values=-np.inf)
    figures = np.pad(figures, ((0, 0), (0, LEADERS), (0, 0)))
    order = np.argsort(-logs, axis=1, kind="stable")[:, :LEADERS]
    top = np.maximum(np.take_along_axis(logs, order, axis=1), -1e9)
    leaders = np.take_along_axis(figures, order[:, :, None], axis=1)
    leaders = np.where(top[:, :, None] > -1e9, leaders, 0.0)
    odds = logit(np.clip(none, 1e-6, 1.0 - 1e-6))
    inside = np.log1p(-np.minimum(none, 1.0 - 1e-6))
    number = np.log(np.maximum(np.isfinite(logs).sum(axis=1), 1))
    gaps = np.minimum(top[:, :1] - top[:, 1:], _FAR)
    crowd = np.clip(inside - top[:, 0], 0.0, _FAR)
    heads = np.column_stack([odds, gaps, crowd, number])
    return np.concatenate([leaders.reshape(len(logs), -1), heads], axis=1)


def absent(figures: np.ndarray, trees: Trees) -> np.ndarray:
    """Returns the probability that the phase of each of n scans is not in the library, `[n]`.

    Args:
        figures: of `look` at the patterns, then of that at the refined ones, then how the scans
            deviate from their leaders, see `together`; float64 `[n, S]`.
        trees: fitted to such figures.
    """
    tree = np.arange(len(trees.figure))
    node = np.zeros((len(figures), len(tree)), np.int32)
    while True:
        asked = np.take_along_axis(figures, trees.figure[tree, node], axis=1)
        is_below = asked <= trees.threshold[tree, node]
        further = np.where(is_below, trees.below[tree, node], trees.above[tree, node])
        if np.array_equal(further, node):
            return np.asarray(expit(trees.offset + trees.value[tree, node].sum(axis=1)))
        node = further


def fit_trees(
    figures: np.ndarray, unknown: np.ndarray, weight: np.ndarray, *, seed: int = 0
) -> Trees:
    """Fits trees by the cross-entropy of known and unknown.

    Args:
        figures: see `absent`, `[n, S]`.
        unknown: whether the phase is not in the library, bool `[n]`; some are, some are not.
        weight: of each scan, `[n]`.
        seed: of the figures that each node may ask.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier  # half a second to import

    edges = [_edges(figure, weight) for figure in figures.T]
    binned = [np.searchsorted(of, figure) for of, figure in zip(edges, figures.T, strict=True)]
    grown = HistGradientBoostingClassifier(early_stopping=False, random_state=seed, **_GROWN)
    # Two threads are hardly faster than one, and ten times slower beside another process: they
    # wait for each other without rest.
    with threadpool_limits(1, "openmp"):
        grown.fit(np.stack(binned, axis=1), unknown, sample_weight=weight)
    trees = trees_of(grown)
    asks = trees.below != trees.above  # a leaf asks nothing
    thresholds = [
        edges[figure][int(between)]
        for figure, between in zip(trees.figure[asks], trees.threshold[asks], strict=True)
    ]
    trees.threshold[asks] = thresholds
    return trees


def _edges(figure: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Values between which bins of a figure lie, each of as much weight: as scikit-learn has them.

    That asks for one weighted percentile after the other, which is most of the time of a fit.
    """
    distinct = np.unique(figure)
    if len(distinct) <= _BINS:
        return np.asarray(0.5 * (distinct[1:] + distinct[:-1]))
    shares = np.arange(1, _BINS) / _BINS
    return np.unique(np.quantile(figure, shares, weights=weight, method="inverted_cdf"))


def trees_of(grown: Any) -> Trees:
    """Returns the trees of a fitted HistGradientBoostingClassifier of two classes.

    It has no public access to its nodes; a test compares the answers.
    """
    nodes = [tree.nodes for (tree,) in grown._predictors]
    size = max(map(len, nodes))

    def padded(name: str, dtype: type) -> np.ndarray:
        return np.stack([np.pad(own[name].astype(dtype), (0, size - len(own))) for own in nodes])

    leaf, itself = padded("is_leaf", bool), np.arange(size, dtype=np.int32)
    return Trees(
        np.array(float(np.squeeze(grown._baseline_prediction))),
        np.where(leaf, 0, padded("feature_idx", np.int32)).astype(np.int32),
        np.where(leaf, 0.0, padded("num_threshold", np.float64)),
        np.where(leaf, itself, padded("left", np.int32)),
        np.where(leaf, itself, padded("right", np.int32)),
        padded("value", np.float64),
    )
