"""The atoms of a crystal, with occupancies, and the checks that all of them go through.

Belongs here: what every reader of structures hands on (`Atoms`), and what is said of it whatever
the file was. Symmetry is `settings`'s.
"""

import math
from typing import NamedTuple

import numpy as np

from imitation_refinement.xrd import symmetry
from imitation_refinement.xrd.formula import NUMBERS, SYMBOLS, parsed_formula, reduced_formula

MAX_ATOMS = 500  # in the primitive cell; a pattern of more takes minutes
MOST_ATOMS = 8 * MAX_ATOMS  # in the cell as given, which may be centred or a supercell
MAX_NUMBER = 98  # end of the scattering-factor table
MIN_DISTANCE = 0.5  # angstrom; atoms nearer than that are a mistake, unless they share the place
MAX_LENGTH = 2000.0  # angstrom; longer than the longest period known, of polytypes
SAME_PLACE = 0.1  # angstrom; images of an atom, or elements, nearer than that are on one site
VOLUME_PER_ATOM = (2.5, 150.0)  # cubic angstrom; what is outside is no crystal
_FULL = 1.05  # occupancies of one place add up to at most that
_FORMULA_TOLERANCE = 0.05  # share of an element by which atoms and stated formula may differ


class Atoms(NamedTuple):
    """All atoms of one cell of a crystal, as read.

    Attributes:
        name: file or identifier.
        lattice: float64 [3, 3], vectors as rows, angstrom.
        positions: float64 [n, 3], fractional; elements that share a site share the position.
        numbers: int64 [n], atomic numbers.
        occupancies: float64 [n], in (0, 1].
        space_group: as the source states it, 2..230; 0 where it states none, or P1.
        formula: as the source states it; empty if it does not.
        mended: what was changed on reading, a sentence; empty if nothing.
        mineral, reference, source_id: as the source states them.
    """

    name: str
    lattice: np.ndarray
    positions: np.ndarray
    numbers: np.ndarray
    occupancies: np.ndarray
    space_group: int = 0
    formula: str = ""
    mended: str = ""
    mineral: str = ""
    reference: str = ""
    source_id: str = ""

    @property
    def ordered(self) -> bool:
        """Whether every site is full and of one element."""
        return bool(np.all(self.occupancies > 0.999))

    @property
    def amounts(self) -> dict[str, float]:
        """How much of each element the cell holds, by symbol."""
        total = np.bincount(self.numbers, self.occupancies)
        return {SYMBOLS[z]: float(total[z]) for z in np.flatnonzero(total)}


def merged_places(atoms: Atoms) -> Atoms:
    """Puts the elements that share a place on one position, and their occupancies right.

    The same element twice on one place counts once if the place would be overfull, and what is
    still overfull is divided by its sum; both are said in `mended`.
    """
    place = np.arange(len(atoms.numbers))
    for i, j in near_pairs(atoms.lattice, atoms.positions, SAME_PLACE):
        place[j] = min(place[j], place[i])
    kept = np.ones(len(place), bool)
    occupancies, notes = atoms.occupancies.copy(), []
    for shared in np.flatnonzero(np.bincount(place, minlength=len(place)) > 1):
        members = np.flatnonzero(place == shared)
        if occupancies[members].sum() > _FULL:
            _, first = np.unique(atoms.numbers[members], return_index=True)
            twice = np.setdiff1d(members, members[first])
            kept[twice] = False
            members = members[first]
            if len(twice):
                notes.append("an atom that is listed twice counts once")
        total = occupancies[members].sum()
        if total > _FULL:
            occupancies[members] /= total
            notes.append(f"occupancies of one place add up to {total:.3g}, divided by it")
    over = kept & (occupancies > 1.0)
    if np.any(occupancies[over] > _FULL):
        notes.append(f"an occupancy of {occupancies[over].max():.3g} taken as 1")
    occupancies[over] = 1.0
    return atoms._replace(
        positions=atoms.positions[place][kept],
        numbers=atoms.numbers[kept],
        occupancies=occupancies[kept],
        mended="; ".join(dict.fromkeys([atoms.mended, *notes] if atoms.mended else notes)),
    )


