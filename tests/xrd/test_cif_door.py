"""One door for CIF files: each awkward kind comes out right, and what was changed is said."""

import numpy as np
import pytest

from imitation_refinement.errors import UserError
from imitation_refinement.xrd.structures.atoms import check_atoms, majority_formula
from imitation_refinement.xrd.structures.cif import read_cif, space_group_symbol
from imitation_refinement.xrd.structures.collection import read_cif as read_crystal
from imitation_refinement.xrd.structures.collection import read_cif_atoms, read_structures
from imitation_refinement.xrd.structures.settings import hall_symbol, operations, standard_cell

SITES = ("_atom_site_label", "_atom_site_type_symbol", "_atom_site_fract_x", "_atom_site_fract_y",
         "_atom_site_fract_z", "_atom_site_occupancy")  # fmt: skip


def cif(cell, sites, symmetry="", name="x", operations=(), columns=SITES, extra="") -> str:
    parts = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
    lines = [f"data_{name}"]
    lines += [f"_cell_{part} {value}" for part, value in zip(parts, cell, strict=True)]
    lines += [symmetry] if symmetry else []
    if operations:
        lines += ["loop_", "_symmetry_equiv_pos_as_xyz", *(f"'{text}'" for text in operations)]
    lines += [extra] if extra else []
    lines += ["loop_", *columns, *sites]
    return "\n".join(lines) + "\n"


CUBIC = (5.64, 5.64, 5.64, 90, 90, 90)
FCC = "_symmetry_space_group_name_H-M 'F m -3 m'"
SALT = cif(CUBIC, ["Na1 Na 0 0 0 1", "Cl1 Cl 0.5 0.5 0.5 1"], FCC)
TENORITE = (4.6837, 3.4226, 5.1288, 90, 99.54, 90)
TENORITE_SITES = ["Cu Cu 0.25 0.25 0 1", "O O 0 0.4184 0.25 1"]


def only(text: str | bytes):
    (found,) = read_cif("some.cif", text.encode() if isinstance(text, str) else text)
    assert not isinstance(found, str), found
    check_atoms(found)
    return found


def test_hall_symbol_alone_is_enough():
    atoms = only(cif(TENORITE, TENORITE_SITES, "_space_group_name_Hall '-C 2yc'"))
    assert atoms.space_group == 15 and majority_formula(atoms) == "CuO"
    assert np.bincount(atoms.numbers)[[8, 29]].tolist() == [4, 4]
    cell, note = standard_cell(atoms)
    assert cell.number == 15 and note == ""


@pytest.mark.parametrize(
    "content",
    [
        SALT.encode("utf-8-sig"),
        SALT.encode("utf-16"),
        SALT.replace("\n", "\r\n").encode(),
        SALT.replace("\n", "\r").encode(),
        ("# Grüße\n" + SALT).encode("latin-1"),
    ],
    ids=["utf-8-sig", "utf-16", "crlf", "cr", "latin-1"],
)
def test_bytes_of_every_editor(content):
    atoms = only(content)
    assert atoms.space_group == 225 and len(atoms.numbers) == 8


def test_uncertainties_in_brackets_are_taken_off():
    text = cif(("5.640(2)", "5.640(2)", "5.6400(15)", "90", "90.", "90"),
               ["Na1 Na 0 0 0 1", "Cl1 Cl 0.5000(3) 0.5 0.5 1.0(1)"], FCC)  # fmt: skip
    atoms = only(text)
    np.testing.assert_allclose(atoms.lattice, 5.64 * np.eye(3), atol=1e-12)
    assert len(atoms.numbers) == 8


def test_occupancies_of_mixed_and_partly_filled_sites_are_kept():
    sites = ["Fe1 Fe 0 0 0 0.7", "Mg1 Mg 0 0 0 0.3", "O1 O 0.5 0.5 0.5 0.9"]
    atoms = only(cif((4.25,) * 3 + (90,) * 3, sites, FCC))
    assert atoms.amounts == pytest.approx({"Fe": 2.8, "Mg": 1.2, "O": 3.6})
    assert not atoms.ordered and majority_formula(atoms) == "FeO"
    assert atoms.mended == ""
    cell, _ = standard_cell(atoms)
    assert cell.number == 225 and len(cell.positions) == 2
    assert ((12, 0.3), (26, 0.7)) in cell.kinds


def test_training_takes_ordered_crystals_only_and_the_match_takes_all(tmp_path):
    path = tmp_path / "mixed.cif"
    path.write_text(cif(CUBIC, ["A Na 0 0 0 0.5", "B K 0 0 0 0.5", "C Cl 0.5 0.5 0.5 1"], FCC))
    with pytest.raises(UserError, match="disordered"):
        read_crystal(path)
    (atoms,), left_out = read_cif_atoms(path)
    assert left_out == [] and atoms.amounts == pytest.approx({"Na": 2, "K": 2, "Cl": 4})


