"""One crystal structure: from a CIF file or a JSON line to the standard primitive cell.

Belongs here: parsing, symmetry, and the sentence that says what was mended or why a structure
cannot be used. pymatgen parses, spglib finds the symmetry (extra `structures`); both are imported
when they are needed, and nowhere else in the package.
"""

import json
import warnings
from collections import Counter
from typing import Any, NamedTuple

import numpy as np

from imitation_refinement.errors import UserError
from imitation_refinement.xrd import symmetry
from imitation_refinement.xrd.crystals import Crystal

SYMPREC = 0.1  # angstrom; what the Materials Project calls symmetric
MAX_ATOMS = 500  # in the primitive cell; a pattern of more takes minutes
MAX_NUMBER = 98  # end of the scattering-factor table
MIN_DISTANCE = 0.5  # angstrom; atoms nearer than that are a mistake
NEEDED = "pip install 'imitation-refinement[structures]'"


class Structure(NamedTuple):
    """One structure as found.

    Attributes:
        name: file or identifier.
        crystal: primitive standard cell.
        formula: reduced, as pymatgen writes it.
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

    Mended are element symbols in capitals or with odd charges (`SR2+`), and coordinates rounded to
    four digits, as pymatgen does it; hydrogens that nobody located may be absent.
    """
    name, content = item
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what matters stands in parser.warnings
        try:
            structures, notes = _parsed_cif(content.decode("utf-8", "replace"))
        except ValueError as error:
            return [f"{name}: {_one_line(error)}"]
    found: list[Found] = []
    for number, structure in enumerate(structures, 1):
        own = name if len(structures) == 1 else f"{name}#{number}"
        if not structure.is_ordered:
            found.append(f"{own}: disordered (partial occupancy)")
        elif dummies := [str(s.specie) for s in structure if not _is_element(s.specie)]:
            found.append(f"{own}: {dummies[0]} is no element")
        else:
            numbers = np.array([site.specie.Z for site in structure], np.int64)
            lattice = np.array(structure.lattice.matrix)
            found.append(
                _standard_or_reason(own, lattice, np.array(structure.frac_coords), numbers, notes)
            )
    return found


def _parsed_cif(text: str) -> tuple[list[Any], str]:
    """Structures of a CIF file and what was mended; pymatgen's complaints tell what is doubtful."""
    reader, complaints = _pymatgen_cif().CifParser, []
    try:
        parser = reader.from_str(text, check_cif=False)
        complaints = parser.warnings
        structures = parser.parse_structures(primitive=False, on_error="ignore")
    except Exception as error:  # whatever pymatgen makes of a broken file
        raise ValueError(f"broken: {[error, *complaints][-1]}") from error
    notes = [note for note in parser.warnings if "parsed as" in note or "rounded" in note]
    # The check reads the first block of the file only.
    doubt = parser.check(structures[0]) if len(structures) == 1 else None
    if doubt and doubt.startswith("Missing elements H from"):
        notes.append("hydrogen is in the formula and not among the atoms")
    elif doubt and doubt.startswith(("Missing elements", "Incorrect")):
        raise ValueError(f"its atoms are not those of its formula: {doubt}")
    return structures, _one_line("; ".join(notes))


def from_json(item: tuple[str, bytes]) -> list[Found]:
    """Returns the structure of a JSON line, given as (name, content), or the reason against it."""
    name, content = item
    try:
        entry = json.loads(content)
        name = str(entry.get("id") or name)
        lattice = np.array(entry["lattice"], np.float64).reshape(3, 3)
        species, positions = list(entry["species"]), np.array(entry["frac_coords"], np.float64)
        positions = positions.reshape(len(species), 3)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        return [f"{name}: broken: {_one_line(reason)}"]
    numbers, mended = [], []
    element = _pymatgen().Element
    for symbol in map(str, species):
        letters = symbol.rstrip("0123456789.+-").title()
        if not element.is_valid_symbol(letters):
            return [f"{name}: {symbol} is no element"]
        if letters != symbol:
            mended.append(f"{symbol} parsed as {letters}")
        numbers.append(element(letters).Z)
    notes = _one_line("; ".join(dict.fromkeys(mended)))
    return [_standard_or_reason(name, lattice, positions, np.array(numbers, np.int64), notes)]


def _standard_or_reason(name: str, *arguments: Any) -> Found:
    try:
        return standard_structure(name, *arguments)
    except UserError:  # a package is missing
        raise
    except Exception as error:  # ValueError, and whatever pymatgen or spglib raise
        return f"{name}: {_one_line(error)}"


