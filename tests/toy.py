"""Networks and data small enough to compute by hand or by a loop in a test."""

from functools import cache, partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from imitation_refinement.method.classifier import Classifier, Distance
from imitation_refinement.method.networks import ClassifierOutput
from imitation_refinement.method.refiner import RefinerObjective

LENGTH, CLASSES, WIDTH, BATCH = 12, 3, 5, 8
DISTANCE = Distance("sqeuclidean")


def relaxed(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """An optimizer that may mix dtypes, as optax does, in a test session that forbids it to us."""

    def update(*arguments):
        with jax.numpy_dtype_promotion("standard"):
            return optimizer.update(*arguments)

    return optax.GradientTransformation(optimizer.init, update)


OPTIMIZER = relaxed(optax.adam(1e-2))


class ToyClassifier(nn.Module):
    """Convolution, batch norm, embedding, head: every kind of variable there is."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> ClassifierOutput:
        first = nn.Conv(WIDTH, (3,))(x)
        second = nn.Conv(WIDTH, (3,), use_bias=False)(nn.relu(first))
        z = nn.BatchNorm(use_running_average=not train, momentum=0.9)(second)
        embedding = nn.tanh(nn.Dense(WIDTH)(z.reshape(z.shape[0], -1)))
        return ClassifierOutput(nn.Dense(CLASSES)(embedding), embedding, (first, second))


class ToyRefiner(nn.Module):
    """x plus a zero-initialised convolution, not negative."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        hidden = nn.relu(nn.Conv(4, (3,))(x))
        return nn.relu(x + nn.Conv(1, (3,), kernel_init=nn.initializers.zeros)(hidden))


def batch(seed: int = 0) -> dict[str, jax.Array]:
    """Patterns with one peak whose place tells the class, and pairs."""
    rng = np.random.default_rng(seed)
    label = np.arange(BATCH) % CLASSES
    clean = np.zeros((BATCH, LENGTH, 1), np.float32)
    clean[np.arange(BATCH), 2 + 4 * label] = 1.0
    x = np.abs(clean + 0.1 * rng.normal(size=clean.shape)).astype(np.float32)
    return {
        "x": jnp.asarray(x),
        "label": jnp.asarray(label, jnp.int32),
        "pair_x": jnp.asarray(x[:4]),
        "pair_truth": jnp.asarray(clean[:4]),
        "pair_label": jnp.asarray(label[:4], jnp.int32),
    }


def kinds(tree: object) -> object:
    """Shape and dtype of every leaf."""
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)


@cache
def classifier(seed: int = 0) -> Classifier:
    """An untrained frozen classifier with prototypes away from zero."""
    init = jax.jit(partial(ToyClassifier().init, train=False))
    variables = init(jax.random.key(seed), batch()["x"])
    return Classifier(variables, jax.random.normal(jax.random.key(seed + 1), (CLASSES, WIDTH)))


def objective(**changes: object) -> RefinerObjective:
    """The paper's objective with some fields changed."""
    return RefinerObjective(
        targeted=True,
        prediction_weight=1.0,
        regularization_weight=2.0,
        prototype_weight=0.5,
        norm=1.0,
        psi="identity",
        distance=DISTANCE,
        pair_weight=0.0,
        pair_recognition=0.0,
    )._replace(**changes)
