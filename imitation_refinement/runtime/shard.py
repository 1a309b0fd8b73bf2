"""One part of many of a large batch, for job arrays: its number, its files, what it has said.

Belongs here: what shards of everything have in common. A finished shard leaves a receipt,
`00003-of-00100.json`, with its `shard` (number, of how many) and the `job` that names its batch.
"""

import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, NamedTuple

from imitation_refinement.errors import UserError
from imitation_refinement.runtime.files import read_json

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


def read_receipts(
    folder: Path, mode: str, read: Callable[[Path], dict[str, Any] | None] = read_json
) -> dict[int, dict[str, Any]]:
    """Returns the receipts of the finished shards in a folder by number, in order.

    Args:
        folder: of the receipts.
        mode: whose they are, for messages.
        read: returns what a receipt says; None if its shard is to be done again.

    Raises:
        UserError: there is none, or they are of several batches.
    """
    found: dict[int, dict[str, Any]] = {}
    first = None
    for path in sorted(folder.glob("*-of-*.json")):
        if not re.fullmatch(r"\d+-of-\d+", path.stem) or (receipt := read(path)) is None:
            continue
        first = first or (path, receipt)
        if receipt["shard"][1] != first[1]["shard"][1] or receipt["job"] != first[1]["job"]:
            raise UserError(
                f"{path}: is not of the same batch as {first[0].name} (other inputs, options, model"
                ", version or number of shards); delete the older ones, or name another --output"
            )
        found[receipt["shard"][0]] = receipt
    if not found:
        raise UserError(f"{folder}: no finished shard in it; {_run_it(mode)}")
    return found


def missing_of(receipts: dict[int, dict[str, Any]]) -> list[int]:
    """Returns the numbers of the shards that have left no receipt."""
    count = next(iter(receipts.values()))["shard"][1]
    return [number for number in range(count) if number not in receipts]


def refuse_missing(receipts: dict[int, dict[str, Any]], folder: Path, mode: str) -> None:
    """Checks that every shard is there.

    Raises:
        UserError: some are not.
    """
    if missing := missing_of(receipts):
        count = len(receipts) + len(missing)
        raise UserError(f"{folder}: {told_missing(missing, count)}; {_run_it(mode)}")


def told_missing(missing: Collection[int], count: int) -> str:
    """Returns which shards of so many are missing, in words."""
    return f"{len(missing)} of {count} shards are missing: {ranges(list(missing))}"


def _run_it(mode: str) -> str:
    return f"run --mode={mode} --shard=i/n with the same --output first"


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
