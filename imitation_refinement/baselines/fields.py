"""The config fields of ADDA and GTA; their meanings are in `adda` and `gta`."""

from imitation_refinement.config import Check, boolean, choice, integer, number

ADDA: dict[str, Check] = {
    "steps": integer(1),
    "batch_size": integer(1),  # of each domain
    "learning_rate": number(above=0.0),  # of the target encoder
    "discriminator_learning_rate": number(above=0.0),
    "discriminator_steps": integer(0),  # of `steps`, the first, without the target encoder
    "batch_norm": choice("eval", "train"),
    "label_weight": number(0.0),
}
GTA: dict[str, Check] = {
    "steps": integer(1),
    "batch_size": integer(1),  # of each domain
    "learning_rate": number(above=0.0),
    "decay": number(0.0),  # the rate of D, F and C is learning_rate / (1 + decay * step)
    "adversarial_weight": number(0.0),
    "target_weight": number(0.0),
    "noise": integer(1),
    "generator_features": integer(8),
    "discriminator_features": integer(1),
    "warm_start": boolean(),  # whether F and C start from the source classifier
    "label_weight": number(0.0),
}
