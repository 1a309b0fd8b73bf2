"""Slow, plain forms of the paper's formulas in float64, and shared example arrays."""

import math

import jax.numpy as jnp
import numpy as np


def array(values, dtype=jnp.float32):
    return jnp.asarray(values, dtype)


def loop_distances(embedding, prototypes, scale):
    return np.array([[scale * sum((e - c) ** 2) for c in prototypes] for e in embedding])


def loop_log_softmax(scores):
    return np.array([[s - math.log(sum(math.exp(t) for t in row)) for s in row] for row in scores])


def example():
    """Embeddings, prototypes, labels and logits, float64; B 5, K 3, D 4, class 1 absent."""
    rng = np.random.default_rng(0)
    return (
        rng.normal(size=(5, 4)),
        rng.normal(size=(3, 4)),
        np.array([0, 2, 2, 0, 2]),
        rng.normal(size=(5, 3)),
    )
