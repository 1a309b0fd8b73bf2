"""The unit of work of a large batch: some inputs in, a part of the table out.

Belongs here: which inputs make up a chunk, and doing it. One process, job arrays and clusters all
do the same chunks by `done`, so that their tables are equal to the bit. A chunk depends on its own
inputs alone. Where parts are kept is `shard_work`'s.
"""

import itertools
from collections.abc import Generator, Iterable, Iterator
from typing import NamedTuple

from imitation_refinement.commands.assess_scans import BATCH, records
from imitation_refinement.commands.inputs import Input, with_rows
from imitation_refinement.commands.ledger import LeftOut
from imitation_refinement.commands.read_ahead import read_placed
from imitation_refinement.commands.reading import Reading
from imitation_refinement.commands.setup import Setup, load_tools
from imitation_refinement.commands.tables import part_bytes, table_row

CHUNK = BATCH  # files, or rows of a stack


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


def done(
    chunk: Chunk, setup: Setup, readings: Iterator[tuple[Input, Reading]] | None = None
) -> bytes:
    """Does a chunk and returns its part of the table; see `tables.part_bytes`.

    Args:
        chunk: what to do.
        setup: with what.
        readings: of the chunk's inputs and then of others; without it they are read here.

    Raises:
        UserError: as `load_tools`. Trouble with an input is a row.
    """
    tools = load_tools(setup)
    files = [one for one in chunk.items if isinstance(one, Input)]
    left = [one for one in chunk.items if isinstance(one, LeftOut)]
    own = itertools.islice(readings or read_placed(files, tools.model.grid), len(files))
    # The table holds no fitted cells.
    found = records(own, left, tools.model, tools.matcher, tools.phases, cells=False)
    rows = [table_row(result, one.rows[0] if one.rows else None) for one, result in found]
    rows += [table_row(one) for one in left]
    return part_bytes(rows, tools.model.class_names)


def read_chunks(
    some: Iterable[Chunk], setup: Setup
) -> Generator[tuple[Input, Reading], None, None]:
    """Yields what is in the inputs of chunks, in order, for `done` to take; read ahead of it."""
    files = (one for chunk in some for one in chunk.items if isinstance(one, Input))
    yield from read_placed(files, load_tools(setup).model.grid, ahead=True)
