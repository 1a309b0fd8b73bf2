"""Rows that are drawn when they are first asked for and kept while there is room.

Belongs here: the store. The scans of one laboratory ask for the same prototypes again and again,
and drawing them costs more than comparing them.
"""

from collections.abc import Callable
from threading import Lock

import numpy as np

MEMORY = 1 << 28  # bytes; all of the shipped library
_LEVELS = 65535


class KeptRows:
    """Rows of N, kept with 16 bits; the oldest give way to new ones where memory ends.

    Threads may share it. Memory is taken as rows are filled.
    """

    def __init__(self, count: int, points: int, memory: int = MEMORY):
        self._rows = np.empty((min(count, memory // (2 * points)), points), np.uint16)
        self._place = np.full(count, -1)  # of each of N in _rows
        self._owner = np.full(len(self._rows), -1)  # of each of _rows
        self._next = 0
        self._lock = Lock()

    def rows(self, chosen: np.ndarray, draw: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """Returns some rows, float32 `[C, points]`, values rounded to multiples of 1 / 65535.

        Args:
            chosen: which, int `[C]`, no one twice.
            draw: gives those that are not kept, float32 in 0..1 `[c, points]`.
        """
        with self._lock:
            place = self._place[chosen]
            codes = self._rows[place]
        new = np.flatnonzero(place < 0)
        if new.size:
            codes[new] = np.rint(draw(chosen[new]) * np.float32(_LEVELS))
            self._keep(chosen[new], codes[new])
        values = codes.astype(np.float32)
        values *= np.float32(1.0 / _LEVELS)
        return values

    def _keep(self, chosen: np.ndarray, codes: np.ndarray) -> None:
        with self._lock:
            room = len(self._rows)
            chosen, codes = chosen[:room], codes[:room]
            place = (self._next + np.arange(len(chosen))) % room
            former = self._owner[place]
            gone = (former >= 0) & (self._place[former] == place)
            self._place[former[gone]] = -1
            self._rows[place], self._owner[place] = codes, chosen
            self._place[chosen] = place
            self._next = (self._next + len(chosen)) % room
