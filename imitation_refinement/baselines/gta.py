"""Generate To Adapt, GTA (Sankaranarayanan et al. 2018, arXiv:1704.01705).

An encoder F and a head C are trained on ideal patterns, while a generator G must be able to make
from F's embeddings, of imperfect patterns too, what a discriminator D takes for ideal patterns of
the right class. A pattern is classified by C(F(x)); G([K, F(x), z]) is its "refined" pattern.
Belongs here: state, losses and one step, as pure functions; batches and files are in `stages`.

A step is that of the published program: D is updated; then G, C and F, all three with the new D and
with each other as they were before the step. (That program takes F's gradient through a G that it
has already overwritten, which automatic differentiation would not allow today: here it is the G
that made the patterns.) F and C share one tree and one optimizer; C gets no gradient from D.

Our F has batch norm, which the published one has not. F sees ideal and imperfect patterns in calls
of their own, as there, so that each batch is normalised by its own statistics; running means are
kept of both, those of the imperfect patterns for classifying such.
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from imitation_refinement.method import losses
from imitation_refinement.method.classifier import Classifier, classify

Tree = Any
Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]


class GtaState(NamedTuple):
    """What GTA carries from step to step.

    Attributes:
        step: int32 scalar, batches seen.
        classifier: parameters of F and C.
        source_stats, batch_stats: F's running statistics of ideal and of imperfect patterns.
        generator: parameters of G.
        generator_stats: G's running statistics when it is given imperfect patterns.
        discriminator: parameters of D.
        classifier_opt, generator_opt, discriminator_opt: states of the optimizers.
    """

    step: jax.Array
    classifier: Tree
    source_stats: Tree
    batch_stats: Tree
    generator: Tree
    generator_stats: Tree
    discriminator: Tree
    classifier_opt: Tree
    generator_opt: Tree
    discriminator_opt: Tree


class GtaMethod(NamedTuple):
    """All that is fixed while GTA trains.

    Attributes:
        network: the classifier module C(F(x)).
        generator, discriminator: of `networks.adversarial`.
        optimizer: of D, F and C: Adam with beta1 0.8 and a decaying rate (`decaying`).
        generator_optimizer: of G: the same with a constant rate.
        noise: size of z.
        adversarial_weight, target_weight: weights of D in F's loss; 0.1 and alpha = 0.3.
        label_weight: 0 is the published method; above, the cross-entropy of imperfect patterns is
            added to the loss of F and C.
    """

    network: nn.Module
    generator: nn.Module
    discriminator: nn.Module
    optimizer: optax.GradientTransformation
    generator_optimizer: optax.GradientTransformation
    noise: int
    adversarial_weight: float
    target_weight: float
    label_weight: float


def decaying(rate: float, decay: float) -> optax.Schedule:
    """Returns `rate / (1 + decay * step)`."""
    return lambda step: rate / (1.0 + decay * step)


def init_gta(
    method: GtaMethod, start: Tree | None, input_shape: tuple[int, ...], seed: int | jax.Array
) -> GtaState:
    """Returns the state of step 0.

    Args:
        method: networks, optimizers and choices.
        start: variables of a trained classifier for F and C; None is the published method.
        input_shape: `[*spatial, C]`.
        seed: of all parameters.
    """
    keys = jax.random.split(jax.random.key(seed), 3)
    example = jnp.zeros((1, *input_shape))
    if start is None:
        start = method.network.init(keys[0], example, train=False)
    # Copies, because steps donate the state and `start` must survive.
    start = jax.tree.map(jnp.copy, start)
    stats = start.get("batch_stats", {})
    output = jax.eval_shape(lambda: method.network.apply(start, example, train=False))
    embedding = jnp.zeros((1, output.embedding.shape[1]))
    generator = method.generator.init(
        keys[1], jnp.zeros(1, jnp.int32), embedding, jnp.zeros((1, method.noise)), train=False
    )
    discriminator = method.discriminator.init(keys[2], example)["params"]
    return GtaState(
        jnp.zeros((), jnp.int32),
        start["params"],
        jax.tree.map(jnp.copy, stats),
        stats,
        generator["params"],
        generator["batch_stats"],
        discriminator,
        method.optimizer.init(start["params"]),
        method.generator_optimizer.init(generator["params"]),
        method.optimizer.init(discriminator),
    )


class Passed(NamedTuple):
    """What F, C and G make of a batch: logits `[B, K]`, patterns `[B, *spatial, C]`, statistics."""

    source_logits: jax.Array
    logits: jax.Array
    source_generated: jax.Array
    generated: jax.Array
    source_stats: Tree
    batch_stats: Tree
    generator_stats: Tree


def forward(
    classifier: Tree,
    generator: Tree,
    state: GtaState,
    batch: Batch,
    *,
    method: GtaMethod,
    seed: int | jax.Array,
) -> Passed:
    """Applies F, C and G to ideal and imperfect patterns, with the batch's statistics.

    Args:
        classifier: parameters of F and C; they and the next may be differentiated.
        generator: parameters of G.
        state: for running statistics and step.
        batch: see `gta_step`.
        method: networks and size of the noise.
        seed: noise and dropout are functions of it and of the step.
    """
    key = jax.random.fold_in(jax.random.key(seed), state.step)

    def encode(x: jax.Array, stats: Tree, index: int) -> tuple[Any, Tree]:
        output, updated = method.network.apply(
            {"params": classifier, "batch_stats": stats},
            x,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": jax.random.fold_in(key, index)},
        )
        return output, updated.get("batch_stats", {})

    def generate(label: jax.Array, embedding: jax.Array, index: int) -> tuple[jax.Array, Tree]:
        noise = jax.random.normal(
            jax.random.fold_in(key, index), (len(label), method.noise), embedding.dtype
        )
        pattern, updated = method.generator.apply(
            {"params": generator, "batch_stats": state.generator_stats},
            label,
            embedding,
            noise,
            train=True,
            mutable=["batch_stats"],
        )
        return pattern, updated["batch_stats"]

    of_source, source_stats = encode(batch["source_x"], state.source_stats, 0)
    of_target, batch_stats = encode(batch["x"], state.batch_stats, 1)
    unknown = jnp.full_like(batch["source_label"], of_target.logits.shape[1])
    source_generated, _ = generate(batch["source_label"], of_source.embedding, 2)
    generated, generator_stats = generate(unknown, of_target.embedding, 3)
    return Passed(
        of_source.logits, of_target.logits, source_generated, generated,
        source_stats, batch_stats, generator_stats,
    )  # fmt: skip


def real_loss(logits: jax.Array) -> jax.Array:
    """Mean of -log sigmoid of D's logits `[B]`: binary cross-entropy with the label 1, real."""
    return jnp.mean(jax.nn.softplus(-logits))


