"""Devices and processes: one mesh over everything there is, and how arrays get on and off it.

Belongs here: the mesh, shardings, transfers, `jax.distributed`, the compilation cache, what the
allocator and the garbage collector do. The rest of the program never asks how many devices or
processes there are: a jitted step is one global program, its batch statistics and class means are
those of the global batch, and 1 device, 8 devices or 2 processes give the same numbers.
"""

import ctypes
import functools
import gc
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, Sharding

from imitation_refinement.errors import UserError
from imitation_refinement.runtime.files import user_cache

Tree = Any
DATA_AXIS = "data"
AUTO = "auto"  # --coordinator=auto: Slurm, Kubernetes and TPU pods tell jax all that it needs
CONNECT_TIMEOUT_S = 300


@functools.cache
def data_mesh() -> Mesh:
    """Returns the mesh of all devices of all processes, with the single axis 'data'."""
    # In order of processes, so that the rows of a process are consecutive in a batch.
    ordered = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    # With axes of type Explicit linen modules fail outside `jax.set_mesh`.
    return Mesh(np.array(ordered), (DATA_AXIS,), axis_types=(AxisType.Auto,))


def replicated() -> NamedSharding:
    """Returns the layout of parameters, statistics and the like: whole on every device."""
    return NamedSharding(data_mesh(), PartitionSpec())


def by_example() -> NamedSharding:
    """Returns the layout of batches: the leading axis is split over the devices."""
    return NamedSharding(data_mesh(), PartitionSpec(DATA_AXIS))


def describe() -> str:
    """Returns the devices in words, such as '2 processes, 8 cpu devices'."""
    processes, count = jax.process_count(), jax.device_count()
    kind = jax.devices()[0].device_kind
    return (
        f"{processes} process{'es' if processes > 1 else ''}, "
        f"{count} {kind} device{'s' if count > 1 else ''}"
    )


def local_batch_size(batch_size: int, field: str) -> int:
    """Returns how many rows of a global batch this process provides.

    Args:
        batch_size: global batch size, as the config says it.
        field: name of that field for the message, e.g. 'config.classifier.batch_size'.

    Raises:
        UserError: the batch does not divide over the devices.
    """
    count = jax.device_count()
    if batch_size < 1 or batch_size % count:
        below = max(batch_size, 0) // count * count
        near = f"{below} or {below + count}" if below else f"{count}"
        raise UserError(
            f"{field} = {batch_size} does not divide over {count} devices: "
            f"take a multiple of {count}, such as {near}"
        )
    return batch_size // jax.process_count()


