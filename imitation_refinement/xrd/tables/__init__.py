"""The embedded tables: Wyckoff positions and templates, scattering parameters, radii.

Belongs here: reading the two .npz files beside this one. Where their numbers come from, and under
which licences, is in README.md; `derive_tables.py` makes them.
"""

from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np


class WyckoffTables(NamedTuple):
    """Wyckoff positions of the 230 space groups in primitive coordinates, and their templates.

    A template is a space group with the list of its occupied Wyckoff positions, and how often that
    combination occurs among known crystals. `[offsets[i]:offsets[i+1]]` is item i of a ragged list.
    """

    primitive: np.ndarray  # float64 [231, 3, 3]: primitive lattice = primitive @ conventional
    maps: np.ndarray  # int8 [u, 3, 4]: x -> maps[:, :3] @ x + maps[:, 3] / 24, mod 1
    orbit_maps: np.ndarray  # int16: indices into maps, ragged over orbits
    orbit_offsets: np.ndarray  # int32 [orbits + 1]
    group_offsets: np.ndarray  # int32 [232]: orbits of each space group, the general one first
    template_group: np.ndarray  # uint8 [templates]: space group 1..230
    template_count: np.ndarray  # int32 [templates]
    template_orbits: np.ndarray  # uint8: orbit within its space group, ragged over templates
    template_offsets: np.ndarray  # int32 [templates + 1]


class ElementTables(NamedTuple):
    """Per-element numbers, indexed by atomic number (row 0 is unused)."""

    scattering: np.ndarray  # float64 [99, 4, 2]: a_i (angstrom) and b_i (angstrom^2)
    radius: np.ndarray  # float64 [99]: covalent radius, angstrom; nan where unknown


@cache
def wyckoff_tables() -> WyckoffTables:
    """Reads wyckoff.npz once per process."""
    arrays = _read("wyckoff.npz")
    arrays["primitive"] = arrays.pop("primitive_sixths") / 6.0
    return WyckoffTables(**arrays)


@cache
def element_tables() -> ElementTables:
    """Reads elements.npz once per process."""
    return ElementTables(**_read("elements.npz"))


def _read(name: str) -> dict[str, np.ndarray]:
    with np.load(Path(__file__).with_name(name), allow_pickle=False) as file:
        arrays = dict(file)
    for array in arrays.values():
        array.flags.writeable = False  # shared by everybody
    return arrays
