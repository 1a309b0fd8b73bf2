"""The unit of work of making a library: some entries of collections in, a part of the library out.

Belongs here: which entries make up a chunk, what names its content, reading it in a process of its
own (see `isolated`), and whether its part is there and whole. One process, job arrays and clusters
all read the same chunks by `read_chunk`, so that their libraries are equal to the bit. A part is
two files, the second of which is written last and names content and bytes of the first:

    0000042.npz   a library of the chunk's entries
    0000042.json  the chunk's key, the SHA-256 of the library, and what was left out
"""

import functools
import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from absl import logging

from imitation_refinement.phases.isolated import run_isolated
from imitation_refinement.phases.library import Library, load_library, save_library
from imitation_refinement.phases.records import Record, library_of, record_of
from imitation_refinement.phases.sources import SOURCES, Item, entries_of, known_source
from imitation_refinement.runtime.files import atomic_write_json, read_json, sha256_of
from imitation_refinement.xrd.structures.cif import one_line

BUILD_VERSION = 1  # raise it whenever the same collections would give another library
PER_CHUNK = 1000  # entries
_BYTES = 32_000_000  # of entries that are held


class Chunk(NamedTuple):
    """Some entries to read into a part.

    Attributes:
        number: among all of the collections, from 0.
        items: the entries.
        folder: of the parts.
        shipped: leaves out entries of sources whose terms do not let the package pass them on.
        seconds: for one entry; one that takes longer is left out.
        memory: bytes that the process may take.
        key: see `chunk_key`.
    """

    number: int
    items: tuple[Item, ...]
    folder: Path
    shipped: bool
    seconds: float
    memory: int
    key: str


def chunked(items: Iterable[Item]) -> Iterator[tuple[Item, ...]]:
    """Yields the entries of each chunk, in order; files that are not opened weigh nothing."""
    chunk, size = list[Item](), 0
    for item in items:
        chunk.append(item)
        size += len(item.content) if isinstance(item.content, bytes) else 0
        if len(chunk) == PER_CHUNK or size > _BYTES:
            yield tuple(chunk)
            chunk, size = [], 0
    if chunk:
        yield tuple(chunk)


def listed_key(items: Iterable[Item]) -> str:
    """Names entries without opening their files: by the names of these, else by content."""
    digest = hashlib.sha256()
    for item in items:
        content = item.content if isinstance(item.content, bytes) else b""
        told = json.dumps([item.kind, item.name, item.source, len(content)])
        digest.update(told.encode(errors="surrogateescape") + content)
    return digest.hexdigest()


def chunk_key(items: Iterable[Item], shipped: bool) -> str:
    """Names what a part is of: content of its entries, of files their size and time of change."""
    items = tuple(items)
    stats = [_stat(item.content) for item in items if isinstance(item.content, Path)]
    told = json.dumps([BUILD_VERSION, shipped, listed_key(items), stats])
    return hashlib.sha256(told.encode()).hexdigest()


def _stat(path: Path) -> list[int]:
    try:
        found = path.stat()
    except OSError:  # reading it will say why
        return []
    return [found.st_size, found.st_mtime_ns]


def read_chunk(chunk: Chunk) -> None:
    """Reads the entries of a chunk in a process of its own and writes their part.

    Raises:
        UserError: the process ends at no entry; see `isolated.run_isolated`.
    """
    work = functools.partial(_read_entries, chunk)
    for index, why in run_isolated(work, seconds=chunk.seconds, memory=chunk.memory).items():
        logging.warning("left out: %s: %s", chunk.items[index].name, why)


def finished(folder: Path, number: int, key: str) -> bool:
    """Returns whether a part is there, whole, and of this key."""
    library, about = _files(folder, number)
    if not (library.exists() and about.exists()):
        return False
    told = read_json(about)
    return bool(told["key"] == key and told["sha256"] == sha256_of(library))


def load_part(folder: Path, number: int) -> tuple[Library, list[dict[str, str]]]:
    """Returns the library of a finished part, and {name, why} of each entry that was left out."""
    library, about = _files(folder, number)
    return load_library(library), read_json(about)["left_out"]


def _files(folder: Path, number: int) -> tuple[Path, Path]:
    return folder / f"{number:07d}.npz", folder / f"{number:07d}.json"


def _read_entries(chunk: Chunk, left_out: dict[int, str], at: Any) -> None:
    records, ledger = [], []
    for index, item in enumerate(chunk.items):
        at.value = index
        found = [f"{item.name}: {left_out[index]}"] if index in left_out else None
        for record in found or _records(item, chunk.shipped):
            if isinstance(record, str):
                name, _, why = record.partition(": ")
                ledger.append({"name": name, "why": why})
            else:
                records.append(record)
    sources = {name: known_source(name) for name in {record.source for record in records}}
    library, about = _files(chunk.folder, chunk.number)
    save_library(library_of(records, sources), library)
    told = {"key": chunk.key, "sha256": sha256_of(library), "left_out": ledger}
    atomic_write_json(about, told)  # last: the chunk is finished


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
