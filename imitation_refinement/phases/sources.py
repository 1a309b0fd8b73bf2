"""Where structures come from: collections that people have, as a stream of entries.

Belongs here: opening what is given (JSON lines, CIF files in folders and archives, AMCSD's
database), one entry after the other without holding them all, and what is known of each source.
Reading an entry is `xrd.structures`'.
"""

import base64
import gzip
import json
import lzma
import os
import sqlite3
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from imitation_refinement.errors import UserError
from imitation_refinement.phases.codes import NO_NAME
from imitation_refinement.phases.library import COMPUTED, COMPUTED_NEWER, MEASURED, Source
from imitation_refinement.xrd.structures.atoms import Atoms
from imitation_refinement.xrd.structures.cif import one_line, read_cif
from imitation_refinement.xrd.structures.files import json_atoms

_JSON = (".jsonl", ".jsonl.gz", ".jsonl.xz")
_TAR = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")
_LARGEST = 20_000_000  # bytes of one CIF file; structures take some kilobytes
_AMCSD_SCALE = 4e6  # of the coordinates in AMCSD's database

_MP = (
    "Materials Project, CC BY 4.0", "A. Jain et al., APL Materials 1, 011002 (2013)"
)  # fmt: skip
_AMCSD = (
    "American Mineralogist Crystal Structure Database, use with attribution",
    "R. T. Downs and M. Hall-Wallace, American Mineralogist 88, 247 (2003), and the paper of the "
    "entry",
)
_COD = (
    "Crystallography Open Database, public domain",
    "S. Grazulis et al., J. Appl. Cryst. 42, 726 (2009), and the paper of the entry",
)


class KnownSource(NamedTuple):
    """What is known of a source of the shared collections.

    Attributes:
        computed: MEASURED, COMPUTED or COMPUTED_NEWER.
        licence, citation: what must be said when entries are passed on.
        shipped: whether its terms let the package pass them on.
    """

    computed: int
    licence: str
    citation: str
    shipped: bool = True


# Each row was decided by the terms that the source states; NOTICE tells the reasons.
SOURCES = {
    "mp_topology_databases": KnownSource(COMPUTED_NEWER, *_MP),
    **{
        name: KnownSource(COMPUTED, *_MP)
        for name in (
            "3dsc_mp", "matcalc_mp_binary", "slices_mp20", "ecalj_mp", "mp_reaction_network",
            "mp_matterviz", "mp_matten", "mp_pxrd_cell_indexer", "mp_emmet_tests",
            "pymatgen_core_tests",
        )
    },
    "Materials Project, CC BY 4.0": KnownSource(COMPUTED_NEWER, *_MP),  # by mp-api
    "matcalc_wbm": KnownSource(
        COMPUTED, "WBM, CC BY 4.0", "H.-C. Wang et al., npj Comput. Mater. 7, 12 (2021)"
    ),
    "matcalc_alexandria": KnownSource(
        COMPUTED, "Alexandria, CC BY 4.0", "J. Schmidt et al., Adv. Mater. 35, 2210788 (2023)"
    ),
    "spglib_tests": KnownSource(
        COMPUTED, "spglib, BSD-3-Clause", "A. Togo et al., Sci. Technol. Adv. Mater. 4, 1 (2024)"
    ),
    "jarvis_alignn": KnownSource(
        COMPUTED, "JARVIS-DFT, NIST terms of use", "K. Choudhary et al., npj Comput. Mater. 6, 173 "
        "(2020)",
    ),
    "amcsd": KnownSource(MEASURED, *_AMCSD),
    "amcsd_larixite": KnownSource(MEASURED, *_AMCSD),
    # AMCSD's entries as written by Jmol; sites that are partly filled may stand as full.
    "jmol_minerals": KnownSource(MEASURED, f"{_AMCSD[0]}; occupancies not recorded", _AMCSD[1]),
    "cod": KnownSource(MEASURED, *_COD),
    "cod_tools_tests": KnownSource(MEASURED, *_COD),
    "openchemistry_crystals": KnownSource(MEASURED, *_COD),
    "aflow_prototypes": KnownSource(
        MEASURED, "AFLOW prototypes in pymatgen, MIT",
        "M. J. Mehl et al., Comput. Mater. Sci. 136, S1 (2017)",
    ),
    "dans_diffraction": KnownSource(
        MEASURED, "Dans_Diffraction, Apache-2.0", "D. G. Porter, Dans_Diffraction"
    ),
    # No terms under which the files may be passed on.
    **{
        name: KnownSource(MEASURED, "", "", shipped=False)
        for name in (
            "bgmn_str", "ecalj_strucs", "cif2cell", "crystalnets_tests",
        )
    },
}  # fmt: skip


