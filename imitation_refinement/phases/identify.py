"""Naming phases: a library, its prototypes and their calibration, asked about placed scans.

Belongs here: what a caller needs to have and to say, and the answer in words of the library. The
numbers come from `match` and `candidates`; files are `library`'s and `calibration_file`'s.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path

import numpy as np
from absl import logging

from imitation_refinement.errors import UserError
from imitation_refinement.phases.build import make_library
from imitation_refinement.phases.calibration_file import load_calibration
from imitation_refinement.phases.candidates import Calibration, answers
from imitation_refinement.phases.compositions import Compositions, Elements, Known, match_known
from imitation_refinement.phases.further import is_mixed, with_further
from imitation_refinement.phases.leading import (
    Cells,
    deviations_of,
    fitted_cell,
    leaders_of,
)
from imitation_refinement.phases.library import Library, concatenate, load_library
from imitation_refinement.phases.match import Match
from imitation_refinement.phases.named import Identified, named
from imitation_refinement.phases.prototypes import (
    GRID,
    Prototypes,
    build_prototypes,
    scan_roots,
)
from imitation_refinement.phases.refiner_file import PhaseRefiner, load_refiner
from imitation_refinement.phases.side_by_side import side_by_side
from imitation_refinement.phases.stacking import together
from imitation_refinement.runtime.generate import cached_arrays
from imitation_refinement.xrd.scans import PlacedScan

SHOWN = 10  # candidates of each scan that are told
FITTED = 3  # of these, whose cells are fitted


@dataclass(frozen=True, eq=False)
class Phases:
    """Structures that scans are compared with.

    Attributes:
        library: N entries.
        prototypes: of them.
        calibration: what the evidence for them means.
        refiner: of scans, which are then answered by their pattern and the refined one `together`;
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

    def identify(
        self,
        placed: Sequence[PlacedScan],
        known: Sequence[Elements | None] | None = None,
        *,
        cells: bool = True,
    ) -> list[Identified]:
        """Returns what the library says of some scans.

        Args:
            placed: of `on_grid` on `prototypes.GRID`, not empty.
            known: composition of each; None for any.
            cells: whether the cells of the first few candidates are fitted.
        """
        known = known or [None] * len(placed)
        kinds: dict[tuple[bool, bool], list[int]] = {}
        for row, (scan, own) in enumerate(zip(placed, known, strict=True)):
            kinds.setdefault((not scan.signal, own is not None), []).append(row)
        told: dict[int, Identified] = {}
        for (signal, _), rows in kinds.items():
            elements = [one for row in rows if (one := known[row]) is not None]
            limits = self._compositions.known(elements) if elements else None
            of_some = self._of_a_kind([placed[row] for row in rows], signal, limits, cells)
            told.update(zip(rows, of_some, strict=True))
        return [told[row] for row in range(len(placed))]

    @cached_property
    def _compositions(self) -> Compositions:
        return Compositions(self.library)

    def _of_a_kind(
        self, placed: Sequence[PlacedScan], signal: bool, known: Known | None, cells: bool
    ) -> list[Identified]:
        """Answers scans that all have peaks, or none has, of samples of known elements, or not."""
        patterns = np.stack([one.pattern for one in placed]) * np.float32(signal)
        masks = np.stack([one.mask for one in placed])
        posterior = self.calibration.posterior if known is None else self.calibration.known
        made = self.refiner.both(placed) if signal and self.refiner else None
        looks = [patterns] if made is None else [patterns, made.pattern]
        matches = match_known(looks, masks, self.prototypes, posterior, known=known)
        found, fitted = matches[0], [Cells() for _ in placed]
        if made is not None:
            found, fitted = self.by_both(placed, matches[0], matches[1], known is not None)
        told = self.told(found, known, signal=signal, refined=made is not None)
        if not signal:
            return told
        if made is not None:
            told = [
                one._replace(refined=refined, denoised=denoised)
                for one, refined, denoised in zip(told, *made, strict=True)
            ]
        if cells:
            roots = scan_roots(patterns, masks, 1)[0]
            of_each = zip(told, roots, fitted, strict=True)
            told = side_by_side(lambda one: self._with_cells(*one), of_each)
        rows = [row for row, one in enumerate(told) if is_mixed(one)]
        if rows:
            further = with_further(
                [told[row] for row in rows], patterns[rows], masks[rows], self.prototypes,
                self.calibration.posterior, None if known is None else known.allowed[rows],
                lambda more: self.told(more, known),
            )  # fmt: skip
            for row, one in zip(rows, further, strict=True):
                told[row] = one
        return told

    def by_both(
        self, placed: Sequence[PlacedScan], first: Match, second: Match, known: bool = False
    ) -> tuple[Match, list[Cells]]:
        """Returns what both looks say `together`, and the cells of the leaders of each scan.

        Args:
            placed: the n scans.
            first: match of their patterns.
            second: match of the refined ones.
            known: whether these were by what is known of their elements.
        """
        leaders = leaders_of(first, second)
        deviating, cells = deviations_of(placed, leaders, self.library, self.prototypes)
        trees = self.calibration.known_stack if known else self.calibration.stack
        return together(first, second, deviating, trees), cells

    def _with_cells(self, one: Identified, root: np.ndarray, fitted: Cells) -> Identified:
        """The same with cells fitted to the scan, for the first few candidates."""
        first, cells = one.candidates[:FITTED], []
        for phase in first:
            entry = phase.candidate.entry
            if entry not in fitted:
                fitted[entry] = fitted_cell(phase.moved, root, self.library, self.prototypes)
            cells.append(fitted[entry])
        with_cells = [phase._replace(cell=cell) for phase, cell in zip(first, cells, strict=True)]
        return one._replace(candidates=(*with_cells, *one.candidates[FITTED:]))

    def told(
        self, found: Match, known: Known | None, *, signal: bool = True, refined: bool = False
    ) -> list[Identified]:
        """Puts a match of some scans into words.

        Args:
            found: of n scans with these prototypes.
            known: of the elements of the n samples; of none without it.
            signal: whether the scans have peaks.
            refined: whether the match is `together` with that of refined patterns.
        """
        library, every = self.library, np.ones(len(found.entry), bool)
        of_each = answers(
            found, self.prototypes, library.space_group, library.crystal_system, library.formula,
            self.calibration, every & signal, every & (known is not None), refined,
        )  # fmt: skip
        return [
            Identified(
                answer,
                tuple(
                    named(found, row, candidate, library)
                    for candidate in answer.candidates[:SHOWN]
                    if signal
                ),
            )
            for row, answer in enumerate(of_each)
        ]


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
