"""Structures in files become crystals with the same diffraction, and bad ones are named."""

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest
from pymatgen.analysis.diffraction.xrd import XRDCalculator
from pymatgen.core import Lattice, Structure
from pymatgen.symmetry.groups import SpaceGroup
from reference_crystals import REFERENCE, arrays_of, reference_structure

from imitation_refinement.errors import UserError
from imitation_refinement.xrd.diffraction import merge_lines, reflections
from imitation_refinement.xrd.formula import SYMBOLS
from imitation_refinement.xrd.grid import two_theta_from_q
from imitation_refinement.xrd.structures.collection import read_cif, read_structures
from imitation_refinement.xrd.structures.files import from_json
from imitation_refinement.xrd.symmetry import system_of_space_group

DATA = os.environ.get("IMITATION_REFINEMENT_DATA")
WAVELENGTH = 1.54184


def cif(structure: Structure) -> str:
    return structure.to(fmt="cif")


def entry(structure: Structure, name: str = "one", **changes) -> dict:
    return {
        "id": name,
        "lattice": structure.lattice.matrix.tolist(),
        "species": [site.specie.symbol for site in structure],
        "frac_coords": structure.frac_coords.tolist(),
    } | changes


def write_lines(path: Path, entries: list) -> Path:
    lines = [item if isinstance(item, str) else json.dumps(item) for item in entries]
    text = "\n".join(lines) + "\n"
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def lines_of(lattice, positions, numbers):
    found = reflections(
        lattice, positions, numbers, q_min=1.0, q_max=6.0, wavelength=WAVELENGTH, b_iso=0.5
    )
    q, intensity = merge_lines(found.q, found.intensity)
    kept = intensity > 1e-6 * intensity.max()
    return q[kept], intensity[kept] / intensity.max()


def standard_structure(name, lattice, positions, numbers):
    species = [SYMBOLS[number] for number in numbers.tolist()]
    told = {"lattice": lattice.tolist(), "species": species, "frac_coords": positions.tolist()}
    (found,) = from_json((name, json.dumps(told).encode()))
    return found


@pytest.mark.parametrize("name", sorted(REFERENCE))
def test_standard_crystal_is_the_primitive_cell_with_the_same_lines(name):
    structure = reference_structure(name)
    lattice, positions, numbers = arrays_of(structure)
    # Another setting of the same crystal: a supercell, turned, with its origin elsewhere.
    other = structure.copy()
    other.make_supercell([[1, 1, 0], [0, 1, 0], [0, 0, 2]])
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))
    found = standard_structure(
        name,
        np.array(other.lattice.matrix) @ turn,
        (np.array(other.frac_coords) + [0.1, 0.2, 0.3]) % 1.0,
        np.array([site.specie.Z for site in other]),
    )
    crystal = found.crystal
    number = SpaceGroup(REFERENCE[name]["space_group"]).int_number
    assert crystal.space_group == number
    assert crystal.system == system_of_space_group(number)
    assert found.formula == structure.composition.reduced_formula
    assert len(crystal.numbers) == len(structure.get_primitive_structure())
    volume = np.linalg.det(lattice) * len(crystal.numbers) / len(numbers)
    assert np.linalg.det(crystal.lattice) == pytest.approx(volume, rel=1e-5)
    expected_q, expected = lines_of(lattice, positions, numbers)
    q, intensity = lines_of(crystal.lattice, crystal.positions, crystal.numbers)
    np.testing.assert_allclose(q, expected_q, rtol=1e-5)
    np.testing.assert_allclose(intensity, expected, atol=2e-4)


def test_cell_keeps_its_system_exactly():
    # Rounded input: symmetry is found within 0.1 angstrom and then made exact.
    lattice = Lattice.from_parameters(4.001, 4.0, 3.999, 90.01, 90.0, 89.99)
    structure = Structure(lattice, ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.501]])
    found = standard_structure("CsCl", *arrays_of(structure))
    a, b, c, *angles = found.crystal.cell
    assert found.crystal.space_group == 221
    assert a == pytest.approx(b, rel=1e-12) and a == pytest.approx(c, rel=1e-12)
    assert angles == [90.0, 90.0, 90.0]


