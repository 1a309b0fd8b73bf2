import dataclasses
import functools
import itertools

import numpy as np
import pytest
import spglib
from pymatgen.core import Lattice
from pymatgen.symmetry.groups import sg_symbol_from_int_number
from reference_crystals import arrays_of, reference_structure

from imitation_refinement.runtime.generate import parallel_map
from imitation_refinement.xrd import symmetry
from imitation_refinement.xrd.composition import exchange_elements
from imitation_refinement.xrd.crystals import (
    CRYSTAL_SYSTEMS,
    SYSTEM_PRIOR,
    prototype_member,
    random_prototype,
    strained,
    system_preserving,
)
from imitation_refinement.xrd.tables import element_tables, wyckoff_tables

PER_SYSTEM = 50
by_system = pytest.mark.parametrize("system", range(7), ids=CRYSTAL_SYSTEMS)


@functools.cache
def family(system):
    """Prototypes of one system, each with one member."""
    prototypes = [random_prototype(7, i, system) for i in range(PER_SYSTEM)]
    return prototypes, [prototype_member(p, 7, 1) for p in prototypes]


def everything(system):
    prototypes, members = family(system)
    return [p.crystal for p in prototypes] + members


def same(left, right):
    return all(
        np.array_equal(getattr(left, field.name), getattr(right, field.name))
        for field in dataclasses.fields(left)
        if field.name != "crystal"
    )


@by_system
@pytest.mark.filterwarnings("ignore:Set OLD_ERROR_HANDLING:DeprecationWarning")
def test_spglib_finds_the_labelled_crystal_system(system):
    exact = 0
    for crystal in everything(system):
        cell = (crystal.lattice, crystal.positions, crystal.numbers)
        found = spglib.get_symmetry_dataset(cell, symprec=1e-3).number
        assert symmetry.system_of_space_group(found) == system == crystal.system
        exact += found == crystal.space_group
    assert exact >= 0.85 * 2 * PER_SYSTEM  # special positions may raise it inside the system


@by_system
def test_the_cell_is_the_primitive_one_of_the_conventional_cell(system):
    for crystal in everything(system):
        centring = sg_symbol_from_int_number(crystal.space_group)[0]
        points = {"P": 1, "A": 2, "C": 2, "I": 2, "F": 4, "R": 3}[centring]
        ratio = symmetry.cell_volume(crystal.cell) / abs(np.linalg.det(crystal.lattice))
        assert ratio == pytest.approx(points, rel=1e-9)
        assert np.all((crystal.positions >= 0.0) & (crystal.positions <= 1.0))
        # The conventional axes are lattice vectors.
        inverse = np.linalg.inv(crystal.primitive)
        np.testing.assert_allclose(inverse, np.rint(inverse), atol=1e-9)


def shortest_contact(crystal):
    """Smallest distance over radius sum, over all pairs and 5 x 5 x 5 images."""
    radius = element_tables().radius[crystal.numbers]
    smallest = np.inf
    for image in itertools.product(range(-2, 3), repeat=3):
        shifted = crystal.positions + np.array(image)
        vectors = (shifted[None] - crystal.positions[:, None]) @ crystal.lattice
        ratio = np.linalg.norm(vectors, axis=-1) / (radius[None] + radius[:, None])
        if not any(image):
            np.fill_diagonal(ratio, np.inf)
        smallest = min(smallest, ratio.min())
    return smallest


@by_system
def test_atoms_keep_their_distance(system):
    prototypes, members = family(system)
    assert min(shortest_contact(p.crystal) for p in prototypes[:20]) >= 0.70 - 1e-9
    assert min(shortest_contact(member) for member in members[:20]) >= 0.62 - 1e-9


@by_system
def test_metrics_are_recoverable(system):
    assert all(symmetry.recoverable(crystal.cell, system) for crystal in everything(system))


@by_system
def test_members_vary_the_prototype_and_keep_its_orbits(system):
    prototypes, members = family(system)
    for prototype, member in zip(prototypes, members, strict=True):
        base = prototype.crystal
        assert member.space_group == base.space_group
        assert member.prototype_id == base.prototype_id
        assert len(member.numbers) == len(base.numbers)
        # Atoms of one element stay of one element, others stay different.
        pairs = set(zip(base.numbers.tolist(), member.numbers.tolist(), strict=True))
        assert len(pairs) == len(set(base.numbers.tolist())) == len(set(member.numbers.tolist()))
        assert not np.array_equal(member.cell, base.cell)
    assert sum(not np.array_equal(m.numbers, p.crystal.numbers)
               for p, m in zip(prototypes, members, strict=True)) > PER_SYSTEM / 2  # fmt: skip


