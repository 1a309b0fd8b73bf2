"""The imitation refiner R: Algorithm 2 of the paper as pure functions of trees.

The refiner's parameters are the first argument of every loss and the only thing that is
differentiated. The frozen classifier is another argument: gradients flow through it to the refined
pattern, never into it.
"""

from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from imitation_refinement.method import losses
from imitation_refinement.method.classifier import Classifier, Distance, classify

Tree = Any
Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]


class RefinerState(NamedTuple):
    """What Algorithm 2 carries from step to step.

    Attributes:
        step: int32 scalar, batches seen.
        params: the refiner's parameters phi.
        ema_params: their exponential moving average, which evaluation uses.
        opt_state: the optimizer's state; it has leaves for phi alone.
    """

    step: jax.Array
    params: Tree
    ema_params: Tree
    opt_state: Tree


class RefinerObjective(NamedTuple):
    """The weights and choices of Eq. 3.

    Attributes:
        targeted: labels are known (Eqs. 4, 5) or not (entropies, Eq. 6).
        prediction_weight: weight of l_pred; 1 in the paper, 0 ablates it (Table 3).
        regularization_weight: alpha per element: it multiplies the p-mean, not the p-norm, of
            Eq. 7, so that it means the same for 784 pixels and 2,000 points
            (`losses.per_element_weight`).
        prototype_weight: beta.
        norm: p of Eq. 7.
        psi: Psi of Eq. 7: `identity`, `first_conv` or `second_conv` of the frozen classifier.
        distance: d of Eq. 5.
        pair_weight: weight of the distance, per element, between a refined simulated imperfect
            pattern and its known ideal one: l1 plus generalised Kullback-Leibler divergence. An
            extension, as the next; both 0 is the paper's method.
        pair_recognition: weight of Eqs. 4 and 5 on simulated pairs, whose labels are known even
            where those of the imperfect patterns are not.
    """

    targeted: bool
    prediction_weight: float
    regularization_weight: float
    prototype_weight: float
    norm: float
    psi: str
    distance: Distance
    pair_weight: float
    pair_recognition: float

    @property
    def uses_pairs(self) -> bool:
        """Whether batches must bring simulated pairs."""
        return self.pair_weight > 0 or self.pair_recognition > 0


def init_refiner(
    network: nn.Module,
    optimizer: optax.GradientTransformation,
    input_shape: tuple[int, ...],
    seed: int | jax.Array,
    pretrained: Tree | None = None,
) -> RefinerState:
    """Returns a state at step 0; without pretrained parameters the refiner is the identity map.

    Args:
        network: a refiner module of `imitation_refinement.method.networks`.
        optimizer: see `optimizers.build_optimizer`.
        input_shape: shape of one example, `[*spatial, C]`.
        seed: of the parameters.
        pretrained: parameters to start from.
    """
    if pretrained is None:
        example = jnp.zeros((1, *input_shape), jnp.float32)
        params = network.init(jax.random.key(seed), example)["params"]
    else:  # a copy, because a step donates its state and `pretrained` must survive
        params = jax.tree.map(jnp.copy, pretrained)
    return RefinerState(
        jnp.zeros((), jnp.int32), params, jax.tree.map(jnp.copy, params), optimizer.init(params)
    )


def imperfect_loss(
    params: Tree,
    classifier: Classifier,
    batch: Batch,
    *,
    network: nn.Module,
    classifier_network: nn.Module,
    objective: RefinerObjective,
) -> tuple[jax.Array, Metrics]:
    """Computes L_R of Eq. 3 on imperfect patterns, and its terms (Algorithm 2, lines 3-6).

    Args:
        params: phi, the only differentiated argument.
        classifier: frozen.
        batch: `x` float32 `[B, *spatial, C]`; `label` int32 `[B]`, read only if targeted.
        network: refiner module.
        classifier_network: classifier module.
        objective: weights and choices.
    """
    raw = batch["x"]
    refined = refine(params, raw, network=network)
    seen = classify(classifier, refined, network=classifier_network)
    if objective.psi == "identity":
        psi_refined, psi_raw = refined, raw
    else:
        layer = {"first_conv": 0, "second_conv": 1}[objective.psi]
        psi_refined = seen.features[layer]
        psi_raw = classify(classifier, raw, network=classifier_network).features[layer]
    size = psi_raw[0].size
    return losses.refiner_loss(
        seen.logits,
        objective.distance(seen.embedding, classifier.prototypes),
        losses.regularization(psi_refined, psi_raw, p=objective.norm),
        batch["label"] if objective.targeted else None,
        alpha=losses.per_element_weight(objective.regularization_weight, size, objective.norm),
        beta=objective.prototype_weight,
        gamma=objective.prediction_weight,
    )


