"""Checkpoints on disk: Orbax for atomic folders of arrays, and on top what Orbax does not do.

Belongs here: the only import of Orbax in the program. Orbax has no checksums (one flipped bit
restores as a wrong weight) and casts another dtype silently, so the shape, dtype and CRC-32 of each
leaf are saved beside the arrays and compared on the way back. A leaf is an array of numbers; random
keys are not saved, since all randomness is a function of integers.

Under several processes `save`, `wait`, `restore`, `preempted` and `close` are collective: every
process calls them, in the same order, with the same (replicated) arrays.
"""

import json
import os
import sys
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import jax
import numpy as np
import orbax.checkpoint as ocp

from imitation_refinement.errors import UserError
from imitation_refinement.runtime import devices

Tree = Any
FORMAT = 1
KEEP = 2
META = "meta"
MAX_DIFFERENCES = 8
MAX_REASON = 200


class Checkpoints:
    """The checkpoints of one stage: folders `<directory>/<step>`, the last two kept.

    Saving is asynchronous and atomic: a process killed at any moment leaves the earlier steps
    whole. Use it as a context manager, or call `wait` before the process ends.

    Args:
        directory: a folder for these checkpoints alone; created.

    Raises:
        UserError: the folder cannot be created.
    """

    def __init__(self, directory: str | os.PathLike[str]):
        self.directory = Path(directory).absolute()
        policies = ocp.checkpoint_managers
        options = ocp.CheckpointManagerOptions(
            cleanup_tmp_directories=True, preservation_policy=policies.LatestN(KEEP)
        )
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._manager = ocp.CheckpointManager(self.directory, options=options)
        except (OSError, ValueError) as error:
            self._fail_to_write(error)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        try:
            self.close()
        except UserError:
            if error is None:  # else the error on its way out is the one to report
                raise

    def latest_step(self) -> int | None:
        """Returns the newest complete step, None if there is none yet."""
        return self._manager.latest_step()

    def save(
        self,
        step: int,
        items: Mapping[str, Tree],
        meta: Mapping[str, Any] | None = None,
    ) -> bool:
        """Begins to save trees of arrays; they are copied before it returns, so may be donated.

        Args:
            step: number of finished steps.
            items: name -> tree of arrays. Trees without leaves are allowed.
            meta: JSON-able values that come back with them.

        Returns:
            Whether a checkpoint was begun; False if this step is already saved, which stays.

        Raises:
            UserError: disk full or not writable, also for the previous, asynchronous save.
        """
        host = {name: jax.tree.map(np.asarray, tree) for name, tree in items.items()}
        leaves = {
            name: {
                path: [list(leaf.shape), leaf.dtype.name, _crc(leaf)]
                for path, leaf in _leaves(tree).items()
            }
            for name, tree in host.items()
        }
        body = {"format": FORMAT, "step": step, "user": dict(meta or {}), "leaves": leaves}
        args = {name: ocp.args.StandardSave(tree) for name, tree in host.items() if leaves[name]}
        args[META] = ocp.args.JsonSave({**body, "crc32": _json_crc(body)})
        try:
            if step in self._manager.all_steps():
                return False
            return self._manager.save(step, args=ocp.args.Composite(**args), force=True)
        except Exception as error:  # tensorstore and file systems share no exception type
            self._fail_to_write(error)

    def wait(self) -> None:
        """Returns when everything begun is on disk.

        Raises:
            UserError: it could not be written; earlier checkpoints are whole.
        """
        try:
            self._manager.wait_until_finished()
            self._manager.check_for_errors()
        except Exception as error:  # as in save
            self._fail_to_write(error)

    def close(self) -> None:
        """Waits and ends the threads; raises as `wait`."""
        try:
            self.wait()
        finally:
            self._manager.close()

    def restore(
        self, step: int | None, abstract: Mapping[str, Tree]
    ) -> tuple[dict[str, Tree], dict[str, Any]]:
        """Loads and verifies trees.

        Args:
            step: which one; None for the newest.
            abstract: name -> tree of arrays or `jax.ShapeDtypeStruct`, as the program expects it.
                Saved items that are not named are left alone. A leaf with a sharding comes back as
                a jax.Array laid out so, the others as NumPy arrays.

        Returns:
            The trees, and the meta values saved with them.

        Raises:
            UserError: no such checkpoint; a damaged one (names the leaf); one of another tree,
                shape or dtype (prints what is expected with -, what is there with +).
        """
        steps = sorted(self._manager.all_steps())
        step = steps[-1] if step is None and steps else step
        if step is None or step not in steps:
            which = "no checkpoint" if step is None else f"no checkpoint of step {step}"
            there = f"; there are steps {', '.join(map(str, steps))}" if steps else ""
            raise UserError(f"{self.directory}: {which}{there}")
        meta = self._read_meta(step)
        saved = meta["leaves"]
        self._compare(step, abstract, saved)
        args = {
            name: ocp.args.StandardRestore(jax.tree.map(_host_target, tree))
            for name, tree in abstract.items()
            if saved[name]
        }
        items = dict(abstract)
        if args:
            hook = sys.unraisablehook
            sys.unraisablehook = _without_stray_reads(hook)
            try:
                loaded = self._manager.restore(step, args=ocp.args.Composite(**args))
            except Exception as error:  # whatever is raised on truncated or altered files
                self._fail_to_read(step, _first_line(error), error)
            sys.unraisablehook = hook
            items.update({name: loaded[name] for name in args})
        for name in args:
            for path, leaf in _leaves(items[name]).items():
                if _crc(leaf) != saved[name][path][2]:
                    self._fail_to_read(step, f"{name}{path} is not what was saved (CRC-32)")
            items[name] = jax.tree.map(_placed, items[name], abstract[name])
        return items, meta["user"]

    def _read_meta(self, step: int) -> dict[str, Any]:
        args = ocp.args.Composite(**{META: ocp.args.JsonRestore()})
        try:
            meta = dict(self._manager.restore(step, args=args)[META])
            crc = meta.pop("crc32")
        except Exception as error:  # missing file, invalid JSON, invalid UTF-8, not a mapping
            self._fail_to_read(step, f"{META} cannot be read ({_first_line(error)})", error)
        if crc != _json_crc(meta):
            self._fail_to_read(step, f"{META} is not what was saved (CRC-32)")
        if meta["format"] != FORMAT:
            raise UserError(
                f"{self.directory / str(step)}: format {meta['format']}, this program reads "
                f"format {FORMAT}; use the version of the program that wrote it"
            )
        return meta

    def _compare(self, step: int, abstract: Mapping[str, Tree], saved: Mapping[str, Any]) -> None:
        expected, found = {}, {}
        for name, tree in abstract.items():
            for path, leaf in _leaves(tree).items():
                expected[name + path] = _signature(leaf.shape, np.dtype(leaf.dtype).name)
            for path, (shape, dtype, _) in saved.get(name, {}).items():
                found[name + path] = _signature(shape, dtype)
        lines = []
        for name in sorted(expected.keys() | found.keys()):
            if expected.get(name) != found.get(name):
                lines += [f"  - {name} {expected[name]}"] if name in expected else []
                lines += [f"  + {name} {found[name]}"] if name in found else []
        if lines:
            rest = len(lines) - MAX_DIFFERENCES
            shown = lines[:MAX_DIFFERENCES] + ([f"  ... and {rest} more"] if rest > 0 else [])
            head = f"{self.directory / str(step)}: not the arrays that this config needs"
            raise UserError("\n".join([f"{head} (- needed, + in the checkpoint):", *shown]))

    def _fail_to_read(self, step: int, reason: str, cause: Exception | None = None) -> NoReturn:
        folder = self.directory / str(step)
        older = [other for other in self._manager.all_steps() if other < step]
        start = f"step {max(older)}" if older else "the start"
        mend = f"delete {folder} to go on from {start}"
        raise UserError(f"{folder}: damaged checkpoint: {reason}; {mend}") from cause

    def _fail_to_write(self, error: Exception) -> NoReturn:
        raise UserError(
            f"{self.directory}: cannot write a checkpoint ({_first_line(error)}); free the disk or "
            "mend its permissions and start again: complete checkpoints are kept"
        ) from error