def test_a_place_that_is_overfull_is_scaled_and_said():
    atoms = only(cif(CUBIC, ["A Na 0 0 0 1", "B K 0 0 0 1", "C Cl 0.5 0.5 0.5 1"], FCC))
    assert atoms.amounts == pytest.approx({"Na": 2, "K": 2, "Cl": 4})
    assert "add up to 2" in atoms.mended


def test_every_block_is_a_structure_and_one_without_atoms_is_passed_over():
    text = "data_global\n_journal_year 1999\n" + SALT + cif(TENORITE, TENORITE_SITES,
           "_space_group_IT_number 15", name="y")  # fmt: skip
    found = read_cif("two.cif", text.encode())
    assert [atoms.name for atoms in found] == ["two.cif#1", "two.cif#2"]
    assert [atoms.space_group for atoms in found] == [225, 15]


def test_deuterium_is_hydrogen_and_said():
    sites = ["D1 D 0 0 0 1", "Cl1 Cl 0.5 0.5 0.5 1"]
    atoms = only(cif((4.0,) * 3 + (90,) * 3, sites))
    assert sorted(atoms.numbers.tolist()) == [1, 17] and "D read as H" in atoms.mended


@pytest.mark.parametrize(
    ("label", "number"),
    [("Ca1", 20), ("CA", 20), ("O1A", 8), ("OH2", 8), ("Wat3", 8), ("SiT1", 14), ("KA", 19),
     ("AlM2", 13), ("D4", 1), ("O-H1", 8), ("Cl1", 17)],
)  # fmt: skip
def test_elements_from_labels(label, number):
    columns = [column for column in SITES if column != "_atom_site_type_symbol"]
    text = cif((4.0,) * 3 + (90,) * 3, [f"{label} 0 0 0 1"], columns=columns)
    assert only(text).numbers.tolist() == [number]


@pytest.mark.parametrize("state", ["_symmetry_Int_Tables_number 225", FCC,
                                   "_symmetry_space_group_name_H-M Fm3m"])  # fmt: skip
def test_missing_symmetry_loop(state):
    atoms = only(cif(CUBIC, ["Na1 Na 0 0 0 1", "Cl1 Cl 0.5 0.5 0.5 1"], state))
    assert len(atoms.numbers) == 8 and atoms.space_group == 225


def test_nothing_stated_is_p1_and_said():
    atoms = only(cif((4.0,) * 3 + (90,) * 3, ["Cs Cs 0 0 0 1", "Cl Cl 0.5 0.5 0.5 1"]))
    assert atoms.space_group == 0 and "states no symmetry" in atoms.mended
    assert standard_cell(atoms)[0].number == 221


@pytest.mark.parametrize("place", [("0", "0", "0"), ("0.125", "0.125", "0.125")])
def test_an_open_origin_is_settled_by_the_room_of_the_atoms(place):
    # Diamond in F d -3 m: 8a is at 0 in origin choice 1, at 1/8 in choice 2.
    text = cif((3.567,) * 3 + (90,) * 3, [f"C1 C {' '.join(place)} 1"],
               "_symmetry_space_group_name_H-M 'F d -3 m'")  # fmt: skip
    atoms = only(text)
    assert len(atoms.numbers) == 8 and "are taken" in atoms.mended
    assert standard_cell(atoms)[0].number == 227


def test_nearly_cubic_stays_tetragonal(tmp_path):
    text = cif((2.859, 2.859, 2.937, 90, 90, 90), ["Fe1 Fe 0 0 0 1"],
               "_symmetry_space_group_name_H-M 'I 4/m m m'")  # fmt: skip
    cell, note = standard_cell(only(text))
    assert cell.number == 139 and note == ""
    np.testing.assert_allclose(cell.cell, [2.859, 2.859, 2.937, 90, 90, 90], atol=1e-9)
    (tmp_path / "fe.CIF").write_text(text)
    found = read_structures(tmp_path, tmp_path / "cache", workers=1)
    assert found.space_group.tolist() == [139]


def test_rounded_coordinates_still_show_the_stated_group():
    # Wurtzite with x = 0.33, y = 0.67: a hundredth of a cell off the axis.
    sites = ["Zn1 Zn 0.33 0.67 0 1", "O1 O 0.33 0.67 0.38 1"]
    text = cif((3.25, 3.25, 5.207, 90, 90, 120), sites, "_space_group_IT_number 186")
    atoms = only(text)
    assert len(atoms.numbers) == 4
    cell, note = standard_cell(atoms)
    assert cell.number == 186 and note == ""


def test_a_stated_group_that_the_atoms_do_not_have_is_said():
    # Cesium chloride spelt out under a polar group.
    text = cif((4.0,) * 3 + (90,) * 3, ["Cs Cs 0 0 0 1", "Cl Cl 0.5 0.5 0.5 1"],
               "_space_group_name_H-M_alt 'P 4 m m'", operations=[
                   "x,y,z", "-y,x,z", "-x,-y,z", "y,-x,z", "x,-y,z", "-x,y,z", "y,x,z",
                   "-y,-x,z"])  # fmt: skip
    atoms = only(text)
    assert atoms.space_group == 99
    cell, note = standard_cell(atoms)
    assert cell.number == 221 and "states space group 99" in note


