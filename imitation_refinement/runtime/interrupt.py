"""Being asked to stop: SIGTERM and SIGINT become a question that the training loop puts each step.

Belongs here: signal handlers and nothing else. Saving is the loop's business.
"""

import signal
from types import FrameType
from typing import Any

import jax
from absl import logging

from imitation_refinement.runtime import checkpoint

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopSignal:
    """Context manager within which SIGTERM and SIGINT set a flag instead of ending the process.

    A second SIGINT (Ctrl-C again) raises KeyboardInterrupt. With several processes the signals are
    left to jax, which agrees among them on the step at which all stop; a handler of ours would
    replace its own. Enter it in the main thread, after `jax.distributed.initialize`.
    """

    def __init__(self) -> None:
        self._signal: signal.Signals | None = None
        self._old: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopSignal":
        if jax.process_count() == 1:
            self._old = {number: signal.signal(number, self._receive) for number in SIGNALS}
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)
        self._old = {}

    def requested(self, step: int) -> bool:
        """Returns whether to stop after this step. Collective: every process asks at every step.

        Args:
            step: number of finished steps, strictly growing.
        """
        if jax.process_count() > 1:
            return checkpoint.preempted(step)
        return self._signal is not None

    @property
    def exit_status(self) -> int:
        """Exit status by the shell's convention: 128 + number of the signal (SIGTERM: 143)."""
        return 128 + (self._signal or signal.SIGTERM)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self._signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._signal = signal.Signals(number)
        logging.info("%s: saving after this step, then stopping", self._signal.name)
