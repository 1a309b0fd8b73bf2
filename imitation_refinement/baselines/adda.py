"""Adversarial discriminative domain adaptation, ADDA (Tzeng et al. 2017, arXiv:1702.05464).

A copy M_t of the frozen source encoder M_s is trained on imperfect patterns until a discriminator D
cannot tell its embeddings of these from M_s's of ideal ones; the frozen head C then reads them:
C(M_t(x)). Belongs here: state, losses and one step, as pure functions; batches and files are in
`stages`.

As in the paper the encoder is all before the last dense layer (the published program gives D the
logits and adapts that layer too). Both updates of a step start from the same parameters, as one
call of the published program asks for both. Classes are never looked at, unless `label_weight` > 0:
then the imperfect patterns' cross-entropy under C is added, as the targeted refiner has it.
"""

from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from imitation_refinement.method import losses
from imitation_refinement.method.classifier import Classifier, classify

Tree = Any
Metrics = dict[str, jax.Array]
HEAD = "head"  # the last dense layer of every classifier, C


class AddaState(NamedTuple):
    """What ADDA carries from step to step.

    Attributes:
        step: int32 scalar, batches seen.
        encoder: parameters of M_t: the classifier's but for its head.
        batch_stats: of M_t; as M_s's unless trained with `batch_norm` = `train`.
        discriminator: parameters of D.
        encoder_opt, discriminator_opt: states of the optimizers.
    """

    step: jax.Array
    encoder: Tree
    batch_stats: Tree
    discriminator: Tree
    encoder_opt: Tree
    discriminator_opt: Tree


class AddaMethod(NamedTuple):
    """All that is fixed while ADDA trains.

    Attributes:
        network: the classifier module of source and target.
        discriminator: `networks.adversarial.FeatureDiscriminator`.
        encoder_optimizer, discriminator_optimizer: Adam with beta1 0.5 as published.
        batch_norm: `eval`: M_t normalises by the source's running statistics; `train`: by those of
            its batch, and keeps their running means for evaluation.
        discriminator_steps: for so many steps only D is trained.
        label_weight: 0 is the published method.
    """

    network: nn.Module
    discriminator: nn.Module
    encoder_optimizer: optax.GradientTransformation
    discriminator_optimizer: optax.GradientTransformation
    batch_norm: str
    discriminator_steps: int
    label_weight: float


def init_adda(method: AddaMethod, source: Classifier, seed: int | jax.Array) -> AddaState:
    """Returns the state of step 0: M_t is a copy of M_s, D is new."""
    # Copies, because steps donate the state and the source must survive.
    variables = jax.tree.map(jnp.copy, source.variables)
    encoder = {name: leaf for name, leaf in variables["params"].items() if name != HEAD}
    width = source.prototypes.shape[1]
    params = method.discriminator.init(jax.random.key(seed), jnp.zeros((1, width)))["params"]
    return AddaState(
        jnp.zeros((), jnp.int32),
        encoder,
        variables.get("batch_stats", {}),
        params,
        method.encoder_optimizer.init(encoder),
        method.discriminator_optimizer.init(params),
    )


def adapted(state: AddaState, source: Classifier) -> Classifier:
    """Returns C(M_t): the encoder of `state` under the source's head, with its prototypes."""
    params = state.encoder | {HEAD: source.variables["params"][HEAD]}
    variables = {"params": params, "batch_stats": state.batch_stats}
    return Classifier(variables, source.prototypes)


def domain_loss(logits: jax.Array, target: jax.Array) -> jax.Array:
    """Mean cross-entropy of D's logits `[2B, 2]`; `target` int32 `[2B]`: 0 source, 1 target.

    D minimises it; M_t minimises it with the labels turned round, `1 - target` (inverted labels,
    not a reversed gradient), of which only the target half depends on M_t.
    """
    return jnp.mean(losses.cross_entropy(logits, target))


def tell(discriminator: nn.Module, params: Tree, embedding: jax.Array) -> jax.Array:
    """Returns D's logits `[B, 2]`, source and target, for embeddings `[B, D]`."""
    return cast(jax.Array, discriminator.apply({"params": params}, embedding))


def adda_step(
    state: AddaState,
    source: Classifier,
    batch: dict[str, jax.Array],
    *,
    method: AddaMethod,
    seed: int | jax.Array,
) -> tuple[AddaState, Metrics]:
    """Updates D and M_t once, both from the parameters before the step.

    Args:
        state: before the step.
        source: frozen M_s and C.
        batch: `source_x` and `x` float32 `[B, *spatial, C]`, ideal and imperfect; `label` int32
            `[B]` of the latter, read only if `label_weight` > 0.
        method: networks, optimizers and choices.
        seed: of dropout, for `batch_norm` = `train` and networks that have it.

    Returns:
        The state after the step and the scalars `discriminator`, `encoder` (its adversarial loss),
        `domain_accuracy` of D, and `cross_entropy` if labels are used.
    """
    count = batch["x"].shape[0]
    target = jnp.repeat(jnp.arange(2), count, total_repeat_length=2 * count)
    of_source = classify(source, batch["source_x"], network=method.network).embedding

    def encoder_loss(encoder: Tree) -> tuple[jax.Array, tuple]:
        classifier = adapted(state._replace(encoder=encoder), source)
        output, updated = method.network.apply(
            classifier.variables,
            batch["x"],
            train=method.batch_norm == "train",
            mutable=["batch_stats"],
            rngs={"dropout": jax.random.fold_in(jax.random.key(seed), state.step)},
        )
        embedding = jnp.concatenate([of_source, output.embedding])
        logits = tell(method.discriminator, state.discriminator, embedding)
        loss = domain_loss(logits, 1 - target)
        terms = {"encoder": loss}
        if method.label_weight > 0:
            terms["cross_entropy"] = jnp.mean(losses.cross_entropy(output.logits, batch["label"]))
            loss = loss + method.label_weight * terms["cross_entropy"]
        return loss, (terms, embedding, updated.get("batch_stats", {}))

    (_, (terms, embedding, batch_stats)), gradient = jax.value_and_grad(encoder_loss, has_aux=True)(
        state.encoder
    )

    def discriminator_loss(params: Tree) -> tuple[jax.Array, jax.Array]:
        logits = tell(method.discriminator, params, embedding)
        return domain_loss(logits, target), jnp.mean(jnp.argmax(logits, axis=1) == target)

    (loss, hits), of_discriminator = jax.value_and_grad(discriminator_loss, has_aux=True)(
        state.discriminator
    )
    updates, encoder_opt = method.encoder_optimizer.update(
        gradient, state.encoder_opt, state.encoder
    )
    adapting = state.step >= method.discriminator_steps
    encoder, encoder_opt, batch_stats = jax.tree.map(
        lambda new, old: jnp.where(adapting, new, old),
        (optax.apply_updates(state.encoder, updates), encoder_opt, batch_stats),
        (state.encoder, state.encoder_opt, state.batch_stats),
    )
    updates, discriminator_opt = method.discriminator_optimizer.update(
        of_discriminator, state.discriminator_opt, state.discriminator
    )
    new_state = AddaState(
        state.step + 1,
        encoder,
        batch_stats,
        optax.apply_updates(state.discriminator, updates),
        encoder_opt,
        discriminator_opt,
    )
    return new_state, terms | {"discriminator": loss, "domain_accuracy": hits}
