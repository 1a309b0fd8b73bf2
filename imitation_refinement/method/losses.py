"""The paper's equations, one pure function each, with one value per example.

Belongs here: formulas of the losses and of the prototypes, on plain arrays. No network, no
optimizer, no random batch. Only `classifier_loss` and `refiner_loss` take the mean over the batch.

Paper: Bai, Lai, Yang, Xue, Gregoire, Gomes, "End-to-End Refinement Guided by Pre-trained
Prototypical Classifier", 2019; the method is called imitation refinement.

| paper                     | function                                | test                       |
|---------------------------|-----------------------------------------|----------------------------|
| Eq. 1, prototypes c_k     | `class_sums`, `class_prototypes`        | A `test_eq1_*`             |
| the distance d            | `prototype_distances`                   | L `test_distance_*`        |
| Eq. 2, L_F                | `prototype_log_probs`, `prototype_loss` | L `test_eq2_*`             |
| L_C; Eq. 4, l_pred        | `cross_entropy`                         | L `test_eq4_*`             |
| l_pred without labels     | `entropy` of log softmax of the logits  | L `test_eq6_*`             |
| Eq. 5, l_proto            | `prototype_loss`, as in Eq. 2           | L `test_eq2_*`             |
| Eq. 6, l_proto, no labels | `entropy` of `prototype_log_probs`      | L `test_eq6_*`             |
| Eq. 7, l_reg              | `regularization`                        | L `test_eq7_*`             |
| Eq. 3, L_R                | `refiner_loss`                          | A `test_eq3_*`             |
| Algorithm 1, line 1       | `init_prototypes`                       | A `test_algorithm1_line1*` |
| Algorithm 1, lines 5, 6   | `classifier_loss`                       | A `test_algorithm1_line6*` |
| Algorithm 1, line 8       | `update_prototypes`                     | A `test_algorithm1_line8*` |
| Algorithm 2, line 6       | `refiner_loss`                          | A `test_eq3_*`             |
| not in the paper          | `pair_distance`                         | L `test_pair_distance_*`   |

L is tests/method/test_losses.py, A is tests/method/test_algorithms.py. The remaining lines of both
algorithms (draw a batch, apply the networks, take the optimizer step) are in `batches`,
`classifier` and `refiner`.

Where the paper leaves a choice: d is the squared Euclidean distance divided by the embedding size;
sums over i are batch means, as in Algorithm 2; the p-norm is the plain norm over all elements of
an example (`per_element_weight` converts a weight meant for the mean); line 8 averages the batch's
members of a class with the previous prototype; logarithms are natural.

Letters: B batch, K classes, D embedding size. Floating arrays are float32 or float64, not mixed;
labels are integers 0..K-1. A wrong dtype raises TypeError and a wrong rank or shape ValueError,
with what was expected and what came.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

DISTANCES = ("sqeuclidean", "euclidean")


def _check(name: str, array: jax.Array, axes: str, *, integer: bool = False) -> None:
    """Checks rank (letters of `axes`) and kind of one argument."""
    kind, wanted = (jnp.integer, "integer") if integer else (jnp.floating, "floating")
    if not jnp.issubdtype(array.dtype, kind):
        raise TypeError(f"{name}: expected {wanted} [{', '.join(axes)}], got {array.dtype}")
    if array.ndim != len(axes):
        raise ValueError(f"{name}: expected shape [{', '.join(axes)}], got {array.shape}")


def _check_same(what: str, first: int, second: int) -> None:
    if first != second:
        raise ValueError(f"expected one {what}, got {first} and {second}")


def prototype_distances(
    embedding: jax.Array,
    prototypes: jax.Array,
    scale: float | None = None,
    distance: str = "sqeuclidean",
) -> jax.Array:
    """Distance d of each embedding to each prototype (the d of Eqs. 2, 5 and 6).

    `sqeuclidean` is scale * ||e - c||^2, the Bregman divergence for which class means are the best
    representatives (Banerjee et al. 2005; Snell et al. 2017); `euclidean` is scale * ||e - c||,
    with gradient zero at e = c.

    Args:
        embedding: [B, D].
        prototypes: [K, D].
        scale: factor; None is 1/D (1/sqrt(D) for `euclidean`), which keeps the softmax of Eq. 2
            unsaturated when D is some hundreds.
        distance: one of `DISTANCES`.

    Returns:
        [B, K], not negative.
    """
    _check("embedding", embedding, "BD")
    _check("prototypes", prototypes, "KD")
    _check_same("embedding size D", embedding.shape[1], prototypes.shape[1])
    if distance not in DISTANCES:
        raise ValueError(f"distance: expected one of {DISTANCES}, got {distance!r}")
    size = embedding.shape[1]
    # The direct form: |e|^2 - 2 e.c + |c|^2 loses up to 1e-4 to cancellation in float32.
    squared = jnp.sum(jnp.square(embedding[:, None, :] - prototypes[None, :, :]), axis=-1)
    if distance == "sqeuclidean":
        return (1.0 / size if scale is None else scale) * squared
    apart = squared > 0  # double where: the derivative of sqrt at 0 is infinite, and inf * 0 is NaN
    root = jnp.where(apart, jnp.sqrt(jnp.where(apart, squared, 1.0)), 0.0)
    return (1.0 / math.sqrt(size) if scale is None else scale) * root


def prototype_log_probs(distances: jax.Array) -> jax.Array:
    """Returns log p_k = -d_k - log sum_k' exp(-d_k'), inside Eqs. 2, 5 and 6.

    Args:
        distances: [B, K].

    Returns:
        [B, K]; finite however far all prototypes are, as the smallest distance is subtracted first.
    """
    _check("distances", distances, "BK")
    return jax.nn.log_softmax(-distances, axis=-1)


def _negative_log_likelihood(log_probs: jax.Array, labels: jax.Array) -> jax.Array:
    _check("labels", labels, "B", integer=True)
    _check_same("batch size B", log_probs.shape[0], labels.shape[0])
    # A label of K or more reads as NaN (a one-hot product would silently read 0).
    return -jnp.take_along_axis(log_probs, labels[:, None], axis=-1, mode="fill")[:, 0]


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """l(G(F(x)), y) of L_C, and Eq. 4: -log softmax(logits)_y.

    Args:
        logits: [B, K].
        labels: [B] integers in 0..K-1.

    Returns:
        [B].
    """
    _check("logits", logits, "BK")
    return _negative_log_likelihood(jax.nn.log_softmax(logits, axis=-1), labels)


def prototype_loss(log_probs: jax.Array, labels: jax.Array) -> jax.Array:
    """Eq. 2 for ideal and Eq. 5 for refined patterns: -log p_y of the softmax over -d.

    Args:
        log_probs: [B, K] from `prototype_log_probs`.
        labels: [B] integers in 0..K-1.

    Returns:
        [B].
    """
    _check("log_probs", log_probs, "BK")
    return _negative_log_likelihood(log_probs, labels)


def entropy(log_probs: jax.Array) -> jax.Array:
    """Eq. 6, and Eq. 4 without labels: -sum_k p_k log p_k, between 0 and log K.

    Args:
        log_probs: [B, K], normalised; -inf (p = 0) is allowed and contributes nothing.

    Returns:
        [B].
    """
    _check("log_probs", log_probs, "BK")
    possible = log_probs > -jnp.inf  # double where: 0 * -inf is NaN, in value and in gradient
    finite = jnp.where(possible, log_probs, 0.0)
    return -jnp.sum(jnp.where(possible, jnp.exp(finite) * finite, 0.0), axis=-1)


def regularization(
    refined: jax.Array,
    raw: jax.Array,
    psi: Callable[[jax.Array], jax.Array] = lambda pattern: pattern,
    p: float = 1,
) -> jax.Array:
    """Eq. 7: ||psi(refined) - psi(raw)||_p, the p-norm over all elements of one example.

    The gradient with respect to an example that equals its raw pattern is 0 for every p.

    Args:
        refined: [B, ...].
        raw: [B, ...], same shape.
        psi: feature map, from [B, ...] to [B, ...]; default identity.
        p: 1 <= p <= inf.

    Returns:
        [B].
    """
    if refined.shape != raw.shape or refined.ndim < 2:
        got = f"{refined.shape} and {raw.shape}"
        raise ValueError(f"expected refined and raw of one shape [B, ...], got {got}")
    if not p >= 1:
        raise ValueError(f"p: expected 1 <= p <= inf, got {p}")
    difference = psi(refined) - psi(raw)
    _check("psi(refined) - psi(raw)", difference, "B" + "." * (difference.ndim - 1))
    # Not jnp.abs: its derivative at 0 is 1, which would push every unchanged element downwards.
    magnitude = (difference * jnp.sign(difference)).reshape(difference.shape[0], -1)
    if p == 1:
        return jnp.sum(magnitude, axis=-1)
    if math.isinf(p):
        return jnp.max(magnitude, axis=-1)
    # Dividing by the largest element keeps powers in range. The norm does not depend on that
    # divisor, so it may be a constant to the derivative; where it is 0 the example is unchanged and
    # the 1s put in keep the root smooth.
    largest = jax.lax.stop_gradient(jnp.max(magnitude, axis=-1, keepdims=True))
    changed = largest > 0
    ratio = jnp.where(changed, magnitude / jnp.where(changed, largest, 1.0), 1.0)
    return largest[:, 0] * jnp.sum(ratio**p, axis=-1) ** (1.0 / p)


def pair_distance(refined: jax.Array, truth: jax.Array, epsilon: float = 1e-3) -> jax.Array:
    """Distance of a refined pattern to its known true one, for simulated pairs; not in the paper.

    sum |x - y| + sum [(y + e) ln((y + e) / (x + e)) - y + x]: l1 plus the generalised
    Kullback-Leibler divergence of the patterns lifted by e, which keeps weak true peaks from being
    deleted. Least, with gradient 0, at x = y; e bounds the gradient by (y + e) / e.

    Args:
        refined: x, [B, ...], not negative.
        truth: y, same shape, not negative.
        epsilon: e.

    Returns:
        [B].
    """
    if refined.shape != truth.shape or refined.ndim < 2:
        got = f"{refined.shape} and {truth.shape}"
        raise ValueError(f"expected refined and truth of one shape [B, ...], got {got}")
    difference = refined - truth
    magnitude = difference * jnp.sign(difference)  # the derivative of jnp.abs at 0 is 1, not 0
    lifted = truth + epsilon
    divergence = lifted * jnp.log(lifted / (refined + epsilon)) + difference
    return jnp.sum(magnitude + divergence, axis=tuple(range(1, refined.ndim)))


def per_element_weight(weight: float, size: int, p: float = 1) -> float:
    """Returns the alpha of Eq. 3 for a weight meant for the p-mean: weight * size^(-1/p).

    ||d||_1 grows with the number of elements (784 pixels, 2000 points), so that an alpha is only
    portable per element.
    """
    return weight * size ** (-1.0 / p)


def class_sums(
    embedding: jax.Array, labels: jax.Array, num_classes: int
) -> tuple[jax.Array, jax.Array]:
    """Numerator and denominator of Eq. 1, to be added up over the batches of a large set.

    Args:
        embedding: [B, D].
        labels: [B] integers; a row with a label outside 0..K-1 counts for no class (padding
            of a last batch).
        num_classes: K.

    Returns:
        sums [K, D] and counts [K], both of the embedding's dtype.
    """
    _check("embedding", embedding, "BD")
    _check("labels", labels, "B", integer=True)
    _check_same("batch size B", embedding.shape[0], labels.shape[0])
    member = jax.nn.one_hot(labels, num_classes, dtype=embedding.dtype, axis=0)  # [K, B]
    # Highest precision: accelerators would round a float32 product to bfloat16 or TF32.
    sums = jnp.matmul(member, embedding, precision=jax.lax.Precision.HIGHEST)
    return sums, jnp.sum(member, axis=1)


def class_prototypes(embedding: jax.Array, labels: jax.Array, num_classes: int) -> jax.Array:
    """Eq. 1: c_k, the mean embedding of the members of class k.

    Args:
        embedding: [B, D], of the whole ideal training set.
        labels: [B] integers in 0..K-1.
        num_classes: K.

    Returns:
        [K, D]; NaN in the row of a class without members, for which Eq. 1 has no value.
    """
    sums, counts = class_sums(embedding, labels, num_classes)
    return sums / counts[:, None]


def init_prototypes(key: jax.Array, num_classes: int, size: int, spread: float = 0.01) -> jax.Array:
    """Algorithm 1, line 1: [K, D] float32 from N(0, spread^2); once, not in every epoch."""
    return spread * jax.random.normal(key, (num_classes, size), jnp.float32)


def update_prototypes(prototypes: jax.Array, embedding: jax.Array, labels: jax.Array) -> jax.Array:
    """Algorithm 1, line 8: c_k <- (c_k + sum of the batch's F(x) in class k) / (N_k + 1).

    N_k is the number of the batch's members of class k, so that the result is "the mean of the
    embeddings from the class and the prototype from last batch" as the text has it. (The printed
    denominator |D_k| + 1 with a batch sum would shrink every prototype towards 0.) A class absent
    from the batch keeps its prototype. Prototypes are constants to the optimizer: no gradient flows
    into `embedding`.

    Args:
        prototypes: [K, D].
        embedding: [B, D].
        labels: [B] integers in 0..K-1.

    Returns:
        [K, D].
    """
    _check("prototypes", prototypes, "KD")
    sums, counts = class_sums(jax.lax.stop_gradient(embedding), labels, prototypes.shape[0])
    return (prototypes + sums) / (counts[:, None] + 1.0)


def classifier_loss(
    logits: jax.Array, distances: jax.Array, labels: jax.Array, *, lam: float
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Algorithm 1, lines 5 and 6: L_C + lambda L_F, as batch means.

    Args:
        logits: [B, K] of the ideal patterns.
        distances: [B, K] from `prototype_distances`.
        labels: [B] integers in 0..K-1.
        lam: lambda; 0 trains the paper's standard classifier.

    Returns:
        the scalar to minimize, and its terms (`loss`, `cross_entropy`, `prototype`), unweighted
        scalars.
    """
    prediction = jnp.mean(cross_entropy(logits, labels))
    prototype = jnp.mean(prototype_loss(prototype_log_probs(distances), labels))
    loss = prediction + lam * prototype
    return loss, {"loss": loss, "cross_entropy": prediction, "prototype": prototype}


