"""Work on arrays in threads: NumPy lets go of the interpreter inside its loops and products.

Belongs here: how many threads, and that a product of matrices takes no more than its own.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from threading import Lock
from typing import Any, TypeVar

from threadpoolctl import ThreadpoolController

from imitation_refinement.runtime.processors import available

Item = TypeVar("Item")
Result = TypeVar("Result")
_lock, _here = Lock(), 0  # threads that are in `side_by_side`
_limit: Any = None  # that they have set


def side_by_side(work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Returns what `work` makes of each item, in their order; in `processors()` threads."""
    with _one_thread_each(), ThreadPoolExecutor(processors()) as threads:
        return list(threads.map(work, items))


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Limits products of matrices; the last of several threads that are here sets the limit back.

    The limit is the process's: each on its own would set back what another had set.
    """
    global _here, _limit
    with _lock:
        if not _here:
            _limit = _controller().limit(limits=1)
        _here += 1
    try:
        yield
    finally:
        with _lock:
            _here -= 1
            if not _here:
                _limit.restore_original_limits()


def processors() -> int:
    """Returns how many threads may compute: OMP_NUM_THREADS, else `available()`.

    Dask gives each worker OMP_NUM_THREADS=1, batch systems a part of the machine.
    """
    said = os.environ.get("OMP_NUM_THREADS", "")
    if said.isdecimal() and int(said):
        return int(said)
    return available()


@lru_cache(maxsize=1)
def _controller() -> ThreadpoolController:
    """Of the libraries that are loaded; finding them takes milliseconds."""
    return ThreadpoolController()