def test_member_zero_is_the_prototype():
    prototype = random_prototype(7, 3)
    assert prototype_member(prototype, 7, 0) is prototype.crystal


def test_exchanged_elements_keep_role_and_relative_size():
    rng = np.random.default_rng(0)
    radius = element_tables().radius
    old, anion = np.array([8, 26, 38]), np.array([True, False, False])
    anions = {7, 8, 9, 15, 16, 17, 34, 35, 52, 53}
    for _ in range(200):
        new = exchange_elements(rng, old, anion)
        assert len(set(new.tolist())) == 3
        assert new[0] in anions
        assert np.ptp(np.log(radius[new] / radius[old])) <= 0.25


@by_system
def test_the_same_arguments_give_the_same_bytes(system):
    prototypes, members = family(system)
    again = random_prototype(7, 4, system)
    assert same(again.crystal, prototypes[4].crystal) and same(again, prototypes[4])
    assert same(prototype_member(again, 7, 1), members[4])
    assert not same(prototype_member(again, 8, 1), members[4])
    assert not same(random_prototype(8, 4, system).crystal, again.crystal)


def test_two_workers_give_the_bytes_of_one():
    draw = functools.partial(random_prototype, 3)
    alone = list(parallel_map(draw, range(8), workers=1, describe="prototypes"))
    shared = list(parallel_map(draw, range(8), workers=2, describe="prototypes"))
    for left, right in zip(alone, shared, strict=True):
        assert same(left, right) and same(left.crystal, right.crystal)


def test_systems_are_drawn_by_their_prior():
    draws = 400
    counts = np.bincount([random_prototype(1, i).crystal.system for i in range(draws)], minlength=7)
    share = SYSTEM_PRIOR / SYSTEM_PRIOR.sum()
    spread = np.sqrt(draws * share * (1 - share))
    assert np.all(np.abs(counts - draws * share) < 4 * spread)


def test_strain_stretches_the_conventional_axes():
    crystal = random_prototype(7, 0, 2).crystal
    after = strained(crystal, np.array([0.01, -0.02, 0.0]))
    np.testing.assert_allclose(after.cell[:3] / crystal.cell[:3], [1.01, 0.98, 1.0], rtol=1e-12)
    np.testing.assert_array_equal(after.cell[3:], crystal.cell[3:])
    np.testing.assert_array_equal(after.positions, crystal.positions)


@pytest.mark.parametrize(
    ("system", "expected"),
    [
        ("triclinic", [0.03, 0.01, -0.02]),
        ("monoclinic", [0.03, 0.01, -0.02]),
        ("orthorhombic", [0.03, 0.01, -0.02]),
        ("tetragonal", [0.02, 0.02, -0.02]),
        ("trigonal", [0.02, 0.02, -0.02]),
        ("hexagonal", [0.02, 0.02, -0.02]),
        ("cubic", [0.02 / 3] * 3),
    ],
)
def test_system_preserving_strain(system, expected):
    found = system_preserving(np.array([0.03, 0.01, -0.02]), CRYSTAL_SYSTEMS.index(system))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("system", "cell", "expected"),
    [
        ("cubic", [4, 4, 4, 90, 90, 90], True),
        ("tetragonal", [4, 4, 4.06, 90, 90, 90], False),  # cubic within 2 %
        ("tetragonal", [4, 4, 4.20, 90, 90, 90], True),
        ("tetragonal", [4, 4, 5.63, 90, 90, 90], False),  # sqrt 2: body-centred cell of fcc
        ("trigonal", [4, 4, 9.75, 90, 90, 120], False),  # sqrt 6: hexagonal cell of fcc
        ("trigonal", [4, 4, 8.00, 90, 90, 120], True),
        ("hexagonal", [4, 4, 9.75, 90, 90, 120], True),
        ("hexagonal", [4, 4, 21.0, 90, 90, 120], False),  # axis ratio above 5
        ("orthorhombic", [4, 4.05, 6, 90, 90, 90], False),
        ("orthorhombic", [4, 5, 6.9, 90, 90, 90], False),  # 6.9 / 4 is sqrt 3 within 2 %
        ("orthorhombic", [4, 5, 6, 90, 90, 90], True),
        ("monoclinic", [4, 5, 6, 90, 91, 90], False),
        ("monoclinic", [4, 5, 6, 90, 100, 90], True),
        ("monoclinic", [4, 5, 4.05, 90, 100, 90], False),  # a = c: rhombic net
        ("monoclinic", [4, 5, 6, 90, 109.47, 90], False),  # 2 c cos(beta) = -a
        ("monoclinic", [3, 5, 9, 90, 109.47, 90], False),  # a is perpendicular to c + a
        ("triclinic", [4, 5, 6, 80, 100, 95], True),
        ("triclinic", [4, 5, 6, 80, 100, 91], False),
        ("triclinic", [4, 5, 6, 60, 60, 119], False),  # almost flat
    ],
)
def test_recoverability_guard(system, cell, expected):
    index = CRYSTAL_SYSTEMS.index(system)
    assert symmetry.recoverable(np.array(cell, float), index) is expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [("magnesium", True), ("MgB2", True), ("wurtzite ZnO", True), ("alpha quartz SiO2", False)],
)
def test_hidden_sixfold_axis(name, expected):
    structure = reference_structure(name)
    _, positions, numbers = arrays_of(structure)
    cell = np.array(structure.lattice.parameters)
    # A general origin, kept on the axis along c.
    moved = positions + np.array([0.0, 0.0, 0.137])
    assert symmetry.hides_sixfold_axis(cell, moved, numbers) is expected


