"""Reading a composition-spread library: its patterns on a grid, and their compositions.

Compositions, if there are any, come from an array of the .npz file whose name begins with
`composition` (`[n, elements]`; what follows, as in `composition_fe_ga_pd`, names the elements), or
from a table `composition.csv` beside the patterns: a line with the names of the elements, then one
line for each pattern in the order of their files' names.
"""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from imitation_refinement.commands.refine_scans import find_files
from imitation_refinement.errors import UserError
from imitation_refinement.xrd.formats import read_patterns
from imitation_refinement.xrd.grid import Grid
from imitation_refinement.xrd.scans import on_grid


class Spread(NamedTuple):
    """A library on a grid.

    Attributes:
        names: of n patterns.
        pattern: without background, maximum 1, float32 `[n, L]`.
        mask: bool `[n, L]`, true where measured.
        composition: float64 `[n, e]`, None if not known.
        elements: e names; empty if not known.
        wavelength: of the first pattern, in angstrom.
        failures: what could not be used, one sentence each.
    """

    names: list[str]
    pattern: np.ndarray
    mask: np.ndarray
    composition: np.ndarray | None
    elements: list[str]
    wavelength: float
    failures: list[str]


def read_spread(inputs: Sequence[str], grid: Grid, wavelength: str | float | None) -> Spread:
    """Reads the patterns of a library and its compositions, and puts them on a grid.

    Raises:
        UserError: nothing could be read, or the compositions do not fit the patterns.
    """
    files = find_files(inputs)
    scans, failures = [], []
    for path in files:
        if path.name == "composition.csv":
            continue
        try:
            scans += read_patterns(path, wavelength)
        except UserError as error:
            failures.append(str(error))
    composition, elements = _compositions(files, len(scans))
    used, placed = [], []
    for index, scan in enumerate(scans):
        try:
            placed.append(on_grid(scan, grid))
        except UserError as error:
            failures.append(str(error))
            continue
        used.append(index)
    if not placed:
        raise UserError(failures[0] if failures else f"{', '.join(inputs)}: no pattern")
    return Spread(
        [scans[index].name for index in used],
        np.stack([item.pattern for item in placed]),
        np.stack([item.mask for item in placed]),
        None if composition is None else composition[used],
        elements,
        scans[used[0]].wavelength,
        failures,
    )


def _compositions(files: Sequence[Path], count: int) -> tuple[np.ndarray | None, list[str]]:
    """The compositions of `count` patterns and the elements' names, if the files have any."""
    table = files[0].parent / "composition.csv"
    if len(files) == 1 and files[0].suffix.lower() == ".npz":
        with np.load(files[0], allow_pickle=False) as archive:
            for name in archive.files:
                values = archive[name]
                if name.startswith("composition") and values.ndim == 2 and len(values) == count:
                    said = [part.capitalize() for part in name.split("_")[1:]]
                    fits = len(said) == values.shape[1]
                    numbered = [f"element {i + 1}" for i in range(values.shape[1])]
                    return values.astype(np.float64), said if fits else numbered
    if not table.exists():
        return None, []
    try:
        lines = list(csv.reader(table.read_text(encoding="utf-8-sig").splitlines()))
        values = np.array(lines[1:], np.float64)
    except (OSError, ValueError, IndexError) as error:
        raise UserError(f"{table}: not a line of names and lines of numbers ({error})") from error
    if values.shape != (count, len(lines[0])):
        raise UserError(f"{table}: {len(values)} lines of numbers for {count} patterns")
    return values, lines[0]
