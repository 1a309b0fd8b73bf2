"""Files that are whole or absent: atomic writes, and reads that notice damage.

Belongs here: generic reading and writing. A reader, or a run after a kill, finds the old or
the new file, never a part of one; trouble with the disk becomes a UserError that names the file.
"""

import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from imitation_refinement.errors import UserError

INDEX = "__names__"


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns an OSError of the block (disk full, no permission) into a UserError naming the path."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{path}: cannot write ({error.strerror or error}); "
            "free the disk, mend its permissions or name another folder"
        ) from error


@contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Opens a temporary file that becomes `path` at the end of the block if nothing was raised.

    Folders on the way are created.

    Raises:
        UserError: disk full or not writable; the old file is untouched.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def atomic_write_text(path: str | os.PathLike[str], content: str) -> None:
    """Writes UTF-8 text; see `atomic_file`. Bytes of file names that are none are spelt out."""
    with atomic_file(path) as file:
        file.write(content.encode(errors="backslashreplace"))


def atomic_write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Writes indented JSON, NumPy scalars and arrays as numbers and lists; see `atomic_file`."""
    atomic_write_text(path, json_text(value))


def json_text(value: Any) -> str:
    """Returns what `atomic_write_json` writes."""
    return json.dumps(value, indent=2, default=_json_default) + "\n"


def read_json(path: str | os.PathLike[str]) -> Any:
    """Reads JSON.

    Raises:
        UserError: missing or damaged.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from error
    except ValueError as error:
        raise _damaged(path, error) from error


def atomic_write_npz(path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray]) -> None:
    """Writes named arrays as .npz, whose container keeps a CRC-32 of each; see `atomic_file`.

    The list of names is one more array: a damaged directory of the container may lose an entry.
    """
    index = {INDEX: np.array(sorted(arrays), dtype=np.str_)}
    with atomic_file(path) as file:
        np.savez(file, **index, **arrays)  # type: ignore[arg-type]  # takes it for allow_pickle


def read_npz(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Reads all arrays of an .npz of `atomic_write_npz`, each checked against its CRC-32.

    Raises:
        UserError: missing or damaged.
    """
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
            if arrays.pop(INDEX).tolist() != sorted(arrays):
                raise ValueError("arrays are missing")
            return arrays
    except FileNotFoundError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    except (
        zipfile.BadZipFile, zlib.error, ValueError, KeyError, EOFError, OSError, RuntimeError,
    ) as error:  # fmt: skip
        raise _damaged(path, error) from error


def _damaged(path: str | os.PathLike[str], error: Exception) -> UserError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return UserError(f"{path}: damaged ({reason}); delete it and run its stage again")


def _json_default(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not JSON")


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Returns the SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def user_cache(name: str) -> Path:
    """Returns a folder of the user's cache: XDG_CACHE_HOME, else ~/.cache; it need not exist."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base, "imitation_refinement", name).expanduser()
