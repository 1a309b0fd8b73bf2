"""The one door for CIF files: from bytes to the atoms of each structure, with occupancies.

Belongs here: what CIF files state and how they get it wrong. gemmi parses and knows the tables of
space groups; it is imported here and nowhere else in the package. What is changed or guessed on
reading is said in `Atoms.mended`.
"""

import re
from functools import cache
from typing import Any

import numpy as np

from imitation_refinement.xrd import symmetry
from imitation_refinement.xrd.formula import NUMBERS, parsed_formula
from imitation_refinement.xrd.structures.atoms import (
    MOST_ATOMS,
    Atoms,
    check_lattice,
    formula_doubt,
    merged_places,
    near_pairs,
    numbers_of,
)
from imitation_refinement.xrd.structures.settings import expanded, type_of_operations

_OPERATIONS = (
    "_space_group_symop_operation_xyz", "_symmetry_equiv_pos_as_xyz",
    "_space_group_symop.operation_xyz",
)  # fmt: skip
_HALL = ("_space_group_name_Hall", "_symmetry_space_group_name_Hall")
_HERMANN_MAUGUIN = (
    "_space_group_name_H-M_alt", "_symmetry_space_group_name_H-M", "_space_group_name_H-M_full",
    "_space_group_name_H-M",
)  # fmt: skip
_NUMBER = ("_space_group_IT_number", "_symmetry_Int_Tables_number")
_IDENTIFIERS = ("_cod_database_code", "_database_code_amcsd", "_database_code_AMCSD")
_OXYGEN = ("wat", "ow", "oh")  # labels of water and hydroxyl whose hydrogen is not located
# What ICSD and others add to a symbol: origin choice, or axes of a rhombohedral group.
_EXTENSIONS = {"S": "1", "Z": "2", "1": "1", "2": "2", "H": "H", "R": "R"}


def read_cif(name: str, content: bytes) -> list[Atoms | str]:
    """Reads every structure of a CIF file; each that cannot be read is `name: why not`.

    Blocks without atoms are passed over, unless none has any.

    Args:
        name: of the file; structures of a file with several are `name#1`, `name#2`, ...
        content: of the file: UTF-8 with or without byte-order mark, UTF-16 with one, or Latin-1.
    """
    try:
        blocks = list(_gemmi().cif.read_string(_text(content), check_level=0))
    except Exception as error:  # whatever the parser makes of a broken file
        return [f"{name}: broken: {one_line(error)}"]
    filled = [block for block in blocks if _column(block, "_atom_site_fract_x")]
    if not filled:
        return [f"{name}: broken: no atoms with fractional coordinates in it"]
    found: list[Atoms | str] = []
    for number, block in enumerate(filled, 1):
        own = name if len(filled) == 1 else f"{name}#{number}"
        try:
            found.append(_block_atoms(own, block))
        except ValueError as error:
            found.append(f"{own}: {one_line(error)}")
        except Exception as error:  # what nobody has thought of: never the end of a batch
            found.append(f"{own}: broken: {one_line(error)}")
    return found


@cache
def space_group_symbol(number: int) -> str:
    """Returns the short Hermann-Mauguin symbol of space group 1..230, such as `P2_1/c`.

    That of the standard setting; the index of a screw axis stands after a low line. Empty for any
    other number.
    """
    group = _gemmi().find_spacegroup_by_number(int(number))
    if group is None or group.number != number:  # 0 gives that of 1
        return ""
    parts = re.sub(r"(\d)(\d)", r"\1_\2", group.hm).split()
    if group.crystal_system_str() == "monoclinic":  # C 1 2/m 1 is C2/m
        parts = [part for part in parts if part != "1"]
    return "".join(parts)


def one_line(text: object) -> str:
    """Returns a text without line ends, at most 200 characters."""
    return " ".join(str(text).split())[:200]


