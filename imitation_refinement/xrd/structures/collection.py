"""Crystal structures of the user: CIF files and JSON lines as one table of standard crystals.

Belongs here: finding the structures in a folder or file, the table with its cache, and the log of
what was mended or left out. One structure is read in `files`; what is simulated from the
table is in `ideal` and `imperfect`.
"""

import dataclasses
import functools
import gzip
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from imitation_refinement.errors import UserError
from imitation_refinement.runtime.generate import cached_arrays, parallel_map
from imitation_refinement.xrd import symmetry
from imitation_refinement.xrd.crystals import Crystal
from imitation_refinement.xrd.structures import cif
from imitation_refinement.xrd.structures.atoms import MAX_ATOMS, MIN_DISTANCE, Atoms, check_atoms
from imitation_refinement.xrd.structures.files import (
    Found,
    check_packages,
    from_cif,
    from_json,
)
from imitation_refinement.xrd.structures.settings import SYMPREC

_LISTED = 20  # structures named in the log; the rest is counted
_PER_TASK = 32


@dataclasses.dataclass(frozen=True)
class Structures:
    """n structures, those of the atoms ragged: structure i owns `[offsets[i]:offsets[i+1]]`.

    Attributes:
        name, formula, symbol, prototype: str [n], see `Structure`.
        space_group: int32 [n], 1..230.
        cell: float64 [n, 6], conventional a, b, c (angstrom), alpha, beta, gamma (degrees).
        primitive: float64 [n, 3, 3]; primitive lattice = primitive @ conventional lattice.
        numbers: int64 [sum m], atomic numbers.
        positions: float64 [sum m, 3], fractional in the primitive cell.
        offsets: int64 [n + 1].
        mended: str [k], `name: what`.
        skipped: str [s], `name: why`.
    """

    name: np.ndarray
    formula: np.ndarray
    symbol: np.ndarray
    prototype: np.ndarray
    space_group: np.ndarray
    cell: np.ndarray
    primitive: np.ndarray
    numbers: np.ndarray
    positions: np.ndarray
    offsets: np.ndarray
    mended: np.ndarray
    skipped: np.ndarray

    def __len__(self) -> int:
        return len(self.name)

    @property
    def digest(self) -> str:
        """Names the crystals: a hash of their cells and atoms."""
        arrays = (self.space_group, self.cell, self.primitive, self.numbers, self.positions)
        digest = hashlib.sha256()
        for array in (*arrays, self.offsets):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def crystal(self, index: int) -> Crystal:
        """Returns a structure as a crystal whose prototype_id is its index."""
        atoms = slice(self.offsets[index], self.offsets[index + 1])
        group = int(self.space_group[index])
        return Crystal(
            np.array(self.cell[index]),
            np.array(self.primitive[index]),
            np.array(self.numbers[atoms]),
            np.array(self.positions[atoms]),
            group,
            symmetry.system_of_space_group(group),
            int(index),
        )


def read_structures(
    path: str | os.PathLike[str], cache_dir: str | os.PathLike[str], workers: int
) -> Structures:
    """Reads every structure of a folder of CIF files, or of a file of JSON lines.

    A CIF file may hold several structures; folders are searched to any depth. A JSON line has
    `lattice` (3 rows, angstrom), `species` and `frac_coords`, and may have `id`. Symmetry is as
    stated, or found at 0.01 angstrom. Disordered, broken and doubtful structures are left out; each
    is named in the log. The table is kept in the cache under the content of the files.

    Args:
        path: folder, or file ending in .jsonl or .jsonl.gz.
        cache_dir: where the table is kept.
        workers: processes used for reading; the table does not depend on it.

    Raises:
        UserError: nothing there, nothing usable in it, or a package is missing.
    """
    path = Path(path).expanduser()
    names, contents = _folder(path) if path.is_dir() else _json_lines(path)
    digest = hashlib.sha256()
    for name, content in zip(names, contents, strict=True):
        digest.update(hashlib.sha256(name.encode()).digest() + hashlib.sha256(content).digest())
    key = {
        "content": digest.hexdigest(),
        "symprec": SYMPREC,
        "max_atoms": MAX_ATOMS,
        "min_distance": MIN_DISTANCE,
    }
    read = from_cif if path.is_dir() else from_json
    build = functools.partial(_build, read, names, contents, workers)
    found = Structures(**cached_arrays(cache_dir, "structures", key, build))
    for what, lines in (("mended", found.mended), ("left out", found.skipped)):
        for line in lines[:_LISTED]:
            logging.warning("%s: %s", what, line)
        if len(lines) > _LISTED:
            logging.warning("%s: %d more", what, len(lines) - _LISTED)
    logging.info(
        "%s: %d structures; %d mended, %d left out",
        path, len(found), len(found.mended), len(found.skipped),
    )  # fmt: skip
    if not len(found):
        raise UserError(f"{path}: no usable structure among {len(names)}; first: {_first(found)}")
    return found


