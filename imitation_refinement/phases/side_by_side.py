"""Work on arrays in threads: NumPy lets go of the interpreter inside its loops and products.

Belongs here: how many threads, and that a product of matrices takes no more than its own.
"""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TypeVar

from threadpoolctl import ThreadpoolController

Item = TypeVar("Item")
Result = TypeVar("Result")


def side_by_side(work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Returns what `work` makes of each item, in their order; in `processors()` threads."""
    with _controller().limit(limits=1), ThreadPoolExecutor(processors()) as threads:
        return list(threads.map(work, items))


def processors() -> int:
    """Returns how many threads may compute: OMP_NUM_THREADS, else `available()`.

    Dask gives each worker OMP_NUM_THREADS=1, batch systems a part of the machine.
    """
    said = os.environ.get("OMP_NUM_THREADS", "")
    if said.isdecimal() and int(said):
        return int(said)
    return available()


def available() -> int:
    """Returns how many processors this process may use."""
    ours = getattr(os, "sched_getaffinity", None)  # not on all platforms
    return len(ours(0)) if ours else os.cpu_count() or 1


@lru_cache(maxsize=1)
def _controller() -> ThreadpoolController:
    """Of the libraries that are loaded; finding them takes milliseconds."""
    return ThreadpoolController()
