"""Work on many items that one bad item cannot end.

Belongs here: a process of its own for a piece of work, with bounds on memory and on the time for
one item. When the process is killed, runs out of memory or hangs, the item that it was at is named
and left out, and the work is begun again without it. Nothing here knows what an item is.
"""

import multiprocessing
import signal
import time
from collections.abc import Callable
from typing import Any

import threadpoolctl

from imitation_refinement.errors import UserError

# (items to leave out and why, place to say which item is in work) -> nothing; importable.
Work = Callable[[dict[int, str], Any], None]
_START_SECONDS = 60.0  # until a process has begun


def run_isolated(work: Work, *, seconds: float, memory: int) -> dict[int, str]:
    """Runs `work` in a process of its own, again after each item that ended it.

    Args:
        work: called as work(left_out, at); sets `at.value` to the index of each item before it
            begins with it, passes over those in `left_out`, and keeps its own results.
        seconds: for one item.
        memory: bytes that the process may take; beyond, allocations raise MemoryError (where the
            system can limit them).

    Returns:
        {index: why} of the items that ended or stopped the process.

    Raises:
        UserError: the process ends at no item, or twice at the same one; this one may start none.
    """
    if multiprocessing.current_process().daemon:
        raise UserError(
            "a worker of Dask may not start the process that reads structures; start the workers"
            " with DASK_DISTRIBUTED__WORKER__DAEMON=False in their environment"
        )
    context = multiprocessing.get_context("spawn")
    at = context.Value("q", -1, lock=False)
    left_out: dict[int, str] = {}
    while True:
        process = context.Process(target=_limited, args=(work, left_out, at, memory), daemon=True)
        process.start()
        failed = _watched(process, at, seconds)
        if not failed:
            return left_out
        if at.value < 0 or at.value in left_out:
            raise UserError(f"a worker process {failed}; is the memory full?")
        left_out[at.value] = failed
        at.value = -1


def _watched(process: Any, at: Any, seconds: float) -> str:
    """Waits for a process; returns how it failed, empty if it did not."""
    last, since = at.value, time.monotonic()
    while process.is_alive():
        process.join(min(0.2, seconds / 4.0))
        if at.value != last:
            last, since = at.value, time.monotonic()
        elif time.monotonic() - since > (seconds if last >= 0 else _START_SECONDS):
            process.kill()
            process.join()
            return f"took more than {seconds:.0f} s"
    if process.exitcode == 0:
        return ""
    return f"ended the process that read it (exit status {process.exitcode})"


def _limited(work: Work, left_out: dict[int, str], at: Any, memory: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's; no item is to blame
    try:
        import resource
    except ImportError:  # not on Windows
        pass
    else:
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    with threadpoolctl.threadpool_limits(1):  # the processes share the cores
        work(left_out, at)
