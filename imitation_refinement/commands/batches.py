"""Batches in shards and on clusters: which function does a shard of a mode, and which merges them.

Belongs here: one call for all modes. Each imports what it needs: Parquet is refining's alone.
"""

from collections.abc import Sequence
from pathlib import Path

from imitation_refinement.commands.ledger import INTERRUPTED
from imitation_refinement.commands.setup import Setup
from imitation_refinement.phases.compositions import Elements
from imitation_refinement.runtime.shard import WHOLE, Shard


def run_batch(
    mode: str,
    setup: Setup,
    inputs: Sequence[str],
    output: Path,
    *,
    wavelength: str | None,
    elements: Elements | None,
    components: int | None,
    shard: Shard | None,
    cluster: str | None,
) -> int:
    """Does a shard of a batch; without one all of it, put together too.

    Args:
        mode: refine, benchmark or unmix.
        setup: what it is done with.
        inputs: of the whole batch.
        output: folder of the whole batch.
        wavelength: see `shards.run_shard` and `unmix_shards.run_shard`.
        elements: see `shards.run_shard`.
        components: see `unmix_shards.run_shard`.
        shard: which part; None for all.
        cluster: see `cluster.each`.

    Returns:
        Exit status.

    Raises:
        UserError: see the functions of the modes.
    """
    part = shard or WHOLE
    if mode == "benchmark":
        from imitation_refinement.commands import benchmark_shards

        status = benchmark_shards.run_shard(
            setup, Path(inputs[0]), output, shard=part, cluster=cluster
        )
    elif mode == "unmix":
        from imitation_refinement.commands import unmix_shards

        status = unmix_shards.run_shard(
            setup, inputs, output, wavelength, components, shard=part, cluster=cluster
        )
    else:
        from imitation_refinement.commands import shards

        status = shards.run_shard(
            setup, inputs, output, wavelength, elements=elements, shard=part, cluster=cluster
        )
    return status if shard or status == INTERRUPTED else merge_batch(mode, output)


def merge_batch(mode: str, output: Path) -> int:
    """Puts what shards did together and returns the exit status; see the functions of the modes."""
    if mode == "library":
        from imitation_refinement.phases.build import merge_library

        merge_library(output)
        return 0
    if mode == "benchmark":
        from imitation_refinement.commands import benchmark_shards

        return benchmark_shards.merge_shards(output)
    if mode == "unmix":
        from imitation_refinement.commands import unmix_shards

        return unmix_shards.merge_shards(output)
    from imitation_refinement.commands.merge import merge_shards

    return merge_shards(output)
