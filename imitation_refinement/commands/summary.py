"""What many patterns are in sum: counts of verdicts, systems, phases and reasons, and a sample.

Belongs here: counting rows of a table, one by one, in memory that does not grow with them. What is
shown of it is `summary_page`'s.
"""

import heapq
import zlib
from collections import Counter
from collections.abc import Mapping
from typing import Any

from imitation_refinement.commands.ledger import kind_of
from imitation_refinement.commands.scan_results import FAILED, NOT_RECOGNISED
from imitation_refinement.commands.tables import LEFT_OUT
from imitation_refinement.phases.candidates import NOT_IN_LIBRARY

COLUMNS = (
    "name", "input", "row", "verdict", "system", "confidence", "formula", "mineral",
    "space_group_number", "reason", "notes", "error",
)  # fmt: skip
BINS = 20  # of the confidence
WANTING, BY_CHANCE = 25, 100  # sampled patterns: of each verdict that wants attention, of all
_KINDS = 2000  # of reasons that are told apart
_Heap = list[tuple[float, int, dict[str, Any]]]  # -key, -number and row
_ATTENTION = ("ambiguous", NOT_IN_LIBRARY, NOT_RECOGNISED, FAILED)


class Kinds:
    """Counts sentences; those that differ in their numbers alone, or in the input, are one kind."""

    def __init__(self) -> None:
        self._counts = Counter[str]()
        self._first: dict[str, str] = {}

    def add(self, sentence: str, path: str) -> None:
        """Takes a sentence about an input."""
        kind = kind_of(sentence.replace(path, ""))
        if kind not in self._first:
            kind = kind if len(self._first) < _KINDS else "others"
            self._first.setdefault(kind, sentence)
        self._counts[kind] += 1

    def commonest(self, most: int) -> list[tuple[str, int]]:
        """Returns the first sentence of the commonest kinds, with how many there are of each."""
        return [(self._first[kind], count) for kind, count in self._counts.most_common(most)]


class Summary:
    """Counts of all rows so far.

    Attributes:
        verdicts: how many rows have each.
        systems: how many of each crystal system have each verdict.
        phases: by formula, mineral and space group.
        confident: of these, how many rows are.
        histogram: of the confidence, BINS counts of confident rows and as many of the others.
        reasons: by verdict.
        notes: of all rows.
    """

    def __init__(self) -> None:
        self.verdicts = Counter[str]()
        self.systems: dict[str, Counter[str]] = {}
        self.phases = Counter[tuple[str, str, int]]()
        self.confident = Counter[tuple[str, str, int]]()
        self.histogram = {True: [0] * BINS, False: [0] * BINS}
        self.reasons: dict[str, Kinds] = {}
        self.notes = Kinds()
        self._wanting: dict[str, _Heap] = {verdict: [] for verdict in _ATTENTION}
        self._chance: _Heap = []

    def add(self, row: Mapping[str, Any]) -> None:
        """Takes a row with COLUMNS."""
        number = self.verdicts.total()
        verdict, path = row["verdict"], row["input"]
        self.verdicts[verdict] += 1
        if row["system"]:
            self.systems.setdefault(row["system"], Counter())[verdict] += 1
        sure = verdict == "confident"
        if row["formula"]:
            phase = row["formula"], row["mineral"] or "", row["space_group_number"] or 0
            self.phases[phase] += 1
            self.confident[phase] += sure
        if row["confidence"] is not None:
            place = min(int(BINS * row["confidence"]), BINS - 1)
            self.histogram[sure][place] += 1
        if why := row["reason"] or row["error"]:
            self.reasons.setdefault(verdict, Kinds()).add(why, path)
        for note in (row["notes"] or "").split("; "):
            if note:
                self.notes.add(note, path)
        if verdict == LEFT_OUT:
            return
        item = number, dict(row)
        if verdict in _ATTENTION:
            confidence = row["confidence"] if row["confidence"] is not None else 0.0
            _keep(self._wanting[verdict], WANTING, confidence, *item)
        drawn = zlib.crc32(f"{path} {row['row']} {row['name']}".encode(errors="replace"))
        _keep(self._chance, BY_CHANCE, drawn, *item)

    def wanting(self) -> list[dict[str, Any]]:
        """Returns some rows of each verdict that wants attention, the least confident first."""
        return [row for heap in self._wanting.values() for *_, row in sorted(heap, reverse=True)]

    def by_chance(self) -> list[dict[str, Any]]:
        """Returns rows drawn by a hash of their names, in their order."""
        return [row for *_, row in sorted(self._chance, key=lambda item: -item[1])]

    def sample_inputs(self) -> list[str]:
        """Returns the inputs of both, each once, as `--input=@` takes them."""
        named = [
            row["input"] if row["row"] is None else f"{row['input']}[{row['row']}]"
            for row in (*self.wanting(), *self.by_chance())
        ]
        return list(dict.fromkeys(named))


def _keep(heap: _Heap, most: int, key: float, number: int, row: dict[str, Any]) -> None:
    """Keeps the rows of the smallest keys, so many."""
    item = (-key, -number, row)  # the smallest of a heap goes first
    if len(heap) < most:
        heapq.heappush(heap, item)
    else:
        heapq.heappushpop(heap, item)
