"""Collections are streamed whatever container they come in; what is broken is one line."""

import base64
import gzip
import json
import lzma
import sqlite3
import tarfile
import zipfile

import numpy as np
import pytest

from imitation_refinement.errors import UserError
from imitation_refinement.phases.library import COMPUTED, COMPUTED_NEWER, MEASURED
from imitation_refinement.phases.sources import SOURCES, entries_of, items, known_source

SALT = """data_salt
_cell_length_a 5.64
_cell_length_b 5.64
_cell_length_c 5.64
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_space_group_IT_number 225
_chemical_name_mineral Halite
loop_
_atom_site_label
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Na1 0 0 0
Cl1 0.5 0.5 0.5
"""
LINE = {
    "id": "mp-1", "source": "mp_topology_databases", "lattice": (4.0 * np.eye(3)).tolist(),
    "species": ["Cs", "Cl"], "frac_coords": [[0, 0, 0], [0.5, 0.5, 0.5]],
    "spacegroup_number": 99, "spacegroup_number_symprec_0p01": 221,
}  # fmt: skip


def entries(path):
    found = [entry for item in items(path) for entry in entries_of(item)]
    assert not [entry for entry in found if isinstance(entry, str)], found
    return found


def folder_of(tmp_path):
    folder = tmp_path / "mine"
    (folder / "b").mkdir(parents=True)
    (folder / "a.CIF").write_text(SALT)
    (folder / "b" / "c.Cif").write_text(SALT)
    (folder / "notes.txt").write_text("no structure")
    return folder


def test_a_folder_of_cif_files_in_any_case(tmp_path):
    found = entries(folder_of(tmp_path))
    assert [entry.atoms.name for entry in found] == ["a.CIF", "b/c.Cif"]
    assert {entry.source for entry in found} == {"mine"} and found[0].computed == MEASURED
    assert found[0].atoms.mineral == "Halite"


@pytest.mark.parametrize("ending", ["zip", "tar", "tar.gz", "tar.xz", "tgz"])
def test_archives_are_read_as_the_folder(tmp_path, ending):
    folder, path = folder_of(tmp_path), tmp_path / f"cod.{ending}"
    if ending == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for file in sorted(folder.rglob("*")):
                archive.write(file, file.relative_to(folder))
    else:
        with tarfile.open(path, {"tar": "w", "tar.xz": "w:xz"}.get(ending, "w:gz")) as archive:
            archive.add(folder, ".")
    found = entries(path)
    assert sorted(entry.atoms.name.removeprefix("./") for entry in found) == ["a.CIF", "b/c.Cif"]
    assert {entry.source for entry in found} == {"cod"}


@pytest.mark.parametrize(("ending", "pack"), [("", bytes), (".gz", gzip.compress),
                                              (".xz", lzma.compress)])  # fmt: skip
def test_json_lines(tmp_path, ending, pack):
    other = {**LINE, "source": "elsewhere", "id": "x", "species": None,
             "occupancies": [{"Cs": 0.5, "Rb": 0.5}, {"Cl": 1.0}],
             "stated_spacegroup_number": 99}  # fmt: skip
    path = tmp_path / f"some.jsonl{ending}"
    path.write_bytes(pack(f"{json.dumps(LINE)}\n\n{json.dumps(other)}\n".encode()))
    one, two = entries(path)
    assert (one.source, one.computed, one.atoms.space_group) == (
        "mp_topology_databases", COMPUTED_NEWER, 221,
    )  # fmt: skip
    assert (two.source, two.computed, two.atoms.space_group) == ("elsewhere", MEASURED, 99)
    assert two.atoms.amounts == pytest.approx({"Cs": 0.5, "Rb": 0.5, "Cl": 1})


def test_a_line_whose_occupancies_were_lost_is_left_out(tmp_path):
    path = tmp_path / "some.jsonl"
    path.write_text(json.dumps({**LINE, "majority": True}) + "\n")
    ((found,),) = [entries_of(item) for item in items(path)]
    assert found == "mp-1: its occupancies were rounded away"


