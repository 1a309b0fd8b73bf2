"""Textbook crystals of tests/data/reference_crystals.json as pymatgen structures."""

import json
from pathlib import Path

import numpy as np
from pymatgen.core import Lattice, Structure

_DATA = json.loads((Path(__file__).parent / "data" / "reference_crystals.json").read_text())
REFERENCE = _DATA["crystals"]


def reference_structure(name: str) -> Structure:
    """The conventional cell; asserts the composition, which a wrong origin choice changes."""
    entry = REFERENCE[name]
    structure = Structure.from_spacegroup(
        entry["space_group"],
        Lattice.from_parameters(*entry["cell"]),
        [atom[0] for atom in entry["atoms"]],
        [atom[1:] for atom in entry["atoms"]],
    )
    assert structure.formula == entry["formula"]
    return structure


def arrays_of(structure: Structure) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(lattice, positions, numbers) of a structure."""
    return (
        np.array(structure.lattice.matrix),
        np.array(structure.frac_coords),
        np.array([site.specie.Z for site in structure]),
    )
