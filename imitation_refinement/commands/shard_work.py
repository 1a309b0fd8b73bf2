"""One shard of a batch, whatever is done in it: its own chunks, what it has kept, its receipt.

Belongs here: which chunks are whose, resuming, checksums. What is done with a chunk, and what
becomes of all of them, is `shards`', `benchmark_shards`' and `unmix_shards`'. A shard reads and
writes nothing of another's, so that any number may run anywhere at any time. In the output folder:

    shards/00003-of-00100/0000042-*.part  of a chunk, until the shard is finished
    shards/00003-of-00100.parquet         its table, or .npz, .jsonl
    shards/00003-of-00100.json            its receipt, with the SHA-256 of the table
"""

import hashlib
import platform
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from absl import logging

from imitation_refinement.commands.ledger import ALL_WORKED, exit_status
from imitation_refinement.commands.progress import Progress
from imitation_refinement.errors import UserError
from imitation_refinement.runtime.files import atomic_file, atomic_write_json, read_json, sha256_of
from imitation_refinement.runtime.shard import Shard, read_receipts
from imitation_refinement.runtime.workdir import command

FOLDER = "shards"


class Work(NamedTuple):
    """A batch that is cut up.

    Attributes:
        mode: that it is of.
        keys: of all chunks, in order; each names what is done in it and with what.
        chunks: yields them, each with its `number`.
        do: yields those that it is given and the part of each, as they are finished.
        ending: of the table of a shard.
        keep: writes that table from the parts of a shard, in order, and returns what its receipt
            says: `rows`, which is 0 if there is no table, and more.
    """

    mode: str
    keys: Sequence[str]
    chunks: Callable[[], Iterable[Any]]
    do: Callable[[Iterator[Any]], Iterable[tuple[Any, bytes]]]
    ending: str
    keep: Callable[[Path, Iterator[bytes]], dict[str, Any]]


def do_shard(work: Work, output: Path, shard: Shard) -> dict[str, Any] | None:
    """Does one shard; what it has done before is not done again.

    Args:
        work: the whole batch.
        output: folder of the whole batch; created.
        shard: which part of it.

    Returns:
        Its receipt; None if it was interrupted.

    Raises:
        UserError: what is there is of another batch, or nothing can be written.
    """
    total = len(work.keys)
    job = hashlib.sha256("".join([work.mode, *work.keys]).encode()).hexdigest()
    folder = output / FOLDER / shard.name
    receipt_path = folder.with_name(f"{shard.name}.json")
    receipt = _finished(receipt_path, work.ending) if receipt_path.exists() else None
    if receipt is not None:
        if receipt["job"] != job:
            raise UserError(
                f"{receipt_path}: is of other inputs, options or another model; name another"
                " --output, or delete it to do the shard again"
            )
        logging.info("shard %s is finished; delete %s to do it again", shard.name, receipt_path)
        return receipt
    own = {n: key for n, key in enumerate(work.keys) if shard.owns(n, total)}
    started = time.time()
    try:
        fresh = _do(work, folder, own)
    except KeyboardInterrupt:
        logging.warning("stopped; the same command goes on from there")
        return None
    table = folder.with_name(f"{shard.name}{work.ending}")
    told = work.keep(table, _kept(folder, own))
    receipt = {
        "shard": [shard.number, shard.of], "job": job, "chunks": len(own), "of_chunks": total,
        **told, "sha256": sha256_of(table) if told["rows"] else "",
        "seconds": round(time.time() - started, 1), "chunks_done_in_them": fresh,
        "machine": platform.node(), "command": command(),
    }  # fmt: skip
    atomic_write_json(receipt_path, receipt)
    shutil.rmtree(folder, ignore_errors=True)
    return receipt


def shard_status(receipt: Mapping[str, Any], worked: int, failed: int) -> int:
    """Returns the exit status of a shard; one that has nothing to do has done it."""
    return exit_status(worked, failed) if receipt["chunks"] else ALL_WORKED


def finished_shards(output: Path, mode: str, ending: str) -> dict[int, dict[str, Any]]:
    """Returns the receipts of the shards whose tables are there and whole; see `read_receipts`."""
    return read_receipts(output / FOLDER, mode, lambda path: _finished(path, ending))


def table_of(output: Path, receipt: Mapping[str, Any], ending: str) -> Path:
    """Returns the table of a shard."""
    return output / FOLDER / f"{Shard(*receipt['shard']).name}{ending}"


def _finished(path: Path, ending: str) -> dict[str, Any] | None:
    """What a finished shard has said; None if its table is damaged or gone."""
    receipt: dict[str, Any] = read_json(path)
    table = path.with_suffix(ending)
    if receipt["rows"] and (not table.exists() or sha256_of(table) != receipt["sha256"]):
        logging.warning("%s: damaged or gone; its shard is to be done again", table)
        return None
    return receipt


def _do(work: Work, folder: Path, own: Mapping[int, str]) -> int:
    """Does those chunks of a shard whose parts are not there; returns how many."""
    missing = (
        chunk
        for chunk in work.chunks()
        if chunk.number in own and read_part(folder, chunk.number, own[chunk.number]) is None
    )
    there = sum(1 for _ in folder.glob("*.part"))
    progress, fresh = Progress("chunks", len(own)), 0
    for chunk, content in work.do(missing):
        write_part(folder, chunk.number, own[chunk.number], content)
        fresh += 1
        progress(there + fresh, fresh)
    return fresh


def _kept(folder: Path, own: Mapping[int, str]) -> Iterator[bytes]:
    for number, key in own.items():
        part = read_part(folder, number, key)
        if part is None:
            raise UserError(
                f"{folder}: part {number} is damaged or gone since it was written; give the same"
                " command again"
            )
        yield part


def write_part(folder: Path, number: int, key: str, content: bytes) -> None:
    """Keeps the part of a chunk under its number and key, with a hash of its bytes in its name.

    Raises:
        UserError: it cannot be written.
    """
    with atomic_file(folder / f"{number:07d}-{key[:32]}-{_hash(content)}.part") as file:
        file.write(content)


def read_part(folder: Path, number: int, key: str) -> bytes | None:
    """Returns a part; None if it is not there, damaged, or of another key."""
    for path in folder.glob(f"{number:07d}-{key[:32]}-*.part"):
        content = path.read_bytes()
        if path.stem.endswith(_hash(content)):
            return content
    return None


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]
