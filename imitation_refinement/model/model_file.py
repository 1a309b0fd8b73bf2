"""One file that holds a model: named plain arrays and a JSON header, verified when it is read.

Belongs here: bytes on disk only. The file is an .npz whose array `header` is UTF-8 JSON; the header
keeps shape, dtype and SHA-256 of each other array. No pickle; nothing in the file is run.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from imitation_refinement.errors import UserError
from imitation_refinement.runtime.files import atomic_file

FORMAT = 1
HEADER = "header"


def write_model_file(
    path: str | os.PathLike[str], header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
) -> None:
    """Writes a header and named arrays; an existing file is replaced, atomically.

    Raises:
        UserError: it cannot be written.
    """
    listed = {name: _signature(array) for name, array in arrays.items()}
    text = json.dumps({"format": FORMAT, **header, "arrays": listed}, sort_keys=True)
    content = {HEADER: np.frombuffer(text.encode(), np.uint8), **arrays}
    with atomic_file(path) as file:
        np.savez(file, **content)  # type: ignore[arg-type]  # takes them for allow_pickle


def read_model_file(
    path: str | os.PathLike[str],
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Returns the header, without its list of arrays, and the arrays, each as it was written.

    Raises:
        UserError: missing; no model file; of a newer format; damaged (names the array).
    """
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            header = _header(path, archive)
            listed = header.pop("arrays")
            return header, {name: _array(path, archive, name, listed[name]) for name in listed}
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except UserError:
        raise
    except Exception as error:  # containers that are damaged or none fail in many ways
        raise _damaged(path, "this is no model file") from error


def _header(path: str | os.PathLike[str], archive: Any) -> dict[str, Any]:
    try:
        header = json.loads(archive[HEADER].tobytes())
        number = header["format"]
    except Exception as error:  # as above
        raise _damaged(path, f"{HEADER!r} cannot be read") from error
    if number != FORMAT:
        raise UserError(
            f"{path}: format {number}, this program reads format {FORMAT}; use the version of "
            "the program that wrote it"
        )
    return header


def _array(
    path: str | os.PathLike[str], archive: Any, name: str, signature: list[Any]
) -> np.ndarray:
    try:
        array = archive[name]
    except Exception as error:  # as above
        raise _damaged(path, f"array {name!r} cannot be read") from error
    if _signature(array) != signature:
        raise _damaged(path, f"array {name!r} is not what was saved (SHA-256)")
    return array


def _signature(array: np.ndarray) -> list[Any]:
    digest = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
    return [list(array.shape), array.dtype.str, digest]


def _damaged(path: str | os.PathLike[str], reason: str) -> UserError:
    return UserError(f"{path}: damaged model: {reason}; fetch or save it again")
