"""The symmetry of a crystal: what spglib finds, the standard cell, settings of space groups.

Belongs here: everything that asks spglib, which is imported here and nowhere else in the package.
"""

import warnings
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from imitation_refinement.xrd import symmetry
from imitation_refinement.xrd.structures.atoms import MAX_ATOMS, SAME_PLACE, Atoms

SYMPREC = 0.01  # angstrom; within which symmetry is found where the source states none
# Where the source states a space group, coordinates of two or three digits may need more to show
# it: the first tolerance that finds the stated group is taken.
_LOOSER = (SYMPREC, 0.03, 0.1)


class StandardCell(NamedTuple):
    """A crystal in the standard setting of its space group.

    Attributes:
        number: space group 1..230, found; symbol: its short Hermann-Mauguin symbol.
        hall: number 1..530 of the setting, as spglib counts Hall symbols.
        cell: float64 [6], conventional a, b, c (angstrom), alpha, beta, gamma (degrees).
        primitive: float64 [3, 3]; primitive lattice = primitive @ conventional lattice (rows).
        positions: float64 [n, 3], fractional in the primitive cell.
        kind: int [n], row of `kinds` of each site.
        letters: Wyckoff letters of the primitive cell, sorted.
        unique: float64 [u, 3], one position of each orbit, fractional in the conventional cell.
        unique_kind: int [u].
        kinds: of each kind of site, its elements and occupancies.
    """

    number: int
    symbol: str
    hall: int
    cell: np.ndarray
    primitive: np.ndarray
    positions: np.ndarray
    kind: np.ndarray
    letters: str
    unique: np.ndarray
    unique_kind: np.ndarray
    kinds: tuple[tuple[tuple[int, float], ...], ...]


def standard_cell(atoms: Atoms) -> tuple[StandardCell, str]:
    """Brings a crystal to the standard setting of its space group.

    The space group is the stated one if the atoms show it within 0.1 angstrom; otherwise what they
    show within SYMPREC.

    Returns:
        (standard cell, note); the note says that the stated space group is not what was found.

    Raises:
        ValueError: no symmetry found, or too many atoms.
    """
    places, first, place = np.unique(
        atoms.positions, axis=0, return_index=True, return_inverse=True
    )
    order = np.argsort(first)  # places in the order of the atoms
    rank = np.argsort(order)
    places, place = places[order], rank[place.ravel()]
    contents: list[list[tuple[int, float]]] = [[] for _ in places]
    for own, number, share in zip(
        place.tolist(), atoms.numbers.tolist(), atoms.occupancies.tolist(), strict=True
    ):
        contents[own].append((number, round(share, 4)))
    keys = [tuple(sorted(content)) for content in contents]
    kinds = tuple(dict.fromkeys(keys))
    types = np.array([kinds.index(key) for key in keys])
    found = _found_symmetry(atoms.lattice, places, types, atoms.space_group)
    note = ""
    if atoms.space_group and found.number != atoms.space_group:
        note = (
            f"states space group {atoms.space_group}, its atoms have {found.number} within "
            f"{SYMPREC} angstrom"
        )
    conventional = np.array(found.std_lattice)
    lengths = np.linalg.norm(conventional, axis=1)
    cosines = (conventional @ conventional.T) / np.outer(lengths, lengths)
    angles = np.degrees(np.arccos(np.clip([cosines[1, 2], cosines[0, 2], cosines[0, 1]], -1, 1)))
    # Rounding of arccos must not split lines that symmetry makes one.
    angles = np.where(np.abs(angles - np.rint(angles)) < 1e-9, np.rint(angles), angles)
    centring = symmetry.primitive_transform(found.number)
    primitive = symmetry.reduced_basis(centring @ conventional) @ centring
    _, chosen = np.unique(found.std_mapping_to_primitive, return_index=True)
    if len(chosen) > MAX_ATOMS:
        raise ValueError(f"{len(chosen)} atoms in the primitive cell, more than {MAX_ATOMS}")
    if len(chosen) * round(1.0 / np.linalg.det(centring)) != len(found.std_types):
        raise ValueError("its standard cell does not have the centring of its space group")
    letters = dict(zip(found.mapping_to_primitive.tolist(), found.wyckoffs, strict=True))
    orbit = dict(
        zip(found.mapping_to_primitive.tolist(), found.crystallographic_orbits, strict=True)
    )
    _, unique = np.unique(
        [orbit[p] for p in found.std_mapping_to_primitive.tolist()], return_index=True
    )
    unique = np.sort(unique)
    std_types, std_positions = np.array(found.std_types), np.array(found.std_positions)
    return StandardCell(
        int(found.number),
        str(found.international),
        int(found.hall_number),
        np.concatenate([lengths, angles]),
        primitive,
        std_positions[chosen] @ np.linalg.inv(primitive) % 1.0,
        std_types[chosen],
        "".join(sorted(letters.values())),
        std_positions[unique] % 1.0,
        std_types[unique],
        kinds,
    ), note


