"""Tasks on the processes of a Dask cluster, or one after the other in this process.

Belongs here: the one door to Dask. A task is a function and a value that can be pickled; Dask does
it again where its process was killed, and each result comes back once. Never more tasks are given
out than keep the workers busy.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import Any, TypeVar

from absl import logging

from imitation_refinement.errors import UserError
from imitation_refinement.runtime.processors import available

Task = TypeVar("Task")
LOCAL = "local"
_AHEAD = 2  # tasks for each worker: one that it does and one that waits for it
_CONNECT_S = 30
_INSTALL = "from the checkout: .venv/bin/pip install '.[cluster]'"
# One thread for each worker: as many workers as cores share them better than threads do.
_ONE_THREAD = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"


def each(
    function: Callable[[Task], Any], tasks: Iterable[Task], address: str | None = None
) -> Iterator[tuple[Task, Any]]:
    """Yields each task and what the function returned for it, as they are finished.

    Args:
        function: of a module that the workers have.
        tasks: taken as workers become free.
        address: of a Dask scheduler, such as tcp://host:8786; LOCAL for a worker on each core of
            this machine; None for this process.

    Raises:
        UserError: Dask is not installed, or nobody answers at the address; a task ended the
            process of its worker several times (after all others are finished).
        Exception: what the function raises.
    """
    if address is None:
        for task in tasks:
            yield task, function(task)
        return
    try:
        import dask
        import distributed
    except ImportError as error:
        raise UserError(f"--cluster needs {error.name}; {_INSTALL}") from error
    with ExitStack() as stack:
        place: Any = address
        if address == LOCAL:
            # Daemons could not start the processes that read structures (`phases.isolated`).
            stack.enter_context(dask.config.set({"distributed.worker.daemon": False}))
            place = stack.enter_context(_local_cluster())
        try:
            client = stack.enter_context(distributed.Client(place, timeout=_CONNECT_S))
        except (OSError, ValueError) as error:
            raise UserError(
                f"--cluster={address}: no scheduler answers there within {_CONNECT_S} s ({error});"
                " give tcp://HOST:PORT of `dask scheduler`, or `local`"
            ) from error
        yield from _spread(client, function, tasks)


def _local_cluster() -> Any:
    import distributed

    flags = f"{os.environ.get('XLA_FLAGS', '')} {_ONE_THREAD}".strip()
    return distributed.LocalCluster(
        n_workers=available(), threads_per_worker=1, processes=True,
        dashboard_address=None, memory_limit=0, env={"XLA_FLAGS": flags},
    )  # fmt: skip


def _spread(
    client: Any, function: Callable[[Task], Any], tasks: Iterable[Task]
) -> Iterator[tuple[Task, Any]]:
    # Dask suspects what waited on a worker that ended as much as what ran there: each of these is
    # tried once more with nothing beside it.
    suspected, ended = list[Task](), list[Task]()
    yield from _given_out(client, function, tasks, suspected, alone=False)
    yield from _given_out(client, function, suspected, ended, alone=True)
    if ended:
        raise UserError(
            f"{len(ended)} tasks ended their workers again and again, most likely for want of"
            f" memory (first: {ended[0]!r:.200}); all others are finished. The same command tries"
            " these again"
        )


def _given_out(
    client: Any, function: Callable[[Task], Any], tasks: Iterable[Task], lost: list[Task],
    *, alone: bool,
) -> Iterator[tuple[Task, Any]]:  # fmt: skip
    """Yields tasks and results as they are finished; those whose workers ended go to `lost`."""
    import distributed

    waiting, given = iter(tasks), dict[Any, Task]()
    finished = distributed.as_completed()

    def give_out() -> None:
        workers = max(1, sum(client.ncores().values()))  # they may come and go
        while len(given) < (1 if alone else _AHEAD * workers):
            for task in waiting:
                future = client.submit(function, task, pure=False)
                given[future] = task
                finished.add(future)
                break
            else:
                return

    give_out()
    for future in finished:
        task = given.pop(future)
        try:
            result = future.result()
        except distributed.scheduler.KilledWorker as error:
            lost.append(task)
            logging.warning("a worker ended with a task%s: %s", " alone" if alone else "", error)
        else:
            yield task, result
        give_out()
