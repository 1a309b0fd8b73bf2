"""Entries on their way into a library: what is worked out of a structure, and packing many.

Belongs here: the step from atoms to lines and stored sites, and from records to a library's arrays.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from imitation_refinement.phases.codes import (
    ENTRIES,
    TEXT,
    TEXTS,
    amplitude_code,
    occupancy_code,
    position_code,
    q_code,
)
from imitation_refinement.phases.library import MEASURED, Library, Source, frozen
from imitation_refinement.phases.lines import line_list
from imitation_refinement.phases.sources import Entry
from imitation_refinement.xrd import symmetry
from imitation_refinement.xrd.structures.atoms import check_atoms, composition, majority_formula
from imitation_refinement.xrd.structures.settings import standard_cell


class Record(NamedTuple):
    """One entry on its way into a library; see `Library` for what the fields mean."""

    q: np.ndarray
    amplitude: np.ndarray
    space_group: int
    hall: int
    cell: np.ndarray
    source: str
    computed: int
    volume_per_atom: float
    formula: str
    composition: str
    mineral: str
    reference: str
    source_id: str
    site_number: Sequence[int]
    site_occupancy: Sequence[float]
    site_position: np.ndarray


def record_of(entry: Entry) -> Record:
    """Checks an entry and works out what the library keeps of it.

    Raises:
        ValueError: it cannot be right, or has no lines.
    """
    atoms = entry.atoms
    check_atoms(atoms)
    cell, _ = standard_cell(atoms)
    conventional = symmetry.lattice_vectors(cell.cell)
    lattice = cell.primitive @ conventional
    site, numbers, shares = _spelt_out(cell.kind, cell.kinds)
    q, amplitude = line_list(lattice, cell.positions[site], numbers, shares)
    unique, unique_numbers, unique_shares = _spelt_out(cell.unique_kind, cell.kinds)
    volume = abs(np.linalg.det(lattice)) / len(cell.positions)
    # A calculation states no symmetry; numbers that come with it were found in other coordinates.
    stated = atoms.space_group if entry.computed == MEASURED else 0
    return Record(
        q, amplitude, stated or cell.number, cell.hall, cell.cell, entry.source,
        entry.computed, volume, majority_formula(atoms),
        "" if atoms.ordered else composition(atoms),
        atoms.mineral, atoms.reference, atoms.source_id or atoms.name,
        unique_numbers.tolist(), unique_shares.tolist(), cell.unique[unique],
    )  # fmt: skip


def _spelt_out(
    kind: np.ndarray, kinds: Sequence[Sequence[tuple[int, float]]]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Site, atomic number and occupancy of each element of each site."""
    rows = [(i, z, x) for i, k in enumerate(kind.tolist()) for z, x in kinds[k]]
    site, number, share = zip(*rows, strict=True)
    return np.array(site), np.array(number, np.int64), np.array(share, float)


def library_of(records: Iterable[Record], sources: Mapping[str, Source]) -> Library:
    """Makes a library of records; `sources` says what is known of each name in `Record.source`."""
    records = list(records)
    names = list(dict.fromkeys(record.source for record in records))
    arrays: dict[str, Any] = {
        "line_count": [len(r.q) for r in records],
        "site_count": [len(r.site_number) for r in records],
        "source": [names.index(r.source) for r in records],
        "cell": np.array([r.cell for r in records], np.float32).reshape(-1, 6),
        **{
            name: [getattr(r, name) for r in records]
            for name in ("space_group", "hall", "computed", "volume_per_atom", *TEXTS)
        },
    }
    made = {name: np.asarray(arrays[name], kind) for name, kind in ENTRIES.items()}
    made |= {name: np.array([_clean(t) for t in arrays[name]], TEXT) for name in TEXTS}
    q = np.concatenate([np.zeros(0), *(r.q for r in records)])
    amplitude = np.concatenate([np.zeros(0), *(r.amplitude for r in records)])
    made["code"] = q_code(q)
    made["amplitude_code"] = amplitude_code(amplitude)
    made["site_number"] = np.array([z for r in records for z in r.site_number], np.uint8)
    shares = np.array([x for r in records for x in r.site_occupancy], float)
    made["site_occupancy"] = occupancy_code(shares)
    places = np.concatenate([np.zeros((0, 3)), *(r.site_position for r in records)])
    made["site_position"] = position_code(places)
    kept = [sources.get(name, Source(name)) for name in names]
    return Library({name: frozen(array) for name, array in made.items()}, kept)


def _clean(text: str) -> str:
    return " ".join(text.split())
