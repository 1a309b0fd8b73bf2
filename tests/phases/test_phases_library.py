"""The library gives back what was put in, as arrays, structures and CIF, and notices damage."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from imitation_refinement.errors import UserError
from imitation_refinement.phases.cif_text import cif_text, triplet
from imitation_refinement.phases.library import (
    COMPUTED,
    MEASURED,
    Source,
    concatenate,
    load_library,
    primitive_of,
    save_library,
    shipped_library,
)
from imitation_refinement.phases.lines import B_ISO, LINES, Q_MAX, Q_MIN, line_list
from imitation_refinement.phases.records import library_of, record_of
from imitation_refinement.phases.sources import SOURCES, Entry
from imitation_refinement.phases.twins import COSINE, first_of_each_phase, pattern
from imitation_refinement.xrd import symmetry
from imitation_refinement.xrd.diffraction import reflections, scattering_factor
from imitation_refinement.xrd.structures.atoms import Atoms, check_atoms
from imitation_refinement.xrd.structures.cif import read_cif
from imitation_refinement.xrd.structures.settings import expanded, operations, standard_cell

STATED = {"amcsd": Source("amcsd", "use with attribution", "Downs (2003)")}


def atoms_of(hall, cell, sites, name="one", group=0, **fields):
    """Atoms of a crystal from its setting, cell and (number, occupancy, position)s."""
    lattice = symmetry.lattice_vectors(np.array(cell, float))
    unique = np.array([place for *_, place in sites], float)
    every, site = expanded(lattice, unique, operations(hall))
    number = np.array([z for z, *_ in sites])[site]
    share = np.array([x for _, x, _ in sites], float)[site]
    return Atoms(name, lattice, every, number, share, group, source_id=name, **fields)


SALT = atoms_of(523, (5.64,) * 3 + (90,) * 3,
                [(11, 1, (0, 0, 0)), (17, 1, (0.5, 0.5, 0.5))], "salt", 225, mineral="Halite",
                reference="Bragg's law, 1913")  # fmt: skip
WUSTITE = atoms_of(523, (4.25,) * 3 + (90,) * 3,
                   [(26, 0.6, (0, 0, 0)), (12, 0.3, (0, 0, 0)), (8, 1, (0.5, 0.5, 0.5))],
                   "wustite", 225)  # fmt: skip
CORUNDUM = atoms_of(460, (4.759, 4.759, 12.991, 90, 90, 120),
                    [(13, 1, (0, 0, 0.35228)), (8, 1, (0.30624, 0, 0.25))], "corundum",
                    167)  # fmt: skip
TENORITE = atoms_of(90, (4.6837, 3.4226, 5.1288, 90, 99.54, 90),
                    [(29, 1, (0.25, 0.25, 0)), (8, 1, (0, 0.4184, 0.25))], "tenorite",
                    15)  # fmt: skip
ODD = atoms_of(2, (5.1, 6.2, 7.3, 81, 97, 103),
               [(20, 1, (0.11, 0.27, 0.31)), (14, 1, (0.4, 0.8, 0.66)), (8, 0.5, (0.7, 0.1, 0.2))],
               "odd", 2)  # fmt: skip
SPINEL = atoms_of(525, (8.083,) * 3 + (90,) * 3,
                  [(12, 1, (0, 0, 0)), (13, 1, (0.625,) * 3), (8, 1, (0.3873,) * 3)], "spinel",
                  227)  # fmt: skip
ALL = [SALT, WUSTITE, CORUNDUM, TENORITE, ODD, SPINEL]


def make(atoms=ALL, source="amcsd", computed=MEASURED):
    return library_of([record_of(Entry(a, source, computed)) for a in atoms], STATED)


@pytest.fixture(scope="module")
def library():
    return make()


def assert_same_lines(one, two, q=6e-5, amplitude=0.006):
    """Positions within the steps of ln q, amplitudes within those of 8 bits."""
    np.testing.assert_allclose(one[0], two[0], rtol=q)
    np.testing.assert_allclose(one[1], two[1], atol=amplitude)


def test_lines_of_rock_salt_are_those_of_the_structure_factors():
    q, amplitude = line_list(SALT.lattice, SALT.positions, SALT.numbers, SALT.occupancies)
    square = np.array([3, 4, 8, 11, 12, 16, 19, 20, 24, 27])
    np.testing.assert_allclose(q[: len(square)], 2 * np.pi * np.sqrt(square) / 5.64, rtol=1e-6)
    # F = 4 (f_Na +- f_Cl) with even and odd hkl; (111), (200), (220) are 8, 6 and 12 planes.
    s_squared = (q[:3] / (4 * np.pi)) ** 2
    sodium, chlorine = (scattering_factor(np.full(3, z), s_squared) for z in (11, 17))
    factor = np.abs(sodium + np.array([-1, 1, 1]) * chlorine) * np.exp(-B_ISO * s_squared)
    expected = np.sqrt([8, 6, 12]) * factor
    np.testing.assert_allclose(amplitude[:2] / amplitude[2], expected[:2] / expected[2], rtol=1e-4)


def test_occupancies_weigh_the_structure_factor():
    # (111) of rock salt is 4 (f_cation - f_anion), (200) is 4 (f_cation + f_anion).
    q, amplitude = line_list(
        WUSTITE.lattice, WUSTITE.positions, WUSTITE.numbers, WUSTITE.occupancies
    )
    s_squared = (q[:2] / (4 * np.pi)) ** 2
    iron, magnesium, oxygen = (scattering_factor(np.full(2, z), s_squared) for z in (26, 12, 8))
    cation = 0.6 * iron + 0.3 * magnesium
    damping = np.exp(-B_ISO * s_squared)
    odd = np.sqrt(8) * (cation[0] - oxygen[0]) * damping[0]
    even = np.sqrt(6) * (cation[1] + oxygen[1]) * damping[1]
    assert amplitude[0] / amplitude[1] == pytest.approx(odd / even, rel=1e-4)


def test_full_occupancies_change_nothing_bit_for_bit():
    given = {"q_min": 0.4, "q_max": 6.3, "wavelength": 1.54184, "b_iso": 0.5}
    crystal = (CORUNDUM.lattice, CORUNDUM.positions, CORUNDUM.numbers)
    plain, weighed = reflections(*crystal, **given), reflections(*crystal, np.ones(30), **given)
    np.testing.assert_array_equal(plain.intensity, weighed.intensity)
    np.testing.assert_array_equal(plain.q, weighed.q)


def test_an_absurd_cell_is_refused_before_memory_is_taken():
    with pytest.raises(ValueError, match="a cell so large"):
        line_list(np.diag([3.0, 3.0, 1e9]), np.zeros((1, 3)), np.array([11]))


def test_at_most_the_strongest_lines_are_kept_in_order():
    q, amplitude = line_list(ODD.lattice, ODD.positions, ODD.numbers, ODD.occupancies)
    assert len(q) == LINES and np.all(np.diff(q) > 0) and amplitude.max() == 1
    assert q.min() >= Q_MIN and q.max() <= Q_MAX
    assert q.dtype == amplitude.dtype == np.float32


@pytest.mark.parametrize("index", range(len(ALL)))
def test_what_is_kept_gives_the_pattern_of_what_was_put_in(library, index):
    atoms = ALL[index]
    given = line_list(atoms.lattice, atoms.positions, atoms.numbers, atoms.occupancies)
    assert_same_lines(library.lines(index), given)
    structure = library.structure(index)
    check_atoms(structure)
    volume = np.linalg.det(structure.lattice) / structure.occupancies.sum()
    assert volume == pytest.approx(
        abs(np.linalg.det(atoms.lattice)) / atoms.occupancies.sum(), rel=1e-4
    )
    again = line_list(
        structure.lattice, structure.positions, structure.numbers, structure.occupancies
    )
    assert_same_lines(again, given, q=2e-6, amplitude=2e-3)


@pytest.mark.parametrize("index", range(len(ALL)))
def test_cif_read_again_gives_the_same_lines_symmetry_and_names(library, index):
    atoms = ALL[index]
    (again,) = read_cif("again.cif", cif_text(library, index).encode())
    assert again.mended == ""
    check_atoms(again)
    assert again.space_group == atoms.space_group == library.space_group[index]
    assert again.mineral == atoms.mineral and again.amounts.keys() == atoms.amounts.keys()
    total = sum(again.amounts.values()) / sum(atoms.amounts.values())
    for symbol, amount in atoms.amounts.items():
        assert again.amounts[symbol] == pytest.approx(total * amount, rel=1e-3)
    assert standard_cell(again)[0].number == atoms.space_group
    given = line_list(atoms.lattice, atoms.positions, atoms.numbers, atoms.occupancies)
    lines = line_list(again.lattice, again.positions, again.numbers, again.occupancies)
    assert_same_lines(lines, given, q=2e-6, amplitude=2e-3)


def test_cif_names_source_and_terms(library):
    text = cif_text(library, 0)
    assert text.startswith("# amcsd salt\n# use with attribution\n# Downs (2003)\ndata_NaCl_salt\n")
    assert '_publ_section_references "Bragg\'s law, 1913"' in text
    assert "_chemical_formula_sum 'Na Cl'" in text


def test_a_group_that_the_atoms_do_not_show_is_said_in_the_cif():
    library = make([SALT._replace(space_group=216)])
    assert library.space_group.tolist() == [216]
    assert "states space group 216; its atoms have 225" in cif_text(library, 0)
    # A calculation states nothing.
    assert make([SALT._replace(space_group=216)], computed=COMPUTED).space_group.tolist() == [225]


def test_fields_of_entries(library):
    assert library.formula.tolist() == ["NaCl", "FeO", "Al2O3", "CuO", "CaSiO", "MgAl2O4"]
    assert library.composition.tolist()[:2] == ["", "Mg0.3Fe0.6O"]
    assert library.crystal_system.tolist() == [6, 6, 4, 1, 0, 6]
    assert library.volume_per_atom[0] == pytest.approx(5.64**3 / 8)
    np.testing.assert_allclose(library.cell[2], [4.759, 4.759, 12.991, 90, 90, 120], rtol=1e-6)
    assert library.sources == (STATED["amcsd"],)


def test_a_mineral_without_a_name_is_read_so_from_older_files(tmp_path):
    unnamed = [atoms._replace(mineral="<missing>") for atoms in ALL[:2]]
    save_library(make([*unnamed, SALT]), tmp_path / "old.npz")
    again = load_library(tmp_path / "old.npz")
    assert again.mineral.tolist() == ["", "", "Halite"] and "<missing>" not in cif_text(again, 0)


def test_written_and_read_again(library, tmp_path):
    path = tmp_path / "some.npz"
    save_library(library, path)
    again = load_library(path)
    assert len(again) == len(library) and again.sources == library.sources
    for name in ("q", "amplitude", "offsets", "space_group", "crystal_system", "hall", "cell",
                 "source", "computed", "volume_per_atom", "formula", "composition", "mineral",
                 "reference", "source_id"):  # fmt: skip
        np.testing.assert_array_equal(getattr(again, name), getattr(library, name))
    for index in range(len(library)):
        for one, two in zip(again.sites(index), library.sites(index), strict=True):
            np.testing.assert_array_equal(one, two)
    assert again.digest == library.digest != make(ALL[:3]).digest
    assert not again.q.flags.writeable
    first = path.read_bytes()
    save_library(again, path)
    assert path.read_bytes() == first


def test_nothing_but_lines_is_read_until_it_is_asked_for(library, tmp_path):
    save_library(library, tmp_path / "some.npz")
    again = load_library(tmp_path / "some.npz")
    assert len(again.q) and not {"reference", "site_position"} & again._arrays._read.keys()
    assert again.reference[0] == "Bragg's law, 1913"


def test_take_and_concatenate(library, tmp_path):
    other = make([SPINEL, SALT], "elsewhere", COMPUTED)
    both = concatenate([library, other])
    assert [both.sources[i].name for i in both.source] == ["amcsd"] * 6 + ["elsewhere"] * 2
    assert both.computed.tolist() == [MEASURED] * 6 + [COMPUTED] * 2
    part = both.take(np.array([7, 2]))
    assert part.formula.tolist() == ["NaCl", "Al2O3"]
    for ours, theirs in ((0, 7), (1, 2)):
        assert_same_lines(part.lines(ours), both.lines(theirs), 0, 0)
        for one, two in zip(part.sites(ours), both.sites(theirs), strict=True):
            np.testing.assert_array_equal(one, two)
    assert both.take(both.computed == COMPUTED).digest == concatenate([both.take([6, 7])]).digest
    empty = both.take(np.zeros(len(both), bool))
    save_library(empty, tmp_path / "empty.npz")
    assert len(load_library(tmp_path / "empty.npz")) == 0


def test_one_entry_of_each_phase_measured_first(library):
    larger = SALT._replace(lattice=SALT.lattice * 1.03, name="hot", source_id="hot")
    computed = make([SALT._replace(source_id="mp"), SPINEL], computed=COMPUTED)
    both = concatenate([computed, make([SALT, larger])])
    kept, same_as = first_of_each_phase(both)
    assert same_as.tolist() == [2, 1, 2, 3]  # 3: its lines are elsewhere
    assert kept.tolist() == [1, 2, 3]


def test_the_same_identifier_of_a_source_is_the_same_entry():
    moved = SALT._replace(lattice=SALT.lattice * 1.05)  # as another reader has it
    both = concatenate([make([SALT, SPINEL]), make([moved], "elsewhere"), make([moved])])
    kept, same_as = first_of_each_phase(both)
    assert same_as.tolist() == [0, 1, 2, 0] and kept.tolist() == [0, 1, 2]


def test_patterns_whose_lines_are_a_thousandth_apart_agree_at_the_limit():
    both = make([SALT, SALT._replace(lattice=SALT.lattice * 1.001)])
    step = np.log(Q_MAX / Q_MIN) / 999
    expected = np.exp(-0.25 * (np.log(1.001) / step) ** 2)  # of two Gaussians of one step
    assert pattern(both, 0) @ pattern(both, 1) == pytest.approx(expected, abs=2e-3)
    assert expected == pytest.approx(COSINE, abs=3e-3)


def test_primitive_cells_of_all_settings_have_the_volume_of_the_centring():
    cells = {"P": 1, "A": 2, "B": 2, "C": 2, "I": 2, "F": 4}
    for hall in range(1, 531, 7):
        maps = operations(hall)
        shifts = int(np.sum(np.all(maps[:, :, :3] == np.eye(3), axis=(1, 2))))
        transform = primitive_of(hall, np.diag([4.0, 5.0, 6.0]))
        assert np.linalg.det(transform) == pytest.approx(1 / shifts)
        assert shifts in {*cells.values(), 3}


def test_triplets():
    assert triplet(np.array([[0, -1, 0, 0.5], [1, 0, 0, 0], [0, 0, 1, 0.75]])) == "-y+1/2,x,z+3/4"
    assert triplet(np.array([[1, -1, 0, 0], [1, 0, 0, 1 / 3], [0, 0, -1, 5 / 6]])) == (
        "x-y,x+1/3,-z+5/6"
    )


@pytest.mark.parametrize("place", [200, -200, None])
def test_damage_is_one_line(library, tmp_path, place):
    path = tmp_path / "some.npz"
    save_library(library, path)
    content = bytearray(path.read_bytes())
    if place is None:
        content = content[: len(content) // 2]
    else:
        content[place : place + 40] = bytes(40)
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"some\.npz: damaged library") as error:
        cif_text(load_library(path), 0)
    assert "\n" not in str(error.value)


def test_a_changed_byte_of_any_array_is_noticed(library, tmp_path):
    path = tmp_path / "some.npz"
    save_library(library, path)
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    for member in members:
        content = bytearray(whole)
        content[member.header_offset + 30 + len(member.filename) + member.compress_size // 2] ^= 255
        path.write_bytes(content)
        with pytest.raises(UserError, match="damaged library"):
            found = load_library(path)
            _ = [found._arrays[name] for name in found._arrays]


def test_another_version_and_no_file_are_one_line(library, tmp_path):
    path = tmp_path / "some.npz"
    header = json.dumps({"format": 99}).encode()
    with open(path, "wb") as file:
        np.savez(file, header=np.frombuffer(header, np.uint8))
    with pytest.raises(UserError, match="format 99, this program reads format 1"):
        load_library(path)
    with pytest.raises(UserError, match="No such file"):
        load_library(tmp_path / "none.npz")


# --- The library that is shipped -----------------------------------------------------------------


@pytest.fixture(scope="module")
def shipped():
    return load_library()


def test_the_shipped_library_is_whole_small_and_large():
    path = Path(str(shipped_library()))
    assert path.stat().st_size < 45_000_000
    library = load_library(path)
    assert len(library) > 120_000
    stated = library.digest
    del library.digest  # is worked out anew
    assert library.digest == stated
    assert set(np.unique(library.crystal_system)) == set(range(7))
    assert np.sum(library.computed == MEASURED) > 7_000
    assert np.sum(library.composition != "") > 2_000


def test_every_source_that_is_shipped_is_in_the_notice_with_its_terms(shipped):
    notice = (Path(__file__).parents[2] / "NOTICE").read_text()
    for source in shipped.sources:
        assert SOURCES[source.name].shipped
        assert source.licence and source.citation
        assert f" {source.name} " in notice


@pytest.mark.parametrize(
    ("formula", "group", "d"),
    [  # the strongest lines of the powder diffraction file
        ("Si", 227, [3.1355, 1.9201, 1.6375]),
        ("TiO2", 136, [3.247, 2.487, 1.6874]),
        ("Al2O3", 167, [2.551, 2.085, 1.6014]),
        ("ZnO", 186, [2.8143, 2.6033, 2.4759]),
        ("CuO", 15, [2.523, 2.323]),
    ],
)
def test_standards_are_in_the_shipped_library(shipped, formula, group, d):
    chosen = (shipped.formula == formula) & (shipped.space_group == group)
    found = np.flatnonzero(chosen & (shipped.computed == MEASURED))
    assert len(found)
    lines = [2 * np.pi / shipped.lines(i)[0] for i in found]
    assert any(all(np.min(np.abs(own / value - 1)) < 3e-3 for value in d) for own in lines)


def test_a_sample_of_the_shipped_library_goes_through_cif_and_back(shipped):
    for index in range(17, len(shipped), len(shipped) // 60):
        (atoms,) = read_cif("again.cif", cif_text(shipped, index).encode())
        check_atoms(atoms)
        q, amplitude = line_list(atoms.lattice, atoms.positions, atoms.numbers, atoms.occupancies)
        ours, height = shipped.lines(index)
        strong = height > 0.3
        nearest = np.min(np.abs(q[:, None] / ours[strong] - 1), axis=0)
        # Of equally weak lines another one may be the hundredth.
        assert np.mean(nearest < 2e-4) > 0.9, shipped.source_id[index]
        structure = shipped.structure(index)
        volume = abs(np.linalg.det(structure.lattice)) / structure.occupancies.sum()
        given = abs(np.linalg.det(atoms.lattice)) / atoms.occupancies.sum()
        assert volume == pytest.approx(given, rel=1e-4)