def pair_loss(
    params: Tree,
    classifier: Classifier,
    batch: Batch,
    *,
    network: nn.Module,
    classifier_network: nn.Module,
    objective: RefinerObjective,
) -> tuple[jax.Array, Metrics]:
    """Computes the loss of simulated pairs, an extension of the paper, and its terms.

    Args:
        params: phi.
        classifier: frozen.
        batch: `pair_x` and `pair_truth` float32 `[P, *spatial, C]`, `pair_label` int32 `[P]`.
        network: refiner module.
        classifier_network: classifier module.
        objective: weights and choices.
    """
    truth = batch["pair_truth"]
    refined = refine(params, batch["pair_x"], network=network)
    apart = jnp.mean(losses.pair_distance(refined, truth)) / truth[0].size
    seen = classify(classifier, refined, network=classifier_network)
    recognition, terms = losses.classifier_loss(
        seen.logits,
        objective.distance(seen.embedding, classifier.prototypes),
        batch["pair_label"],
        lam=objective.prototype_weight,
    )
    loss = objective.pair_weight * apart + objective.pair_recognition * recognition
    return loss, {
        "pair": apart,
        "pair_pred": terms["cross_entropy"],
        "pair_proto": terms["prototype"],
    }


def refiner_objective(
    params: Tree, classifier: Classifier, batch: Batch, **networks_and_objective: Any
) -> tuple[jax.Array, Metrics]:
    """Sums the losses for which the batch has examples: `imperfect_loss`, `pair_loss`.

    Pre-training batches hold pairs alone, those of the paper's method imperfect patterns alone.
    """
    loss = jnp.zeros(())
    terms: Metrics = {}
    for key, part in (("x", imperfect_loss), ("pair_x", pair_loss)):
        if key in batch:
            added, found = part(params, classifier, batch, **networks_and_objective)
            loss, terms = loss + added, terms | found
    return loss, terms | {"loss": loss}


def refiner_step(
    state: RefinerState,
    classifier: Classifier,
    batch: Batch,
    *,
    network: nn.Module,
    classifier_network: nn.Module,
    optimizer: optax.GradientTransformation,
    objective: RefinerObjective,
    ema_decay: float,
) -> tuple[RefinerState, Metrics]:
    """Takes one step of Algorithm 2; the classifier goes in and is not part of what comes out."""
    (_, terms), gradient = jax.value_and_grad(refiner_objective, has_aux=True)(
        state.params,
        classifier,
        batch,
        network=network,
        classifier_network=classifier_network,
        objective=objective,
    )
    return updated(state, gradient, optimizer, ema_decay), terms


def updated(
    state: RefinerState, gradient: Tree, optimizer: optax.GradientTransformation, ema_decay: float
) -> RefinerState:
    """Returns the state after a step along a gradient of the loss.

    The moving average's decay is `min(ema_decay, (1 + step) / (10 + step))`, so that short runs do
    not remember the initial identity (the warm-up of TensorFlow's ExponentialMovingAverage).
    """
    updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    step = state.step.astype(jnp.float32)
    decay = jnp.minimum(ema_decay, (1.0 + step) / (10.0 + step))
    ema_params = jax.tree.map(
        lambda old, new: decay * old + (1.0 - decay) * new, state.ema_params, params
    )
    return RefinerState(state.step + 1, params, ema_params, opt_state)


def refine(params: Tree, x: jax.Array, *, network: nn.Module) -> jax.Array:
    """Returns R(x), same shape and dtype as `x` float32 `[B, *spatial, C]`."""
    return cast(jax.Array, network.apply({"params": params}, x))
