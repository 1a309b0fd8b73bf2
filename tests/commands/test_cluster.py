"""Tasks on Dask's processes: each result once, whatever becomes of the processes."""

import os
import signal
import time
from functools import partial
from pathlib import Path

import distributed
import pytest

from imitation_refinement.commands.cluster import each
from imitation_refinement.errors import UserError


def square(number: int, folder: Path) -> tuple[int, int]:
    """Takes a while; leaves a file that says who did it."""
    (folder / f"{number}-{os.getpid()}").touch()
    time.sleep(0.05)
    return number * number, os.getpid()


def refuses(number: int) -> int:
    if number == 3:
        raise UserError("three: no good")
    return number


def ends_its_process(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_this_process_does_tasks_in_order(tmp_path):
    taken = []

    def tasks():
        for number in range(3):
            taken.append(number)
            yield number

    found = each(partial(square, folder=tmp_path), tasks())
    assert next(found) == (0, (0, os.getpid())) and taken == [0]
    assert [task for task, _ in found] == [1, 2]


def test_a_killed_process_loses_nothing_and_doubles_nothing(tmp_path):
    taken, found, killed = [], [], None

    def tasks():
        for number in range(40):
            taken.append(number)
            yield number

    for task, (value, process) in each(partial(square, folder=tmp_path), tasks(), "local"):
        found.append((task, value))
        if len(found) == 5:  # no more than a few are given out ahead
            assert len(taken) <= 5 + 2 * len(os.sched_getaffinity(0))
            killed = process
            os.kill(process, signal.SIGKILL)
    assert sorted(found) == [(number, number * number) for number in range(40)]
    processes = {int(path.name.split("-")[1]) for path in tmp_path.iterdir()}
    assert killed in processes and os.getpid() not in processes and len(processes) >= 2


def test_a_scheduler_that_runs_already(tmp_path):
    with distributed.LocalCluster(n_workers=1, dashboard_address=None) as cluster:
        found = each(partial(square, folder=tmp_path), range(5), cluster.scheduler_address)
        assert sorted(task for task, _ in found) == list(range(5))
        assert cluster.scheduler.workers  # it is not ours to end


def test_what_a_task_raises_comes_out():
    with pytest.raises(UserError, match="three: no good"):
        list(each(refuses, range(6), "local"))


def test_a_task_that_ends_its_process_again_and_again_is_named_after_all_others():
    found = []
    with pytest.raises(UserError, match=r"1 tasks ended their workers.*first: 3\)"):
        for task, _ in each(ends_its_process, range(8), "local"):
            found.append(task)
    assert sorted(found) == [0, 1, 2, 4, 5, 6, 7]


def test_what_only_waited_beside_such_a_task_is_not_named():
    found = []
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, dashboard_address=None
    ) as cluster:
        tasks = each(ends_its_process, [3, 4, 5], cluster.scheduler_address)
        with pytest.raises(UserError, match=r"1 tasks ended their workers.*first: 3\)"):
            found.extend(task for task, _ in tasks)
    assert sorted(found) == [4, 5]


def test_nobody_at_the_address(monkeypatch):
    monkeypatch.setattr("imitation_refinement.commands.cluster._CONNECT_S", 0.3)
    with pytest.raises(UserError, match=r"--cluster=tcp://127.0.0.1:9: no scheduler answers"):
        list(each(refuses, range(2), "tcp://127.0.0.1:9"))
    with pytest.raises(UserError, match="--cluster=nonsense"):
        list(each(refuses, range(2), "nonsense"))