def refiner_loss(
    logits: jax.Array,
    distances: jax.Array,
    change: jax.Array,
    labels: jax.Array | None,
    *,
    alpha: float,
    beta: float,
    gamma: float = 1.0,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Eq. 3 and Algorithm 2, line 6: gamma l_pred + alpha l_reg + beta l_proto, as batch means.

    Args:
        logits: [B, K], C(R(x)).
        distances: [B, K], of F(R(x)) from `prototype_distances`.
        change: [B], l_reg from `regularization`.
        labels: [B] integers in 0..K-1 (targeted: Eqs. 4 and 5), or None (non-targeted: both terms
            are entropies).
        alpha: weight of l_reg.
        beta: weight of l_proto.
        gamma: weight of l_pred, 1 in Eq. 3; 0 gives the first row of Table 3.

    Returns:
        the scalar to minimize, and its terms (`loss`, `pred`, `reg`, `proto`), unweighted scalars.
    """
    _check("change", change, "B")
    _check("logits", logits, "BK")
    _check_same("batch size B", logits.shape[0], change.shape[0])
    log_probs = prototype_log_probs(distances)
    if labels is None:
        pred, proto = entropy(jax.nn.log_softmax(logits, axis=-1)), entropy(log_probs)
    else:
        pred, proto = cross_entropy(logits, labels), prototype_loss(log_probs, labels)
    terms = {"pred": jnp.mean(pred), "reg": jnp.mean(change), "proto": jnp.mean(proto)}
    loss = gamma * terms["pred"] + alpha * terms["reg"] + beta * terms["proto"]
    return loss, {"loss": loss} | terms