def _block_atoms(name: str, block: Any) -> Atoms:
    notes: list[str] = []
    cell = np.array([_number(_value(block, (f"_cell_{part}",))) for part in _CELL])
    if not (np.isfinite(cell).all() and np.all(cell > 0.0)):
        raise ValueError("broken: its cell is not complete")
    try:
        if cell[3:].max() >= 180.0:
            raise ValueError
        lattice = symmetry.lattice_vectors(cell)
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"broken: no cell has the angles {cell[3:].tolist()}") from None
    check_lattice(lattice)
    formula = _value(block, ("_chemical_formula_sum",))
    symbols, positions, occupancies = _sites(block, formula, notes)
    if len(symbols) > MOST_ATOMS:
        raise ValueError(f"{len(symbols)} atoms, too many")
    settings, group = _settings(block, cell, lattice, notes)
    numbers = numbers_of(symbols)
    best: Atoms | None = None
    for maps, said in settings:
        every, site = expanded(lattice, positions, maps)
        if len(every) > MOST_ATOMS:
            raise ValueError(f"{len(every)} atoms, too many")
        atoms = Atoms(
            name, lattice, every, numbers[site], occupancies[site], group if group > 1 else 0,
            formula, "; ".join(dict.fromkeys([*notes, *([said] if said else [])])),
            _value(block, ("_chemical_name_mineral", "_chemical_name_common")),
            _reference(block), _value(block, _IDENTIFIERS),
        )  # fmt: skip
        atoms = merged_places(atoms)
        if best is None or _fits(atoms) > _fits(best):
            best = atoms
    assert best is not None  # there is always a setting
    return best


_CELL = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")


def _fits(atoms: Atoms) -> tuple[bool, int]:
    """How well a guess of the origin does: the stated formula first, then room for the atoms."""
    return not formula_doubt(atoms), -len(near_pairs(atoms.lattice, atoms.positions, 1.4))


def _sites(block: Any, formula: str, notes: list[str]) -> tuple[list[str], np.ndarray, np.ndarray]:
    columns = [_column(block, f"_atom_site_fract_{axis}") for axis in "xyz"]
    count = len(columns[0])
    if any(len(column) != count for column in columns):
        raise ValueError("broken: coordinates are missing")
    labels = _column(block, "_atom_site_label") or [""] * count
    types = _column(block, "_atom_site_type_symbol") or [""] * count
    shares = _column(block, "_atom_site_occupancy") or ["1"] * count
    flags = _column(block, "_atom_site_calc_flag") or [""] * count
    try:
        expected = set(parsed_formula(formula)) if formula else set()
    except ValueError:
        expected = set()
    symbols, positions, occupancies = [], [], []
    for label, kind, share, flag, *place in zip(
        labels, types, shares, flags, *columns, strict=True
    ):
        occupancy = _number(share) if share not in ("", ".", "?") else 1.0
        where = [_number(text) for text in place]
        if flag == "dum":
            continue
        if not np.isfinite(where).all():
            notes.append(f"{label or kind} has no coordinates and is left out")
            continue
        if not occupancy > 0.0:
            notes.append(f"{label or kind} with occupancy {share} is left out")
            continue
        symbols.append(_element(kind, label, expected, notes))
        positions.append(where)
        occupancies.append(occupancy)
    if not symbols:
        raise ValueError("broken: no atoms in it")
    return symbols, np.array(positions), np.array(occupancies)


def _element(kind: str, label: str, expected: set[str], notes: list[str]) -> str:
    """Element of a site from its type symbol, such as `Sr2+`, or else from its label."""
    stated = kind if kind not in ("", ".", "?") else label
    letters = re.match(r"[A-Za-z]*", stated)[0]  # type: ignore[index]  # matches always
    if letters.lower().startswith(_OXYGEN) or letters.lower() in ("o", "oh"):
        if len(letters) > 1:
            notes.append(f"{stated} read as O")
        return "O"
    if letters in ("D", "T"):
        notes.append(f"{letters} read as H")
        return "H"
    if letters in NUMBERS:
        return letters
    two, one = letters[:2].title(), letters[:1].upper()
    if stated is kind and len(letters) <= 2:
        choice = [two]
    elif letters[1:2].islower() or (two in expected and one not in expected):
        choice = [two, one]
    elif one in expected or len(letters) != 2:
        choice = [one, two]
    else:
        choice = [two, one]
    for symbol in choice:
        if symbol in NUMBERS:
            if stated is kind or letters[: len(symbol)] != symbol:
                notes.append(f"{stated} parsed as {symbol}")
            return symbol
        if symbol == "D":
            notes.append("D read as H")
            return "H"
    raise ValueError(f"{stated or 'an atom without a label'} is no element")


