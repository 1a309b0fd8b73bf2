"""The library of phases: line lists, names and structures of many crystals in one small file.

Belongs here: the arrays, and the file they are kept in. The file is an .npz whose members are
compressed one by one, so that names and structures are read when they are asked for; `header` is
UTF-8 JSON. No pickle. Lengths in angstrom, angles in degrees, q = 2 pi / d in 1/angstrom.

Numbers are kept as the small integers of `codes`. On disk q is written as differences, and the
bytes of each number apart, which compresses.
"""

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from imitation_refinement.errors import UserError
from imitation_refinement.phases.codes import (
    ENTRIES,
    LINES,
    NO_NAME,
    SITES,
    TEXT,
    TEXTS,
    amplitude_of,
    occupancy_of,
    position_of,
    q_of,
)
from imitation_refinement.runtime.files import atomic_file
from imitation_refinement.xrd import symmetry
from imitation_refinement.xrd.structures.atoms import SAME_PLACE, Atoms, near_pairs
from imitation_refinement.xrd.structures.settings import expanded, operations

FORMAT = 1
MEASURED, COMPUTED, COMPUTED_NEWER = range(3)  # values of `computed`
_HEADER = "header"


class Source(NamedTuple):
    """Where entries come from: short name, and what must be said of it when it is passed on."""

    name: str
    licence: str = ""
    citation: str = ""