def check_atoms(atoms: Atoms) -> None:
    """Says why a crystal cannot be right.

    Raises:
        ValueError: no atoms, too many, not finite, an element without scattering factors, a volume
            per atom that no crystal has, atoms too near that are there at once, or atoms that are
            not those of the stated formula.
    """
    lattice, positions = atoms.lattice, atoms.positions
    if not (len(atoms.numbers) and np.isfinite(lattice).all() and np.isfinite(positions).all()):
        raise ValueError("no atoms, or numbers that are not finite")
    check_lattice(lattice)
    if max(atoms.numbers) > MAX_NUMBER or min(atoms.numbers) < 1:
        raise ValueError(f"elements beyond number {MAX_NUMBER} have no scattering factors")
    if len(atoms.numbers) > MOST_ATOMS:
        raise ValueError(f"{len(atoms.numbers)} atoms, too many")
    volume = abs(float(np.linalg.det(lattice))) / atoms.occupancies.sum()
    if not VOLUME_PER_ATOM[0] <= volume <= VOLUME_PER_ATOM[1]:
        raise ValueError(f"{volume:.3g} cubic angstrom for each atom: no crystal has that")
    basis = symmetry.reduced_basis(lattice) @ lattice
    if np.linalg.norm(basis, axis=1).min() < MIN_DISTANCE:
        raise ValueError(f"atoms nearer than {MIN_DISTANCE} angstrom (to their own image)")
    for i, j in near_pairs(lattice, positions, MIN_DISTANCE):
        together = atoms.occupancies[i] + atoms.occupancies[j]
        apart = np.any(positions[i] != positions[j])
        if together > _FULL or (atoms.numbers[i] == atoms.numbers[j] and not apart):
            raise ValueError(f"atoms nearer than {MIN_DISTANCE} angstrom")
    if atoms.formula and (doubt := formula_doubt(atoms)):
        raise ValueError(f"its atoms are not those of its formula: {doubt}")


def check_lattice(lattice: np.ndarray) -> None:
    """Says why a cell cannot be right; what comes after need not end for such a one.

    Raises:
        ValueError: a vector longer than MAX_LENGTH, or a volume that holds no atom.
    """
    if not (longest := np.abs(lattice).max()) <= MAX_LENGTH:
        raise ValueError(f"a cell vector of {longest:.3g} angstrom")
    if not (volume := abs(float(np.linalg.det(lattice)))) >= VOLUME_PER_ATOM[0]:
        raise ValueError(f"a cell of {volume:.3g} cubic angstrom")


def formula_doubt(atoms: Atoms) -> str:
    """Returns how atoms and stated formula differ beyond rounding; empty if they do not.

    Hydrogen may be absent: often nobody has located it.
    """
    try:
        stated = parsed_formula(atoms.formula)
    except ValueError:
        return ""
    found = atoms.amounts
    stated.pop("H", None), found.pop("H", None)
    differing = sorted(stated.keys() ^ found.keys())
    if differing:
        return f"{', '.join(differing)} only in one of them"
    all_stated, all_found = sum(stated.values()), sum(found.values())
    for symbol, amount in stated.items():
        share = found[symbol] / all_found
        if abs(share - amount / all_stated) > _FORMULA_TOLERANCE:
            return f"{symbol} is {share:.0%} of the atoms and not {amount / all_stated:.0%}"
    return ""


def majority_counts(atoms: Atoms) -> dict[str, int]:
    """How many sites of the cell each element has the most of, by symbol.

    Sites that are less than half full are left out, unless all are.
    """
    _, place = np.unique(atoms.positions, axis=0, return_inverse=True)
    order = np.lexsort((-atoms.occupancies, place.ravel()))
    first = np.concatenate([[True], np.diff(place.ravel()[order]) > 0])
    total = np.bincount(place.ravel(), atoms.occupancies)
    main = order[first]
    main = main[total >= 0.5] if np.any(total >= 0.5) else main
    counts = np.bincount(atoms.numbers[main])
    return {SYMBOLS[z]: int(counts[z]) for z in np.flatnonzero(counts)}


def majority_formula(atoms: Atoms) -> str:
    """Returns the reduced formula with each site of its main element; see `majority_counts`."""
    return reduced_formula(majority_counts(atoms))


def composition(atoms: Atoms) -> str:
    """Returns the formula with occupancies, per formula unit of the majority formula."""
    units = math.gcd(*majority_counts(atoms).values())
    return reduced_formula({s: round(n / units, 3) for s, n in atoms.amounts.items()})


def near_pairs(lattice: np.ndarray, positions: np.ndarray, limit: float) -> np.ndarray:
    """Pairs of atoms nearer than a limit, int [p, 2], the lower index first.

    The limit must be under half of the smallest distance of lattice planes of the reduced cell.
    """
    basis = symmetry.reduced_basis(lattice)
    reduced, turned = basis @ lattice, positions @ np.linalg.inv(basis)
    pairs = []
    for start in range(0, len(positions), 128):
        delta = turned[start : start + 128, None] - turned[None, start:]
        delta -= np.rint(delta)
        near = np.einsum("ijk,kl,ijl->ij", delta, reduced @ reduced.T, delta) < limit**2
        i, j = np.nonzero(np.triu(near, 1))
        pairs.append(np.stack([i + start, j + start], axis=1))
    return np.concatenate(pairs) if pairs else np.zeros((0, 2), int)


def numbers_of(symbols: list[str]) -> np.ndarray:
    """Atomic numbers int64 of element symbols, which must be valid."""
    return np.array([NUMBERS[symbol] for symbol in symbols], np.int64)