def _settings(
    block: Any, cell: np.ndarray, lattice: np.ndarray, notes: list[str]
) -> tuple[list[tuple[np.ndarray, str]], int]:
    """Possible lists of operations [k, 3, 4], each with what to say of it, and the space group."""
    named = _named_groups(block, cell)
    texts = next(filter(None, (_column(block, tag) for tag in _OPERATIONS)), [])
    if texts:
        try:
            maps = np.array([_map(text) for text in texts])
        except Exception as error:  # gemmi raises several kinds
            raise ValueError(f"broken: a symmetry operation cannot be read: {error}") from error
        if len(maps) > 1 or not named or named[0].number == 1:
            group = type_of_operations(maps, lattice) if len(maps) > 1 else 1
            if group and named and named[0].number != group:
                notes.append(
                    f"states space group {named[0].number}, its operations are of {group}; "
                    "the operations are taken"
                )
            return [(maps, "")], group or (named[0].number if named else 0)
        notes.append(f"lists no operation but the identity; those of {named[0].xhm()} are taken")
    if not named:
        notes.append("states no symmetry; taken as P1")
        return [(np.eye(3, 4)[None], "")], 0
    settings = []
    for group in named:
        said = f"lists no symmetry operations; those of {group.xhm()} are taken"
        maps = np.array([_rows(op) for op in group.operations()])
        settings.append((maps, said if len(named) > 1 else ""))
    return settings, named[0].number


def _named_groups(block: Any, cell: np.ndarray) -> list[Any]:
    """Settings that fit what is stated by name; more than one where the origin is left open."""
    gemmi = _gemmi()
    hall = _value(block, _HALL).replace("_", " ")
    if hall:
        try:
            group = gemmi.find_spacegroup_by_ops(gemmi.symops_from_hall(hall))
        except Exception:  # no Hall symbol: what else is stated may do
            group = None
        if group is not None:
            return [group]
    for text in (_value(block, (tag,)) for tag in _HERMANN_MAUGUIN):
        name = text.replace("_", "").lstrip("*").strip()
        group = gemmi.find_spacegroup_by_name(name, cell[3], cell[5]) if name else None
        if group is None and name[-1:] in _EXTENSIONS:
            bare = name[:-1].rstrip(" :")
            group = gemmi.find_spacegroup_by_name(
                f"{bare}:{_EXTENSIONS[name[-1]]}"
            ) or gemmi.find_spacegroup_by_name(bare, cell[3], cell[5])
        if group is not None:
            open_origin = group.ext in "12" and not re.search(r":\s*[12]$|[12]$|[SZ]$", name[3:])
            return _origins(group) if open_origin else [group]
    number = _number(_value(block, _NUMBER))
    if number in range(1, 231):
        return _origins(gemmi.find_spacegroup_by_number(int(number)))
    return []


def _origins(group: Any) -> list[Any]:
    every = [g for g in _gemmi().spacegroup_table() if g.hm == group.hm and g.ext in "12"]
    return every if group.ext in "12" and len(every) > 1 else [group]


@cache
def _map(text: str) -> tuple[tuple[float, ...], ...]:
    return _rows(_gemmi().Op(text.lower().replace(" ", "")))


def _rows(op: Any) -> tuple[tuple[float, ...], ...]:
    """An operation as three rows of three factors and a shift."""
    unit = _gemmi().Op.DEN
    parts = zip(op.rot, op.tran, strict=True)
    return tuple((*(n / unit for n in row), shift / unit) for row, shift in parts)


def _reference(block: Any) -> str:
    parts = [
        _value(block, (f"_journal_{part}",))
        for part in ("name_full", "year", "volume", "page_first")
    ]
    return one_line(", ".join(part for part in parts if part))


def _value(block: Any, tags: tuple[str, ...]) -> str:
    for tag in tags:
        value = block.find_value(tag)
        if value is None and (column := list(block.find_values(tag))):
            value = column[0]
        if value not in (None, "?", "."):
            return one_line(_gemmi().cif.as_string(value))
    return ""


def _column(block: Any, tag: str) -> list[str]:
    return [_gemmi().cif.as_string(value) for value in block.find_values(tag)]


def _number(text: str) -> float:
    """A number that may carry its uncertainty in brackets; nan if there is none."""
    value = float(_gemmi().cif.as_number(text)) if text else np.nan
    if np.isnan(value) and re.fullmatch(r"[+-]?\d+,\d+(\(\d+\))?", text):
        value = float(_gemmi().cif.as_number(text.replace(",", ".")))
    return value


def _text(content: bytes) -> str:
    for encoding in ("utf-16",) if content[:2] in (b"\xff\xfe", b"\xfe\xff") else ("utf-8-sig",):
        try:
            text = content.decode(encoding)
            break
        except UnicodeDecodeError:
            text = content.decode("latin-1")
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\x00", "")


def _gemmi() -> Any:
    import gemmi

    return gemmi
