"""A large batch of patterns to refine, in shards: each keeps its own table.

Belongs here: what refining does with the chunks of a shard; which they are and how they survive a
kill is `shard_work`'s. Putting the tables together is `merge`'s.
"""

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from absl import logging

from imitation_refinement.commands.chunks import CHUNK, Chunk, chunks, done, read_chunks
from imitation_refinement.commands.cluster import each
from imitation_refinement.commands.inputs import but_for, list_inputs
from imitation_refinement.commands.ledger import INTERRUPTED, exit_status
from imitation_refinement.commands.scan_results import FAILED
from imitation_refinement.commands.setup import Setup, content_key
from imitation_refinement.commands.shard_work import Work, do_shard, shard_status
from imitation_refinement.commands.tables import LEFT_OUT, part_table, verdicts, write_table
from imitation_refinement.phases.compositions import Elements
from imitation_refinement.runtime.shard import WHOLE, Shard
from imitation_refinement.xrd.wavelengths import parse_wavelength

TABLE_OF_SHARD = ".parquet"


def run_shard(
    setup: Setup,
    inputs: Sequence[str],
    output: Path,
    wavelength: str | float | None = None,
    *,
    elements: Elements | None = None,
    shard: Shard = WHOLE,
    cluster: str | None = None,
) -> int:
    """Refines the patterns of one shard into its table; what it has done before is not done again.

    Args:
        setup: model and libraries.
        inputs: of the whole batch, the same for all shards; see `inputs.list_inputs`.
        output: folder of the whole batch; created.
        wavelength: see `refine_scans.refine_scans`.
        elements: see there.
        shard: which part of the batch.
        cluster: see `cluster.each`.

    Returns:
        Exit status: 0 if all inputs could be used, 3 if some could, 1 if none could; 130 if it was
        interrupted.

    Raises:
        UserError: as `refine_scans`; the table is of other inputs, options or model.
    """
    if wavelength is not None:
        parse_wavelength(wavelength)
    files, left = list_inputs(inputs, wavelength, elements)
    every = partial(chunks, files, but_for(output, left), CHUNK)
    keys = [content_key(setup, chunk.items) for chunk in every()]
    work = Work("refine", keys, every, partial(_do, setup, cluster), TABLE_OF_SHARD, _keep)
    receipt = do_shard(work, output, shard)
    if receipt is None:
        return INTERRUPTED
    counts = receipt["verdicts"]
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    logging.info("shard %s: %s", shard.name, told or "nothing to do")
    return shard_status(receipt, *worked_and_failed(counts))


def _do(
    setup: Setup, cluster: str | None, missing: Iterator[Chunk]
) -> Iterator[tuple[Chunk, bytes]]:
    """Does chunks; in this process they are read ahead."""
    if cluster:
        yield from each(partial(done, setup=setup), missing, cluster)
        return
    missing, read = itertools.tee(missing)
    with closing(read_chunks(read, setup)) as readings:
        yield from each(partial(done, setup=setup, readings=readings), missing)


def _keep(path: Path, parts: Iterator[bytes]) -> dict[str, Any]:
    """Writes the table of a shard and counts its verdicts."""
    counts = Counter[str]()

    def counted() -> Iterator[Any]:
        for content in parts:
            table = part_table(content)
            counts.update(verdicts(table))
            yield table

    rows = write_table(path, counted())
    return {"rows": rows, "verdicts": dict(counts.most_common())}


def batch_status(verdicts: Mapping[str, int]) -> int:
    """Returns the exit status of patterns with these verdicts; see `ledger.exit_status`."""
    return exit_status(*worked_and_failed(verdicts))


def worked_and_failed(verdicts: Mapping[str, int]) -> tuple[int, int]:
    """Returns how many patterns with these verdicts could be used, and how many could not."""
    failed = verdicts.get(FAILED, 0)
    return sum(verdicts.values()) - failed - verdicts.get(LEFT_OUT, 0), failed
