"""Reading ahead in another process gives what reading here gives, in order, whatever happens."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from imitation_refinement.commands import read_ahead
from imitation_refinement.commands.inputs import Input, list_inputs
from imitation_refinement.commands.read_ahead import read_placed
from imitation_refinement.xrd.grid import Grid

GRID = Grid(1.1, 5.9, 400)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Scans that differ, one that is too short to be placed, one that is none."""
    rng = np.random.default_rng(0)
    axis = np.linspace(20.0, 90.0, 300)
    for number in range(12):
        rows = np.column_stack([axis, rng.poisson(50.0 + 500.0 * (rng.random(300) < 0.05))])
        np.savetxt(tmp_path / f"s{number}.xy", rows, header="wavelength 1.54184")
    (tmp_path / "s5.xy").write_text("no numbers\n")
    np.savetxt(tmp_path / "s9.xy", np.column_stack([axis / 100.0, axis]), header="wavelength 1.54")
    return tmp_path


def plain(readings) -> list:
    """What was read, as values that can be compared."""
    told = []
    for one, reading in readings:
        told.append([one.path, reading.reason])
        for found in reading.found:
            arrays = [*(found.record.scan or ()), *(found.scan or ())]
            told[-1] += [found.record.name, found.record.reason, found.trouble]
            told[-1] += [a.tobytes() if isinstance(a, np.ndarray) else a for a in arrays]
    return told


@pytest.fixture
def small(monkeypatch):
    """Two processors, and a few scans are many."""
    monkeypatch.setattr(read_ahead, "processors", lambda: 2)
    monkeypatch.setattr(read_ahead, "HERE", 2)
    monkeypatch.setattr(read_ahead, "_GROUP", 3)
    monkeypatch.setattr(read_ahead, "_AHEAD", 6)


def test_another_process_reads_the_same_in_order(folder, small, monkeypatch):
    files, _ = list_inputs([str(folder)])
    files.insert(3, Input(folder / "s1.xy", trouble="line 3: no element"))
    here = plain(read_placed(files, GRID))
    assert [row[0] for row in here] == [one.path for one in files]
    assert here[3][1] == "line 3: no element" and "s5.xy" in here[6][1] and here[10][4]
    names, read = [], read_ahead.read_one
    monkeypatch.setattr(
        read_ahead, "read_one", lambda one, grid: names.append(one.path.name) or read(one, grid)
    )
    assert plain(read_placed(files, GRID, ahead=True)) == here
    assert names == ["s0.xy", "s1.xy"]


def test_a_process_that_is_killed_is_not_missed(folder, small, monkeypatch):
    files, _ = list_inputs([str(folder)])
    ahead = read_placed(files, GRID, ahead=True)
    read = [next(ahead) for _ in range(3)]  # the third is from the other process
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    if not children.exists():
        pytest.skip("the processes of a process are found on Linux alone")
    for child in children.read_text().split():
        if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
            os.kill(int(child), signal.SIGKILL)
    warned = []
    monkeypatch.setattr(read_ahead.logging, "warning", warned.append)
    assert plain([*read, *ahead]) == plain(read_placed(files, GRID))
    assert "reading here" in "".join(warned)