def fake_loss(logits: jax.Array) -> jax.Array:
    """The same with the label 0, generated."""
    return jnp.mean(jax.nn.softplus(logits))


def class_loss(logits: jax.Array, label: jax.Array) -> jax.Array:
    """Mean cross-entropy of class logits `[B, K]`."""
    return jnp.mean(losses.cross_entropy(logits, label))


def judge(discriminator: nn.Module, params: Tree, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns D's logits of real `[B]` and of the classes `[B, K]`."""
    # Its running statistics are made and forgotten: nobody evaluates D.
    return discriminator.apply({"params": params}, x, mutable=["batch_stats"])[0]


def discriminator_loss(
    params: Tree, passed: Passed, batch: Batch, *, discriminator: nn.Module
) -> jax.Array:
    """L_D: ideal patterns are real and of their class, all generated ones are fake."""
    real, classes = judge(discriminator, params, batch["source_x"])
    source_fake, _ = judge(discriminator, params, passed.source_generated)
    fake, _ = judge(discriminator, params, passed.generated)
    return (
        real_loss(real)
        + class_loss(classes, batch["source_label"])
        + fake_loss(source_fake)
        + fake_loss(fake)
    )


def generator_loss(
    discriminator_params: Tree, passed: Passed, batch: Batch, *, discriminator: nn.Module
) -> jax.Array:
    """L_G: patterns made from ideal ones pass for real ones of their class."""
    real, classes = judge(discriminator, discriminator_params, passed.source_generated)
    return class_loss(classes, batch["source_label"]) + real_loss(real)


def classifier_loss(
    discriminator_params: Tree, passed: Passed, batch: Batch, *, method: GtaMethod
) -> tuple[jax.Array, Metrics]:
    """L_C and L_F in one; C has no part in the terms of D."""
    terms = {"cross_entropy": class_loss(passed.source_logits, batch["source_label"])}
    _, classes = judge(method.discriminator, discriminator_params, passed.source_generated)
    terms["source_adversarial"] = class_loss(classes, batch["source_label"])
    real, _ = judge(method.discriminator, discriminator_params, passed.generated)
    terms["target_adversarial"] = real_loss(real)
    adversarial = terms["source_adversarial"] + method.target_weight * terms["target_adversarial"]
    loss = terms["cross_entropy"] + method.adversarial_weight * adversarial
    if method.label_weight > 0:
        terms["target_cross_entropy"] = class_loss(passed.logits, batch["label"])
        loss = loss + method.label_weight * terms["target_cross_entropy"]
    return loss, terms


def gta_step(
    state: GtaState, batch: Batch, *, method: GtaMethod, seed: int | jax.Array
) -> tuple[GtaState, Metrics]:
    """Updates D, then with the new D and from the parameters before the step G, C and F.

    Args:
        state: before the step.
        batch: `source_x` float32 `[B, *spatial, C]` and `source_label` int32 `[B]`, ideal; `x`,
            imperfect, and `label`, which is read only if `label_weight` > 0.
        method: networks, optimizers and choices.
        seed: see `forward`.

    Returns:
        The state after the step and the losses, unweighted scalars: `discriminator`, `generator`,
        `cross_entropy`, `source_adversarial`, `target_adversarial`, and `target_cross_entropy` if
        labels are used.
    """

    def passed(classifier: Tree, generator: Tree) -> Passed:
        return forward(classifier, generator, state, batch, method=method, seed=seed)

    now, pull_back = jax.vjp(passed, state.classifier, state.generator)
    d_loss, gradient = jax.value_and_grad(discriminator_loss)(
        state.discriminator, now, batch, discriminator=method.discriminator
    )
    discriminator, discriminator_opt = _updated(
        method.optimizer, gradient, state.discriminator_opt, state.discriminator
    )
    g_loss, by_pattern = jax.value_and_grad(generator_loss, argnums=1)(
        discriminator, now, batch, discriminator=method.discriminator
    )
    _, gradient = pull_back(by_pattern)
    generator, generator_opt = _updated(
        method.generator_optimizer, gradient, state.generator_opt, state.generator
    )
    (_, terms), by_pattern = jax.value_and_grad(classifier_loss, argnums=1, has_aux=True)(
        discriminator, now, batch, method=method
    )
    gradient, _ = pull_back(by_pattern)
    classifier, classifier_opt = _updated(
        method.optimizer, gradient, state.classifier_opt, state.classifier
    )
    new_state = GtaState(
        state.step + 1,
        classifier,
        now.source_stats,
        now.batch_stats,
        generator,
        now.generator_stats,
        discriminator,
        classifier_opt,
        generator_opt,
        discriminator_opt,
    )
    return new_state, terms | {"discriminator": d_loss, "generator": g_loss}


def _updated(
    optimizer: optax.GradientTransformation, gradient: Tree, opt_state: Tree, params: Tree
) -> tuple[Tree, Tree]:
    updates, opt_state = optimizer.update(gradient, opt_state, params)
    return optax.apply_updates(params, updates), opt_state


def gta_refine(
    classifier: Classifier,
    generator: Tree,
    x: jax.Array,
    noise: jax.Array,
    *,
    method: GtaMethod,
) -> jax.Array:
    """Returns G([K, F(x), z]) for trained variables, same shape as `x` float32 `[B, *spatial, C]`.

    Args:
        classifier: C(F(x)), frozen.
        generator: variables of G.
        x: imperfect patterns.
        noise: z, float32 `[B, Z]`.
        method: networks.
    """
    output = classify(classifier, x, network=method.network)
    unknown = jnp.full((x.shape[0],), output.logits.shape[1], jnp.int32)
    return method.generator.apply(generator, unknown, output.embedding, noise, train=False)  # type: ignore[return-value]