def standard_structure(
    name: str, lattice: np.ndarray, positions: np.ndarray, numbers: np.ndarray, mended: str = ""
) -> Structure:
    """Brings a structure to the standard setting of its space group, in the primitive cell.

    Args:
        name: of the structure.
        lattice: [3, 3], vectors as rows, angstrom, of any cell.
        positions: [n, 3], fractional.
        numbers: int [n], atomic numbers.
        mended: see `Structure`.

    Raises:
        ValueError: an element without scattering factors, atoms too near, too many, or no symmetry
            found.
    """
    core, spglib = _pymatgen(), _spglib()
    if not (len(numbers) and np.isfinite(lattice).all() and np.isfinite(positions).all()):
        raise ValueError("no atoms, or numbers that are not finite")
    if max(numbers) > MAX_NUMBER:
        raise ValueError(f"elements beyond number {MAX_NUMBER} have no scattering factors")
    if len(numbers) > 8 * MAX_ATOMS:
        raise ValueError(f"{len(numbers)} atoms, too many")
    if not core.Structure(lattice, numbers, positions).is_valid(MIN_DISTANCE):
        raise ValueError(f"atoms nearer than {MIN_DISTANCE} angstrom")
    composition = core.Composition(Counter(core.Element.from_Z(int(z)) for z in numbers))
    with warnings.catch_warnings():  # spglib warns that it will raise in future; He, Ne, Ar have
        warnings.simplefilter("ignore")  # no electronegativity, by which formulas are ordered
        found = spglib.get_symmetry_dataset((lattice, positions, numbers), symprec=SYMPREC)
        formula, anonymous = composition.reduced_formula, composition.anonymized_formula
    if found is None:
        raise ValueError("spglib finds no space group")
    conventional = np.array(found.std_lattice)
    lengths = np.linalg.norm(conventional, axis=1)
    cosines = (conventional @ conventional.T) / np.outer(lengths, lengths)
    angles = np.degrees(np.arccos(np.clip([cosines[1, 2], cosines[0, 2], cosines[0, 1]], -1, 1)))
    # Rounding of arccos must not split lines that symmetry makes one.
    angles = np.where(np.abs(angles - np.rint(angles)) < 1e-9, np.rint(angles), angles)
    centring = symmetry.primitive_transform(found.number)
    primitive = symmetry.reduced_basis(centring @ conventional) @ centring
    _, first = np.unique(found.std_mapping_to_primitive, return_index=True)
    if len(first) > MAX_ATOMS:
        raise ValueError(f"{len(first)} atoms in the primitive cell, more than {MAX_ATOMS}")
    elements = np.array(found.std_types, np.int64)[first]
    if len(first) * round(1.0 / np.linalg.det(centring)) != len(found.std_types):
        raise ValueError("its standard cell does not have the centring of its space group")
    letters = dict(zip(found.mapping_to_primitive.tolist(), found.wyckoffs, strict=True))
    crystal = Crystal(
        np.concatenate([lengths, angles]),
        primitive,
        elements,
        np.array(found.std_positions)[first] @ np.linalg.inv(primitive) % 1.0,
        int(found.number),
        symmetry.system_of_space_group(int(found.number)),
        0,
    )
    prototype = f"{anonymous}|{found.number}|{''.join(sorted(letters.values()))}"
    return Structure(name, crystal, formula, str(found.international), prototype, mended)


def _one_line(text: object) -> str:
    return " ".join(str(text).split())[:200]


def reduced_formula(text: str) -> str:
    """Returns a chemical formula as structures have it; text that is none stays as it is."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return str(_pymatgen().Composition(text).reduced_formula)
    except ValueError:
        return text


def check_packages() -> None:
    """Raises UserError if pymatgen or spglib is missing."""
    _pymatgen(), _spglib()


def _is_element(specie: Any) -> bool:
    return not isinstance(specie, _pymatgen().DummySpecies)


def _pymatgen() -> Any:
    try:
        import pymatgen.core
    except ImportError as error:
        raise UserError(f"reading crystal structures needs pymatgen: {NEEDED}") from error
    return pymatgen.core


def _pymatgen_cif() -> Any:
    _pymatgen()
    import pymatgen.io.cif

    return pymatgen.io.cif


def _spglib() -> Any:
    try:
        import spglib
    except ImportError as error:
        raise UserError(f"finding space groups needs spglib: {NEEDED}") from error
    return spglib
