"""One bad item never ends the work. Processes import this file: it imports little."""

import multiprocessing
import os
import signal
import time
from functools import partial
from types import SimpleNamespace

import pytest

from imitation_refinement.errors import UserError
from imitation_refinement.phases.isolated import run_isolated


def work(folder, kind, left_out, at):
    """Writes a file for each of six items; item 2 is bad in one way or another."""
    for index in range(6):
        at.value = index
        if index in left_out:
            continue
        if index == 2 and kind == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if index == 2 and kind == "stuck":
            time.sleep(1000)
        if index == 2 and kind == "memory":
            try:
                bytearray(8 << 30)
            except MemoryError:
                continue
        (folder / str(index)).touch()


@pytest.mark.parametrize(
    ("kind", "why"), [("killed", "exit status -9"), ("stuck", "more than 3 s")]
)
def test_an_item_that_ends_or_stops_the_process_is_left_out(tmp_path, kind, why):
    seconds = 3.0 if kind == "stuck" else 60.0
    left_out = run_isolated(partial(work, tmp_path, kind), seconds=seconds, memory=4 << 30)
    assert list(left_out) == [2] and why in left_out[2]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1", "3", "4", "5"]


def test_memory_is_limited(tmp_path):
    pytest.importorskip("resource")
    assert run_isolated(partial(work, tmp_path, "memory"), seconds=60.0, memory=4 << 30) == {}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1", "3", "4", "5"]


def test_a_daemon_that_may_start_no_process_says_what_to_do(monkeypatch):
    monkeypatch.setattr(multiprocessing, "current_process", lambda: SimpleNamespace(daemon=True))
    with pytest.raises(UserError, match="DASK_DISTRIBUTED__WORKER__DAEMON=False"):
        run_isolated(broken, seconds=1.0, memory=4 << 30)


def broken(left_out, at):
    raise SystemExit(3)


def test_a_process_that_ends_at_no_item_is_an_error():
    with pytest.raises(UserError, match="exit status 3"):
        run_isolated(broken, seconds=1.0, memory=4 << 30)
