"""Making a library of phases from collections of structures.

Belongs here: the stream of work, what survives a kill, and the ledger of what was left out. A chunk
of entries is read by a process of its own, see `isolated`. Finished chunks stay in
`<output>.parts`, from which a killed run goes on.
"""

import functools
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, NamedTuple

from absl import logging

from imitation_refinement.errors import UserError
from imitation_refinement.phases.isolated import run_isolated
from imitation_refinement.phases.library import (
    Library,
    concatenate,
    load_library,
    save_library,
)
from imitation_refinement.phases.records import Record, library_of, record_of
from imitation_refinement.phases.sources import (
    SOURCES,
    Item,
    entries_of,
    items,
    known_source,
)
from imitation_refinement.phases.twins import first_of_each_phase
from imitation_refinement.runtime.files import atomic_write_text
from imitation_refinement.xrd.structures.cif import one_line
from imitation_refinement.xrd.structures.materials_project import materials_project

BUILD_VERSION = 1  # raise it whenever the same collections would give another library
_PER_CHUNK = 1000
_MEMORY = 4 << 30  # bytes that a worker may take
_SECONDS = 120.0  # for one entry


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
) -> Built:
    """Makes a library and says in the log what became of the entries; see `build_library`.

    An input `mp:Li-Fe-O` is a chemical system of the Materials Project, fetched by mp-api with the
    user's key and kept beside the output.
    """
    folder = Path(output).expanduser().absolute().parent
    paths = [
        materials_project(str(path)[3:], folder) if str(path).startswith("mp:") else path
        for path in inputs
    ]
    built = build_library(paths, output, workers, shipped=shipped)
    size = Path(output).stat().st_size / 1e6
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
) -> Built:
    """Makes a library of phases of collections of structures.

    Run again after a kill, it goes on from the chunks that were finished. The library does not
    depend on `workers`.

    Args:
        inputs: collections, see `sources.items`, and libraries (.npz, or `shipped` for the one of
            the package), whose entries come first and stand for what is the same.
        output: file to write; `<output>.left_out.jsonl` beside it names what was left out.
        workers: processes.
        shipped: leaves out entries of sources whose terms do not let the package pass them on.
        seconds: for one entry; one that takes longer is left out.
        memory: bytes that a worker may take.

    Raises:
        UserError: an input is none or damaged, nothing usable in it, or not writable.
    """
    output = Path(output).expanduser()
    libraries = [load_library(_library_path(path)) for path in inputs if _is_library(path)]
    collections = [Path(path).expanduser() for path in inputs if not _is_library(path)]
    parts = output.with_name(f"{output.name}.parts")
    _prepare(parts, collections, shipped)
    read = _read_chunks(collections, parts, workers, shipped, seconds, memory)
    if not (libraries or read):
        raise UserError(f"{', '.join(map(str, inputs))}: no structure in it")
    whole = concatenate([*libraries, *(load_library(part) for part in read)])
    ledger = [
        line for part in read for line in _ledger(part).read_text(encoding="utf-8").splitlines()
    ]
    left_out = len(ledger)
    if not len(whole):
        first = f"; first: {json.loads(ledger[0])['why']}" if ledger else ""
        raise UserError(f"{', '.join(map(str, inputs))}: no usable structure{first}")
    kept, same_as = first_of_each_phase(whole)
    names = whole.source_id.tolist()
    ledger += [
        json.dumps({"name": names[i], "why": f"the same phase as {names[j]}"})
        for i, j in enumerate(same_as.tolist())
        if i != j
    ]
    library = whole.take(kept)
    save_library(library, output)
    path = _ledger(output)
    atomic_write_text(path, "".join(f"{line}\n" for line in ledger))
    shutil.rmtree(parts, ignore_errors=True)
    return Built(library, left_out, len(whole) - len(library), path)


def _is_library(path: str | os.PathLike[str]) -> bool:
    return str(path) == "shipped" or str(path).lower().endswith(".npz")


def _library_path(path: str | os.PathLike[str]) -> str | os.PathLike[str] | None:
    return None if str(path) == "shipped" else path


# --- Chunks and their processes ------------------------------------------------------------------


