"""A benchmark in shards: each reads, refines and compares its own patterns; all are scored at once.

Belongs here: what a benchmark does with the chunks of a shard, which `shard_work` hands out, and
with the tables of all of them. A table is an `.npz` of the arrays of `benchmark.answered`; what is
known of the whole benchmark is in the receipt of the first shard.
"""

import io
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from imitation_refinement.commands.benchmark import Chunk, answered, joined, labelled, write_results
from imitation_refinement.commands.cluster import each
from imitation_refinement.commands.ledger import INTERRUPTED
from imitation_refinement.commands.setup import Setup, content_key, load_tools
from imitation_refinement.commands.shard_work import (
    FOLDER,
    Work,
    do_shard,
    finished_shards,
    shard_status,
    table_of,
)
from imitation_refinement.runtime.files import atomic_write_npz, read_npz
from imitation_refinement.runtime.shard import WHOLE, Shard, refuse_missing

_ENDING = ".npz"


def run_shard(
    setup: Setup,
    manifest: Path,
    output: Path,
    *,
    shard: Shard = WHOLE,
    cluster: str | None = None,
) -> int:
    """Does the labelled patterns of one shard; what it has done before is not done again.

    Args:
        setup: the model.
        manifest: of the whole benchmark; see `manifest`.
        output: folder of the whole benchmark; created.
        shard: which part of it.
        cluster: see `cluster.each`.

    Returns:
        Exit status: 0 if all patterns could be used, 3 if some could, 1 if none could; 130 if it
        was interrupted.

    Raises:
        UserError: as `benchmark.run_benchmark`; the table is of another manifest or model.
    """
    about, every = labelled(load_tools(setup).model, manifest)
    whole = content_key(setup, [], about)
    keys = [content_key(setup, chunk.entries, whole) for chunk in every]
    do = partial(each, partial(_done, setup=setup), address=cluster)
    keep = partial(_keep, {} if shard.number else {"about": about})
    receipt = do_shard(Work("benchmark", keys, lambda: every, do, _ENDING, keep), output, shard)
    if receipt is None:
        return INTERRUPTED
    failed = receipt["failed"]
    used = receipt["rows"] - failed
    logging.info("shard %s: %d patterns, %d could not be used", shard.name, used, failed)
    return shard_status(receipt, used, failed)


def merge_shards(output: Path) -> int:
    """Scores the patterns of all shards in a folder together; see `benchmark.run_benchmark`.

    Returns:
        Exit status, as there.

    Raises:
        UserError: a shard is missing, as figures of some patterns would not be those of all; or
            they are not of one benchmark.
    """
    receipts = finished_shards(output, "benchmark", _ENDING)
    refuse_missing(receipts, output / FOLDER, "benchmark")
    tables = [read_npz(table_of(output, one, _ENDING)) for one in receipts.values() if one["rows"]]
    return write_results(receipts[0]["about"], tables, output)


def _done(chunk: Chunk, setup: Setup) -> bytes:
    """Returns what is found out about a chunk as an `.npz`."""
    file = io.BytesIO()
    np.savez(file, **answered(load_tools(setup).model, chunk.entries))  # type: ignore[arg-type]
    return file.getvalue()


def _opened(content: bytes) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(content), allow_pickle=False) as part:
        return {name: part[name] for name in part.files}


def _keep(more: dict[str, Any], path: Path, parts: Iterator[bytes]) -> dict[str, Any]:
    """Writes the table of a shard and counts its rows; its receipt says `more`."""
    found = joined([_opened(part) for part in parts])
    if not found:
        return {"rows": 0, "failed": 0} | more
    atomic_write_npz(path, found)
    failed = len(found["failures"])
    return {"rows": failed + len(found.get("label", ())), "failed": failed} | more
