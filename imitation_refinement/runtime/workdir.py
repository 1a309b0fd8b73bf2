"""The folder of one run: its config, its environment, which stages are done, its metrics.

Belongs here: files of a run that are neither checkpoints nor figures. Only the main process
writes; the others may read.

    config.json         the resolved config
    environment.json    versions, devices, git revision
    metrics.jsonl       one line {"stage": ..., "step": ..., ...} per logged step
    stages/*.json       marker and summary of each finished stage
    tensorboard/        on request
"""

import importlib.metadata
import importlib.util
import json
import math
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import jax

from imitation_refinement.config import first_difference, to_json
from imitation_refinement.errors import UserError
from imitation_refinement.runtime import devices
from imitation_refinement.runtime.files import (
    atomic_write_json,
    atomic_write_text,
    read_json,
    writing,
)

PACKAGES = (
    "imitation-refinement",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "grain",
    "tensorflow-datasets",
    "ml_collections",
    "numpy",
    "scipy",
    "scikit-learn",
)


class WorkDir:
    """A run's folder.

    Args:
        path: the folder; created.
        tensorboard: also write scalars as TensorBoard events.

    Raises:
        UserError: it cannot be created; tensorboardX is asked for and not installed.
    """

    def __init__(self, path: str | os.PathLike[str], tensorboard: bool = False):
        self.path = Path(path).expanduser().absolute()
        self._metrics: IO[str] | None = None
        self._tensorboard = tensorboard and devices.is_main_process()
        self._boards: dict[str, Any] = {}
        if tensorboard and importlib.util.find_spec("tensorboardX") is None:
            raise UserError("TensorBoard output needs tensorboardX: pip install tensorboardX")
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)

    def claim(
        self,
        config: Mapping[str, Any],
        may_differ: Sequence[str] = (),
        names: Mapping[str, str] | None = None,
    ) -> None:
        """Writes config.json and environment.json, or compares with the config that is there.

        Args:
            config: the resolved config of this run.
            may_differ: fields or sections that do not change results, such as 'run'.
            names: what the user calls sections that stand elsewhere in the config that he wrote.

        Raises:
            UserError: the folder holds a run of another config; names the first differing field
                and both values.
        """
        path = self.path / "config.json"
        if path.exists():
            difference = first_difference(read_json(path), config, may_differ)
            if difference:
                name, old, new = difference
                section, dot, field = name.partition(".")
                called = (names or {}).get(section, f"config.{section}") + dot + field
                raise UserError(
                    f"{self.path} holds a run with {called} = {old!r}, this one has {new!r}; "
                    "give it a --workdir of its own or the old value"
                )
        if devices.is_main_process():
            atomic_write_text(path, to_json(config))
            atomic_write_json(self.path / "environment.json", environment())

    def stage_done(self, name: str) -> bool:
        """Returns whether this stage was finished in this folder."""
        return self._marker(name).exists()

    def stage_summary(self, name: str) -> dict[str, Any]:
        """Returns what `mark_done` was given; UserError if the marker is missing or damaged."""
        return read_json(self._marker(name))["summary"]

    def mark_done(self, name: str, summary: Mapping[str, Any] | None = None) -> None:
        """Marks a stage as finished, atomically, with a JSON-able summary.

        To be called last, when all of the stage's files are on disk.
        """
        if devices.is_main_process():
            marker = {"stage": name, "summary": dict(summary or {})}
            atomic_write_json(self._marker(name), marker)

    def append_metrics(self, stage: str, step: int, values: Mapping[str, Any]) -> None:
        """Appends one line of scalars to metrics.jsonl and flushes it; non-finite ones are null."""
        if not devices.is_main_process():
            return
        scalars = {name: float(value) for name, value in values.items()}
        finite = {name: value if math.isfinite(value) else None for name, value in scalars.items()}
        path = self.path / "metrics.jsonl"
        with writing(path):
            if self._metrics is None:
                self._metrics = open(path, "a", encoding="utf-8")  # noqa: SIM115  until `close`
            self._metrics.write(json.dumps({"stage": stage, "step": int(step), **finite}) + "\n")
            self._metrics.flush()
        if self._tensorboard:
            for name, value in scalars.items():
                self._board(stage).add_scalar(name, value, int(step))

    def truncate_metrics(self, stage: str, step: int) -> None:
        """Drops lines of a stage beyond the step from which it is resumed, and a half-written one.

        To be called before a stage's first `append_metrics`.
        """
        if not devices.is_main_process():
            return
        self._close_metrics()
        rows = self.read_metrics()
        kept = [row for row in rows if row["stage"] != stage or row["step"] <= step]
        path = self.path / "metrics.jsonl"
        atomic_write_text(path, "".join(json.dumps(row) + "\n" for row in kept))
        if self._tensorboard:
            self._board(stage, purge_step=step + 1)

    def read_metrics(self, stage: str | None = None) -> list[dict[str, Any]]:
        """Returns the rows of metrics.jsonl, of one stage or of all, in order.

        A half-written last line, which a killed run may leave, is passed over.

        Raises:
            UserError: another line is damaged.
        """
        path = self.path / "metrics.jsonl"
        if not path.exists():
            return []
        rows = []
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
        for number, line in enumerate(lines[:-1], start=1):  # what follows the last \n is no line
            try:
                row = json.loads(line)
                found = row["stage"], row["step"]
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(f"{path}: line {number} is damaged; delete that line") from error
            if stage in (None, found[0]):
                rows.append(row)
        return rows

    def close(self) -> None:
        """Closes the files of metrics."""
        self._close_metrics()
        for board in self._boards.values():
            board.close()
        self._boards = {}

    def _marker(self, name: str) -> Path:
        return self.path / "stages" / f"{name}.json"

    def _close_metrics(self) -> None:
        if self._metrics is not None:
            self._metrics.close()
            self._metrics = None

    def _board(self, stage: str, purge_step: int | None = None) -> Any:
        if stage not in self._boards:
            from tensorboardX import SummaryWriter  # optional dependency

            folder = self.path / "tensorboard" / stage
            self._boards[stage] = SummaryWriter(str(folder), purge_step=purge_step)
        return self._boards[stage]


def environment() -> dict[str, Any]:
    """Returns what results depend on beside the config: versions, git revision, devices."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "packages": {name: _version(name) for name in PACKAGES},
        "git": _git_revision(),
        "processes": jax.process_count(),
        "devices": [str(device) for device in jax.devices()],
    }


def command() -> str:
    """Returns the command line of this process, as one would type it in the checkout."""
    return shlex.join(["python", Path(sys.argv[0]).name, *sys.argv[1:]])


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git_revision() -> str | None:
    """Returns the commit of this file's checkout, '+changes' if it was edited; None outside one."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.check_output(
            command, text=True, stderr=subprocess.DEVNULL, timeout=10
        ).strip()

    try:
        # A copy installed below somebody else's checkout is not that checkout's code.
        git("ls-files", "--error-unmatch", Path(__file__).name)
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return None
