"""Batches whose examples are made on the devices: the host says which, and sends nothing else.

A batch is a function of (seed, step), as those of `batches` are, whatever the number of devices and
processes. The numbers are JAX's, so that they are other examples of the same distribution.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import jax
import numpy as np

from imitation_refinement.runtime import devices
from imitation_refinement.runtime.batches import BatchIndices

Tree = Any
Make = Callable[[Tree, jax.Array, jax.Array], Tree]


def made_on_devices(
    indices: BatchIndices, held: Tree, make: Make, *, batch_size: int, seed: int
) -> Callable[[int], Iterator[Tree]]:
    """Returns `start_step -> batches on devices`, made there.

    Args:
        indices: the examples of all batches.
        held: NumPy arrays, put whole on every device when the first batch is asked for.
        make: `(held, index, key) -> arrays`, a pure function of JAX arrays, of one example.
        batch_size: global batch size, a multiple of the number of devices.
        seed: of all keys.
    """

    def batches(start_step: int) -> Iterator[Tree]:
        whole, split = devices.replicated(), devices.by_example()
        program = _program(make)
        known, key = devices.replicate(held), devices.place(np.uint32(seed), whole)
        row = devices.place(np.arange(batch_size, dtype=np.uint32), split)

        def asked(step: int) -> tuple[jax.Array, jax.Array]:
            chosen = indices.batch(step).astype(np.int32)
            with jax.transfer_guard_host_to_device("allow"):  # all that is sent
                return devices.place(chosen, split), devices.place(np.uint32(step), whole)

        last = len(indices) // batch_size - 1
        following = asked(start_step)
        for step in range(start_step, last + 1):
            batch = program(known, *following, key, row)
            # On its way while the batch is made and trained on.
            following = asked(min(step + 1, last))
            yield batch

    return batches


@lru_cache(maxsize=8)
def _program(make: Make) -> Callable[..., Tree]:
    """The compiled `(held, indices, step, seed, rows) -> batch`."""

    def batch(
        held: Tree, index: jax.Array, step: jax.Array, seed: jax.Array, row: jax.Array
    ) -> Tree:
        key = jax.random.fold_in(jax.random.key(seed), step)

        def one(index: jax.Array, row: jax.Array) -> Tree:
            return make(held, index, jax.random.fold_in(key, row))

        return jax.vmap(one)(index, row)

    whole, split = devices.replicated(), devices.by_example()
    layout = (whole, split, whole, whole, split)
    # Each device makes its own rows: left to itself, XLA gathers them all for a Fourier transform.
    own = jax.shard_map(
        batch,
        mesh=devices.data_mesh(),
        in_specs=tuple(one.spec for one in layout),
        out_specs=split.spec,
    )
    return jax.jit(own, in_shardings=layout, out_shardings=split)
