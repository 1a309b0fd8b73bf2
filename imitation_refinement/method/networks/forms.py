"""Which of two forms of the same layers a backend runs: the one place that chooses.

Belongs here: names of backends alone. Results are the same in each form, but for rounding.
"""

from typing import Any

import jax
import jax.numpy as jnp


def backend() -> str:
    """What programs are compiled for by default: 'cpu', 'gpu' or 'tpu'."""
    return jax.default_backend()


def fused_layers(dtype: Any) -> bool:
    """Whether convolution, norm and pools have the gradients of `convolution`, `normalization`.

    These are for the CPU backend, where they make a training step up to twice as fast; others fuse
    and choose layouts best when left to it. bfloat16, which a CPU computes slowly at best, has the
    plain form there.
    """
    return dtype != jnp.bfloat16 and backend() == "cpu"


def fused_blocks(dtype: Any, train: bool) -> bool:
    """Whether a dense block is one function, `dense_block`.

    On the CPU for the reasons above; on a GPU in bfloat16 training, which is bound by its memory
    traffic: XLA makes twice as much when it sums gradients of concatenated features by itself.
    """
    on_gpu = backend() == "gpu" and dtype == jnp.bfloat16 and train
    return fused_layers(dtype) or on_gpu