class Item(NamedTuple):
    """One entry as it lies in a collection.

    Attributes:
        kind: `cif`, `json` or `amcsd`.
        name: file, or file and line.
        content: its bytes, or the file that they are still in.
        source: name of the collection, for entries that state none.
    """

    kind: str
    name: str
    content: bytes | Path
    source: str


class Entry(NamedTuple):
    """The atoms of an entry, and what it is."""

    atoms: Atoms
    source: str
    computed: int


def items(path: str | os.PathLike[str]) -> Iterator[Item]:
    """Streams the entries of a collection.

    Args:
        path: JSON lines (.jsonl, .gz, .xz); a folder of CIF files, to any depth; a CIF file; a
            .zip or .tar (.gz, .xz, .bz2) of CIF files; AMCSD's database (.db, SQLite).

    Raises:
        UserError: none of these, or damaged.
    """
    path = Path(path).expanduser()
    lower = path.name.lower()
    if path.is_dir():
        yield from _folder(path)
    elif not path.exists():
        raise UserError(f"{path}: there is no such file or folder")
    elif lower.endswith(_JSON):
        yield from _checked(path, _json_lines(path))
    elif lower.endswith(".cif"):
        yield Item("cif", path.name, path.absolute(), path.stem)
    elif lower.endswith(".zip"):
        yield from _checked(path, _zip(path))
    elif lower.endswith(_TAR):
        yield from _checked(path, _tar(path))
    elif lower.endswith((".db", ".sqlite")):
        yield from _checked(path, _amcsd(path))
    else:
        raise UserError(
            f"{path}: no collection of structures; give a folder, .zip or .tar of CIF files, a "
            ".cif, a .jsonl (.gz, .xz) or AMCSD's .db"
        )


def entries_of(item: Item) -> list[Entry | str]:
    """Reads the structures of an item; each that cannot be read is `name: why not`."""
    return [
        one._replace(atoms=one.atoms._replace(mineral=""))
        if isinstance(one, Entry) and one.atoms.mineral == NO_NAME
        else one
        for one in _entries_as_stated(item)
    ]


def _entries_as_stated(item: Item) -> list[Entry | str]:
    content = item.content
    if isinstance(content, Path):
        try:
            content = b"" if content.stat().st_size > _LARGEST else content.read_bytes()
        except OSError as error:
            return [f"{item.name}: cannot be read ({error.strerror or error})"]
    if item.kind == "cif":
        if not content:
            return [f"{item.name}: empty, or larger than {_LARGEST / 1e6:.0f} MB"]
        found = read_cif(item.name, content)
        return [
            atoms if isinstance(atoms, str) else Entry(atoms, item.source, _computed(atoms))
            for atoms in found
        ]
    if item.kind == "json":
        atoms = json_atoms(item.name, content)
        if isinstance(atoms, str):
            return [atoms]
        fields = json.loads(content)
        source = str(fields.get("source") or item.source)
        if fields.get("majority"):
            return [f"{atoms.name}: its occupancies were rounded away"]
        known = SOURCES.get(source)
        return [Entry(atoms, source, known.computed if known else _computed(atoms))]
    found_cif = read_cif(item.name, _amcsd_cif(json.loads(content)).encode())
    return [a if isinstance(a, str) else Entry(a, "amcsd", MEASURED) for a in found_cif]


def known_source(name: str) -> Source:
    """Returns licence and citation of a source, empty where nothing is known."""
    known = SOURCES.get(name)
    return Source(name, known.licence, known.citation) if known else Source(name)


def _computed(atoms: Atoms) -> int:
    """Kind of an entry of unknown source, by its identifier."""
    text = f"{atoms.source_id} {atoms.name}".lower()
    marks = ("mp-", "mvc-", "oqmd", "jvasp", "agm", "aflow:")
    return COMPUTED if any(mark in text for mark in marks) else MEASURED


def _folder(folder: Path) -> Iterator[Item]:
    empty = True
    for where, folders, names in os.walk(folder.absolute()):
        folders.sort()
        for name in sorted(names):
            path = Path(where, name)
            if name.lower().endswith(".cif"):
                empty = False
                relative = path.relative_to(folder.absolute()).as_posix()
                yield Item("cif", relative, path, folder.name)
    if empty:
        raise UserError(f"{folder}: no file ending in .cif in this folder or below it")


