"""Crystals from CIF files beside a refined pattern: their lines, and how well they match.

Belongs here: finding the CIF files that belong to a scan, simulating them as the ideal patterns of
training are, and the score. Reading a CIF is `structures.collection`'s.
"""

import os
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from imitation_refinement.commands.ledger import in_a_line
from imitation_refinement.errors import UserError
from imitation_refinement.evaluation.metrics import ncc
from imitation_refinement.xrd import symmetry
from imitation_refinement.xrd.diffraction import merge_lines, reflections
from imitation_refinement.xrd.formats.readers import base_name
from imitation_refinement.xrd.grid import Grid, grid_q
from imitation_refinement.xrd.profiles import ideal_pattern
from imitation_refinement.xrd.structures.atoms import Atoms
from imitation_refinement.xrd.structures.collection import read_cif_atoms

SHOWN = 3  # best of the crystals that are kept for each pattern
_B_ISO = 0.5  # angstrom^2, a usual displacement at room temperature
_SMALLEST = 1e-3  # share of the strongest line below which a stick is not worth drawing
_CACHED = 2000  # simulated files; 2000 points take 8 kB


class Match(NamedTuple):
    """A crystal compared with a refined pattern.

    Attributes:
        name: of the CIF file, without its ending; `#2` after it for the second of its structures.
        score: normalised cross-correlation of the refined and the simulated pattern, best over
            shifts of a few grid points, over the measured range, in [-1, 1].
        q: positions of the lines, 1/angstrom, float64 `[m]`.
        intensity: of the lines, per cent of the strongest, float64 `[m]`.
    """

    name: str
    score: float
    q: np.ndarray
    intensity: np.ndarray


class _Simulated(NamedTuple):
    """The structures of a CIF file as (name, q, intensity, pattern), and notes on trouble."""

    crystals: list[tuple[str, np.ndarray, np.ndarray, np.ndarray]]
    notes: list[str]


class CifMatcher:
    """Compares refined patterns with the crystals of CIF files.

    `cif`, where it is given, is compared and nothing else: the file in it that has the name of the
    scan, or all of them if none has. Without it a CIF file beside the scan that has its name is
    taken. Endings and names may be in any case. Each structure of a file is compared.

    Args:
        grid: of the patterns.
        cif: a CIF file or a folder of them; None for those beside the scans.

    Raises:
        UserError: there is no such file or folder, or the folder holds no CIF file.
    """

    def __init__(self, grid: Grid, cif: Path | None = None):
        self._grid = grid
        self._cif = cif
        self._files = _cif_files(cif) if cif is not None else []
        self._own = {path.stem.casefold(): path for path in self._files}
        self._simulated = lru_cache(maxsize=_CACHED)(self._simulate)
        self._beside = lru_cache(maxsize=_CACHED)(_cifs_by_name)

    def __call__(
        self, path: Path, refined: np.ndarray, mask: np.ndarray, wavelength: float
    ) -> tuple[tuple[Match, ...], tuple[str, ...]]:
        """Returns the best matches of the pattern of a scan, best first, and notes.

        The notes say which file was taken where that is a choice, what was mended on reading it,
        and what could not be compared.

        Args:
            path: of the scan.
            refined: refined pattern, float `[L]`.
            mask: where the scan has data, bool `[L]`.
            wavelength: of the scan, in angstrom.
        """
        files, notes = self._candidates(path)
        matches = []
        for file in files:
            crystals, trouble = self._simulated(file, round(wavelength, 5))
            if file != path:  # a powder CIF is a scan and may hold no structure
                notes += trouble
            for name, q, intensity, pattern in crystals:
                score = float(ncc(refined[None, mask], pattern[None, mask])[0])
                matches.append(Match(name, score, q, intensity))
        best = sorted(matches, key=lambda match: -match.score)[:SHOWN]
        return tuple(best), tuple(notes)

    def _candidates(self, path: Path) -> tuple[list[Path], list[str]]:
        name = base_name(path.name).casefold()
        beside = self._beside(path.parent).get(name)
        if self._cif is None:
            if beside is None:
                return [], []
            return [beside], [] if beside == path else [f"compared with {beside.name} beside it"]
        own = self._own.get(name)
        files = [own] if own else self._files
        if beside is None or any(os.path.realpath(beside) == os.path.realpath(f) for f in files):
            return files, []
        return files, [f"compared with --cif={self._cif}, not with {beside.name} beside it"]

    def _simulate(self, file: Path, wavelength: float) -> _Simulated:
        """Lines and ideal pattern of each structure of a file."""
        try:
            structures, notes = read_cif_atoms(file)
        except Exception as error:  # trouble with a crystal is no trouble with the scan
            return _Simulated([], [in_a_line(file, error)])
        notes = [str(file.parent / note) for note in notes]
        simulated = _Simulated([], notes)
        for atoms in structures:
            name = file.stem + atoms.name.removeprefix(file.name)
            if atoms.mended:
                notes.append(f"{file.parent / atoms.name}: {atoms.mended}")
            try:
                simulated.crystals.append((name, *self._pattern(atoms, wavelength)))
            except Exception as error:
                notes.append(f"{file.parent / atoms.name}: {error}")
        return simulated

    def _pattern(
        self, atoms: Atoms, wavelength: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Lines (q, intensity in per cent) and ideal pattern of a structure.

        Raises:
            ValueError: it has no line on the grid, or its cell is absurdly large.
        """
        q = grid_q(self._grid)
        basis = symmetry.reduced_basis(atoms.lattice)
        lines = reflections(
            basis @ atoms.lattice, atoms.positions @ np.linalg.inv(basis), atoms.numbers,
            atoms.occupancies,
            q_min=q[0], q_max=q[-1], wavelength=wavelength, b_iso=_B_ISO,
        )  # fmt: skip
        line_q, intensity = merge_lines(lines.q, lines.intensity, min_relative=_SMALLEST)
        if not line_q.size:
            raise ValueError("this crystal has no line in the range of the model")
        pattern = ideal_pattern(line_q, intensity, self._grid)
        return line_q, 100.0 * intensity / intensity.max(), pattern


def _cifs_by_name(folder: Path) -> dict[str, Path]:
    """The CIF files of a folder by their names in lower case, without the ending."""
    try:
        found = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".cif")
    except OSError:  # no folder, or it may not be listed
        return {}
    return {path.stem.casefold(): path for path in reversed(found)}


def _cif_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(f"--cif={path}: there is no such file or folder")
    found = sorted(file for file in path.iterdir() if file.suffix.lower() == ".cif")
    if not found:
        raise UserError(f"--cif={path}: this folder holds no .cif file")
    return found
