"""Runs mutmut's mutants of one module, each in a child forked after pytest has collected.

    mutmut run 'imitation_refinement.evaluation.peaks.x_find_peaks__mutmut_1'
    python tests/mutants.py imitation_refinement.evaluation.peaks

The first makes all mutants and notes which tests call which function; the second is a few times as
quick as mutmut itself, because no child collects anew, and says which mutants survive. With names
of test files after the module, only what survived before is run again, by new tests of these too.
"""

import json
import os
import resource
import sys
import time
from pathlib import Path

import pytest

SECONDS = 90  # of processor time; a mutant that needs more is killed
KILLED, SURVIVED, NO_TESTS = 1, 0, 33  # as mutmut has them


class Mutants:
    """In the place of pytest's loop over tests: a loop over mutants."""

    def __init__(self, module: str, again: bool):
        self._path = Path(f"{module.replace('.', '/')}.py.meta")
        self._meta = json.loads(self._path.read_text())
        self._codes = self._meta["exit_code_by_key"]
        self._again = again
        stats = json.loads(Path("mutmut-stats.json").read_text())
        self._seconds = stats["duration_by_test"]
        self._calls = stats["tests_by_mangled_function_name"]
        functions = [name for name in self._calls if name.startswith(f"{module}.x")]
        self.files = {test.partition("::")[0] for name in functions for test in self._calls[name]}

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session):
        items = {item.nodeid: item for item in session.items}
        new = [name for name in items if name not in self._seconds] if self._again else []
        names = [
            name
            for name, code in self._codes.items()
            if not self._again or code in (SURVIVED, NO_TESTS)
        ]
        start = time.monotonic()
        for name in names:
            called = self._calls.get(name.rpartition("__mutmut_")[0], ())
            tests = [items[test] for test in {*called, *new} if test in items]
            tests.sort(key=lambda item: self._seconds.get(item.nodeid, 0.0))
            self._codes[name] = self._run(session, name, tests) if tests else NO_TESTS
            if self._codes[name] != KILLED:
                sys.stderr.write(f"survives: {name}\n")
        self._path.write_text(json.dumps(self._meta, indent=4))
        killed = sum(self._codes[name] == KILLED for name in names)
        seconds = time.monotonic() - start
        sys.stderr.write(f"{killed} of {len(names)} mutants killed in {seconds:.0f} s\n")
        return True

    @staticmethod
    def _run(session, name: str, tests: list) -> int:
        child = os.fork()
        if child:
            return SURVIVED if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0 else KILLED
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        os.environ["MUTANT_UNDER_TEST"] = name
        for test, following in zip(tests, [*tests[1:], None], strict=True):
            session.config.hook.pytest_runtest_protocol(item=test, nextitem=following)
            if session.testsfailed:
                os._exit(KILLED)
        os._exit(SURVIVED)


if __name__ == "__main__":
    module, *files = sys.argv[1:]
    os.chdir("mutants")
    sys.path.insert(0, os.getcwd())
    os.environ["MUTANT_UNDER_TEST"] = ""
    plugin = Mutants(module, again=bool(files))
    options = ["-q", "-x", "--rootdir=.", "-m", "not slow"]
    pytest.main([*options, *sorted({*plugin.files, *files})], plugins=[plugin])
