"""One crystal structure: from a CIF file or a JSON line to the standard primitive cell.

Belongs here: the ordered structures that training takes, and the sentence that says what was mended
or why a structure cannot be used. CIF files are read in `cif`; atoms, their checks and their
symmetry are in `atoms`.
"""

import json
from collections import Counter
from typing import NamedTuple

import numpy as np

from imitation_refinement.errors import UserError
from imitation_refinement.xrd import symmetry
from imitation_refinement.xrd.crystals import Crystal
from imitation_refinement.xrd.formula import (
    NUMBERS,
    SYMBOLS,
    anonymous_formula,
    parsed_formula,
)
from imitation_refinement.xrd.formula import reduced_formula as reduced
from imitation_refinement.xrd.structures.atoms import Atoms, check_atoms, numbers_of
from imitation_refinement.xrd.structures.cif import one_line, read_cif
from imitation_refinement.xrd.structures.settings import standard_cell

# Fields of a JSON line that state the space group, the one to be believed first.
_SPACE_GROUP_FIELDS = (
    "stated_spacegroup_number", "spacegroup_number_symprec_0p01", "spacegroup_number",
)  # fmt: skip


class Structure(NamedTuple):
    """One structure as found.

    Attributes:
        name: file or identifier.
        crystal: primitive standard cell.
        formula: reduced, see `xrd.formula`.
        symbol: of the space group.
        prototype: anonymous formula, space group and Wyckoff letters of the primitive cell.
        mended: what had to be mended, a sentence; empty if nothing.
    """

    name: str
    crystal: Crystal
    formula: str
    symbol: str
    prototype: str
    mended: str = ""


Found = Structure | str  # a structure, or `name: why not`


def from_cif(item: tuple[str, bytes]) -> list[Found]:
    """Returns every structure of a CIF file, given as (name, content); a reason for a broken one.

    What is mended on reading is in `cif`; hydrogens that nobody located may be absent. Structures
    with mixed or partly filled sites are not for training, which draws ordered crystals.
    """
    return [
        atoms if isinstance(atoms, str) else _structure_or_reason(atoms)
        for atoms in read_cif(*item)
    ]


def from_json(item: tuple[str, bytes]) -> list[Found]:
    """Returns the structure of a JSON line, given as (name, content), or the reason against it."""
    atoms = json_atoms(*item)
    return [atoms if isinstance(atoms, str) else _structure_or_reason(atoms)]


def json_atoms(name: str, content: bytes | str) -> Atoms | str:
    """Reads a JSON line as atoms, or returns `name: why not`.

    Needed are `lattice` (3 rows, angstrom), `species` and `frac_coords`; `occupancies` (a dict of
    element and share for each site) goes before `species`. A space group is taken as stated by
    `stated_spacegroup_number`, `spacegroup_number_symprec_0p01` or `spacegroup_number`.
    """
    try:
        entry = json.loads(content)
        name = str(entry.get("id") or name)
        lattice = np.array(entry["lattice"], np.float64).reshape(3, 3)
        sites = entry.get("occupancies") or [{symbol: 1.0} for symbol in entry["species"]]
        positions = np.array(entry["frac_coords"], np.float64).reshape(len(sites), 3)
        shares = [(i, str(s), float(x)) for i, site in enumerate(sites) for s, x in site.items()]
        stated = next((int(entry[f]) for f in _SPACE_GROUP_FIELDS if entry.get(f)), 0)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        return f"{name}: broken: {one_line(reason)}"
    symbols, mended = [], []
    for _, symbol, _ in shares:
        letters = symbol.rstrip("0123456789.+-").title()
        letters = "H" if letters in ("D", "T") else letters
        if letters not in NUMBERS:
            return f"{name}: {symbol} is no element"
        if letters != symbol:
            mended.append(f"{symbol} parsed as {letters}")
        symbols.append(letters)
    return Atoms(
        name, lattice, positions[[i for i, _, _ in shares]], numbers_of(symbols),
        np.array([share for _, _, share in shares], np.float64),
        stated if 1 < stated <= 230 else 0, str(entry.get("formula_stated") or ""),
        mended=one_line("; ".join(dict.fromkeys(mended))),
        mineral=str(entry.get("mineral") or ""), reference=str(entry.get("reference") or ""),
        source_id=str(entry.get("id") or ""),
    )  # fmt: skip


def _structure_or_reason(atoms: Atoms) -> Found:
    try:
        check_atoms(atoms)
        if not atoms.ordered:
            raise ValueError("disordered (partial occupancy)")
        return _structure(atoms)
    except UserError:  # a package is missing
        raise
    except Exception as error:  # ValueError, and whatever spglib raises
        return f"{atoms.name}: {one_line(error)}"


def _structure(atoms: Atoms) -> Structure:
    cell, note = standard_cell(atoms)
    elements = np.array([kind[0][0] for kind in cell.kinds], np.int64)[cell.kind]
    crystal = Crystal(
        cell.cell, cell.primitive, elements, cell.positions, cell.number,
        symmetry.system_of_space_group(cell.number), 0,
    )  # fmt: skip
    counts = {SYMBOLS[z]: n for z, n in Counter(elements.tolist()).items()}
    prototype = f"{anonymous_formula(counts)}|{cell.number}|{cell.letters}"
    mended = "; ".join(filter(None, [atoms.mended, note]))
    return Structure(atoms.name, crystal, reduced(counts), cell.symbol, prototype, mended)


def reduced_formula(text: str) -> str:
    """Returns a chemical formula as structures have it; text that is none stays as it is."""
    try:
        return reduced(parsed_formula(text))
    except ValueError:
        return text


def check_packages() -> None:
    """Raises UserError if gemmi or spglib is missing, which the plain install brings."""
    for name in ("gemmi", "spglib"):
        try:
            __import__(name)
        except ImportError as error:
            raise UserError(
                f"reading crystal structures needs {name}: pip install gemmi spglib"
            ) from error