def test_lattice_vectors_have_the_metric_of_the_cell():
    cell = np.array([4.1, 5.2, 6.3, 81.0, 97.0, 112.0])
    lattice = symmetry.lattice_vectors(cell)
    np.testing.assert_allclose(Lattice(lattice).parameters, cell, rtol=1e-12)
    assert symmetry.cell_volume(cell) == pytest.approx(np.linalg.det(lattice), rel=1e-12)


def test_reduction_keeps_the_lattice_and_shortens_it():
    rng = np.random.default_rng(0)
    for _ in range(50):
        short = np.eye(3) * 4.0 + rng.normal(0.0, 0.5, (3, 3))
        skew = np.array([[1.0, 3.0, 0.0], [0.0, 1.0, -2.0], [0.0, 0.0, 1.0]])
        transform = symmetry.reduced_basis(skew @ short)
        assert abs(np.linalg.det(transform)) == pytest.approx(1.0)
        np.testing.assert_array_equal(transform, np.rint(transform))
        gram = (transform @ skew @ short) @ (transform @ skew @ short).T
        for i, j in itertools.permutations(range(3), 2):
            assert abs(gram[i, j]) <= 0.5 * gram[j, j] * (1 + 1e-6)


POINT_GROUPS = {
    "triclinic": ["1", "-1"],
    "monoclinic": ["2", "m", "2/m"],
    "orthorhombic": ["222", "mm2", "mmm"],
    "tetragonal": ["4", "-4", "4/m", "422", "4mm", "-42m", "-4m2", "4/mmm"],
    "trigonal": ["3", "-3", "32", "312", "321", "3m", "3m1", "31m", "-3m", "-3m1", "-31m"],
    "hexagonal": ["6", "-6", "6/m", "622", "6mm", "-62m", "-6m2", "6/mmm"],
    "cubic": ["23", "m-3", "432", "-43m", "m-3m"],
}


@pytest.mark.filterwarnings("ignore:Set OLD_ERROR_HANDLING:DeprecationWarning")
def test_groups_have_the_system_and_the_operations_of_the_spglib_database():
    table = wyckoff_tables()
    assert len(table.orbit_offsets) - 1 == 1731  # Wyckoff positions of the 230 groups
    checked = set()
    for hall in range(1, 531):
        group = spglib.get_spacegroup_type(hall)
        if group.number in checked:
            continue  # another setting; the first one has the standard centring
        checked.add(group.number)
        system = CRYSTAL_SYSTEMS[symmetry.system_of_space_group(group.number)]
        assert group.pointgroup_international in POINT_GROUPS[system]
        general = table.group_offsets[group.number]
        size = table.orbit_offsets[general + 1] - table.orbit_offsets[general]
        points = 1 / np.linalg.det(table.primitive[group.number])
        operations = spglib.get_symmetry_from_database(hall)["rotations"]
        assert size * points == pytest.approx(len(operations))
    assert checked == set(range(1, 231))
