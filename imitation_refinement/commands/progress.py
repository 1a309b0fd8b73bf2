"""How far a batch is, said in the log now and then.

Belongs here: the words and the clock; nothing of what is counted.
"""

import time

from absl import logging

_BETWEEN_REPORTS = 10.0  # seconds


class Progress:
    """Says how many of so many are done and how long the rest will take, every ten seconds.

    Args:
        what: is counted, such as `files`.
        total: of them.
    """

    def __init__(self, what: str, total: int):
        self._what, self._total = what, total
        self._started = self._said = time.monotonic()

    def __call__(self, done: int, here: int | None = None) -> None:
        """Is told how many are done, and how many of these since it was made; all without it."""
        now = time.monotonic()
        if now - self._said >= _BETWEEN_REPORTS and done < self._total:
            self._said = now
            rest = (now - self._started) / (here or done) * (self._total - done)
            logging.info(
                "%d of %d %s, about %s left", done, self._total, self._what, duration(rest)
            )


def duration(seconds: float) -> str:
    """Returns a time in the unit that suits it: 40 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
