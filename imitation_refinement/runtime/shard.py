"""One part of many of a large batch, for job arrays: its number, and what its files are called."""

import re
from typing import NamedTuple

from imitation_refinement.errors import UserError

_NAMED = 20  # runs of numbers that are named in a line


class Shard(NamedTuple):
    """Shard `number`, from 0, `of` so many."""

    number: int
    of: int

    @property
    def name(self) -> str:
        """Of its files; they sort as they are counted."""
        return f"{self.number:05d}-of-{self.of:05d}"

    def owns(self, chunk: int, total: int) -> bool:
        """Returns whether a chunk of so many is this shard's: each has a run of them, in order."""
        first, last = (n * total // self.of for n in (self.number, self.number + 1))
        return first <= chunk < last


WHOLE = Shard(0, 1)


def parse_shard(text: str) -> Shard:
    """Returns what `3/100` says.

    Raises:
        UserError: it is no number below another.
    """
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text.strip())
    if not found or int(found[1]) >= int(found[2]):
        raise UserError(
            f"--shard={text}: write the number of the shard, from 0, and how many there are, such"
            " as --shard=0/100 to --shard=99/100"
        )
    return Shard(int(found[1]), int(found[2]))


def ranges(numbers: list[int]) -> str:
    """Returns rising numbers in words: `3, 17-20`; of many runs the first."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1] = [runs[-1][0], number]
        else:
            runs.append([number])
    told = ["-".join(map(str, run)) for run in runs[:_NAMED]]
    return ", ".join(told) + (", ..." if len(runs) > _NAMED else "")