def read_cif_atoms(path: str | os.PathLike[str]) -> tuple[list[Atoms], list[str]]:
    """Reads every structure of a CIF file with its occupancies.

    Returns:
        (structures that can be used, `name: why not` of the others).

    Raises:
        UserError: the file cannot be read, or a package is missing.
    """
    path = Path(path)
    check_packages()
    usable: list[Atoms] = []
    left_out = []
    for atoms in cif.read_cif(path.name, _content(path)):
        try:
            if isinstance(atoms, str):
                raise ValueError(atoms)
            check_atoms(atoms)
            usable.append(atoms)
        except ValueError as error:
            left_out.append(str(error) if isinstance(atoms, str) else f"{atoms.name}: {error}")
    return usable, left_out


def read_cif(path: str | os.PathLike[str]) -> Crystal:
    """Reads the first structure of a CIF file as a crystal in its primitive standard cell.

    Raises:
        UserError: cannot be read, is disordered or broken, or a package is missing.
    """
    path = Path(path)
    check_packages()
    found = from_cif((path.name, _content(path)))[0]
    if isinstance(found, str):
        raise UserError(f"{path}: no usable structure ({found.partition(': ')[2]})")
    return found.crystal


def _folder(folder: Path) -> tuple[list[str], list[bytes]]:
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() == ".cif")
    if not paths:
        raise UserError(f"{folder}: no file ending in .cif in this folder or below it")
    return [path.relative_to(folder).as_posix() for path in paths], [_content(p) for p in paths]


def _json_lines(path: Path) -> tuple[list[str], list[bytes]]:
    if not path.name.lower().endswith((".jsonl", ".jsonl.gz")):
        raise UserError(f"{path}: neither a folder of CIF files nor a .jsonl or .jsonl.gz file")
    content = _content(path)
    try:
        content = gzip.decompress(content) if path.suffix.lower() == ".gz" else content
    except (OSError, EOFError, ValueError) as error:
        raise UserError(f"{path}: damaged ({error}); fetch it again") from error
    numbered = [(i, line) for i, line in enumerate(content.splitlines(), 1) if line.strip()]
    return [f"{path.name} line {i}" for i, _ in numbered], [line for _, line in numbered]


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error


def _build(
    read: Any, names: Sequence[str], contents: Sequence[bytes], workers: int
) -> dict[str, np.ndarray]:
    check_packages()  # what is missing is said here and not in a worker
    items = list(zip(names, contents, strict=True))
    tasks = [items[i : i + _PER_TASK] for i in range(0, len(items), _PER_TASK)]
    describe = f"reading structures from {len(items)} entries"
    every: list[Found] = []
    for part in parallel_map(
        functools.partial(_read_all, read), tasks, workers=workers, describe=describe
    ):
        every += part
    kept = [found for found in every if not isinstance(found, str)]
    crystals = [found.crystal for found in kept]
    counts = [len(crystal.numbers) for crystal in crystals]
    return {
        "name": np.array([found.name for found in kept], np.str_),
        "formula": np.array([found.formula for found in kept], np.str_),
        "symbol": np.array([found.symbol for found in kept], np.str_),
        "prototype": np.array([found.prototype for found in kept], np.str_),
        "space_group": np.array([crystal.space_group for crystal in crystals], np.int32),
        "cell": np.array([crystal.cell for crystal in crystals]).reshape(-1, 6),
        "primitive": np.array([crystal.primitive for crystal in crystals]).reshape(-1, 3, 3),
        "numbers": np.concatenate([np.zeros(0, np.int64), *(c.numbers for c in crystals)]),
        "positions": np.concatenate([np.zeros((0, 3)), *(c.positions for c in crystals)]),
        "offsets": np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64),
        "mended": np.array([f"{s.name}: {s.mended}" for s in kept if s.mended], np.str_),
        "skipped": np.array([found for found in every if isinstance(found, str)], np.str_),
    }


def _read_all(read: Any, items: Sequence[tuple[str, bytes]]) -> list[Found]:
    return [found for item in items for found in read(item)]


def _first(found: Structures) -> str:
    return str(found.skipped[0]) if len(found.skipped) else "nothing in it"
