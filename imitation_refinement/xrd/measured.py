"""Measured patterns as the imperfect set: from a folder or a manifest to arrays on the grid.

Belongs here: which patterns can be used, their classes, their groups and what is known of their
truth. Reading files is in `formats` and `manifest`, placing them on the grid in `scans`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import logging
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from imitation_refinement.errors import UserError
from imitation_refinement.tasks import ImperfectData
from imitation_refinement.xrd.formats import SUFFIXES, read_patterns
from imitation_refinement.xrd.grid import Grid
from imitation_refinement.xrd.library import Diffraction, truth_pattern
from imitation_refinement.xrd.manifest import Entry, read_entry, read_manifest
from imitation_refinement.xrd.profiles import normalize_max
from imitation_refinement.xrd.scans import Scan, on_grid
from imitation_refinement.xrd.structures.classes import class_key
from imitation_refinement.xrd.structures.collection import read_cif
from imitation_refinement.xrd.structures.files import reduced_formula
from imitation_refinement.xrd.symmetry import CRYSTAL_SYSTEMS
from imitation_refinement.xrd.unmix import lagged_correlation

# Patterns of one class that correlate so well (square roots, any shift below 1.25 %) are taken for
# the same phase, as compositions of one mineral are: above it nearest neighbours of different
# samples nearly always share their class, well below it hardly more often than chance.
SAME_PHASE = 0.75
_REDUCED = 500  # points on which patterns are compared
_LAG = 0.0125
_BLOCK = 64
_NAMED = 10
_COLUMNS = {
    "crystal_system": "crystal_system",
    "space_group": "space_group_number",
    "phase": "formula and space_group_number",
}


class Sample(NamedTuple):
    """A measured pattern and what is known of it.

    Attributes:
        scan: as measured.
        key: of its class, see `class_key`; empty if not known.
        group: samples with the same name are of one phase.
        cifs: structures of its phases.
    """

    scan: Scan
    key: str
    group: str
    cifs: tuple[Path, ...] = ()


def measured_set(
    config_data: Any, grid: Grid, *, kind: str, keys: Sequence[str], labelled: bool
) -> ImperfectData:
    """Reads measured patterns as the imperfect set; what cannot be used is said and left out.

    With `labelled` only patterns of a known class are taken. Otherwise all are, those without a
    class with the label -1. The truth is the simulated pattern of the phase's CIF file, on its own
    lattice and over the measured range; it is not known of patterns without just one such file.

    Groups, which no fold splits, are those of the manifest, or the files of a folder, joined where
    patterns are of one phase: see `groups_of`.

    Args:
        config_data: with imperfect.{measured, wavelength} and b_iso.
        grid: axis of the patterns.
        kind: crystal_system, space_group or phase.
        keys: of the classes, in label order.
        labelled: whether a label is needed (targeted refinement).

    Raises:
        UserError: nothing there, too few usable patterns, or no labels where they are needed.
    """
    path = Path(config_data.imperfect.measured).expanduser()
    wavelength = config_data.imperfect.wavelength or None
    samples, refused = samples_of(path, wavelength, kind)
    label_of = {key: label for label, key in enumerate(keys)}
    patterns, masks, labels, kept = [], [], [], []
    for sample in samples:
        known = label_of.get(sample.key, -1)
        if labelled and known < 0:
            reason = f"its class {sample.key} is not in the ideal set" if sample.key else "no label"
            refused.append(f"{sample.scan.name}: {reason}")
            continue
        try:
            placed = on_grid(sample.scan, grid)
        except UserError as error:
            refused.append(str(error))
            continue
        if placed.signal:
            refused.append(f"{sample.scan.name}: {placed.signal}")
            continue
        patterns.append(placed.pattern)
        masks.append(placed.mask)
        labels.append(known)
        kept.append(sample)
    for line in refused[:_NAMED]:
        logging.warning("left out: %s", line)
    count = sum(known >= 0 for known in labels)
    logging.info("%s: %d measured patterns, %d of a known class; %d left out",
                 path, len(kept), count, len(refused))  # fmt: skip
    if labelled and count < 2:
        raise UserError(
            f"{path}: {count} patterns of a known class and two are needed; name a manifest with "
            f"the column {_COLUMNS[kind]}, or set config.refiner.targeted=False"
        )
    if len(kept) < 2:
        first = f"; first: {refused[0]}" if refused else ""
        raise UserError(f"{path}: {len(kept)} usable patterns and two are needed{first}")
    pattern, label = np.stack(patterns), np.array(labels, np.int32)
    truth = _truths(kept, masks, Diffraction(grid, float(config_data.b_iso)))
    group = groups_of(pattern, label, [sample.group for sample in kept])
    return ImperfectData(pattern[..., None], truth, label, group)


def samples_of(path: Path, wavelength: str | None, kind: str) -> tuple[list[Sample], list[str]]:
    """Returns the measured patterns of a folder or manifest, and why others cannot be read.

    Args:
        path: manifest (.csv), a folder with a file manifest.csv, or a folder of pattern files,
            which are searched to any depth and have no labels.
        wavelength: of files that do not say it.
        kind: crystal_system, space_group or phase.

    Raises:
        UserError: there is no such path, or no pattern file in it.
    """
    manifest = path / "manifest.csv" if path.is_dir() else path
    samples: list[Sample] = []
    refused: list[str] = []
    if manifest.is_file():
        for entry in read_manifest(manifest):
            try:
                scan = read_entry(entry, wavelength)
            except UserError as error:
                refused.append(str(error))
                continue
            samples.append(Sample(scan, _key(entry, kind), entry.group, entry.cifs))
        return samples, refused
    if not path.is_dir():
        raise UserError(f"config.data.imperfect.measured: {path}: no such folder or manifest")
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
    if not files:
        raise UserError(f"{path}: no pattern file ({' '.join(sorted(SUFFIXES))}) in this folder")
    for file in files:
        try:
            scans = read_patterns(file, wavelength)
        except UserError as error:
            refused.append(str(error))
            continue
        samples += [Sample(scan, "", str(file)) for scan in scans]
    return samples, refused


def groups_of(pattern: np.ndarray, label: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Returns group numbers, int32 [n]: one for each name, joined for patterns of one phase.

    These are patterns whose square roots correlate by more than `SAME_PHASE` at the best shift
    below 1.25 % of the grid, unless both classes are known and differ.

    Args:
        pattern: float32 [n, L].
        label: int [n], -1 for unknown.
        names: [n].
    """
    _, named = np.unique(np.array(names), return_inverse=True)
    cells = np.arange(pattern.shape[1]) * min(_REDUCED, pattern.shape[1]) // pattern.shape[1]
    edges = np.flatnonzero(np.diff(cells, prepend=-1))
    reduced = np.sqrt(np.add.reduceat(pattern, edges, axis=1))
    lag = max(1, round(_LAG * reduced.shape[1]))
    links = [(i, int(np.argmax(named == own))) for i, own in enumerate(named)]
    for start in range(0, len(pattern), _BLOCK):
        rows = slice(start, start + _BLOCK)
        near = lagged_correlation(reduced[rows], reduced, lag) > SAME_PHASE
        other = (label[rows, None] >= 0) & (label >= 0) & (label[rows, None] != label)
        links += [(start + int(i), int(j)) for i, j in np.argwhere(near & ~other)]
    first, second = np.array(links).T
    graph = coo_array((np.ones(len(links)), (first, second)), shape=(len(pattern), len(pattern)))
    return connected_components(graph, directed=False)[1].astype(np.int32)


def _key(entry: Entry, kind: str) -> str:
    """The class of a line of the manifest; empty if it does not say."""
    if kind == "crystal_system" and entry.system is not None:
        return CRYSTAL_SYSTEMS[entry.system]
    if entry.space_group is None or (kind == "phase" and not entry.formula):
        return ""
    formula = reduced_formula(entry.formula) if kind == "phase" else ""
    return class_key(kind, formula, entry.space_group)


def _truths(
    samples: Sequence[Sample], masks: Sequence[np.ndarray], diffraction: Diffraction
) -> np.ndarray | None:
    """True patterns, maximum 1 and 0 where not measured, float32 [n, L, 1]; NaN if not known."""
    truth = np.full((len(samples), diffraction.grid.length, 1), np.nan, np.float32)
    for row, (sample, mask) in enumerate(zip(samples, masks, strict=True)):
        if len(sample.cifs) != 1:
            continue
        try:
            simulated = truth_pattern(read_cif(sample.cifs[0]), diffraction)
        except UserError as error:
            logging.warning("%s: the true pattern is not known: %s", sample.scan.name, error)
            continue
        if (seen := simulated * mask).any():
            truth[row, :, 0] = normalize_max(seen)
    return truth if np.isfinite(truth).any() else None