def _json_lines(path: Path) -> Iterator[Item]:
    opener: Any = {".gz": gzip.open, ".xz": lzma.open}.get(path.suffix.lower(), open)
    source = path.name.partition(".")[0]
    with opener(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield Item("json", f"{path.name} line {number}", line, source)


def _zip(path: Path) -> Iterator[Item]:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.filename.lower().endswith(".cif"):
                content = archive.read(member) if member.file_size <= _LARGEST else b""
                yield Item("cif", member.filename, content, path.stem)


def _tar(path: Path) -> Iterator[Item]:
    with tarfile.open(path, "r|*") as archive:
        for member in archive:
            if member.isfile() and member.name.lower().endswith(".cif"):
                file = archive.extractfile(member)
                assert file is not None  # a regular file
                content = file.read() if member.size <= _LARGEST else b""
                yield Item("cif", member.name, content, path.name.partition(".")[0])


def _amcsd(path: Path) -> Iterator[Item]:
    query = """
        select cif.id, cif.formula, cif.a, cif.b, cif.c, cif.alpha, cif.beta, cif.gamma,
               cif.atoms_sites, cif.atoms_x, cif.atoms_y, cif.atoms_z, cif.atoms_occupancy,
               minerals.name, spacegroups.hm_notation, spacegroups.symmetry_xyz,
               publications.journalname, publications.year, publications.volume,
               publications.page_first
        from cif join minerals on minerals.id = cif.mineral_id
                 join spacegroups on spacegroups.id = cif.spacegroup_id
                 join publications on publications.id = cif.publication_id
        order by cif.id
    """
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    try:
        for row in connection.execute(query):
            yield Item("amcsd", f"{path.name} {row[0]}", json.dumps(row).encode(), "amcsd")
    finally:
        connection.close()


def _amcsd_cif(row: list[Any]) -> str:
    """A row of AMCSD's database as CIF text, so that one reader reads both."""
    (number, formula, *cell, labels, x, y, z, occupancy, mineral, symbol, maps, journal, year,
     volume, page) = row  # fmt: skip
    columns = [_amcsd_numbers(column) for column in (x, y, z)]
    labels = json.loads(labels)
    shares = ["1"] * len(labels) if occupancy in (0, "0", None) else _amcsd_numbers(occupancy)
    names = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
    lines = [f"data_amcsd_{number}", f"_database_code_amcsd {number:07d}"]
    lines += [f"_cell_{name} {value}" for name, value in zip(names, cell, strict=True)]
    symbol = symbol.partition("%")[0].strip()
    for tag, text in (
        ("_chemical_formula_sum", formula), ("_chemical_name_mineral", mineral),
        ("_journal_name_full", journal), ("_journal_year", year), ("_journal_volume", volume),
        ("_journal_page_first", page), ("_space_group_name_H-M_alt", symbol),
    ):  # fmt: skip
        if text not in (None, "", NO_NAME):
            lines.append(f'{tag} "{one_line(text).replace(chr(34), "")}"')
    lines += ["loop_", "_space_group_symop_operation_xyz"]
    lines += [f"'{text}'" for text in json.loads(maps)]
    lines += ["loop_", "_atom_site_label", "_atom_site_fract_x", "_atom_site_fract_y",
              "_atom_site_fract_z", "_atom_site_occupancy"]  # fmt: skip
    lines += [
        " ".join(fields) for fields in zip(map(_label, labels), *columns, shares, strict=True)
    ]
    return "\n".join(lines) + "\n"


def _amcsd_numbers(text: str) -> list[str]:
    """Numbers of the database: base64 of int32 in 4,000,000ths; 2 and 3 are unknown."""
    values = np.frombuffer(base64.b64decode(text), "<i4") / _AMCSD_SCALE
    return ["?" if value > 1.9 else f"{value:.6f}" for value in values.tolist()]


def _label(text: str) -> str:
    return text.replace(" ", "").replace("'", "p") or "?"


def _checked(path: Path, stream: Iterator[Item]) -> Iterator[Item]:
    """Passes a stream on; what breaks in the container is one line."""
    try:
        yield from stream
    except UserError:
        raise
    except (
        OSError, EOFError, ValueError, zlib.error, lzma.LZMAError, zipfile.BadZipFile,
        tarfile.TarError, sqlite3.Error, RuntimeError,
    ) as error:  # fmt: skip
        raise UserError(f"{path}: damaged ({one_line(error)}); fetch it again") from error
