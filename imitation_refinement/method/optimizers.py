"""The optimizer that a config section asks for."""

import optax
from ml_collections import ConfigDict


def learning_rate_schedule(config: ConfigDict) -> optax.Schedule:
    """Returns the learning rate as a function of the step.

    `constant` is the paper's. `cosine` warms up linearly over `config.warmup_steps` and then decays
    to zero over the rest of `config.steps` (Loshchilov and Hutter 2017, arXiv:1608.03983, one
    cycle).
    """
    if config.schedule == "constant":
        return optax.schedules.constant_schedule(config.learning_rate)
    return optax.schedules.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=config.learning_rate,
        warmup_steps=config.warmup_steps,
        decay_steps=config.steps,
    )


def build_optimizer(config: ConfigDict) -> optax.GradientTransformation:
    """Returns Adam (Algorithm 1, line 7) or RMSprop as `config.optimizer` says.

    RMSprop is optax's: decay 0.9, epsilon 1e-8 inside the root, no momentum. Other libraries'
    differ. `config.clip_norm` > 0 clips the global gradient norm first.
    """
    rate = learning_rate_schedule(config)
    update = {"adam": optax.adam, "rmsprop": optax.rmsprop}[config.optimizer](rate)
    if config.clip_norm > 0:
        return optax.chain(optax.clip_by_global_norm(config.clip_norm), update)
    return update