def amcsd(path, rows):
    """A database with the tables of the trimmed release of 2021-05-16 that are read."""

    def packed(numbers):
        return base64.b64encode(np.rint(4e6 * np.array(numbers)).astype("<i4").tobytes()).decode()

    connection = sqlite3.connect(path)
    connection.executescript("""
        create table minerals (id integer, name text);
        create table spacegroups (id integer, hm_notation text, symmetry_xyz text);
        create table publications (id integer, journalname text, volume text, year integer,
                                   page_first text, page_last text);
        create table cif (id integer, mineral_id integer, spacegroup_id integer,
            publication_id integer, formula text, a text, b text, c text, alpha text, beta text,
            gamma text, atoms_sites text, atoms_x text, atoms_y text, atoms_z text,
            atoms_occupancy text);
        insert into minerals values (1, 'Iron''s friend');
        insert into publications values (1, 'American Mineralogist', '16', 1931, '580', '591');
    """)
    connection.execute("insert into spacegroups values (1, 'P 1 %var1%', '[\"x,y,z\"]')")
    for number, (labels, x, occupancy) in enumerate(rows, 1):
        columns = [packed(x), packed(x), packed(x), packed(occupancy) if occupancy else "0"]
        connection.execute(
            "insert into cif values (?, 1, 1, 1, 'Fe Mg', '4.1(2)', '4.1', '4.1', '90', '90', '90',"
            " ?, ?, ?, ?, ?)",
            (number, json.dumps(labels), *columns),
        )
    connection.commit()
    connection.close()


def test_database_of_amcsd(tmp_path):
    path = tmp_path / "amcsd_cif2.db"
    amcsd(
        path,
        [(["FeM1", "Mg"], [0, 0.5], None), (["Fe1", "Mg1", "Mg2"], [0, 0, 0.5], [0.7, 0.3, 2])],
    )
    one, two = entries(path)
    assert one.source == "amcsd" and one.computed == MEASURED
    assert one.atoms.source_id == "0000001" and one.atoms.mineral == "Iron's friend"
    assert one.atoms.reference == "American Mineralogist, 1931, 16, 580"
    assert one.atoms.amounts == {"Mg": 1, "Fe": 1}
    # 2 stands for an occupancy that is not known.
    assert two.atoms.amounts == pytest.approx({"Fe": 0.7, "Mg": 1.3})


@pytest.mark.parametrize("stated", ["<missing>", "", None])
def test_a_mineral_without_a_name_has_none(tmp_path, stated):
    # AMCSD writes <missing>: in its database, and so in collections made of it.
    (tmp_path / "some.jsonl").write_text(json.dumps({**LINE, "mineral": stated}) + "\n")
    (tmp_path / "one.cif").write_text(SALT.replace("Halite", stated or "?"))
    for name in ("some.jsonl", "one.cif"):
        assert entries(tmp_path / name)[0].atoms.mineral == ""


@pytest.mark.parametrize(("name", "computed"), [("mp-12.cif", COMPUTED), ("JVASP-3.cif", COMPUTED),
                                                ("9001234.cif", MEASURED)])  # fmt: skip
def test_computed_or_measured_by_the_name(tmp_path, name, computed):
    (tmp_path / name).write_text(SALT)
    assert entries(tmp_path / name)[0].computed == computed


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("some.zip", b"nothing", "damaged"),
        ("some.tar.gz", b"nothing", "damaged"),
        ("some.jsonl.gz", b"nothing", "damaged"),
        ("some.jsonl.xz", b"nothing", "damaged"),
        ("some.db", b"nothing at all, and this is longer than a page", "damaged"),
        ("some.txt", b"", "no collection of structures"),
        ("none.zip", None, "no such file or folder"),
    ],
)
def test_what_is_no_collection_is_one_line(tmp_path, name, content, why):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=f"{name}: .*{why}") as error:
        list(items(path))
    assert "\n" not in str(error.value)


def test_an_empty_folder_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"no file ending in \.cif"):
        list(items(tmp_path))


def test_every_source_that_is_shipped_states_its_terms():
    for name, known in SOURCES.items():
        assert bool(known.licence and known.citation) == known.shipped, name
    assert known_source("amcsd").licence and known_source("my folder").licence == ""