def padded_size(size: int) -> int:
    """Returns the next multiple of the device count, to which a partial batch is padded."""
    return -(-size // jax.device_count()) * jax.device_count()


def to_devices(local_batch: Tree) -> Tree:
    """Puts this process's rows `[b, ...]` into global arrays `[B, ...]`, split by example."""
    return jax.tree.map(
        lambda rows: jax.make_array_from_process_local_data(by_example(), rows), local_batch
    )


def replicate(tree: Tree) -> Tree:
    """Puts host arrays that are equal on every process whole on every device."""
    return jax.tree.map(lambda leaf: place(leaf, replicated()), tree)


def place(array: Any, sharding: Sharding) -> jax.Array:
    """Lays out one host array that is equal on every process."""
    array = np.asarray(array)
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def makes_examples() -> bool:
    """Returns whether random training views are made where they are used, for tasks that can.

    Not on a CPU, where NumPy is faster (`benchmarks/views.py`); others would wait for the host.
    """
    return jax.default_backend() != "cpu"


def is_main_process() -> bool:
    """Returns whether this process is the one that writes logs, metrics and reports."""
    return jax.process_index() == 0


def sync(name: str) -> None:
    """Waits until every process has come to the point of this name."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def initialize_distributed(
    coordinator: str | None, num_processes: int | None = None, process_id: int | None = None
) -> None:
    """Joins the other processes of this run; must precede everything that touches a device.

    Args:
        coordinator: 'host:port' of process 0; 'auto' where the cluster says it (Slurm, Kubernetes,
            TPU pods); None or '' for a run of one process, which joins nothing.
        num_processes: how many processes take part.
        process_id: which of them this one is, from 0.

    Raises:
        UserError: flags that do not go together, or a coordinator that refuses.
    """
    if not coordinator:
        if num_processes is not None or process_id is not None:
            raise UserError("--num_processes and --process_id need --coordinator=HOST:PORT")
        return
    # Logged before the call: a peer that never comes ends this process from C++, no exception.
    arguments: dict[str, Any] = {}
    if coordinator == AUTO:
        logging.info("joining the cluster's processes; gives up after %d s", CONNECT_TIMEOUT_S)
    else:
        if num_processes is None or process_id is None:
            raise UserError("--coordinator=HOST:PORT needs --num_processes and --process_id")
        if not 0 <= process_id < num_processes:
            raise UserError(
                f"--process_id = {process_id}: must be from 0 to {num_processes - 1}, "
                f"since --num_processes = {num_processes}"
            )
        arguments = {
            "coordinator_address": coordinator,
            "num_processes": num_processes,
            "process_id": process_id,
        }
        logging.info(
            "process %d of %d joins at %s; gives up after %d s",
            process_id, num_processes, coordinator, CONNECT_TIMEOUT_S,
        )  # fmt: skip
    try:
        jax.distributed.initialize(**arguments, initialization_timeout=CONNECT_TIMEOUT_S)
    except (RuntimeError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"--coordinator={coordinator}: {reason}") from error


def enable_compilation_cache(directory: str | os.PathLike[str] | None = None) -> Path | None:
    """Keeps compiled programs on disk, so that only the first run of a program compiles it.

    Entries are code that will be run: the folder must be writable by its user alone.

    Args:
        directory: where; None or '' for the user's cache folder (XDG_CACHE_HOME, else ~/.cache).

    Returns:
        The folder, or None if the user's cache folder cannot be written (the run goes on without).

    Raises:
        UserError: a folder was named and cannot be written.
    """
    folder = Path(directory or user_cache("jax")).expanduser().absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(f"{folder} is not writable")
    except OSError as error:
        message = f"compilation cache {folder}: {error.strerror or error}"
        if directory:
            raise UserError(f"{message}; name another folder") from error
        logging.warning("%s; programs will be compiled anew in each run", message)
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    # All programs, not only those that took a second: a run has a dozen small ones.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    return folder


def collect_garbage_rarely() -> None:
    """Lets Python look for garbage in cycles rarely.

    Tracing a step makes hundreds of thousands of objects and hardly any garbage. As Python is set,
    looking for it is a fifth of tracing (`benchmarks/tracing.py`).
    """
    gc.set_threshold(100_000, 50, 100)


def runs_once() -> dict[str, Any]:
    """Returns compiler options for a program that runs once, such as drawing the first parameters.

    On the CPU drawing them is compiled in a tenth to two thirds of the time, to the same bits; at
    level 0 they are others.
    """
    return {"xla_backend_optimization_level": 1} if jax.default_backend() == "cpu" else {}


def keep_freed_memory() -> bool:
    """Lets this process keep the memory that it frees, to use it again.

    The GNU C library gives large blocks back at once, so that XLA's working memory comes as new,
    zeroed pages in every step; on the CPU that is a good part of a step. For threads that have an
    arena of their own, as XLA's have, it does so with blocks of more than 64 MiB whatever else is
    set, hence one arena for all: to be called before a device is asked for anything. The first GiB
    is of large pages where Linux has them for who asks; a step reads most of its working memory
    from far away, page by page. The price: the process holds what it needed at most.

    Returns:
        Whether the C library can be told so.
    """
    trim_threshold, mmap_max, arena_max = -1, -4, -8  # names of mallopt(3), from malloc.h
    try:
        library = ctypes.CDLL(None)
        mallopt = library.mallopt
    except (AttributeError, OSError, TypeError):  # another C library; Windows
        return False
    kept = [mallopt(trim_threshold, -1), mallopt(mmap_max, 0), mallopt(arena_max, 1)]
    _ask_for_large_pages(library, 1 << 30)
    return all(kept)


def _ask_for_large_pages(library: ctypes.CDLL, size: int) -> None:
    """Marks the next `size` bytes that `malloc` gives; none is touched, so none is taken yet."""
    page, hugepage = 1 << 21, 14  # MADV_HUGEPAGE of madvise(2), from mman.h
    library.malloc.restype = ctypes.c_void_p
    block = library.malloc(ctypes.c_size_t(size))
    if block:
        start = -(-block // page) * page
        length = (block + size - start) // page * page
        library.madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), hugepage)
        library.free(ctypes.c_void_p(block))
