"""Which reader reads a file: by its content, else by its ending; packed files are unpacked.

Belongs here: the marks of the formats and the endings that are looked for in folders. Works on
bytes; opens no files.
"""

import bz2
import gzip
import io
import lzma
import zipfile
import zlib
from pathlib import PurePath

from imitation_refinement.errors import UserError
from imitation_refinement.xrd.formats.brml import read_brml
from imitation_refinement.xrd.formats.columns import MAX_BYTES, Columns, left_out, of_format
from imitation_refinement.xrd.formats.hdf5 import read_hdf5
from imitation_refinement.xrd.formats.rasx import read_rasx, unzip
from imitation_refinement.xrd.formats.raw import read_raw, read_rd
from imitation_refinement.xrd.formats.sheets import read_sheets
from imitation_refinement.xrd.formats.table import read_npz_patterns
from imitation_refinement.xrd.formats.text import read_text
from imitation_refinement.xrd.formats.xrdml import read_xrdml

_TEXT = frozenset({
    ".xy", ".xye", ".xyd", ".xyn", ".csv", ".tsv", ".txt", ".dat", ".asc", ".chi", ".ras", ".uxd",
    ".udf", ".mdi", ".cpi", ".prn", ".dx", ".jdx", ".jcamp", ".spec", ".gsas", ".gsa", ".gda",
    ".fxye", ".xra", ".gss", ".gr",
})  # fmt: skip
_SHEETS = frozenset({".xlsx", ".xlsm", ".xls", ".ods"})
_HDF5 = frozenset({".h5", ".hdf5", ".nxs", ".nx", ".hdf"})
_PACKED = frozenset({".gz", ".xz", ".bz2"})
SUFFIXES = frozenset(
    _TEXT | _SHEETS | _HDF5 | _PACKED
    | {".xrdml", ".rasx", ".raw", ".npz", ".brml", ".rd", ".sd", ".zip"}
)  # fmt: skip
_MOST_MEMBERS = 10_000  # of a zip


def base_name(name: str) -> str:
    """Returns a file's name without its ending, and without the one of what was packed."""
    path = PurePath(name)
    return PurePath(path.stem).stem if path.suffix.lower() in _PACKED else path.stem


def read_bytes(data: bytes, name: str, source: str, *, packed: bool = False) -> list[Columns]:
    """Returns the patterns of a file, from its bytes.

    Args:
        data: the file's bytes.
        name: of the file; its ending counts where the content has no mark.
        source: what to name in errors.
        packed: whether the file lay in another one; then it must not be packed itself.

    Raises:
        UserError: empty, damaged, of no known kind, or no scan.
    """
    ending = PurePath(name).suffix.lower()
    if not data:
        raise UserError(f"{source}: empty")
    if data.startswith((b"RAW", b"FI")) and b"\0" in data[:4096]:
        return of_format("binary .raw", read_raw(data, source))
    if data.startswith((b"V3RD", b"V5RD")):
        return of_format("Philips .rd or .sd", read_rd(data, source))
    if data.startswith(b"\x89HDF\r\n\x1a\n") or ending in _HDF5:
        return of_format("HDF5", read_hdf5(data, source))
    if data.startswith(b"\xd0\xcf\x11\xe0") or ending in (".xls", ".ods"):
        return of_format("spreadsheet", read_sheets(data, source))
    if data.startswith((b"\x1f\x8b", b"\xfd7zXZ\0", b"BZh")):
        return _unpacked(data, name, source, packed)
    if data.startswith(b"PK\3\4") or ending in (".npz", ".rasx", ".brml", ".zip", ".xlsx"):
        return _zipped(data, name, source, packed)
    head = data[:4096].replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe \r\n\t")
    if ending == ".xrdml" or (head.startswith(b"<") and b"xrdMeasurement" in head):
        return of_format("PANalytical .xrdml", read_xrdml(data, source))
    return read_text(data, source)


def _unpacked(data: bytes, name: str, source: str, packed: bool) -> list[Columns]:
    """Reads what lies in a .gz, .xz or .bz2 file."""
    if packed:
        raise UserError(f"{source}: packed twice; unpack it first")
    try:
        with _opened(data) as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, EOFError, lzma.LZMAError, zlib.error, ValueError) as error:
        raise UserError(f"{source}: damaged or cut short ({error}); pack it again") from error
    if len(content) > MAX_BYTES:
        raise UserError(f"{source}: unpacks to more than {MAX_BYTES // 10**6} MB")
    inner = PurePath(name).stem if PurePath(name).suffix.lower() in _PACKED else name
    return read_bytes(content, inner, source, packed=True)


def _opened(data: bytes) -> gzip.GzipFile | lzma.LZMAFile | bz2.BZ2File:
    file = io.BytesIO(data)
    if data.startswith(b"\x1f"):
        return gzip.GzipFile(fileobj=file)
    return lzma.LZMAFile(file) if data.startswith(b"\xfd") else bz2.BZ2File(file)


def _zipped(data: bytes, name: str, source: str, packed: bool) -> list[Columns]:
    """Reads a format that is a zip, or the files in an ordinary one."""
    ending = PurePath(name).suffix.lower()
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError):
        members = []
    if ending == ".rasx" or any(member.endswith("Profile0.txt") for member in members):
        return of_format("Rigaku .rasx", read_rasx(data, source))
    if ending == ".brml" or any("RawData" in member for member in members):
        return of_format("Bruker .brml", read_brml(data, source))
    if ending in _SHEETS or "[Content_Types].xml" in members or "content.xml" in members:
        unzip(data, source, "^$")  # checks what it unpacks to
        return of_format("spreadsheet", read_sheets(data, source))
    if ending == ".npz" or any(member.endswith(".npy") for member in members):
        return of_format(".npz", read_npz_patterns(data, source))
    if packed:
        raise UserError(f"{source}: packed twice; unpack it first")
    return _archive(data, source)


def _archive(data: bytes, source: str) -> list[Columns]:
    members = unzip(data, source, r"[^/]$")
    files = {
        member: content
        for member, content in members.items()
        if not PurePath(member).name.startswith(".") and "__MACOSX" not in member
    }
    if not files or len(files) > _MOST_MEMBERS:
        raise UserError(f"{source}: {len(files)} files in it, 1 to {_MOST_MEMBERS} can be read")
    found: list[Columns] = []
    for member, content in files.items():
        stem = base_name(PurePath(member).name)
        try:
            inner = read_bytes(content, member, f"{source} ({member})", packed=True)
        except UserError as error:
            if len(files) == 1:
                raise
            found.append(left_out(stem, str(error).removeprefix(f"{source} ({member}): ")))
            continue
        if len(files) > 1:
            inner = [i._replace(name=f"{stem}_{i.name}" if i.name else stem) for i in inner]
        found += inner
    return found
