"""How generated data is made in several processes and kept on disk.

Belongs here: the order-preserving process pool and the checked array cache that every generated
data set shares. Nothing here knows what a crystal is.
"""

import contextlib
import errno
import hashlib
import itertools
import json
import multiprocessing
import os
import shutil
import signal
import tempfile
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sized
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from absl import logging

from imitation_refinement.errors import UserError

# Raise it whenever the same configuration would give other bytes: old caches are then left alone.
GENERATOR_VERSION = 1

_MANIFEST = "manifest.json"
_PROGRESS_SECONDS = 5.0
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)

Item = TypeVar("Item")
Result = TypeVar("Result")


def parallel_map(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    workers: int,
    describe: str,
) -> Iterator[Result]:
    """Yields `function(item)` for each item, in the order of the items.

    With `workers` > 1 the calls run in spawned processes with one BLAS thread each, so `function`
    and the items must be importable or plain data; otherwise they run here. The order, and with a
    pure `function` the results, do not depend on `workers`. Progress with the time left is logged
    about every 5 s under the name `describe`.

    Raises:
        UserError: a worker process was killed (most often: out of memory).
    """
    total = len(items) if isinstance(items, Sized) else None
    progress = _Progress(describe, total)
    if workers <= 1 or (total is not None and total <= 1):
        for item in items:
            yield function(item)
            progress.step()
        return
    executor = ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker
    )
    remaining = iter(items)
    waiting: deque[Any] = deque()
    try:
        while True:
            # Four tasks per worker in flight: nobody starves, and results do not pile up.
            for item in itertools.islice(remaining, 4 * workers - len(waiting)):
                with _one_blas_thread():
                    waiting.append(executor.submit(function, item))
            if not waiting:
                break
            yield waiting.popleft().result()
            progress.step()
    except BrokenProcessPool as error:
        raise UserError(
            f"{describe}: a worker process was killed, probably for lack of memory; "
            f"use fewer workers than {workers}"
        ) from error
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def cached_arrays(
    cache_dir: str | os.PathLike[str],
    name: str,
    key: dict[str, Any],
    build: Callable[[], dict[str, np.ndarray]],
) -> dict[str, np.ndarray]:
    """Returns the arrays of `build()`, from disk if they were built before with the same key.

    They live in `<cache_dir>/<name>-<hash of key and GENERATOR_VERSION>/`: one .npy file per array
    and a manifest with dtype, shape and CRC-32 of each. The folder is written aside and renamed, so
    it is whole or absent, and of several builders at once the first one to end wins. The arrays
    come back memory-mapped and read-only; their checksums are verified here, once.

    Args:
        cache_dir: folder of all caches; made if absent.
        name: readable start of the folder name.
        key: JSON-able; everything the arrays depend on.
        build: makes the arrays; called only if they are not there yet.

    Raises:
        UserError: a file is damaged, or the folder cannot be written.
    """
    record = {"generator_version": GENERATOR_VERSION, "name": name, "key": key}
    digest = hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:16]
    folder = Path(cache_dir) / f"{name}-{digest}"
    if not folder.is_dir():
        _probe_writable(folder.parent)
        _write(folder, record, build())
    return _read(folder)


def _start_worker() -> None:
    # Ctrl-C reaches the whole process group; only the parent shall answer it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextlib.contextmanager
def _one_blas_thread() -> Iterator[None]:
    """Sets the thread variables, which a spawned process reads when it imports NumPy."""
    before = {variable: os.environ.get(variable) for variable in _THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for variable, value in before.items():
            if value is None:
                del os.environ[variable]
            else:
                os.environ[variable] = value


class _Progress:
    """Logs the number of finished items and the time left."""

    def __init__(self, describe: str, total: int | None):
        self.describe, self.total, self.done = describe, total, 0
        self.start = self.last = time.monotonic()

    def step(self) -> None:
        self.done += 1
        now = time.monotonic()
        if now - self.last < _PROGRESS_SECONDS and self.done != self.total:
            return
        self.last = now
        elapsed = now - self.start
        if self.total is None:
            logging.info("%s: %d done, %.0f s", self.describe, self.done, elapsed)
        elif self.done == self.total:
            logging.info("%s: %d of %d in %.1f s", self.describe, self.done, self.total, elapsed)
        else:
            left = elapsed / self.done * (self.total - self.done)
            logging.info(
                "%s: %d of %d, about %.0f s left", self.describe, self.done, self.total, left
            )


def _probe_writable(parent: Path) -> None:
    """Fails before minutes of work rather than after them."""
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError as error:
        raise _cannot_write(parent, error) from error


def _cannot_write(folder: Path, error: OSError) -> UserError:
    reason = "the disk is full" if error.errno == errno.ENOSPC else str(error.strerror or error)
    return UserError(f"cannot write the data cache {folder}: {reason}; choose another cache folder")


def _write(folder: Path, record: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    temporary = None
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        temporary.chmod(0o755)  # mkdtemp hides it from other users; a cache may be shared
        entries = {}
        for array_name, array in arrays.items():
            path = temporary / f"{array_name}.npy"
            np.save(path, np.ascontiguousarray(array), allow_pickle=False)
            entries[array_name] = {
                "dtype": array.dtype.str,
                "shape": list(array.shape),
                "crc32": _crc32(path),
            }
        manifest = {**record, "arrays": entries}
        (temporary / _MANIFEST).write_text(json.dumps(manifest, indent=2), encoding="utf-8")
        try:
            os.replace(temporary, folder)
        except OSError:
            if not folder.is_dir():  # otherwise somebody else was faster with the same bytes
                raise
    except OSError as error:
        raise _cannot_write(folder, error) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _read(folder: Path) -> dict[str, np.ndarray]:
    path = folder / _MANIFEST
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["arrays"]
        arrays = {}
        for array_name, entry in entries.items():
            path = folder / f"{array_name}.npy"
            if _crc32(path) != entry["crc32"]:
                raise ValueError("checksum differs")
            if 0 in entry["shape"]:  # an empty array cannot be mapped
                array = np.load(path, allow_pickle=False)
            else:
                array = np.load(path, mmap_mode="r", allow_pickle=False)
            if list(array.shape) != entry["shape"] or array.dtype.str != entry["dtype"]:
                raise ValueError("shape or dtype differs from the manifest")
            array.flags.writeable = False
            arrays[array_name] = array
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}); delete the folder {folder}") from error
    return arrays


def _crc32(path: Path) -> int:
    crc = 0
    with open(path, "rb") as file:
        while block := file.read(1 << 22):
            crc = zlib.crc32(block, crc)
    return crc
