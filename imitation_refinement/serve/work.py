"""Work that takes longer than a request should hold up the others: one thread, a short queue.

Belongs here: the queue and its length. What is done is the caller's.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

MOST_WAITING = 256


class Busy(Exception):
    """Too much is waiting already."""


class Work:
    """Does one thing after the other, in the order in which they came.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str):
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._waiting = 0

    async def __call__(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Returns what a function returns, or raises what it raises.

        Raises:
            Busy: MOST_WAITING things wait.
        """
        if self._waiting >= MOST_WAITING:
            raise Busy
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, function, *arguments)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Ends the thread; what waits is not done."""
        self._thread.shutdown(wait=False, cancel_futures=True)
