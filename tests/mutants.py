"""Runs mutmut's mutants of one module, and says which survive.

    mutmut run 'imitation_refinement.evaluation.peaks.x_find_peaks__mutmut_1'
    python tests/mutants.py imitation_refinement.evaluation.peaks

The first makes all mutants and notes which tests call which function. The second tries them twice:

1. One after another in one process, each by the tests that call its function, shortest first, up to
   the first that fails. JAX runs operation by operation: what is compiled is no mutant and stays.
   Tests that do not pass in this way, or are long, wait for the next round.
2. What is left, each in a child forked after pytest has collected, by all tests, as they are.

Results are written as they come: a run that was stopped goes on, and one that ended begins at 2
again. With names of test files after the module, tests of these alone, new ones among them.
"""

import json
import os
import shutil
import signal
import sys
from pathlib import Path

import jax
import pytest
from _pytest.runner import runtestprotocol

SECONDS = 90  # of processor time for a mutant; one that needs more is killed
LONG = 5  # seconds of processor time for a test of the first round
KILLED, SURVIVED, NO_TESTS = 1, 0, 33  # as mutmut has them


class Mutants:
    """In the place of pytest's loop over tests: a loop over mutants."""

    def __init__(self, module: str, files: list[str]):
        self._path = Path(f"{module.replace('.', '/')}.py.meta")
        self._meta = json.loads(self._path.read_text())
        self._codes = self._meta["exit_code_by_key"]
        stats = json.loads(Path("mutmut-stats.json").read_text())
        self._seconds = stats["duration_by_test"]
        self._calls = stats["tests_by_mangled_function_name"]
        self.first = None in self._codes.values()
        of_module = (name for name in self._calls if name.startswith(f"{module}.x"))
        called = {test.partition("::")[0] for name in of_module for test in self._calls[name]}
        self.files = sorted(files or called)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session):
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        open_codes = (None,) if self.first else (SURVIVED, NO_TESTS)
        names = [name for name, code in self._codes.items() if code in open_codes]
        items = {item.nodeid: item for item in session.items}
        new = [name for name in items if name not in self._seconds]
        if self.first:
            jax.config.update("jax_disable_jit", True)
            signal.signal(signal.SIGPROF, _too_long)
            items = {name: item for name, item in items.items() if self._is_quick(item)}
        for name in names:
            called = self._calls.get(name.rpartition("__mutmut_")[0], ())
            tests = [items[test] for test in {*called, *new} if test in items]
            tests.sort(key=lambda item: self._seconds.get(item.nodeid, 0.0))
            self._codes[name] = self._run(name, tests) if tests else NO_TESTS
            if self._codes[name] != KILLED and not self.first:
                sys.stderr.write(f"survives: {name}\n")
            self._path.write_text(json.dumps(self._meta, indent=4))
        if self.first and any(_fails("", [item]) for item in items.values()):
            sys.stderr.write("no mutant, and a test fails: one before has left a trace\n")
        killed = sum(self._codes[name] == KILLED for name in names)
        sys.stderr.write(f"{killed} of {len(names)} mutants killed\n")
        return True

    def _is_quick(self, item) -> bool:
        start = os.times()
        failed = _fails("", [item], seconds=LONG)
        self._seconds[item.nodeid] = sum(os.times()[:2]) - sum(start[:2])
        return not failed

    def _run(self, name: str, tests: list) -> int:
        if self.first:
            return KILLED if _fails(name, tests) else SURVIVED
        child = os.fork()
        if child:
            return SURVIVED if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0 else KILLED
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        os._exit(KILLED if _fails(name, tests) else SURVIVED)


def _fails(mutant: str, tests: list, seconds: float = SECONDS) -> bool:
    """Whether one of the tests fails with this mutant in the place of its function."""
    os.environ["MUTANT_UNDER_TEST"] = mutant
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        return any(
            report.failed
            for test in tests
            for report in runtestprotocol(test, log=False, nextitem=None)
        )
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _too_long(*_):
    raise TimeoutError


if __name__ == "__main__":
    module, *files = sys.argv[1:]
    made = Path("mutants") / f"{module.replace('.', '/')}.py.meta"
    if not (made.exists() and Path("mutants/mutmut-stats.json").exists()):
        sys.exit(f"{module} has no mutants in mutants/: `mutmut run` makes them (docs/mutation.md)")
    shutil.copytree("tests", "mutants/tests", dirs_exist_ok=True)  # they may be newer
    os.chdir("mutants")
    sys.path.insert(0, os.getcwd())
    os.environ["MUTANT_UNDER_TEST"] = ""
    plugin = Mutants(module, files)
    pytest.main(
        ["-q", "--tb=native", "--rootdir=.", "-m", "not slow", *plugin.files], plugins=[plugin]
    )
    if plugin.first:
        os.chdir("..")
        os.execv(sys.executable, [sys.executable, *sys.argv])
