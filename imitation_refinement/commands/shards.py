"""A large batch in shards: each does its own chunks and keeps its own table.

Belongs here: which chunks are whose, resuming, checksums. Putting the tables together is `merge`'s.
A shard reads and writes nothing of another's, so that any number may run anywhere at any time. In
the output folder:

    shards/00003-of-00100/0000042-*.parquet  the part of a chunk, until the shard is finished
    shards/00003-of-00100.parquet          its table
    shards/00003-of-00100.json             what it did, with the SHA-256 of the table
    summary.parquet, report.html           of all, after merging
"""

import hashlib
import itertools
import platform
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

from absl import logging

from imitation_refinement.commands.chunks import (
    CHUNK,
    Chunk,
    Setup,
    chunk_key,
    chunks,
    done,
    read_chunks,
    setup_key,
)
from imitation_refinement.commands.cluster import each
from imitation_refinement.commands.inputs import list_inputs
from imitation_refinement.commands.ledger import INTERRUPTED, exit_status
from imitation_refinement.commands.progress import Progress
from imitation_refinement.commands.scan_results import FAILED
from imitation_refinement.commands.tables import (
    LEFT_OUT,
    read_part,
    verdicts,
    write_part,
    write_table,
)
from imitation_refinement.errors import UserError
from imitation_refinement.phases.compositions import Elements
from imitation_refinement.runtime.files import atomic_write_json, read_json
from imitation_refinement.runtime.shard import WHOLE, Shard
from imitation_refinement.runtime.workdir import command
from imitation_refinement.xrd.wavelengths import parse_wavelength

FOLDER = "shards"


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
    keys = [chunk_key(chunk, setup) for chunk in chunks(files, left, CHUNK)]
    job, total = _job(keys, setup), len(keys)
    folder = output / FOLDER / shard.name
    receipt = read_receipt(folder)
    if receipt is not None:
        if receipt["job"] != job:
            raise UserError(
                f"{folder}.json: is of other inputs, options or another model; name another"
                " --output, or delete it to do the shard again"
            )
        logging.info("shard %s is finished; delete %s.json to do it again", shard.name, folder)
        return batch_status(receipt["verdicts"])
    own = [chunk for chunk in range(total) if shard.owns(chunk, total)]
    started = time.time()
    try:
        fresh = _do(setup, chunks(files, left, CHUNK), folder, {n: keys[n] for n in own}, cluster)
    except KeyboardInterrupt:
        logging.warning("stopped; the same command goes on from there")
        return INTERRUPTED
    keyed = ((number, keys[number]) for number in own)
    counts = Counter[str]()
    table = folder.with_name(f"{shard.name}.parquet")
    rows = write_table(table, _counted(folder, keyed, counts))
    atomic_write_json(
        folder.with_name(f"{shard.name}.json"),
        {
            "shard": [shard.number, shard.of], "job": job, "chunks": len(own), "of_chunks": total,
            "rows": rows, "verdicts": dict(counts.most_common()),
            "sha256": _sha256(table) if rows else "",
            "seconds": round(time.time() - started, 1), "chunks_done_in_them": fresh,
            "machine": platform.node(), "command": command(),
        },
    )  # fmt: skip
    shutil.rmtree(folder, ignore_errors=True)
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
    logging.info("shard %s: %s; %s", shard.name, told or "nothing to do", table)
    return batch_status(counts)


def _do(
    setup: Setup,
    every: Iterable[Chunk],
    folder: Path,
    keys: Mapping[int, str],
    cluster: str | None,
) -> int:
    """Does those chunks of `keys` whose parts are not there; returns how many."""
    missing: Iterator[Chunk] = (
        chunk
        for chunk in every
        if chunk.number in keys and read_part(folder, chunk.number, keys[chunk.number]) is None
    )
    there = sum(1 for _ in folder.glob("*.parquet"))
    progress, fresh = Progress("chunks", len(keys)), 0
    with ExitStack() as stack:
        work = partial(done, setup=setup)
        if not cluster:
            missing, read = itertools.tee(missing)
            readings = stack.enter_context(closing(read_chunks(read, setup)))
            work = partial(done, setup=setup, readings=readings)
        for chunk, content in each(work, missing, cluster):
            write_part(folder, chunk.number, content)
            fresh += 1
            progress(there + fresh, fresh)
    return fresh


def _job(keys: Sequence[str], setup: Setup) -> str:
    """Names the whole batch."""
    return hashlib.sha256("".join([setup_key(setup), *keys]).encode()).hexdigest()


def _counted(folder: Path, keyed: Iterable[tuple[int, str]], counts: Counter[str]) -> Iterator[Any]:
    """Yields the parts of a shard and counts their verdicts."""
    for number, key in keyed:
        part = read_part(folder, number, key)
        if part is None:
            raise UserError(
                f"{folder}: part {number} is damaged or gone since it was written; give the same"
                " command again"
            )
        counts.update(verdicts(part))
        yield part


def read_receipt(folder: Path) -> dict[str, Any] | None:
    """What a finished shard has said; None if it is not finished, or its table is damaged."""
    path, table = (folder.with_name(f"{folder.name}.{ending}") for ending in ("json", "parquet"))
    if not path.exists():
        return None
    receipt = read_json(path)
    if receipt["rows"] and (not table.exists() or _sha256(table) != receipt["sha256"]):
        logging.warning("%s: damaged or gone; its shard is to be done again", table)
        return None
    return receipt


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def batch_status(verdicts: dict[str, int] | Counter[str]) -> int:
    """Returns the exit status of patterns with these verdicts; see `ledger.exit_status`."""
    failed = verdicts.get(FAILED, 0)
    return exit_status(sum(verdicts.values()) - failed - verdicts.get(LEFT_OUT, 0), failed)
