"""The prototypical classifier C = G o F: Algorithm 1 of the paper as pure functions of trees.

State in, state out: nothing here reads a file, logs, or asks how many devices there are. The same
functions train the standard classifier (`prototype_weight` = 0) and the judges, classifiers that no
refiner ever sees.
"""

from functools import partial
from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from imitation_refinement.method import losses
from imitation_refinement.method.networks import ClassifierOutput

Tree = Any
Array = Any  # jax.Array or np.ndarray
Metrics = dict[str, jax.Array]


class Distance(NamedTuple):
    """d of Eqs. 2 and 5, a function of embedding `[B, D]` and prototypes `[K, D]`, giving `[B, K]`.

    Equal ones are equal as keys, so that what is compiled for one serves the other.

    Attributes:
        name, scale: see `losses.prototype_distances`.
    """

    name: str = "sqeuclidean"
    scale: float | None = None

    def __call__(self, embedding: jax.Array, prototypes: jax.Array) -> jax.Array:
        """Returns the distances float32 `[B, K]`."""
        return losses.prototype_distances(
            embedding, prototypes, scale=self.scale, distance=self.name
        )


def distance_of(section: Any) -> Distance:
    """Returns the distance d that a classifier section or spec asks for; scale 0 is one over D."""
    return Distance(section.distance, section.distance_scale or None)


class ClassifierState(NamedTuple):
    """What Algorithm 1 carries from step to step.

    Attributes:
        step: int32 scalar, batches seen.
        params: parameters of F and G, theta and psi.
        batch_stats: running mean and variance of the batch norms.
        prototypes: running class prototypes c_k, float32 `[K, D]`.
        opt_state: the optimizer's state.
    """

    step: jax.Array
    params: Tree
    batch_stats: Tree
    prototypes: jax.Array
    opt_state: Tree


class Classifier(NamedTuple):
    """A trained classifier as its users need it: an argument, never captured, never differentiated.

    Attributes:
        variables: `{'params', 'batch_stats'}` of the network.
        prototypes: exact class means of the ideal training embeddings (Eq. 1), float32 `[K, D]`.
    """

    variables: Tree
    prototypes: jax.Array


class Prediction(NamedTuple):
    """What a frozen classifier says of n examples; jax.Arrays within `jit`, NumPy arrays outside.

    Attributes:
        logits: of the head G, float32 `[n, K]`.
        embedding: F(x), float32 `[n, D]`.
        prototype_log_probs: log-softmax over negative prototype distances, float32 `[n, K]`.
        distances: d of the embedding to each prototype, float32 `[n, K]`.
    """

    logits: Array
    embedding: Array
    prototype_log_probs: Array
    distances: Array


def init_classifier(
    network: nn.Module,
    optimizer: optax.GradientTransformation,
    input_shape: tuple[int, ...],
    num_classes: int,
    seed: int,
) -> ClassifierState:
    """Returns fresh parameters and random prototypes (Algorithm 1, line 1).

    Args:
        network: a classifier module of `imitation_refinement.method.networks`.
        optimizer: see `optimizers.build_optimizer`.
        input_shape: shape of one example, `[*spatial, C]`.
        num_classes: K.
        seed: of parameters and prototypes.
    """
    params_key, prototypes_key = jax.random.split(jax.random.key(seed))
    example = jnp.zeros((1, *input_shape), jnp.float32)
    variables = network.init(params_key, example, train=False)
    output = jax.eval_shape(partial(network.apply, train=False), variables, example)
    return ClassifierState(
        step=jnp.zeros((), jnp.int32),
        params=variables["params"],
        batch_stats=variables.get("batch_stats", {}),
        prototypes=losses.init_prototypes(prototypes_key, num_classes, output.embedding.shape[1]),
        opt_state=optimizer.init(variables["params"]),
    )


def classifier_step(
    state: ClassifierState,
    batch: dict[str, jax.Array],
    *,
    network: nn.Module,
    optimizer: optax.GradientTransformation,
    prototype_weight: float,
    distance: Distance,
    seed: int | jax.Array,
) -> tuple[ClassifierState, Metrics]:
    """Takes one step of Algorithm 1 (lines 5-8).

    The prototypes are constants in the loss; afterwards they move to the mean of the batch's
    embeddings and themselves, with the embeddings of the same forward pass.

    Args:
        state: before the step.
        batch: `x` float32 `[B, *spatial, C]`, `label` int32 `[B]`.
        network: classifier module.
        optimizer: matching `state.opt_state`.
        prototype_weight: lambda of Algorithm 1, line 6.
        distance: d of Eq. 2.
        seed: of the dropout, for networks that have it; the masks depend on it and the step alone.

    Returns:
        The state after the step, and the scalars `loss`, `cross_entropy`, `prototype`, `accuracy`.
    """

    def loss_of(params: Tree) -> tuple[jax.Array, tuple]:
        output, updated = network.apply(
            {"params": params, "batch_stats": state.batch_stats},
            batch["x"],
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": jax.random.fold_in(jax.random.key(seed), state.step)},
        )
        distances = distance(output.embedding, state.prototypes)
        loss, terms = losses.classifier_loss(
            output.logits, distances, batch["label"], lam=prototype_weight
        )
        return loss, (terms, output, updated.get("batch_stats", {}))

    (_, (terms, output, batch_stats)), gradient = jax.value_and_grad(loss_of, has_aux=True)(
        state.params
    )
    updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
    hits = jnp.argmax(output.logits, axis=1) == batch["label"]
    metrics = terms | {"accuracy": jnp.mean(hits.astype(jnp.float32))}
    new_state = ClassifierState(
        step=state.step + 1,
        params=optax.apply_updates(state.params, updates),
        batch_stats=batch_stats,
        prototypes=losses.update_prototypes(state.prototypes, output.embedding, batch["label"]),
        opt_state=opt_state,
    )
    return new_state, metrics


def classify(classifier: Classifier, x: jax.Array, *, network: nn.Module) -> ClassifierOutput:
    """Applies a frozen classifier, with running statistics, to `x` float32 `[B, *spatial, C]`."""
    return cast(ClassifierOutput, network.apply(classifier.variables, x, train=False))


def predict(
    classifier: Classifier,
    x: jax.Array,
    *,
    network: nn.Module,
    distance: Distance,
) -> Prediction:
    """Applies a frozen classifier (running batch statistics) to `x` float32 `[B, *spatial, C]`."""
    output = classify(classifier, x, network=network)
    distances = distance(output.embedding, classifier.prototypes)
    log_probs = losses.prototype_log_probs(distances)
    return Prediction(output.logits, output.embedding, log_probs, distances)
