"""Networks by name: classifiers C = G o F and refiners R.

Belongs here: the named sizes and the two functions that build a network from a section of the
  configuration.
A classifier is applied as `net.apply(variables, x [B, *spatial, C], train=...)` and returns a
`ClassifierOutput`; a refiner as `net.apply({'params': params}, x [B, *spatial, C])` and returns the
refined x. Each name has its number of spatial axes.
"""

import difflib
from typing import Any

import jax.numpy as jnp

from imitation_refinement.errors import UserError
from imitation_refinement.method.networks.densenet import DenseNet
from imitation_refinement.method.networks.layers import ClassifierOutput
from imitation_refinement.method.networks.unet import UNet
from imitation_refinement.method.networks.vgg import VGG

__all__ = [
    "CLASSIFIERS",
    "REFINERS",
    "ClassifierOutput",
    "DenseNet",
    "UNet",
    "VGG",
    "build_classifier",
    "build_refiner",
    "classifier_names",
    "refiner_names",
]

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}

# What the paper changes for digits: stride 1 and no pool in the stem.
DIGITS: dict[str, Any] = {"ndim": 2, "kernel": 3, "stem_stride": 1, "stem_pool": False}

# The slim ones are for machines without an accelerator, on 2,000 points. Both downsample to some
# 15 points: at equal cost that recognised more than fewer, wider or finer stages did. Convolutions
# of VGG keep the CPU backend about twice as busy as dense blocks, which copy to concatenate.
CLASSIFIERS: dict[str, tuple[type[DenseNet] | type[VGG], dict[str, Any]]] = {
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
    "densenet_digits_k12": (
        DenseNet,
        {**DIGITS, "blocks": (0, 12, 24, 16), "growth": 12, "stem_features": 24},
    ),
    "densenet_digits_k32": (
        DenseNet,
        {**DIGITS, "blocks": (0, 12, 24, 16), "growth": 32, "stem_features": 64},
    ),
    # Starts at 14 x 14 pixels, where a dense layer costs a quarter of what it does at 28 x 28.
    "densenet_digits_slim": (
        DenseNet,
        {
            **DIGITS,
            "blocks": (1, 3, 6),
            "growth": 12,
            "bottleneck": 2,
            "stem_features": 16,
            "stem_kernel": 5,
            "stem_stride": 2,
        },
    ),
    "cnn_digits": (
        VGG,
        {
            "ndim": 2,
            "stages": ((16,), (32,), (64,), (128,)),
            "hidden": (),
            "pool_window": 2,
            "pool_stride": 2,
            "last_pool": False,
            "batch_norm": True,
        },
    ),
}

# The original's shape, see `unet`; sizes that the 28 pixels of a digit allow.
UNET_DIGITS: dict[str, Any] = {
    "ndim": 2,
    "features": (12, 24, 48),
    "up_kernel": 2,
    "down_convs": 2,
    "up_convs": 2,
    "outer_skip": True,
    "output": "unit",
}
REFINERS: dict[str, dict[str, Any]] = {
    "unet_34k": {"features": (32, 32, 32, 32, 32)},
    "unet_62k": {"features": (32, 32, 32, 64, 64), "outer_skip": True},
    "unet_digits": UNET_DIGITS,
    "unet_flow_digits": {**UNET_DIGITS, "flow": 3},
}


def classifier_names(ndim: int) -> list[str]:
    """Names of classifiers for examples of `ndim` spatial axes."""
    return [name for name, (_, options) in CLASSIFIERS.items() if options.get("ndim", 1) == ndim]


def refiner_names(ndim: int) -> list[str]:
    """Names of refiners for examples of `ndim` spatial axes."""
    return [name for name, options in REFINERS.items() if options.get("ndim", 1) == ndim]


def _choose(field: str, value: str, choices: dict[str, Any]) -> Any:
    if value in choices:
        return choices[value]
    near = difflib.get_close_matches(value, choices, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise UserError(f"{field}: {value!r} is none of {', '.join(choices)}{hint}")


def build_classifier(config: Any, num_classes: int) -> DenseNet | VGG:
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