class Library:
    """n crystals; lines and sites are ragged, entry i owns `[offsets[i]:offsets[i+1]]`.

    Attributes:
        sources: of the entries, `Source`s; `source` counts in them.
        q: float32 [m], ascending in each entry; amplitude: float32 [m], see `lines`.
        offsets: int64 [n + 1].
        space_group: int16 [n], as stated by the source; where it states none, and in calculated
            structures, found at 0.01 angstrom.
        crystal_system: int8 [n], index into xrd.crystals.CRYSTAL_SYSTEMS.
        hall: int16 [n], setting of the structure, 1..530 as spglib counts Hall symbols. Where the
            atoms do not show the stated space group, that of the atoms.
        cell: float32 [n, 6], conventional a, b, c, alpha, beta, gamma of the structure.
        computed: int8 [n], MEASURED, COMPUTED (cells some percent too large) or COMPUTED_NEWER.
        volume_per_atom: float32 [n], cubic angstrom.
        formula: str [n], reduced, each site with its main element.
        composition: str [n], formula with the occupancies; empty where all sites are full.
        mineral, reference, source_id: str [n], as stated by the source.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray], sources: Sequence[Source]):
        self._arrays = arrays
        self.sources = tuple(sources)

    def __len__(self) -> int:
        return len(self._arrays["space_group"])

    @cached_property
    def offsets(self) -> np.ndarray:  # noqa: D102  # described at the class
        return _offsets(self._arrays["line_count"])

    @cached_property
    def q(self) -> np.ndarray:  # noqa: D102
        return frozen(q_of(self._arrays["code"]))

    @cached_property
    def amplitude(self) -> np.ndarray:  # noqa: D102
        return frozen(amplitude_of(self._arrays["amplitude_code"]))

    @cached_property
    def crystal_system(self) -> np.ndarray:  # noqa: D102
        systems = [symmetry.system_of_space_group(max(group, 1)) for group in range(231)]
        return frozen(np.array(systems, np.int8)[self._arrays["space_group"]])

    @cached_property
    def _site_offsets(self) -> np.ndarray:
        return _offsets(self._arrays["site_count"])

    def __getattr__(self, name: str) -> Any:
        if name in ("space_group", "hall"):
            return self._arrays[name].astype(np.int16)
        if name in ("cell", "source", "computed", "volume_per_atom", *TEXTS):
            return self._arrays[name]
        raise AttributeError(f"a library has no {name!r}")

    @cached_property
    def digest(self) -> str:
        """Names the content: a hash of all entries and their sources."""
        digest = hashlib.sha256(json.dumps(self.sources).encode())
        for name in (*ENTRIES, *LINES, *SITES):
            digest.update(np.ascontiguousarray(self._arrays[name]).tobytes())
        for name in TEXTS:
            digest.update("\n".join(self._arrays[name].tolist()).encode())
        return digest.hexdigest()

    def lines(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns q and amplitude of an entry, float32; the largest amplitude is 1.

        An amplitude is the root of |F|^2 summed over the reflections of a line, without the
        Lorentz-polarization factor.
        """
        own = slice(self.offsets[index], self.offsets[index + 1])
        return self.q[own], self.amplitude[own]

    def sites(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """One atom of each orbit: atomic numbers, occupancies, fractional coordinates [u, 3]."""
        own = slice(self._site_offsets[index], self._site_offsets[index + 1])
        number, occupancy, position = (self._arrays[name][own] for name in SITES)
        return number.astype(np.int64), occupancy_of(occupancy), position_of(position)

    def structure(self, index: int) -> Atoms:
        """Returns the atoms of an entry in the primitive cell of its setting."""
        numbers, occupancies, unique = self.sites(index)
        conventional = symmetry.lattice_vectors(self._arrays["cell"][index].astype(float))
        every, site = expanded(conventional, unique, operations(int(self.hall[index])))
        primitive = primitive_of(int(self.hall[index]), conventional)
        positions = every @ np.linalg.inv(primitive) % 1.0
        kept = np.ones(len(positions), bool)
        pairs = near_pairs(primitive @ conventional, positions, SAME_PLACE)
        kept[pairs[site[pairs[:, 0]] == site[pairs[:, 1]], 1]] = False  # one by the centring
        return Atoms(
            str(self.source_id[index]), primitive @ conventional, positions[kept],
            numbers[site[kept]], occupancies[site[kept]], int(self.space_group[index]),
            mineral=str(self.mineral[index]), reference=str(self.reference[index]),
            source_id=str(self.source_id[index]),
        )  # fmt: skip

    def take(self, indices: np.ndarray) -> "Library":
        """Returns the library of some entries, in the order of the indices (or of a mask)."""
        indices = np.asarray(indices)
        if indices.dtype == bool:
            indices = np.flatnonzero(indices)
        arrays = {name: self._arrays[name][indices] for name in (*ENTRIES, *TEXTS)}
        for names, count in ((LINES, "line_count"), (SITES, "site_count")):
            rows = _rows(_offsets(self._arrays[count]), indices)
            arrays |= {name: self._arrays[name][rows] for name in names}
        return Library({name: frozen(a) for name, a in arrays.items()}, self.sources)


def concatenate(libraries: Sequence[Library]) -> Library:
    """Joins libraries, of which there is at least one; entries in the order given."""
    sources = tuple(dict.fromkeys(source for lib in libraries for source in lib.sources))
    arrays = {}
    for name in (*ENTRIES, *LINES, *SITES, *TEXTS):
        parts = [library._arrays[name] for library in libraries]
        if name == "source":
            parts = [
                np.array([sources.index(s) for s in library.sources], np.uint8)[part]
                for library, part in zip(libraries, parts, strict=True)
                if len(part)
            ] or parts
        arrays[name] = frozen(np.concatenate(parts))
    return Library(arrays, sources)


def primitive_of(hall: int, conventional: np.ndarray) -> np.ndarray:
    """Transform [3, 3] with primitive = transform @ conventional, reduced, for a setting."""
    maps = operations(hall)
    shifts = maps[np.all(maps[:, :, :3] == np.eye(3), axis=(1, 2)), :, 3] % 1.0
    vectors = np.concatenate([shifts[np.any(shifts > 0, axis=1)], np.eye(3)])
    volume = 1.0 / len(shifts)
    for i in range(len(vectors)):
        for j in range(i + 1, len(vectors)):
            for k in range(j + 1, len(vectors)):
                basis = vectors[[i, j, k]]
                if abs(abs(np.linalg.det(basis)) - volume) < 1e-6:
                    basis = basis * np.sign(np.linalg.det(basis))
                    return symmetry.reduced_basis(basis @ conventional) @ basis
    raise ValueError(f"setting {hall} has no primitive cell")


# --- The file ------------------------------------------------------------------------------------


def save_library(library: Library, path: str | os.PathLike[str]) -> None:
    """Writes a library as one file; the same entries give the same bytes.

    Raises:
        UserError: it cannot be written.
    """
    header = {
        "format": FORMAT,
        "entries": len(library),
        "sources": [source._asdict() for source in library.sources],
        "digest": library.digest,
    }
    text = json.dumps(header, sort_keys=True).encode()
    arrays = {_HEADER: np.frombuffer(text, np.uint8)}
    for name in (*ENTRIES, *LINES, *SITES, *TEXTS):
        arrays[name] = _packed(name, library._arrays[name], library.offsets)
    with atomic_file(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_LZMA) as archive:
        for name, array in arrays.items():
            # LZMA gains little on lines and sites, and is ten times slower to read.
            quick = name in (*LINES, *SITES)
            kind = zipfile.ZIP_DEFLATED if quick else zipfile.ZIP_LZMA
            member = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
            member.compress_type = kind
            content = io.BytesIO()
            np.lib.format.write_array(content, np.ascontiguousarray(array), allow_pickle=False)
            archive.writestr(member, content.getvalue(), kind, 9)


def load_library(path: str | os.PathLike[str] | None = None) -> Library:
    """Opens a library; lines are read at once, names and structures when they are asked for.

    Args:
        path: a file that `save_library` wrote; None for the one that is shipped with the package.

    Raises:
        UserError: there is none, it is damaged, or it is of another version.
    """
    if path is None:
        with resources.as_file(shipped_library()) as shipped:
            if not shipped.exists():
                raise UserError(
                    f"{shipped.name}: this installation has no library of phases; give "
                    "--library=FILE"
                )
            return load_library(shipped)
    stored = _Stored(Path(path).expanduser())
    library = Library(stored, [Source(**source) for source in stored.header["sources"]])
    lines, entries = len(stored["code"]), stored.header["entries"]
    if len(library) != entries or library.offsets[-1] != lines != len(stored["amplitude_code"]):
        raise _damaged(stored.path, "arrays do not fit together")
    library.digest = str(stored.header["digest"])
    return library


def shipped_library() -> Any:
    """Returns where the package keeps its library, as a resource of `importlib`."""
    return resources.files("imitation_refinement") / "pretrained" / "library.npz"


class _Stored(Mapping[str, np.ndarray]):
    """The arrays of a file, each read and checked (CRC-32) when it is first asked for."""

    def __init__(self, path: Path):
        self.path = path
        self._read: dict[str, np.ndarray] = {}
        try:
            self.header = json.loads(self._member(_HEADER).tobytes())
            number = self.header["format"]
        except (ValueError, KeyError, TypeError) as error:
            raise _damaged(path, "its header cannot be read") from error
        if number != FORMAT:
            raise UserError(
                f"{path}: library of format {number}, this program reads format {FORMAT}; make it "
                "again with --mode=library"
            )

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._read:
            offsets = _offsets(self["line_count"]) if name in LINES else np.zeros(1, int)
            try:
                array = _unpacked(name, self._member(name), offsets)
            except (ValueError, IndexError, UnicodeDecodeError) as error:
                raise _damaged(self.path, f"{name!r} cannot be read") from error
            self._read[name] = frozen(array)
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        return iter((*ENTRIES, *LINES, *SITES, *TEXTS))

    def __len__(self) -> int:
        return len(ENTRIES) + len(LINES) + len(SITES) + len(TEXTS)

    def _member(self, name: str) -> np.ndarray:
        try:
            with (
                open(self.path, "rb") as file,
                np.load(file, allow_pickle=False) as archive,
            ):
                return archive[name]
        except FileNotFoundError as error:
            raise UserError(f"{self.path}: {error.strerror}") from error
        except Exception as error:  # containers that are damaged or none fail in many ways
            raise _damaged(self.path, f"{name!r} cannot be read") from error


def _packed(name: str, array: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    if name in TEXTS:
        return np.frombuffer("".join(f"{text}\n" for text in array.tolist()).encode(), np.uint8)
    if name == "code":
        steps = np.diff(array, prepend=array[:1])
        firsts = offsets[:-1][np.diff(offsets) > 0]
        steps[firsts] = array[firsts]
        array = steps
    if array.dtype.itemsize > 1:  # one plane for each byte, columns one after the other
        width = 1 if array.ndim == 1 else array.shape[1]
        columns = np.ascontiguousarray(array.T).reshape(width, len(array))
        planes = columns.view(np.uint8).reshape(*columns.shape, array.dtype.itemsize)
        return np.ascontiguousarray(planes.transpose(0, 2, 1))
    return array


def _unpacked(name: str, array: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    if name in TEXTS:
        texts = array.tobytes().decode().split("\n")[:-1]
        return np.array(["" if text == NO_NAME else text for text in texts], TEXT)
    kind = np.dtype(ENTRIES.get(name, np.uint8 if name in ("amplitude_code", "site_number")
                                 else np.uint16))  # fmt: skip
    if kind.itemsize > 1:
        planes = np.ascontiguousarray(array.transpose(0, 2, 1))
        columns = planes.view(kind)[:, :, 0]
        wide = name in ("cell", "site_position")
        array = np.ascontiguousarray(columns.T) if wide else columns[0]
    if name == "code":
        firsts = offsets[:-1][np.diff(offsets) > 0]
        steps = array.astype(np.uint32)
        total = np.cumsum(steps, dtype=np.uint32)
        base = total[firsts] - steps[firsts]
        return (total - np.repeat(base, np.diff(offsets)[np.diff(offsets) > 0])).astype(np.uint16)
    return array


def _offsets(counts: np.ndarray) -> np.ndarray:
    return frozen(np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]))


def _rows(offsets: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Rows of the ragged items `indices`, one after the other."""
    counts = np.diff(offsets)[indices]
    ends = np.cumsum(counts)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(
        offsets[:-1][indices] - (ends - counts), counts
    )


def frozen(array: np.ndarray) -> np.ndarray:
    """Returns the array, which nobody can write to any more."""
    array.flags.writeable = False
    return array


def _damaged(path: Path, reason: str) -> UserError:
    return UserError(f"{path}: damaged library: {reason}; fetch or make it again")
