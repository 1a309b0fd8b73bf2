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
from imitation_refinement.xrd.structures.collection import read_cif

SHOWN = 3  # best of the crystals that are kept for each pattern
_B_ISO = 0.5  # angstrom^2, a usual displacement at room temperature
_SMALLEST = 1e-3  # share of the strongest line below which a stick is not worth drawing
_CACHED = 2000  # simulated crystals; 2000 points take 8 kB


class Match(NamedTuple):
    """A crystal compared with a refined pattern.

    Attributes:
        name: of the CIF file, without its ending.
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

    A CIF file that has the name of the scan, beside it or in `cif`, is taken; without one, all
    files of `cif` are compared.

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
            crystal = self._simulated(file, round(wavelength, 5))
            if isinstance(crystal, str):
                notes.append(crystal)
                continue
            q, intensity, pattern = crystal
            score = float(ncc(refined[None, mask], pattern[None, mask])[0])
            matches.append(Match(file.stem, score, q, intensity))
        best = sorted(matches, key=lambda match: -match.score)[:SHOWN]
        return tuple(best), tuple(notes)

    def _candidates(self, path: Path) -> list[Path]:
        beside = path.with_suffix(".cif")
        if beside.is_file():
            return [beside]
        own = self._own.get(path.stem)
        return [own] if own else self._files

    def _simulate(
        self, file: Path, wavelength: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray] | str:
        """Lines and ideal pattern of a crystal, or in words why there are none."""
        try:
            crystal = read_cif(file)
        except UserError as error:
            return str(error)
        q = grid_q(self._grid)
        lines = reflections(
            crystal.lattice, crystal.positions, crystal.numbers,
            q_min=q[0], q_max=q[-1], wavelength=wavelength, b_iso=_B_ISO,
        )  # fmt: skip
        line_q, intensity = merge_lines(lines.q, lines.intensity, min_relative=_SMALLEST)
        if not line_q.size:
            return f"{file}: this crystal has no line in the range of the model"
        pattern = ideal_pattern(line_q, intensity, self._grid)
        return line_q, 100.0 * intensity / intensity.max(), pattern


def _cif_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(f"--cif={path}: there is no such file or folder")
    found = sorted(file for file in path.iterdir() if file.suffix.lower() == ".cif")
    if not found:
        raise UserError(f"--cif={path}: this folder holds no .cif file")
    return found
