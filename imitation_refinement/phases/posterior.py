"""The posterior: from the evidence for some prototypes to one probability over them and none.

Belongs here: a conditional logit (McFadden 1974) with one hidden layer. Each prototype has a score
from its own figures; "not in the library" competes with them by one from the figures of the three
best. Fitted to simulated scans whose structure is in the library, is there as another
determination, or was taken out; no measured scan has a part in it.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy.special import log_softmax, logsumexp

HIDDEN, HIDDEN_NONE = 32, 16
_LEADERS = 3  # prototypes whose figures say whether it is none


class Posterior(NamedTuple):
    """The weights; F figures of each prototype.

    Attributes:
        mean, scale: of the figures, `[F]` each.
        linear: `[F]`.
        hidden, hidden_bias, out: `[F, H]`, `[H]`, `[H]`.
        none_hidden, none_bias, none_out, none_offset: `[3 F + 3, H']`, `[H']`, `[H']`, `[]`.
    """

    mean: np.ndarray
    scale: np.ndarray
    linear: np.ndarray
    hidden: np.ndarray
    hidden_bias: np.ndarray
    out: np.ndarray
    none_hidden: np.ndarray
    none_bias: np.ndarray
    none_out: np.ndarray
    none_offset: np.ndarray


def log_probabilities(
    features: np.ndarray, posterior: Posterior, possible: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns what the evidence says of each prototype and of none.

    Args:
        features: `[n, K, F]`.
        posterior: the weights.
        possible: prototypes that may be, bool `[n, K]`; all without it.

    Returns:
        (scores `[n, K]`, ln of probabilities `[n, K]`, probability of none `[n]`), float64.
    """
    x = (np.asarray(features, np.float64) - posterior.mean) / posterior.scale
    possible = np.ones(x.shape[:2], bool) if possible is None else possible
    p = posterior
    score = x @ p.linear + np.tanh(x @ p.hidden + p.hidden_bias) @ p.out
    score = np.where(possible, score, -1e3)
    best = np.argsort(-score, axis=1, kind="stable")[:, _places(x.shape[1])]
    top = np.take_along_axis(score, best, axis=1)
    leaders = np.take_along_axis(x, best[:, :, None], axis=1).reshape(len(x), -1)
    gaps = np.minimum(top[:, :1] - top[:, 1:], 10.0)
    crowd = logsumexp(score, axis=1, keepdims=True) - top[:, :1]
    z = np.concatenate([leaders, 0.3 * gaps, crowd], axis=1)
    none = np.tanh(z @ p.none_hidden + p.none_bias) @ p.none_out + p.none_offset + top[:, 0]
    none = np.where(possible.any(axis=1), none, 0.0)
    logs = log_softmax(np.concatenate([score, none[:, None]], axis=1), axis=1)
    return score, logs[:, :-1], np.exp(logs[:, -1])


def _places(count: int) -> list[int]:
    """Ranks of the leaders; the last again where there are fewer."""
    return [min(place, count - 1) for place in range(_LEADERS)]


def fit_posterior(
    features: np.ndarray,
    right: np.ndarray,
    weight: np.ndarray,
    *,
    steps: int = 6000,
    batch_size: int = 128,
    learning_rate: float = 3e-3,
    decay: float = 1e-4,
    seed: int = 0,
) -> Posterior:
    """Fits the weights so that the right prototypes, or none, are likeliest (Adam, cosine decay).

    Args:
        features: `[n, K, F]`.
        right: prototypes of the scan's phase, bool `[n, K]`; a row without one is none's.
        weight: of each scan, `[n]`.
        steps: of the optimizer.
        batch_size: scans in a step.
        learning_rate: at the beginning.
        decay: of squared weights.
        seed: of the beginning and of the batches.
    """
    flat = features.reshape(-1, features.shape[2]).astype(np.float64)
    mean, scale = flat.mean(axis=0), flat.std(axis=0) + 1e-6
    x = ((features - mean) / scale).astype(np.float32)
    target = np.concatenate([right, ~right.any(axis=1, keepdims=True)], axis=1)
    params = _initial(x.shape[2], seed)
    tx = optax.adam(optax.cosine_decay_schedule(learning_rate, steps))
    state = tx.init(params)

    @jax.jit
    def step(params: dict, state: optax.OptState, x: jax.Array, target: jax.Array, w: jax.Array):  # noqa: ANN202
        def loss(params: dict) -> jax.Array:
            logs = jax.nn.log_softmax(_logits(params, x), axis=1)
            found = jax.nn.logsumexp(jnp.where(target, logs, -1e9), axis=1)
            squares = sum(jnp.sum(params[name] ** 2) for name in _DECAYED)
            return -jnp.sum(w * found) / jnp.sum(w) + decay * squares

        updates, state = tx.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    rng = np.random.default_rng(seed)
    for _ in range(steps):
        rows = rng.choice(len(x), min(batch_size, len(x)), replace=False)
        params, state = step(params, state, x[rows], target[rows], weight[rows])
    return Posterior(mean, scale, **{name: np.asarray(value) for name, value in params.items()})


_DECAYED = ("linear", "hidden", "out", "none_hidden", "none_out")


def _initial(figures: int, seed: int) -> dict[str, jax.Array]:
    keys = jax.random.split(jax.random.key(seed), 3)
    leaders = _LEADERS * figures + _LEADERS
    return {
        "linear": jnp.zeros(figures),
        "hidden": jax.random.normal(keys[0], (figures, HIDDEN)) / np.sqrt(figures),
        "hidden_bias": jnp.zeros(HIDDEN),
        "out": 0.1 * jax.random.normal(keys[1], (HIDDEN,)),
        "none_hidden": jax.random.normal(keys[2], (leaders, HIDDEN_NONE)) / np.sqrt(leaders),
        "none_bias": jnp.zeros(HIDDEN_NONE),
        "none_out": jnp.zeros(HIDDEN_NONE),
        "none_offset": jnp.zeros(()),
    }


def _logits(params: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    """`log_probabilities` before it is normalised, for gradients; all prototypes are possible."""
    score = x @ params["linear"]
    score += jnp.tanh(x @ params["hidden"] + params["hidden_bias"]) @ params["out"]
    best = jnp.argsort(-score, axis=1)[:, np.array(_places(x.shape[1]))]
    top = jnp.take_along_axis(score, best, axis=1)
    leaders = jnp.take_along_axis(x, best[:, :, None], axis=1).reshape(len(x), -1)
    gaps = jnp.minimum(top[:, :1] - top[:, 1:], 10.0)
    crowd = jax.nn.logsumexp(score, axis=1, keepdims=True) - top[:, :1]
    z = jnp.concatenate([leaders, 0.3 * gaps, crowd], axis=1)
    none = jnp.tanh(z @ params["none_hidden"] + params["none_bias"]) @ params["none_out"]
    none = none + params["none_offset"] + top[:, 0]
    return jnp.concatenate([score, none[:, None]], axis=1)
