"""Making a library of phases: on this machine, on a cluster, or one shard of it.

Belongs here: who reads the chunks. How they are read and put together is `phases.build`'s.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from absl import logging

from imitation_refinement.commands.cluster import each
from imitation_refinement.phases.build import make_library, read_shard
from imitation_refinement.runtime.processors import available
from imitation_refinement.runtime.shard import Shard


def run_library(
    inputs: Sequence[str],
    output: Path,
    *,
    shard: Shard | None = None,
    cluster: str | None = None,
) -> int:
    """Makes a library of phases, or reads one shard of it; see `phases.build`.

    Args:
        inputs: see `build.build_library`.
        output: file of the library.
        shard: which part to read, for `build.merge_library`; None to make the library.
        cluster: see `cluster.each`; None for a process on each core.

    Returns:
        Exit status.

    Raises:
        UserError: see `build.build_library` and `cluster.each`.
    """
    spread = partial(each, address=cluster) if cluster else None
    if shard is None:
        make_library(inputs, output, available(), spread=spread)
    else:
        read_shard(inputs, output, shard, available(), spread=spread)
        logging.info("shard %s is finished", shard.name)
    return 0
