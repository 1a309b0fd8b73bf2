"""An entry of the library as the text of a CIF file, ready for a Rietveld program.

Belongs here: the text. It keeps the symmetry in which the structure is stored, spelt out as
operations, occupancies, and where the entry comes from.
"""

from fractions import Fraction

import numpy as np

from imitation_refinement.phases.library import Library
from imitation_refinement.xrd.formula import SYMBOLS
from imitation_refinement.xrd.structures.settings import hall_symbol, operations, setting_group

_CELL = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")


def cif_text(library: Library, index: int) -> str:
    """Returns entry `index` of a library as CIF text."""
    source = library.sources[int(library.source[index])]
    hall, stated = int(library.hall[index]), int(library.space_group[index])
    number, symbol = setting_group(hall)
    formula = str(library.composition[index]) or str(library.formula[index])
    lines = [
        f"# {source.name} {library.source_id[index]}",
        *(f"# {text}" for text in (source.licence, source.citation) if text),
    ]
    if stated != number:
        lines.append(f"# The source states space group {stated}; its atoms have {number}.")
    lines.append(f"data_{_word(f'{library.formula[index]}_{library.source_id[index]}')}")
    for tag, text in (
        ("_chemical_formula_sum", _spaced(formula)),
        ("_chemical_name_mineral", str(library.mineral[index])),
        ("_publ_section_references", str(library.reference[index])),
        ("_space_group_name_H-M_alt", symbol),
        ("_space_group_name_Hall", hall_symbol(hall)),
    ):
        if text:
            lines.append(f"{tag} {_quoted(text)}")
    lines.append(f"_space_group_IT_number {number}")
    for tag, value in zip(_CELL, library.cell[index].tolist(), strict=True):
        lines.append(f"_cell_{tag} {value:.5f}")
    lines += ["loop_", "_space_group_symop_operation_xyz"]
    lines += [f"'{triplet(rows)}'" for rows in operations(hall)]
    lines += ["loop_", "_atom_site_label", "_atom_site_type_symbol", "_atom_site_fract_x",
              "_atom_site_fract_y", "_atom_site_fract_z", "_atom_site_occupancy"]  # fmt: skip
    for row, (z, share, place) in enumerate(zip(*library.sites(index), strict=True), 1):
        x, y, z_ = (f"{value:.6f}" for value in place)
        lines.append(f"{SYMBOLS[z]}{row} {SYMBOLS[z]} {x} {y} {z_} {share:.4g}")
    return "\n".join(lines) + "\n"


def triplet(rows: np.ndarray) -> str:
    """A symmetry operation [3, 4] in the notation of International Tables, such as `-y,x+1/2,z`."""
    parts = []
    for *factors, shift in rows.tolist():
        text = "".join(
            ("-" if factor < 0 else "+") + axis
            for factor, axis in zip(factors, "xyz", strict=True)
            if factor
        )
        fraction = Fraction(shift).limit_denominator(24)
        parts.append(text.lstrip("+") + (f"+{fraction}" if fraction > 0 else ""))
    return ",".join(parts)


def _spaced(formula: str) -> str:
    out = ""
    for i, letter in enumerate(formula):
        opens = letter.isupper() or letter == "("
        out += (" " if i and opens and formula[i - 1] != "(" else "") + letter
    return out


def _quoted(text: str) -> str:
    if "'" not in text:
        return f"'{text}'"
    return f'"{text}"' if '"' not in text else f"\n;{text}\n;"


def _word(text: str) -> str:
    return "".join(c if c.isascii() and (c.isalnum() or c in "_.-") else "_" for c in text)
