"""Naming phases: a library, its prototypes and their calibration, asked about placed scans.

Belongs here: what a caller needs to have and to say, and the answer in words of the library. The
numbers come from `match` and `candidates`; files are `library`'s and `calibration_file`'s.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import logging

from imitation_refinement.errors import UserError
from imitation_refinement.phases.build import make_library
from imitation_refinement.phases.calibration_file import load_calibration
from imitation_refinement.phases.candidates import Answer, Calibration, Candidate, answers
from imitation_refinement.phases.cell_fit import CellFit, fit_cell
from imitation_refinement.phases.compositions import Compositions, Known, match_known
from imitation_refinement.phases.library import Library, concatenate, load_library
from imitation_refinement.phases.match import Match, match_residual, pooled
from imitation_refinement.phases.prototypes import (
    GRID,
    Prototypes,
    build_prototypes,
    line_heights,
    scan_roots,
)
from imitation_refinement.phases.refiner_file import PhaseRefiner, load_refiner
from imitation_refinement.phases.side_by_side import side_by_side
from imitation_refinement.runtime.generate import cached_arrays
from imitation_refinement.xrd.crystals import CRYSTAL_SYSTEMS
from imitation_refinement.xrd.formula import SYMBOLS
from imitation_refinement.xrd.scans import PlacedScan
from imitation_refinement.xrd.structures.cif import space_group_symbol
from imitation_refinement.xrd.structures.settings import operations

SHOWN = 10  # candidates of each scan that are told
FITTED = 3  # of these, whose cells are fitted
MIXED = 0.2  # share of a scan that its first phase leaves, from which on a second is proposed
FURTHER = 2  # phases that are proposed beside the first


class Elements(NamedTuple):
    """What is known of a sample's composition.

    Attributes:
        may: elements besides which none occurs; None for any.
        must: elements that occur.
        must_not: elements that do not.
    """

    may: frozenset[str] | None = None
    must: frozenset[str] = frozenset()
    must_not: frozenset[str] = frozenset()


class Named(NamedTuple):
    """A candidate phase of a scan, in words.

    Attributes:
        candidate: see `candidates.Candidate`; its entry is an index into the library.
        formula, mineral: of its likeliest structure; the mineral may be ''.
        space_group_number: as the source states it.
        space_group: its short Hermann-Mauguin symbol.
        system: crystal system.
        source, source_id: where the structure is from.
        members: identifiers of the structures that no powder pattern tells from it.
        cosine, explained, missing, left_over: see `match.Match`.
        shift: change of the cell's lengths from the library to the scan, a fraction.
        displacement: of the sample over the goniometer's radius.
        cell: of the sample, fitted in what the crystal system leaves free, for the first few
            candidates of a scan; None where it was not, or too few lines stand alone.
    """

    candidate: Candidate
    formula: str
    mineral: str
    space_group_number: int
    space_group: str
    system: str
    source: str
    source_id: str
    members: tuple[str, ...]
    cosine: float
    explained: float
    missing: float
    left_over: float
    shift: float
    displacement: float
    cell: CellFit | None = None


class Identified(NamedTuple):
    """What the library says of one scan.

    Attributes:
        answer: verdict, crystal systems, space groups.
        candidates: likeliest first.
        further: for a scan that no one phase explains, the likeliest phases of what the first
            leaves, and of what these two leave; one list each.
        refined: by which the answer was given beside the pattern as it is, float32 `[L]`; None
            where that one alone was asked.
    """

    answer: Answer
    candidates: tuple[Named, ...]
    further: tuple[tuple[Named, ...], ...] = ()
    refined: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Phases:
    """Structures that scans are compared with.

    Attributes:
        library: N entries.
        prototypes: of them.
        calibration: what the evidence for them means.
        refiner: of scans, whose answer is the mean of what their pattern and the refined one say;
            None for patterns as they are alone.
    """

    library: Library
    prototypes: Prototypes
    calibration: Calibration
    refiner: PhaseRefiner | None = None

    def describe(self) -> str:
        """Returns in a line what the library holds."""
        measured = int(np.count_nonzero(self.library.computed == 0))
        return f"{len(self.library):,} structures, {measured:,} of them measured"

    @cached_property
    def _compositions(self) -> Compositions:
        return Compositions(self.library)

    def limits(self, known: Sequence[Elements | None]) -> Known | None:
        """Returns what the compositions of n samples say of the entries; None if they say nothing.

        Where any element may be, no entry is known to be complete.
        """
        if all(one is None for one in known):
            return None
        kinds = {one: one or Elements() for one in known}
        have = self._compositions
        may = {one: have.allowed(e.may, e.must, e.must_not) for one, e in kinds.items()}
        has = {one: have.complete(e.may | e.must if e.may is not None else frozenset())
               for one, e in kinds.items()}  # fmt: skip
        return Known(
            np.array([one is not None for one in known]),
            np.stack([may[one] for one in known]),
            np.stack([has[one] for one in known]),
        )

    def identify(
        self, placed: Sequence[PlacedScan], known: Sequence[Elements | None] | None = None
    ) -> list[Identified]:
        """Returns what the library says of some scans.

        Args:
            placed: of `on_grid` on `prototypes.GRID`, not empty.
            known: composition of each; None for any.
        """
        if known is not None and len({one is None for one in known}) > 1:
            return self._in_two(placed, known)
        patterns = np.stack([one.pattern for one in placed])
        masks = np.stack([one.mask for one in placed])
        signal = np.array([not one.signal for one in placed])
        limits = None if known is None else self.limits(known)
        patterns = patterns * signal[:, None]
        found = self._match(patterns, masks, limits)
        told = self._told(found, signal, limits)
        seen = np.flatnonzero(signal).tolist()
        if self.refiner and seen:
            self._ask_refined(told, seen, placed, masks, found, limits)
        roots = scan_roots(patterns, masks, 1)[0]
        told = side_by_side(lambda pair: self._with_cells(*pair), zip(told, roots, strict=True))
        mixed = [row for row, one in enumerate(told) if signal[row] and _is_mixed(one)]
        if mixed:
            self._add_further(told, mixed, patterns, masks, found, limits)
        return told

    def _in_two(
        self, placed: Sequence[PlacedScan], known: Sequence[Elements | None]
    ) -> list[Identified]:
        """Answers scans of samples of which something is known, and the others, by themselves."""
        told: dict[int, Identified] = {}
        for something in (False, True):
            rows = [row for row, one in enumerate(known) if (one is not None) == something]
            of_some = self.identify([placed[i] for i in rows], [known[i] for i in rows])
            told.update(zip(rows, of_some, strict=True))
        return [told[row] for row in range(len(placed))]

    def _match(self, patterns: np.ndarray, masks: np.ndarray, limits: Known | None) -> Match:
        calibration = self.calibration
        posterior = calibration.posterior if limits is None else calibration.known
        return match_known(patterns, masks, self.prototypes, posterior, known=limits)

    def _ask_refined(
        self,
        told: list[Identified],
        rows: list[int],
        placed: Sequence[PlacedScan],
        masks: np.ndarray,
        found: Match,
        limits: Known | None,
    ) -> None:
        """Answers some scans by their pattern and the refined one, in `told` and in `found`."""
        assert self.refiner
        refined = self.refiner([placed[row] for row in rows])
        best = found.entry.shape[1]
        limits = None if limits is None else limits.of(rows)
        again = self._match(refined, masks[rows], limits)
        both = pooled(Match(*(column[rows] for column in found)), again)
        answered = self._told(both, np.ones(len(rows), bool), limits, refined=True)
        for row, one, pattern in zip(rows, answered, refined, strict=True):
            told[row] = one._replace(refined=pattern)
        for column, pool in zip(found, both, strict=True):
            column[rows] = pool if pool.ndim == 1 else pool[:, :best]

    def _with_cells(self, one: Identified, root: np.ndarray) -> Identified:
        """The same with cells fitted to the scan, for the first few candidates."""
        library, first = self.library, one.candidates[:FITTED]
        cells = []
        for named in first:
            entry = named.candidate.entry
            q, amplitude = library.lines(entry)
            cells.append(
                fit_cell(
                    library.cell[entry].astype(np.float64),
                    operations(int(library.hall[entry]))[:, :, :3],
                    q, line_heights(q, amplitude), root,
                    shift=-np.log1p(named.shift), displacement=named.displacement,
                )
            )  # fmt: skip
        fitted = [named._replace(cell=cell) for named, cell in zip(first, cells, strict=True)]
        return one._replace(candidates=(*fitted, *one.candidates[FITTED:]))

    def _add_further(
        self,
        told: list[Identified],
        rows: list[int],
        patterns: np.ndarray,
        masks: np.ndarray,
        found: Match,
        limits: Known | None,
    ) -> None:
        """Proposes phases for what is left of some scans."""
        left, masks = patterns[rows], masks[rows]
        found = Match(*(column[rows] for column in found))
        free = np.ones((len(rows), len(self.library)), bool)
        if limits is not None:
            limits = limits.of(rows)
            free &= limits.allowed
        first = [told[row].candidates[0] for row in rows]
        for _ in range(FURTHER):
            for place, one in enumerate(first):
                free[place, list(one.candidate.members)] = False  # it is named already
            left, found = match_residual(
                left, masks, self.prototypes, self.calibration.posterior, found, allowed=free
            )
            said = self._told(found, np.asarray(left.any(axis=1)), limits)
            for place, more in enumerate(said):
                if more.candidates:
                    first[place] = more.candidates[0]
                    further = (*told[rows[place]].further, more.candidates)
                    told[rows[place]] = told[rows[place]]._replace(further=further)

    def _told(
        self, found: Match, signal: np.ndarray, known: Known | None, *, refined: bool = False
    ) -> list[Identified]:
        library = self.library
        of_each = answers(
            found, self.prototypes, library.space_group, library.crystal_system, library.formula,
            self.calibration, signal, None if known is None else known.named, refined,
        )  # fmt: skip
        return [
            Identified(
                answer,
                tuple(
                    self._named(found, row, candidate)
                    for candidate in answer.candidates[:SHOWN]
                    if signal[row]
                ),
            )
            for row, answer in enumerate(of_each)
        ]

    def _named(self, found: Match, row: int, candidate: Candidate) -> Named:
        library, entry, place = self.library, candidate.entry, (row, candidate.place)
        return Named(
            candidate,
            str(library.composition[entry]) or str(library.formula[entry]),
            str(library.mineral[entry]),
            candidate.space_group,
            space_group_symbol(candidate.space_group),
            CRYSTAL_SYSTEMS[candidate.system],
            library.sources[int(library.source[entry])].name,
            str(library.source_id[entry]),
            tuple(dict.fromkeys(str(library.source_id[other]) for other in candidate.members)),
            float(found.cosine[place]),
            float(found.explained[place]),
            float(found.missing[place]),
            float(found.left_over[place]),
            float(np.expm1(-found.shift[place])),
            float(found.displacement[place]),
        )


def _is_mixed(one: Identified) -> bool:
    return bool(one.candidates) and one.candidates[0].left_over >= MIXED


def load_phases(names: Sequence[str | PathLike[str]], cache_dir: str | PathLike[str]) -> Phases:
    """Loads libraries, taken together, and what is needed to match scans with them.

    Args:
        names: library files, `shipped` for that of the package, or structures as `build` reads
            them (a folder of CIF files), of which a library is made once for their content.
        cache_dir: where such libraries are kept, and the coarse patterns of all, which take some
            seconds to draw.

    Raises:
        UserError: a file is missing or damaged, or holds no structure.
    """
    libraries = [_library_of(str(name), Path(cache_dir)) for name in names]
    library = libraries[0] if len(libraries) == 1 else concatenate(libraries)
    if not len(library):
        raise UserError(f"--library={', '.join(map(str, names))}: holds no structure")
    prototypes = cached_prototypes(library, cache_dir)
    return Phases(library, prototypes, load_calibration(), load_refiner())


def _library_of(name: str, cache_dir: Path) -> Library:
    if name == "shipped":
        return load_library()
    path = Path(name).expanduser()
    if path.suffix == ".npz":
        return load_library(path)
    if not path.exists():
        raise UserError(f"--library={name}: there is no such file or folder")
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            digest.update(str(file.relative_to(path.parent)).encode())
            digest.update(file.read_bytes())
    made = cache_dir / "libraries" / f"{digest.hexdigest()[:32]}.npz"
    if made.exists():
        return load_library(made)
    return make_library([path], made).library


def cached_prototypes(library: Library, cache_dir: str | PathLike[str]) -> Prototypes:
    """Returns the prototypes of a library; coarse patterns are drawn once for each content."""
    lines = library.q, library.amplitude, library.offsets
    digest = hashlib.sha256()
    for array in lines:
        digest.update(np.ascontiguousarray(array).tobytes())
    key = {"lines": digest.hexdigest(), "grid": list(GRID)}

    def build() -> dict[str, np.ndarray]:
        logging.info("preparing %s structures, once for this library", f"{len(library):,}")
        return {"coarse": build_prototypes(*lines, library.computed, GRID).coarse}

    coarse = cached_arrays(Path(cache_dir), "prototypes", key, build)["coarse"]
    return build_prototypes(*lines, library.computed, GRID, coarse=coarse)


def parse_elements(text: str) -> Elements:
    """Returns what `Ca C O` (no others), `+Fe` (must occur) and `-Cl` (must not) say together.

    Symbols are separated by spaces or commas. Without any plain symbol the others may occur.

    Raises:
        UserError: a word is no element, or one both must and must not occur.
    """
    groups: dict[str, set[str]] = {"": set(), "+": set(), "-": set()}
    for word in re.split(r"[\s,;]+", text.strip()):
        sign, symbol = (word[0], word[1:]) if word[:1] in "+-" and word else ("", word)
        if symbol not in SYMBOLS[1:]:
            raise UserError(
                f"elements: {word!r} is no element; write symbols such as 'Ca C O', +Fe for one "
                "that must occur, -Cl for one that must not"
            )
        groups[sign].add(symbol)
    both = sorted(groups["-"] & (groups["+"] | groups[""]))
    if both:
        raise UserError(f"elements: {both[0]} is named both as present and as absent")
    may = frozenset(groups[""]) if groups[""] else None
    return Elements(may, frozenset(groups["+"]), frozenset(groups["-"]))
