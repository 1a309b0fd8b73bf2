"""main.py on `:smoke` in processes of its own, and what is read of its results."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
SMOKE = f"--config={ROOT / 'configs' / 'xrd.py'}:smoke"

STAGES = {
    "classifier", "judge/other_network", "judge/other_seed",
    "refiner/pretrained", "refiner/fold_0", "refiner/fold_1",
    "evaluate", "model", "report",
}  # fmt: skip
JUDGES = {"judge/other_network", "judge/other_seed"}

# VGG takes a third of the tracing that dense blocks do; more processes are more imports.
QUICK: dict[str, object] = {
    "classifier.network": "vgg_slim",
    "judges.other_seed.network": "vgg_slim",
    "judges.other_network.network": "vgg_slim",
    "run.workers": 1,
}


def as_flags(changes: Mapping[str, object]) -> list[str]:
    return [f"--config.{field}={value}" for field, value in changes.items()]


class Program:
    """Starts main.py with one folder of caches, changes of `:smoke` and an environment on top."""

    def __init__(
        self, folder: Path, changes: Mapping[str, object] | None = None, **environment: str
    ):
        self.data = folder / "imitation_refinement" / "data"  # where a program looks by itself
        self._changes = as_flags(changes or {})
        self._environment = {
            **os.environ,
            "XDG_CACHE_HOME": str(folder),
            "JAX_PLATFORMS": "cpu",
            "JAX_NUMPY_RANK_PROMOTION": "raise",
            **environment,
        }

    def start(self, workdir: Path, *flags: str, config: str = SMOKE, devices: int = 1):
        cache = [f"--config.run.cache_dir={self.data}"] if config else []
        changes = self._changes if config == SMOKE else []
        words = [config, f"--workdir={workdir}", *cache, *changes, *flags]
        options = f"--xla_force_host_platform_device_count={devices}"
        return subprocess.Popen(
            [sys.executable, str(ROOT / "main.py"), *filter(None, words)],
            env=self._environment | {"XLA_FLAGS": options}, cwd=workdir.parent,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def __call__(
        self, workdir: Path, *flags: str, fails: int = 0, seconds: float = 400, **options
    ) -> str:
        """Runs it to its end, which it must reach in time; what it printed.

        It must exit with status `fails`.
        """
        with self.start(workdir, *flags, **options) as process:
            output, _ = process.communicate(timeout=seconds)
        assert process.returncode == fails, output[-4000:]
        return output

    def interrupt(self, workdir: Path, *flags: str, when: str, number: int) -> tuple[int, str]:
        """Sends it a signal at the first line that holds `when`; exit status and output."""
        lines = []
        with self.start(workdir, *flags) as process:
            for line in process.stdout:
                lines.append(line)
                if when in line:
                    process.send_signal(number)
                    break
            lines += process.stdout.readlines()
        output = "".join(lines)
        assert when in output, output[-4000:]
        return process.returncode, output


def stages(workdir: Path) -> set[str]:
    folder = workdir / "stages"
    return {str(path.relative_to(folder).with_suffix("")) for path in folder.rglob("*.json")}


def contents(folder: Path) -> dict[str, str]:
    """SHA-256 of each file by its path."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def trained(output: str) -> bool:
    return "first step after" in output
