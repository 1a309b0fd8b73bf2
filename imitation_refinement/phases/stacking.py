"""Known or unknown, by both looks at a scan: at its pattern and at the refined one.

Belongs here: a network that reads from what each look says, of its likeliest prototypes and of
none, whether the phase is in the library at all. The two answers become features of another model
(stacked generalization: D. H. Wolpert, Neural Networks 5, 241, 1992), fitted to answers by weights
that have not seen the formula. Each look knows its own figures alone; that both leave the same
doubt, or that one of them has none, is seen here.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy.special import expit, logit

from imitation_refinement.phases.match import Match, pooled

Params = dict[str, jax.Array]

LEADERS = 3  # likeliest prototypes of each look whose figures are read
HIDDEN = 24
MEMBERS = 5  # networks from other beginnings, whose logits are averaged
FIGURES = ("cosine", "peaks_explained", "missing", "left_over")  # of `evidence`, that are read
_FAR = 12.0  # largest difference of logarithms that is told apart


class Stack(NamedTuple):
    """The weights: M networks of S figures and H hidden units.

    Attributes:
        mean, scale: of the figures, `[S]` each.
        hidden, bias, out, offset: `[M, S, H]`, `[M, H]`, `[M, H]`, `[M]`.
    """

    mean: np.ndarray
    scale: np.ndarray
    hidden: np.ndarray
    bias: np.ndarray
    out: np.ndarray
    offset: np.ndarray


def together(first: Match, second: Match, stack: Stack) -> Match:
    """Returns what two looks at the same scans say together: `pooled`, but for none.

    Args:
        first: of n scans.
        second: of the same scans with the same prototypes, refined patterns.
        stack: the weights.
    """
    both = pooled(first, second)
    none = absent(_look_of(first), _look_of(second), stack)
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


def absent(first: np.ndarray, second: np.ndarray, stack: Stack) -> np.ndarray:
    """Returns the probability that the phase of each of n scans is not in the library, `[n]`.

    Args:
        first: of `look` at the patterns, `[n, S / 2]`.
        second: of `look` at the refined ones.
        stack: the weights.
    """
    x = (np.concatenate([first, second], axis=1) - stack.mean) / stack.scale
    return np.asarray(expit(_logits(stack._asdict(), x, np).mean(axis=0)))


def fit_stack(
    first: np.ndarray,
    second: np.ndarray,
    unknown: np.ndarray,
    weight: np.ndarray,
    *,
    steps: int = 2000,
    batch_size: int = 512,
    learning_rate: float = 3e-3,
    decay: float = 1e-3,
    seed: int = 0,
) -> Stack:
    """Fits the weights by the cross-entropy of known and unknown (Adam, cosine decay).

    Args:
        first: see `absent`.
        second: see `absent`.
        unknown: whether the phase is not in the library, bool `[n]`.
        weight: of each scan, `[n]`.
        steps: of the optimizer.
        batch_size: scans in a step.
        learning_rate: at the beginning.
        decay: of squared weights.
        seed: of the beginning and of the batches.
    """
    x = np.concatenate([first, second], axis=1)
    mean, scale = x.mean(axis=0), x.std(axis=0) + 1e-6
    x, sign = ((x - mean) / scale).astype(np.float32), np.where(unknown, -1.0, 1.0)
    sign, weight = sign.astype(np.float32), np.asarray(weight, np.float32)
    keys = jax.random.split(jax.random.key(seed), 2)
    params = {
        "hidden": jax.random.normal(keys[0], (MEMBERS, x.shape[1], HIDDEN)) / np.sqrt(x.shape[1]),
        "bias": jnp.zeros((MEMBERS, HIDDEN)),
        "out": 0.1 * jax.random.normal(keys[1], (MEMBERS, HIDDEN)),
        "offset": jnp.zeros(MEMBERS),
    }
    state = _ADAM.init(params)
    rate = 0.5 * learning_rate * (1.0 + np.cos(np.pi * np.arange(steps) / steps))
    rng = np.random.default_rng(seed)
    for i in range(steps):
        rows = rng.choice(len(x), min(batch_size, len(x)), replace=False)
        batch = x[rows], sign[rows], weight[rows]
        params, state = _step(params, state, *batch, np.float32(rate[i]), np.float32(decay))
    return Stack(mean, scale, **{name: np.asarray(value) for name, value in params.items()})


_ADAM = optax.scale_by_adam()


@jax.jit  # here, so that one program serves all folds
def _step(params: Params, state: Any, x: Any, sign: Any, w: Any, rate: Any, decay: Any) -> Any:
    def loss(params: Params) -> jax.Array:
        wrong = jax.nn.softplus(sign[None] * _logits(params, x, jnp))
        squares = jnp.sum(params["hidden"] ** 2) + jnp.sum(params["out"] ** 2)
        return jnp.sum(w[None] * wrong) / jnp.sum(w) + decay * squares

    updates, state = _ADAM.update(jax.grad(loss)(params), state)
    return {name: params[name] - rate * updates[name] for name in params}, state


def _logits(p: Any, x: Any, xp: Any) -> Any:
    """Ln of the odds that the phase is not in the library, of each network, `[M, n]`.

    Args:
        p: the weights, by the names of `Stack`.
        x: figures of mean 0 and deviation 1, `[n, S]`.
        xp: NumPy, or JAX's for gradients.
    """
    hidden = xp.tanh(xp.matmul(x[None], p["hidden"]) + p["bias"][:, None])
    return xp.matmul(hidden, p["out"][:, :, None])[:, :, 0] + p["offset"][:, None]
