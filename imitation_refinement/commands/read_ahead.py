"""Inputs read and placed on the model's grid, the later ones in other processes ahead of time.

Belongs here: who reads what when. Naming phases keeps the cores busy for as long as it is given
scans; reading holds the interpreter, so that a thread would make both wait. Few inputs are read
here, as a process takes a second to begin. The order and the patterns do not depend on it.
"""

import itertools
import multiprocessing
import signal
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from absl import logging

from imitation_refinement.commands.inputs import Input, wanted, with_rows
from imitation_refinement.commands.reading import Reading, Wanted, read_one
from imitation_refinement.phases.side_by_side import processors
from imitation_refinement.xrd.grid import Grid

HERE = 256  # patterns that are read in this process before the others are ready
_GROUP = 16  # patterns that are read at once
_AHEAD = 384  # patterns that wait at most; each takes 0.1 MB


def read_placed(
    files: Iterable[Input], grid: Grid, *, ahead: bool = False
) -> Generator[tuple[Input, Reading], None, None]:
    """Yields each input, a stack in parts, with what is in it, in order.

    Args:
        files: of `list_inputs` or `with_rows`.
        grid: to place the patterns on.
        ahead: whether other processes may read what comes after the first `HERE` patterns, where
            there is more than one processor.
    """
    items = with_rows(files)
    first = _group(items, HERE)
    more = _group(items, _GROUP)
    if not (ahead and more and processors() > 1):
        yield from _here(itertools.chain(first, more, items), grid)
        return
    pool = ProcessPoolExecutor(
        processors() // 2, multiprocessing.get_context("spawn"), initializer=_leave_interrupts
    )
    groups = itertools.chain([more], iter(lambda: _group(items, _GROUP), []))
    waiting: deque[tuple[list[Input], Future[list[Reading]]]] = deque()
    try:
        _give_out(pool, groups, waiting, grid)
        yield from _here(first, grid)
        while waiting:
            group, future = waiting[0]
            found = future.result()
            waiting.popleft()
            _give_out(pool, groups, waiting, grid)
            yield from zip(group, found, strict=True)
    except BrokenProcessPool:
        logging.warning("a process that reads ahead was ended, for memory perhaps; reading here")
        rest = itertools.chain([group for group, _ in waiting], groups)
        yield from _here(itertools.chain.from_iterable(rest), grid)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _here(items: Iterable[Input], grid: Grid) -> Iterator[tuple[Input, Reading]]:
    return ((one, read_one(wanted(one), grid)) for one in items)


def _weight(one: Input) -> int:
    return one.rows[1] - one.rows[0] if one.rows else 1


def _group(items: Iterator[Input], size: int) -> list[Input]:
    """The next inputs that have so many patterns or more, a file counting as one."""
    group, weight = list[Input](), 0
    while weight < size and (one := next(items, None)):
        group.append(one)
        weight += _weight(one)
    return group


def _give_out(
    pool: ProcessPoolExecutor,
    groups: Iterator[list[Input]],
    waiting: deque[tuple[list[Input], Future[list[Reading]]]],
    grid: Grid,
) -> None:
    """Gives groups to the pool while few wait; a pool that has ended fails when it is asked."""
    while sum(_weight(one) for group, _ in waiting for one in group) < _AHEAD:
        if not (group := next(groups, None)):
            return
        try:
            future = pool.submit(_read_group, [wanted(one) for one in group], grid)
        except BrokenProcessPool as error:
            future = Future()
            future.set_exception(error)
        waiting.append((group, future))


def _read_group(group: Sequence[Wanted], grid: Grid) -> list[Reading]:
    return [read_one(one, grid) for one in group]


def _leave_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's
