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
    """Returns what `work` makes of each item, in their order; one thread for each processor."""
    with _controller().limit(limits=1), ThreadPoolExecutor(os.cpu_count()) as threads:
        return list(threads.map(work, items))


@lru_cache(maxsize=1)
def _controller() -> ThreadpoolController:
    """Of the libraries that are loaded; finding them takes milliseconds."""
    return ThreadpoolController()
