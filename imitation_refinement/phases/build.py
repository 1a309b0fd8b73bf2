"""Making a library of phases from collections of structures, in one piece or in shards.

Belongs here: the stream of work, what survives a kill, putting parts together, and the ledger of
what was left out. Reading a chunk of entries is `parts`'. Finished parts stay in `<output>.parts`,
from which a killed run goes on, with or without shards:

    library.npz.parts/0000042.npz, .json    a part, see `parts`
    library.npz.parts/00003-of-00100.json   what a finished shard read: its chunks and their keys
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from absl import logging

from imitation_refinement.errors import UserError
from imitation_refinement.phases.library import Library, concatenate, load_library, save_library
from imitation_refinement.phases.parts import (
    BUILD_VERSION,
    Chunk,
    chunk_key,
    chunked,
    finished,
    listed_key,
    load_part,
    read_chunk,
)
from imitation_refinement.phases.sources import items
from imitation_refinement.phases.twins import first_of_each_phase
from imitation_refinement.runtime.files import atomic_write_json, atomic_write_text
from imitation_refinement.runtime.shard import WHOLE, Shard, read_receipts, refuse_missing
from imitation_refinement.xrd.structures.materials_project import materials_project

_MEMORY = 4 << 30  # bytes that a worker may take
_SECONDS = 120.0  # for one entry
_BETWEEN_REPORTS = 10.0  # seconds

# (function, tasks) -> each task and what the function returned for it, as they are finished.
Spread = Callable[[Callable[[Chunk], Any], Iterable[Chunk]], Iterable[tuple[Chunk, Any]]]


class Built(NamedTuple):
    """What a build came to.

    Attributes:
        library: as written.
        left_out: number of entries that could not be used, or may not be passed on.
        merged: number of entries that are the same phase as another one.
        ledger: file with one JSON line for each of both.
    """

    library: Library
    left_out: int
    merged: int
    ledger: Path


def make_library(
    inputs: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    workers: int = 1,
    *,
    shipped: bool = False,
    spread: Spread | None = None,
) -> Built:
    """Makes a library and says in the log what became of the entries; see `build_library`."""
    return _said(build_library(inputs, output, workers, shipped=shipped, spread=spread), output)


def _said(built: Built, output: str | os.PathLike[str]) -> Built:
    size = Path(output).expanduser().stat().st_size / 1e6
    logging.info(
        "%s: %d phases, %.1f MB; %d the same as another one, %d left out: %s",
        output, len(built.library), size, built.merged, built.left_out, built.ledger,
    )  # fmt: skip
    return built


def build_library(
    inputs: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    workers: int = 1,
    *,
    shipped: bool = False,
    seconds: float = _SECONDS,
    memory: int = _MEMORY,
    spread: Spread | None = None,
) -> Built:
    """Makes a library of phases of collections of structures.

    Run again after a kill, it goes on from the chunks that were finished. The library does not
    depend on who read which chunk.

    Args:
        inputs: collections, see `sources.items`, and libraries (.npz, or `shipped` for the one of
            the package), whose entries come first and stand for what is the same. `mp:Li-Fe-O` is a
            chemical system of the Materials Project, fetched by mp-api with the user's key and kept
            beside the output.
        output: file to write; `<output>.left_out.jsonl` beside it names what was left out.
        workers: processes.
        shipped: leaves out entries of sources whose terms do not let the package pass them on.
        seconds: for one entry; one that takes longer is left out.
        memory: bytes that a worker may take.
        spread: does chunks elsewhere, as `commands.cluster.each`; None for processes of this one.

    Raises:
        UserError: an input is none or damaged, nothing usable in it, or not writable.
    """
    output = Path(output).expanduser()
    receipt = read_shard(
        inputs, output, WHOLE, workers, shipped=shipped, seconds=seconds, memory=memory,
        spread=spread,
    )  # fmt: skip
    built = _assembled(output, [receipt])
    shutil.rmtree(_parts(output), ignore_errors=True)
    return built


def read_shard(
    inputs: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    shard: Shard,
    workers: int = 1,
    *,
    shipped: bool = False,
    seconds: float = _SECONDS,
    memory: int = _MEMORY,
    spread: Spread | None = None,
) -> dict[str, Any]:
    """Reads the chunks of one shard of the collections; what is finished is not read again.

    Every shard lists all entries and reads those of each `of`th chunk. Of a folder no other files
    are opened; an archive has to be unpacked to know what is in it.

    Args:
        inputs: of the whole library, the same for all shards; see `build_library`.
        output: file of the whole library.
        shard: which part.
        workers: see `build_library`, as those that are not named here.
        shipped: see there.
        seconds: see there.
        memory: see there.
        spread: see there.

    Returns:
        What was written of the shard as `<output>.parts/<shard>.json`.

    Raises:
        UserError: an input is none or damaged, or the parts cannot be written.
    """
    folder = _parts(output)
    libraries = [_library_name(path) for path in inputs if _is_library(path)]
    collections = [_collection(path, folder.parent) for path in inputs if not _is_library(path)]
    for path in collections:
        if not path.exists():
            raise UserError(f"{path}: there is no such file or folder")
    known = [load_library(_library_path(name)).digest for name in libraries]
    job = hashlib.sha256(json.dumps([BUILD_VERSION, shipped, known]).encode())
    own, total, there = dict[int, str](), 0, 0
    started = said = time.monotonic()

    def missing() -> Iterator[Chunk]:
        nonlocal total, there
        for number, chunk in enumerate(chunked(chain.from_iterable(map(items, collections)))):
            total = number + 1
            job.update(listed_key(chunk).encode())
            if number % shard.of != shard.number:
                continue
            own[number] = key = chunk_key(chunk, shipped)
            if finished(folder, number, key):
                there += 1
            else:
                yield Chunk(number, chunk, folder, shipped, seconds, memory, key)

    for done, _ in (spread or _in_threads(workers))(read_chunk, missing()):
        if not finished(folder, done.number, done.key):
            raise UserError(
                f"{folder}: part {done.number} was read and is not there; workers must see --output"
                " under the same path"
            )
        now = time.monotonic()
        if now - said >= _BETWEEN_REPORTS:
            said = now
            logging.info("library: %d chunks in hand, %.0f s", len(own), now - started)
    if there:
        logging.info("%s: %d chunks were finished before", folder, there)
    receipt = {
        "shard": [shard.number, shard.of], "job": job.hexdigest(), "of_chunks": total,
        "chunks": list(own.items()), "libraries": libraries, "inputs": list(map(str, inputs)),
        "seconds": round(time.monotonic() - started, 1),
    }  # fmt: skip
    atomic_write_json(folder / f"{shard.name}.json", receipt)
    return receipt


def merge_library(output: str | os.PathLike[str]) -> Built:
    """Puts the parts that shards have read together into the library; they stay.

    Raises:
        UserError: a shard is missing, or they are not of one library; nothing is written then.
    """
    output = Path(output).expanduser()
    return _said(_assembled(output, _receipts(_parts(output))), output)


def _receipts(folder: Path) -> list[dict[str, Any]]:
    """What the shards have said, of which none is missing."""
    found = read_receipts(folder, "library")
    refuse_missing(found, folder, "library")
    return list(found.values())


def _assembled(output: Path, receipts: Sequence[dict[str, Any]]) -> Built:
    """Writes library and ledger of what all shards have read."""
    folder, told = _parts(output), receipts[0]
    named = ", ".join(told["inputs"])
    read, ledger = list[Library](), list[dict[str, str]]()
    for number, key in sorted(chain.from_iterable(one["chunks"] for one in receipts)):
        if not finished(folder, number, key):
            raise UserError(
                f"{folder}: part {number} is damaged or gone since it was written; give the same"
                f" command again ({Shard(number % told['shard'][1], told['shard'][1]).name})"
            )
        library, left_out = load_part(folder, number)
        read.append(library)
        ledger += left_out
    libraries = [load_library(_library_path(name)) for name in told["libraries"]]
    if not (libraries or read):
        raise UserError(f"{named}: no structure in it")
    whole = concatenate([*libraries, *read])
    count = len(ledger)
    if not len(whole):
        first = f"; first: {ledger[0]['why']}" if ledger else ""
        raise UserError(f"{named}: no usable structure{first}")
    kept, same_as = first_of_each_phase(whole)
    names = whole.source_id.tolist()
    ledger += [
        {"name": names[i], "why": f"the same phase as {names[j]}"}
        for i, j in enumerate(same_as.tolist())
        if i != j
    ]
    library = whole.take(kept)
    save_library(library, output)
    path = output.with_name(f"{output.name}.left_out.jsonl")
    atomic_write_text(path, "".join(f"{json.dumps(line)}\n" for line in ledger))
    return Built(library, count, len(whole) - len(library), path)


def _parts(output: str | os.PathLike[str]) -> Path:
    path = Path(output).expanduser().absolute()
    return path.with_name(f"{path.name}.parts")


def _collection(path: str | os.PathLike[str], beside: Path) -> Path:
    if str(path).startswith("mp:"):
        return materials_project(str(path)[3:], beside)
    return Path(path).expanduser()


def _is_library(path: str | os.PathLike[str]) -> bool:
    return str(path) == "shipped" or str(path).lower().endswith(".npz")


def _library_name(path: str | os.PathLike[str]) -> str:
    return "shipped" if str(path) == "shipped" else str(Path(path).expanduser().absolute())


def _library_path(name: str) -> str | None:
    return None if name == "shipped" else name


def _in_threads(workers: int) -> Spread:
    """Each of a few threads waits for the process of a chunk."""

    def spread(
        function: Callable[[Chunk], Any], chunks: Iterable[Chunk]
    ) -> Iterator[tuple[Chunk, Any]]:
        with ThreadPoolExecutor(max(workers, 1)) as threads:
            running = dict[Future[Any], Chunk]()
            for chunk in chunks:
                running[threads.submit(function, chunk)] = chunk
                if len(running) >= 2 * max(workers, 1):
                    yield from _ended(running)
            while running:
                yield from _ended(running)

    return spread


def _ended(running: dict[Future[Any], Chunk]) -> list[tuple[Chunk, Any]]:
    """Waits for at least one, and takes those that have ended out."""
    done, _ = wait(running, return_when=FIRST_COMPLETED)
    return [(running.pop(future), future.result()) for future in done]
