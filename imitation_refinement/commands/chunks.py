"""The unit of work of a large batch: some inputs in, a part of the table out.

Belongs here: which inputs make up a chunk, what names its content, and doing it. One process, job
arrays and clusters all do the same chunks by `done`, so that their tables are equal to the bit. A
chunk depends on its own inputs alone. Where parts are kept is `shards`'s.
"""

import hashlib
import itertools
import json
import os
from collections.abc import Generator, Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from imitation_refinement import __version__
from imitation_refinement.commands.assess_scans import BATCH, records
from imitation_refinement.commands.cif_match import CifMatcher
from imitation_refinement.commands.inputs import Input, with_rows
from imitation_refinement.commands.ledger import LeftOut
from imitation_refinement.commands.read_ahead import read_placed
from imitation_refinement.commands.reading import Reading
from imitation_refinement.commands.tables import part_bytes, table_row
from imitation_refinement.errors import UserError
from imitation_refinement.model.find import load_model
from imitation_refinement.model.model import Model
from imitation_refinement.model.portable import MODEL_FILE, shipped_model
from imitation_refinement.phases.compositions import Elements
from imitation_refinement.phases.identify import Phases, load_phases
from imitation_refinement.phases.library import shipped_library
from imitation_refinement.runtime import devices
from imitation_refinement.runtime.files import user_cache

CHUNK = BATCH  # files, or rows of a stack


class Setup(NamedTuple):
    """What all chunks of a job have in common, in words that another process understands.

    Attributes:
        folder: that paths are relative to.
        model: file or folder of the model; '' for the shipped one.
        libraries: of phases; none for the classes of the model.
        cif: see `refine_scans`; '' for none.
    """

    folder: str
    model: str = ""
    libraries: tuple[str, ...] = ()
    cif: str = ""


class Tools(NamedTuple):
    """What a setup names, loaded."""

    model: Model
    phases: Phases | None
    matcher: CifMatcher


class Chunk(NamedTuple):
    """Some inputs of a job.

    Attributes:
        number: among all of the job, from 0.
        items: inputs, and what was left out of the job, in order.
    """

    number: int
    items: tuple[Input | LeftOut, ...]


def chunks(files: Iterable[Input], left: Iterable[LeftOut], size: int) -> Iterator[Chunk]:
    """Yields the chunks of a job, so many files, or rows of a stack, in each.

    Args:
        files: of `list_inputs`.
        left: likewise; they follow the files.
        size: of a chunk; a file counts as one, however many patterns it has.
    """
    number, held, weight = 0, list[Input | LeftOut](), 0
    every: Iterator[Input | LeftOut] = itertools.chain(with_rows(files, size), left)
    for one in every:
        own = one.rows[1] - one.rows[0] if isinstance(one, Input) and one.rows else 1
        if held and weight + own > size:
            yield Chunk(number, tuple(held))
            number, held, weight = number + 1, [], 0
        held.append(one)
        weight += own
    if held:
        yield Chunk(number, tuple(held))


def chunk_key(chunk: Chunk, setup: Setup) -> str:
    """Names what a chunk is: its inputs, what is known of them, and what they are done with."""
    items = [[type(one).__name__, *map(_plain, one)] for one in chunk.items]
    told = json.dumps([setup_key(setup), items], default=str)
    return hashlib.sha256(told.encode(errors="surrogateescape")).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, Elements):
        return [None if one is None else sorted(one) for one in value]
    return value


@lru_cache(maxsize=4)
def setup_key(setup: Setup) -> str:
    """Names program, model, libraries and structures by their content, wherever they lie."""
    digest = hashlib.sha256(json.dumps([__version__, *map(bool, setup)]).encode())
    model = shipped_model() if not setup.model else _model_file(Path(setup.folder, setup.model))
    digest.update(model.read_bytes() if model.is_file() else b"")
    for name in filter(None, (*setup.libraries, setup.cif)):
        path = Path(setup.folder, name).expanduser()
        if name == "shipped":
            digest.update(shipped_library().read_bytes())
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                digest.update(file.name.encode(errors="surrogateescape"))
                digest.update(file.read_bytes())
    return digest.hexdigest()


def _model_file(path: Path) -> Path:
    return path / MODEL_FILE if path.is_dir() else path


@lru_cache(maxsize=1)
def load_tools(setup: Setup) -> Tools:
    """Loads what a setup names, once for this process.

    Raises:
        UserError: something is missing or damaged, or this machine has not the folder.
    """
    try:
        os.chdir(setup.folder)
    except OSError as error:
        raise UserError(
            f"{setup.folder}: cannot be entered on this machine ({error.strerror}); workers must"
            " see the files under the same path"
        ) from error
    devices.enable_compilation_cache()
    devices.keep_freed_memory()
    model = load_model(setup.model or None)
    libraries = list(setup.libraries)
    phases = load_phases(libraries, user_cache("phases")) if libraries else None
    return Tools(model, phases, CifMatcher(model.grid, Path(setup.cif) if setup.cif else None))


def done(
    chunk: Chunk, setup: Setup, readings: Iterator[tuple[Input, Reading]] | None = None
) -> bytes:
    """Does a chunk and returns its part of the table; see `tables.part_bytes`.

    Args:
        chunk: what to do.
        setup: with what.
        readings: see `part_of`.

    Raises:
        UserError: as `load_tools`. Trouble with an input is a row.
    """
    return part_of(chunk, load_tools(setup), chunk_key(chunk, setup), readings)


def read_chunks(
    some: Iterable[Chunk], setup: Setup
) -> Generator[tuple[Input, Reading], None, None]:
    """Yields what is in the inputs of chunks, in order, for `done` to take; read ahead of it."""
    files = (one for chunk in some for one in chunk.items if isinstance(one, Input))
    yield from read_placed(files, load_tools(setup).model.grid, ahead=True)


def part_of(
    chunk: Chunk,
    tools: Tools,
    key: str,
    readings: Iterator[tuple[Input, Reading]] | None = None,
) -> bytes:
    """Returns the part of the table that a chunk is, with its key.

    Args:
        chunk: what to do.
        tools: see there.
        key: of `chunk_key`.
        readings: of the chunk's inputs and then of others; without it they are read here.
    """
    files = [one for one in chunk.items if isinstance(one, Input)]
    left = [one for one in chunk.items if isinstance(one, LeftOut)]
    own = itertools.islice(readings or read_placed(files, tools.model.grid), len(files))
    found = records(own, left, tools.model, tools.matcher, tools.phases)
    rows = [table_row(result, one.rows[0] if one.rows else None) for one, result in found]
    rows += [table_row(one) for one in left]
    return part_bytes(rows, tools.model.class_names, key)