def test_folder_and_json_lines_give_the_same_table(tmp_path):
    names = ["NaCl", "rutile", "quartz"]
    names = [name for name in names if name in REFERENCE] or sorted(REFERENCE)[:3]
    folder = tmp_path / "cifs" / "deeper"
    folder.mkdir(parents=True)
    for name in names:
        (folder / f"{name}.CIF").write_text(cif(reference_structure(name)))
    lines = write_lines(
        tmp_path / "some.jsonl.gz",
        [entry(reference_structure(name), name) for name in sorted(names)],
    )
    first = read_structures(tmp_path / "cifs", tmp_path / "cache", workers=1)
    second = read_structures(lines, tmp_path / "cache", workers=2)
    assert len(first) == len(second) == len(names)
    assert [Path(name).stem for name in first.name] == second.name.tolist() == sorted(names)
    for field in ("formula", "symbol", "space_group", "prototype"):
        np.testing.assert_array_equal(getattr(first, field), getattr(second, field))
    for i in range(len(names)):
        one, two = first.crystal(i), second.crystal(i)
        assert one.prototype_id == i
        np.testing.assert_allclose(one.cell, two.cell, rtol=1e-5)
        q_one, height_one = lines_of(one.lattice, one.positions, one.numbers)
        q_two, height_two = lines_of(two.lattice, two.positions, two.numbers)
        np.testing.assert_allclose(q_one, q_two, rtol=1e-5)
        np.testing.assert_allclose(height_one, height_two, atol=1e-4)


def test_strongest_peaks_of_a_cif_are_those_of_pymatgen(tmp_path):
    structure = reference_structure(sorted(REFERENCE)[0])
    path = tmp_path / "one.cif"
    path.write_text(cif(structure))
    crystal = read_cif(path)
    found = reflections(
        crystal.lattice, crystal.positions, crystal.numbers,
        q_min=1.0, q_max=6.0, wavelength=WAVELENGTH, b_iso=0.0,
    )  # fmt: skip
    q, intensity = merge_lines(found.q, found.intensity)
    peaks = XRDCalculator(WAVELENGTH).get_pattern(structure, two_theta_range=(15, 90))
    ours = two_theta_from_q(q, WAVELENGTH)
    inside = (ours >= 15) & (ours <= 90)
    strongest = np.argsort(-intensity[inside])[:5]
    expected = np.argsort(-peaks.y)[:5]
    np.testing.assert_allclose(
        np.sort(ours[inside][strongest]), np.sort(peaks.x[expected]), atol=1e-3
    )


SALT = Structure.from_spacegroup(
    "Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]
)