def test_operations_win_over_a_name_and_it_is_said():
    text = cif((4.0,) * 3 + (90,) * 3, ["Cs Cs 0.1 0.2 0.3 1"],
               "_space_group_name_H-M_alt 'P m m m'", operations=["x,y,z", "-x,-y,-z"])  # fmt: skip
    atoms = only(text)
    assert atoms.space_group == 2 and "the operations are taken" in atoms.mended


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (SALT.replace("_cell_length_a 5.64", "_cell_length_a ?"), "cell is not complete"),
        (SALT.replace("_cell_angle_alpha 90", "_cell_angle_alpha 190"), "no cell has the angles"),
        ("data_x\nloop_\n_a\n_b\n1 2 3\n", "broken"),
        (SALT.replace("Cl1 Cl", "Xx1 Xx"), "no element"),
        (SALT.replace("_cell_length_a 5.64", "_cell_length_a 1e200"), "cell vector of 1e+200"),
        (SALT.replace("_cell_length_a 5.64", "_cell_length_a 1e-30"), "cubic angstrom"),
        (SALT.replace("_cell_angle_gamma 90", "_cell_angle_gamma 1e-9"), "no cell has the angles"),
        (cif((90,) * 6, ["H 0.1 0.2 0.3"] * 4001, columns=(SITES[0], *SITES[2:5])), "too many"),
        (
            cif((90,) * 6, ["H 0.11 0.23 0.37"] * 30, FCC, columns=(SITES[0], *SITES[2:5])),
            "too many",
        ),
        (cif(CUBIC, ["Na1 Na 0 0 0 1"], operations=["x,y,q"]), "operation cannot be read"),
    ],
)
def test_a_broken_structure_is_one_line(text, why):
    (found,) = read_cif("some.cif", text.encode())
    assert isinstance(found, str) and found.startswith("some.cif: ") and why in found
    assert "\n" not in found


@pytest.mark.parametrize("hall", [1, 9, 81, 115, 230, 438, 462, 525, 530])
def test_operations_of_a_setting_are_those_of_its_hall_symbol(hall):
    gemmi = pytest.importorskip("gemmi")
    theirs = {op.wrap().triplet() for op in gemmi.symops_from_hall(hall_symbol(hall))}
    ours = set()
    for rows in operations(hall):
        op = gemmi.Op()
        op.rot = [[int(n) * 24 for n in row[:3]] for row in rows.tolist()]
        op.tran = [round(24 * row[3]) for row in rows.tolist()]
        ours.add(op.wrap().triplet())
    assert ours == theirs


@pytest.mark.parametrize(
    ("cell", "sites", "why"),
    [
        ((40, 40, 40, 90, 90, 90), ["Na1 Na 0 0 0 1"], "for each atom"),
        ((5, 5, 5, 90, 90, 90), ["A Na 0 0 0 1", "B Cl 0.06 0 0 1"], "nearer than 0.5"),
    ],
)
def test_what_no_crystal_has_is_refused(cell, sites, why):
    (atoms,) = read_cif("some.cif", cif(cell, sites).encode())
    with pytest.raises(ValueError, match=why):
        check_atoms(atoms)


def test_split_sites_that_are_never_there_at_once_are_kept():
    sites = ["A Na 0 0 0 0.5", "B Na 0.06 0 0 0.5", "C Cl 0.5 0.5 0.5 1"]
    atoms = only(cif((4, 4, 4, 90, 90, 90), sites))
    assert atoms.amounts == pytest.approx({"Na": 1, "Cl": 1})


def test_a_formula_that_is_not_that_of_the_atoms_is_refused():
    def read(formula):
        text = SALT.replace("data_x", f"data_x\n_chemical_formula_sum {formula}")
        (atoms,) = read_cif("s.cif", text.encode())
        return atoms

    check_atoms(read("'Na Cl'"))
    check_atoms(read("'Na4 Cl4'"))
    for wrong in ("'Na Br'", "'Na2 Cl'", "'Na Cl O'"):
        with pytest.raises(ValueError, match="not those of its formula"):
            check_atoms(read(wrong))


@pytest.mark.parametrize(
    ("number", "symbol"),
    [(2, "P-1"), (5, "C2"), (14, "P2_1/c"), (62, "Pnma"), (136, "P4_2/mnm"), (143, "P3"),
     (150, "P321"), (167, "R-3c"), (186, "P6_3mc"), (195, "P23"), (227, "Fd-3m"), (0, ""),
     (231, "")],
)  # fmt: skip
def test_short_symbols_of_space_groups(number, symbol):
    assert space_group_symbol(number) == symbol
