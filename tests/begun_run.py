"""A run of `:smoke` that was stopped twice, kept so that another layout of the code can finish it.

    python tests/begun_run.py

writes `data/begun_run.zip` with the code of this checkout: the work directory as it was in the
middle of the classifier and of the first refiner, and the model of the finished run. Make it before
code is moved or a config field is added, with the code as it is then; `test_begun_run.py` finishes
the two copies with the code of today.
"""

import json
import platform
import shutil
import signal
import sys
import tempfile
import zipfile
from importlib.metadata import version
from pathlib import Path

from program import Program

PLACE = Path(__file__).parent / "data" / "begun_run.zip"
STOPS = {"classifier": "classifier: first step", "refiner": "refiner/fold_0: first step"}
MACHINE = "machine.json"


def machine() -> dict[str, str]:
    """What the bits of a float32 sum depend on beside the code."""
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.exists() else [platform.processor()]
    wanted = [line for line in lines if line.startswith(("model name", "flags"))]
    return {"cpu": "\n".join(sorted(set(wanted))), "jaxlib": version("jaxlib")}


def make(folder: Path) -> None:
    """Runs `:smoke` below `folder`, stopping twice, and writes the archive."""
    program, workdir = Program(folder), folder / "run"
    for name, line in STOPS.items():
        program.interrupt(workdir, when=line, number=signal.SIGTERM)
        shutil.copytree(workdir, folder / name)
    program(workdir)
    PLACE.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(PLACE, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(MACHINE, json.dumps(machine()))
        archive.write(workdir / "model.npz", "model.npz")
        for name in STOPS:
            for path in filter(_needed, sorted((folder / name).rglob("*"))):
                archive.write(path, path.relative_to(folder))


def _needed(path: Path) -> bool:
    """Whether going on reads a file: of each stage the last checkpoint alone, if that."""
    steps = [folder for folder in path.parents if folder.name.isdigit()]
    if not steps or steps[0].parent.name == "trained":
        return True
    others = [int(other.name) for other in steps[0].parent.iterdir() if other.name.isdigit()]
    finished = (steps[0].parent / "trained").exists()
    return int(steps[0].name) == max(others) and not finished


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        make(Path(temporary))
    sys.stdout.write(f"{PLACE}: {PLACE.stat().st_size} bytes\n")