def _read_chunks(
    collections: Sequence[Path],
    parts: Path,
    workers: int,
    shipped: bool,
    seconds: float,
    memory: int,
) -> list[Path]:
    """Reads collections in chunks, those that are not finished; returns the file of each."""
    finished: list[Path] = []
    start = time.monotonic()
    with ThreadPoolExecutor(max(workers, 1)) as threads:
        running: set[Future[None]] = set()
        for chunk in _chunks([items(path) for path in collections]):
            part = parts / f"{len(finished):06d}.npz"
            finished.append(part)
            if not part.exists():
                running.add(threads.submit(_run_chunk, chunk, part, shipped, seconds, memory))
            while len(running) >= 2 * max(workers, 1):
                running = _waited(running)
                logging.info(
                    "library: chunk %d of up to %d entries in hand, %.0f s",
                    len(finished), _PER_CHUNK, time.monotonic() - start,
                )  # fmt: skip
        while running:
            running = _waited(running)
    return finished


def _prepare(parts: Path, inputs: Sequence[Path], shipped: bool) -> None:
    """Makes the folder of parts; parts of another work are removed."""
    described = []
    for path in inputs:
        if not path.exists():
            raise UserError(f"{path}: there is no such file or folder")
        stat = path.stat()
        described.append([str(path.absolute()), stat.st_size, stat.st_mtime_ns])
    key = json.dumps([BUILD_VERSION, _PER_CHUNK, shipped, described])
    mark = parts / "key"
    wanted = hashlib.sha256(key.encode()).hexdigest()
    if parts.is_dir() and not (mark.is_file() and mark.read_text() == wanted):
        shutil.rmtree(parts)
    if parts.is_dir():
        logging.info("%s: going on from the chunks in it", parts)
    else:
        atomic_write_text(mark, wanted)


def _chunks(streams: Sequence[Iterator[Item]]) -> Iterator[list[Item]]:
    chunk, size = [], 0
    for stream in streams:
        for item in stream:
            chunk.append(item)
            size += len(item.content)
            if len(chunk) == _PER_CHUNK or size > 32_000_000:
                yield chunk
                chunk, size = [], 0
    if chunk:
        yield chunk


def _waited(running: set[Future[None]]) -> set[Future[None]]:
    done, rest = wait(running, return_when=FIRST_COMPLETED)
    for future in done:
        future.result()
    return rest


def _ledger(path: Path) -> Path:
    return path.with_name(f"{path.name}.left_out.jsonl")


def _run_chunk(chunk: list[Item], path: Path, shipped: bool, seconds: float, memory: int) -> None:
    work = functools.partial(_read_chunk, chunk, path, shipped)
    for index, why in run_isolated(work, seconds=seconds, memory=memory).items():
        logging.warning("left out: %s: %s", chunk[index].name, why)


def _read_chunk(
    chunk: list[Item], path: Path, shipped: bool, left_out: dict[int, str], at: Any
) -> None:
    records, ledger = [], []
    for index, item in enumerate(chunk):
        at.value = index
        found = [f"{item.name}: {left_out[index]}"] if index in left_out else None
        for record in found or _records(item, shipped):
            if isinstance(record, str):
                name, _, why = record.partition(": ")
                ledger.append({"name": name, "why": why})
            else:
                records.append(record)
    sources = {name: known_source(name) for name in {record.source for record in records}}
    text = "".join(json.dumps(line) + "\n" for line in ledger)
    atomic_write_text(_ledger(path), text)
    save_library(library_of(records, sources), path)  # last: the chunk is finished


def _records(item: Item, shipped: bool) -> Iterator[Record | str]:
    try:
        found = entries_of(item)
    except Exception as error:  # one entry never costs the others
        yield f"{item.name}: {type(error).__name__}: {one_line(error)}"
        return
    for entry in found:
        if isinstance(entry, str):
            yield entry
            continue
        known = SOURCES.get(entry.source)
        if shipped and not (known and known.shipped):
            yield f"{entry.atoms.name}: {entry.source}: its terms do not let us pass it on"
            continue
        try:
            yield record_of(entry)
        except ValueError as error:
            yield f"{entry.atoms.name}: {one_line(error)}"
        except Exception as error:  # as above
            yield f"{entry.atoms.name}: {type(error).__name__}: {one_line(error)}"
