"""What became of what was given: left out, failed, and notes that repeat.

Belongs here: the words of the ledger and the exit status that sums it up. Which files there are is
in `inputs`.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from imitation_refinement.errors import UserError

ALL_WORKED, NONE_WORKED, SOME_FAILED = 0, 1, 3  # exit status
INTERRUPTED = 130  # after Ctrl-C, as shells have it


class LeftOut(NamedTuple):
    """Something that was named and is not read.

    Attributes:
        path: what.
        reason: why, in words.
    """

    path: Path
    reason: str


def in_a_line(path: Path, error: Exception) -> str:
    """Returns what went wrong with a file; what nobody foresaw is said to be our fault."""
    if isinstance(error, UserError):
        return str(error)
    said = " ".join(str(error).split())
    return f"{path}: {type(error).__name__} ({said}); please report this file"


def kind_of(sentence: str) -> str:
    """Returns what sentences that differ in their numbers alone have in common."""
    return re.sub(r"\d+(\.\d+)?", "#", sentence)


class Notes:
    """Collects notes; those that differ in their numbers alone are kept once, with a count."""

    def __init__(self, notes: Sequence[str] = ()):
        self._kinds: dict[str, tuple[str, int, bool]] = {}  # first, how many, whether all the same
        self.add(notes)

    def add(self, notes: Sequence[str]) -> None:
        """Takes sentences, in any order."""
        for note in notes:
            kind = kind_of(note)
            first, count, same = self._kinds.get(kind, (note, 0, True))
            self._kinds[kind] = (first, count + 1, same and note == first)

    def told(self) -> list[str]:
        """Returns each kind of note once, in the order in which they came."""
        return [
            first if count == 1 else f"{first} ({count} times{'' if same else ', other numbers'})"
            for first, count, same in self._kinds.values()
        ]


def exit_status(worked: int, failed: int) -> int:
    """Returns 0 if all inputs worked, 3 if some did and 1 if none did."""
    if not worked:
        return NONE_WORKED
    return SOME_FAILED if failed else ALL_WORKED
