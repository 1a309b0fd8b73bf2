"""Crystals from CIF files beside a refined pattern: where their lines are, how well they match.

Belongs here: finding the CIF files that belong to a scan, simulating them as the ideal patterns of
training are, and the score. Reading a CIF is `structures.collection`'s.
"""

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from imitation_refinement.errors import UserError
from imitation_refinement.evaluation.metrics import ncc
from imitation_refinement.xrd.diffraction import merge_lines, reflections
from imitation_refinement.xrd.grid import Grid, grid_q
from imitation_refinement.xrd.profiles import ideal_pattern
from imitation_refinement.xrd.structures.atoms import Atoms
from imitation_refinement.xrd.structures.collection import read_cif_atoms
from imitation_refinement.xrd.symmetry import reduced_basis

SHOWN = 3  # best of the crystals that are kept for each pattern
_B_ISO = 0.5  # angstrom^2, a usual displacement at room temperature
_SMALLEST = 1e-3  # share of the strongest line below which a stick is not worth drawing
_CACHED = 2000  # simulated crystals; 2000 points take 8 kB


class Match(NamedTuple):
    """A crystal compared with a refined pattern.

    Attributes:
        name: of the CIF file, without its ending; with `#2`, ... where it holds several structures.
        score: normalised cross-correlation of the refined and the simulated pattern, best over
            shifts of a few grid points, over the measured range, in [-1, 1].
        q: positions of the lines, 1/angstrom, float64 `[m]`.
        intensity: of the lines, per cent of the strongest, float64 `[m]`.
    """

    name: str
    score: float
    q: np.ndarray
    intensity: np.ndarray


class CifMatcher:
    """Compares refined patterns with the crystals of CIF files.

    Of `cif`, a file that has the name of the scan is taken alone; without one, all are compared.
    Where `cif` is None, the CIF file that has the name of the scan and lies beside it is taken.
    Every structure of a file is compared.

    Args:
        grid: of the patterns.
        cif: a CIF file or a folder of them; None for those beside the scans alone.

    Raises:
        UserError: there is no such file or folder, or the folder holds no CIF file.
    """

    def __init__(self, grid: Grid, cif: Path | None = None):
        self._grid = grid
        self._files = _cif_files(cif) if cif is not None else []
        self._own = {path.stem: path for path in self._files}
        self._simulated = lru_cache(maxsize=_CACHED)(self._simulate)

    def __call__(
        self, path: Path, refined: np.ndarray, mask: np.ndarray, wavelength: float
    ) -> tuple[tuple[Match, ...], tuple[str, ...]]:
        """Returns the best matches of the pattern of a scan, best first, and notes on trouble.

        Args:
            path: of the scan.
            refined: refined pattern, float `[L]`.
            mask: where the scan has data, bool `[L]`.
            wavelength: of the scan, in angstrom.
        """
        matches, notes = [], []
        for file in self._candidates(path):
            for crystal in self._simulated(file, round(wavelength, 5)):
                if isinstance(crystal, str):
                    notes.append(crystal)
                    continue
                name, q, intensity, pattern = crystal
                score = float(ncc(refined[None, mask], pattern[None, mask])[0])
                matches.append(Match(name, score, q, intensity))
        best = sorted(matches, key=lambda match: -match.score)[:SHOWN]
        return tuple(best), tuple(notes)

    def _candidates(self, path: Path) -> list[Path]:
        if self._files:  # what was asked for beats a neighbour
            own = self._own.get(path.stem)
            return [own] if own else self._files
        beside = [path.with_suffix(ending) for ending in (".cif", ".CIF", ".Cif")]
        return [file for file in beside if file.is_file()][:1]

    def _simulate(
        self, file: Path, wavelength: float
    ) -> list[tuple[str, np.ndarray, np.ndarray, np.ndarray] | str]:
        """Name, lines and ideal pattern of each structure of a file, or why there are none."""
        try:
            structures, notes = read_cif_atoms(file)
        except UserError as error:
            return [str(error)]
        found: list[tuple[str, np.ndarray, np.ndarray, np.ndarray] | str] = [
            f"{file.parent / note}" for note in notes
        ]
        for atoms in structures:
            if atoms.mended:
                found.append(f"{file.parent / atoms.name}: {atoms.mended}")
            name = file.stem + atoms.name.removeprefix(file.name)
            found.append(self._pattern(file, name, atoms, wavelength))
        return found

    def _pattern(
        self, file: Path, name: str, atoms: Atoms, wavelength: float
    ) -> tuple[str, np.ndarray, np.ndarray, np.ndarray] | str:
        q = grid_q(self._grid)
        basis = reduced_basis(atoms.lattice)
        lines = reflections(
            basis @ atoms.lattice, atoms.positions @ np.linalg.inv(basis), atoms.numbers,
            atoms.occupancies, q_min=q[0], q_max=q[-1], wavelength=wavelength, b_iso=_B_ISO,
        )  # fmt: skip
        line_q, intensity = merge_lines(lines.q, lines.intensity, min_relative=_SMALLEST)
        if not line_q.size:
            return f"{file}: {name} has no line in the range of the model"
        pattern = ideal_pattern(line_q, intensity, self._grid)
        return name, line_q, 100.0 * intensity / intensity.max(), pattern


def _cif_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(f"--cif={path}: there is no such file or folder")
    found = sorted(file for file in path.iterdir() if file.suffix.lower() == ".cif")
    if not found:
        raise UserError(f"--cif={path}: this folder holds no .cif file")
    return found
