"""Programs compiled ahead: by a thread, while the run does what comes before them.

XLA compiles without Python's lock, so that a thread can compile while examples are simulated or
another network is trained. JAX keeps what is compiled with the jitted function, where the run's own
call finds it. Belongs here: the thread, and who waits for whom. Which programs a run needs is said
by its stages.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import jax
from absl import logging

from imitation_refinement.runtime.processors import available

# What `jax.monitoring` is told: seconds that a call waited for the thread.
WAITED = "/imitation_refinement/waited_for_the_compiler"


class Jitted:
    """A jitted function that may be compiled before it is called.

    Attributes:
        function: what `jax.jit` gave.
    """

    def __init__(self, function: Any):
        self.function = function
        self._taken = threading.Lock()  # by its call, or by the thread that compiles it

    def __call__(self, *arguments: Any) -> Any:
        """Calls it; waits while it is being compiled, and compiles what nobody has compiled yet."""
        if not self._taken.acquire(blocking=False):
            began = time.monotonic()
            self._taken.acquire()
            jax.monitoring.record_event_duration_secs(WAITED, time.monotonic() - began)
        try:
            return self.function(*arguments)
        finally:
            self._taken.release()

    def compile(self, *arguments: Any) -> None:
        """Compiles it for arguments like these, unless it is being called.

        Args:
            *arguments: as of a call. Arrays may be `jax.ShapeDtypeStruct`, with the sharding that
                they will have: without it JAX takes it for another program.
        """
        if self._taken.acquire(blocking=False):
            try:
                self.function.lower(*arguments).compile()
            finally:
                self._taken.release()

    def result(self, *arguments: Any) -> Any:
        """Returns shapes, dtypes and shardings of what it returns, without compiling it."""
        return self.function.eval_shape(*arguments)


@contextmanager
def compiled_ahead(programs: Sequence[Callable[[], None]]) -> Iterator[None]:
    """Compiles programs, one after another in a thread, while what stands in its block is done.

    A program that cannot be compiled is left to its call, which says what is wrong. After the block
    no other is begun. On a GPU nothing is compiled ahead: XLA times kernels there to choose among
    them, which running ones would disturb. Nor is it in a run of several processes, which compile
    one program at the same time; nor on one processor, where nothing is won.

    Args:
        programs: each compiles one; in the order in which they will be called.
    """
    over = threading.Event()

    def work() -> None:
        for program in programs:
            if over.is_set():
                return
            try:
                program()
            except Exception as error:
                logging.info("not compiled ahead: %s", str(error).partition("\n")[0])

    if jax.default_backend() == "cpu" and jax.process_count() == 1 and available() > 1:
        threading.Thread(target=work, name="compiled ahead").start()
    try:
        yield
    finally:
        over.set()