def bad_cifs() -> dict[str, tuple[str, str]]:
    good = cif(SALT)
    shared = Structure(Lattice.cubic(4.0), [{"Na": 0.5, "K": 0.5}, "Cl"], [[0, 0, 0], [0.5] * 3])
    near = Structure(Lattice.cubic(4.0), ["Na", "Cl"], [[0, 0, 0], [0.05, 0, 0]])
    return {
        "disordered": (cif(shared), "disordered (partial occupancy)"),
        "empty": ("", "broken"),
        "text": ("not a crystal at all\n", "broken"),
        "truncated": (good[: len(good) // 2], "broken"),
        "no_element": (good.replace("Na  Na0", "Xx  Na0"), "no element"),
        "near": (cif(near), "atoms nearer than 0.5 angstrom"),
        "formula": (
            good.replace("_chemical_formula_sum   'Na4 Cl4'", "_chemical_formula_sum 'Na4 Br4'"),
            "atoms are not those of its formula",
        ),
        "no_numbers": (good.replace("5.64000000", "?"), "broken"),
    }


@pytest.mark.parametrize("kind", sorted(bad_cifs()))
def test_a_bad_cif_is_named_and_the_others_are_kept(tmp_path, kind):
    content, reason = bad_cifs()[kind]
    assert content != cif(SALT)
    (tmp_path / f"{kind}.cif").write_text(content)
    with pytest.raises(UserError, match=f"{kind}.cif: no usable structure") as error:
        read_cif(tmp_path / f"{kind}.cif")
    assert "\n" not in str(error.value) and reason in str(error.value)
    (tmp_path / "good.cif").write_text(cif(SALT))
    found = read_structures(tmp_path, tmp_path / "cache", workers=1)
    assert found.name.tolist() == ["good.cif"]
    (line,) = found.skipped.tolist()
    assert line.startswith(f"{kind}.cif: ") and reason in line


def test_binary_file_is_named(tmp_path):
    (tmp_path / "noise.cif").write_bytes(np.random.default_rng(0).bytes(3000))
    with pytest.raises(UserError, match=r"noise\.cif"):
        read_structures(tmp_path, tmp_path / "cache", workers=1)


@pytest.mark.parametrize("symbol", ["SR2+", "Sr+2", "SR", "Sr3.33+"])
def test_odd_charges_are_mended_and_said(tmp_path, symbol):
    structure = Structure.from_spacegroup("Pm-3m", Lattice.cubic(3.9), ["Sr"], [[0, 0, 0]])
    content = cif(structure)
    assert "  Sr  Sr0" in content
    (tmp_path / "a.cif").write_text(content.replace("  Sr  Sr0", f"  {symbol}  Sr0"))
    found = read_structures(tmp_path, tmp_path / "cache", workers=1)
    assert found.numbers.tolist() == [38]
    if symbol.startswith("SR"):  # the others pymatgen takes without a word
        assert found.mended.tolist() == [f"a.cif: {symbol} parsed as Sr"]


def test_a_file_with_two_structures_gives_both(tmp_path):
    other = Structure.from_spacegroup("Im-3m", Lattice.cubic(2.87), ["Fe"], [[0, 0, 0]])
    both = cif(SALT) + "\n" + cif(other)
    (tmp_path / "two.cif").write_text(both)
    found = read_structures(tmp_path, tmp_path / "cache", workers=1)
    assert found.name.tolist() == ["two.cif#1", "two.cif#2"]
    assert found.space_group.tolist() == [225, 229]
    assert read_cif(tmp_path / "two.cif").space_group == 225


def test_bad_json_lines_are_named(tmp_path):
    good = entry(SALT, "salt")
    path = write_lines(
        tmp_path / "some.jsonl",
        [
            good,
            "{broken",
            entry(SALT, "lattice", lattice=[[1, 0], [0, 1]]),
            {"id": "bare"},
            entry(SALT, "odd", species=["Na1+"] * 4 + ["Zz"] * 4),
            entry(SALT, "nan", frac_coords=[[float("nan")] * 3] * 8),
            entry(SALT, "flat", lattice=[[1, 0, 0], [2, 0, 0], [0, 0, 1]]),
            entry(SALT, "charged", species=["NA1+"] * 4 + ["Cl1-"] * 4),
            "[1, 2]",
        ],
    )
    found = read_structures(path, tmp_path / "cache", workers=1)
    assert found.name.tolist() == ["salt", "charged"]
    assert found.mended.tolist() == ["charged: NA1+ parsed as Na; Cl1- parsed as Cl"]
    named = [line.partition(": ")[0] for line in found.skipped.tolist()]
    assert named == [
        "some.jsonl line 2", "lattice", "bare", "odd", "nan", "flat", "some.jsonl line 9",
    ]  # fmt: skip
    assert all("\n" not in line for line in found.skipped.tolist())


@pytest.mark.parametrize(
    ("make", "mend"),
    [
        (lambda path: path.mkdir(), "no file ending in .cif"),
        (lambda path: None, "neither a folder of CIF files nor"),
        (lambda path: path.with_suffix(".jsonl.gz").write_bytes(b"no gzip"), "damaged"),
        (lambda path: path.with_suffix(".jsonl").write_text("\n"), "no usable structure"),
    ],
)
def test_nothing_usable_is_one_line(tmp_path, make, mend):
    path = tmp_path / "given"
    make(path)
    given = next(tmp_path.glob("given*"), path)
    with pytest.raises(UserError, match=mend) as error:
        read_structures(given, tmp_path / "cache", workers=1)
    assert str(given) in str(error.value) and "\n" not in str(error.value)


def test_second_reading_comes_from_the_cache_and_a_changed_file_does_not(tmp_path, monkeypatch):
    path = write_lines(tmp_path / "some.jsonl", [entry(SALT)])
    first = read_structures(path, tmp_path / "cache", workers=1)
    monkeypatch.setattr("imitation_refinement.xrd.structures.collection.from_json", None)
    assert read_structures(path, tmp_path / "cache", workers=1).digest == first.digest
    write_lines(path, [entry(SALT, frac_coords=(SALT.frac_coords * 0.9).tolist())])
    with pytest.raises(TypeError):  # it is read anew, which is made impossible above
        read_structures(path, tmp_path / "cache", workers=1)


def test_missing_package_is_one_line(tmp_path, monkeypatch):
    path = write_lines(tmp_path / "some.jsonl", [entry(SALT)])
    monkeypatch.setitem(__import__("sys").modules, "spglib", None)
    with pytest.raises(UserError, match="needs spglib: pip install gemmi spglib"):
        read_structures(path, tmp_path / "cache", workers=1)


@pytest.mark.skipif(not DATA, reason="IMITATION_REFINEMENT_DATA is not set")
def test_real_structures_have_the_space_groups_of_their_table(tmp_path):
    with gzip.open(Path(DATA, "structures", "structures.jsonl.gz"), "rt") as file:
        entries = [json.loads(line) for line in file][::97]
    path = write_lines(tmp_path / "some.jsonl", entries)
    found = read_structures(path, tmp_path / "cache", workers=2)
    by_name = {item["id"]: item for item in entries}
    assert len(found) >= 0.99 * len(entries)
    for i, name in enumerate(found.name.tolist()):
        item, crystal = by_name[name], found.crystal(i)
        assert crystal.space_group == item["spacegroup_number"]
        assert found.formula[i] == item["formula"]
        volume = np.linalg.det(crystal.lattice) / len(crystal.numbers)
        assert volume == pytest.approx(item["volume_per_atom"], rel=5e-3)