def _found_symmetry(
    lattice: np.ndarray, positions: np.ndarray, types: np.ndarray, stated: int
) -> Any:
    tightest = None
    for tolerance in _LOOSER if stated else _LOOSER[:1]:
        cell = (lattice, positions, types)
        found = _spglib("get_symmetry_dataset", cell, symprec=tolerance)
        if found is not None and found.number == stated:
            return found
        tightest = tightest or found
    if tightest is None:
        raise ValueError("spglib finds no space group")
    return tightest


@cache
def operations(hall: int) -> np.ndarray:
    """Symmetry operations of a setting, float64 [k, 3, 4]: x -> [:, :3] @ x + [:, 3].

    Args:
        hall: 1..530, see `StandardCell`.
    """
    found = _spglib("get_symmetry_from_database", hall)
    parts = [found["rotations"].astype(float), found["translations"][:, :, None]]
    result = np.concatenate(parts, axis=2)
    result.flags.writeable = False
    return result


def hall_symbol(hall: int) -> str:
    """Hall symbol of a setting 1..530."""
    return str(_spglib("get_spacegroup_type", hall).hall_symbol)


def setting_group(hall: int) -> tuple[int, str]:
    """Space group 1..230 of a setting 1..530, and its full Hermann-Mauguin symbol."""
    found = _spglib("get_spacegroup_type", hall)
    return int(found.number), str(found.international_full)


def type_of_operations(maps: np.ndarray, lattice: np.ndarray) -> int:
    """Space group 1..230 of operations [k, 3, 4] on a lattice [3, 3]; 0 if they are no group."""
    rotations = np.rint(maps[:, :, :3]).astype(int)
    found = _spglib(
        "get_spacegroup_type_from_symmetry", rotations, maps[:, :, 3], lattice, symprec=1e-3
    )
    return int(found.number) if found is not None else 0


def expanded(
    lattice: np.ndarray, positions: np.ndarray, maps: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """All images of sites under symmetry operations; images nearer than SAME_PLACE are one.

    Args:
        lattice: [3, 3], rows.
        positions: [n, 3], fractional.
        maps: [k, 3, 4], see `operations`.

    Returns:
        (positions float64 [m, 3] in [0, 1), the mean of the images that are one; site int [m]).
    """
    every, site = [], []
    metric = lattice @ lattice.T
    for index, position in enumerate(positions):
        images = maps[:, :, :3] @ position + maps[:, :, 3]
        while len(images):
            delta = images - images[0]
            delta -= np.rint(delta)
            same = np.einsum("ij,jk,ik->i", delta, metric, delta) < SAME_PLACE**2
            same[0] = True  # whatever the numbers are, the loop ends
            every.append((images[0] + delta[same].mean(axis=0)) % 1.0)
            site.append(index)
            images = images[~same]
    return np.array(every).reshape(-1, 3), np.array(site, int)


def _spglib(function: str, *arguments: Any, **options: Any) -> Any:
    """Calls a function of spglib, without its warnings that it will raise in future."""
    import spglib

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(spglib, function)(*arguments, **options)