def preempted(step: int) -> bool:
    """Returns whether any process of this run has been told to stop.

    True at the same step on every process. Works after `jax.distributed.initialize` only, which
    catches SIGTERM for it.
    """
    return ocp.utils.reached_preemption(step)


def _leaves(tree: Tree) -> dict[str, Any]:
    return {jax.tree_util.keystr(p): leaf for p, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _without_stray_reads(hook: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Keeps a traceback per leaf out of the terminal after a failed restore.

    Orbax gives up at the first leaf that cannot be read and closes the event loop, to which the
    other reads then report.
    """

    def quiet(event: Any) -> None:
        if "Event loop is closed" not in str(event.exc_value):
            hook(event)

    return quiet


def _host_target(abstract: Any) -> np.ndarray:
    # An array of strides 0: Orbax looks at its shape and dtype only.
    return np.broadcast_to(np.zeros((), abstract.dtype), abstract.shape)


def _placed(leaf: np.ndarray, abstract: Any) -> Any:
    sharding = getattr(abstract, "sharding", None)
    return leaf if sharding is None else devices.place(leaf, sharding)


def _crc(leaf: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(leaf).reshape(-1).view(np.uint8).data)


def _json_crc(value: Any) -> int:
    return zlib.crc32(json.dumps(value, sort_keys=True).encode())


def _signature(shape: Any, dtype: str) -> str:
    return f"{dtype}[{', '.join(map(str, shape))}]"


def _first_line(error: Exception) -> str:
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return line if len(line) < MAX_REASON else f"{line[:MAX_REASON]}..."
