"""Networks by name: classifiers C = G o F and refiners R.

What belongs here: the named sizes and the two functions that build a network from a section of the
  configuration.
A classifier is applied as `net.apply(variables, x [B, L, 1], train=...)` and returns a
`ClassifierOutput`; a refiner as `net.apply({'params': params}, x [B, L, 1])` and returns the
refined x.
"""

import difflib
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from imitation_refinement.errors import UserError
from imitation_refinement.networks.densenet import DenseNet
from imitation_refinement.networks.layers import ClassifierOutput
from imitation_refinement.networks.unet import UNet
from imitation_refinement.networks.vgg import VGG

__all__ = [
    "CLASSIFIERS",
    "REFINERS",
    "ClassifierOutput",
    "DenseNet",
    "UNet",
    "VGG",
    "build_classifier",
    "build_refiner",
]

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}

# The slim ones are for machines without an accelerator, on 2,000 points. Both downsample to some
# 15 points: at equal cost that recognised more than fewer, wider or finer stages did. Convolutions
# of VGG keep the CPU backend about twice as busy as dense blocks, which copy to concatenate.
CLASSIFIERS: dict[str, tuple[type[nn.Module], dict[str, Any]]] = {
    "densenet121": (DenseNet, {}),
    "densenet_slim": (
        DenseNet,
        {
            "blocks": (1, 1, 2, 2, 2, 2),
            "bottleneck": 2,
            "stem_features": 24,
            "stem_kernel": 9,
            "stem_stride": 4,
            "stem_pool": False,
        },
    ),
    "vgg19": (VGG, {}),
    "vgg_slim": (
        VGG,
        {
            "stages": ((16,), (32,), (48,), (64,), (96,), (96,), (128,)),
            "hidden": (),
            "kernel": 5,
            "stem_kernel": 7,
            "stem_stride": 2,
            "pool_window": 2,
            "pool_stride": 2,
            "batch_norm": True,
        },
    ),
}

REFINERS: dict[str, dict[str, Any]] = {
    "unet_34k": {"features": (32, 32, 32, 32, 32)},
    "unet_62k": {"features": (32, 32, 32, 64, 64), "outer_skip": True},
}


def _choose(field: str, value: str, choices: dict[str, Any]) -> Any:
    if value in choices:
        return choices[value]
    near = difflib.get_close_matches(value, choices, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise UserError(f"{field}: {value!r} is none of {', '.join(choices)}{hint}")


def build_classifier(config: Any, num_classes: int = 7) -> nn.Module:
    """Classifier named by `config.network` (a key of `CLASSIFIERS`), computing in `config.dtype`.

    Raises:
      UserError: unknown network or dtype.
    """
    module, options = _choose("classifier.network", config.network, CLASSIFIERS)
    return module(num_classes, dtype=_choose("classifier.dtype", config.dtype, DTYPES), **options)


def build_refiner(config: Any) -> UNet:
    """Refiner named by `config.network` (a key of `REFINERS`), computing in `config.dtype`.

    Raises:
      UserError: unknown network or dtype.
    """
    options = _choose("refiner.network", config.network, REFINERS)
    return UNet(dtype=_choose("refiner.dtype", config.dtype, DTYPES), **options)
