"""Settings under which silent mistakes fail; warnings are errors by pyproject.toml."""
# ruff: noqa: E402

import contextlib
import fcntl
import logging
import os
import shutil
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # as in cli.py, for the same reason
# Threads that wait for each other without rest leave no core to other workers: three times as long.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import jax
import pytest
from absl import flags
from absl.testing import flagsaver
from presets import preset
from program import QUICK, Program

from imitation_refinement import cli
from imitation_refinement.applications import check_config, run_application
from imitation_refinement.config import parse_flags
from imitation_refinement.runtime.workdir import WorkDir

# What tests of one room make serves those of others.
sys.path += sorted({str(path.parent) for path in Path(__file__).parent.glob("*/test_*.py")})

jax.config.update("jax_numpy_rank_promotion", "raise")  # no broadcasting by a forgotten axis
jax.config.update("jax_numpy_dtype_promotion", "strict")  # no mixing of dtypes


# What takes longest, one for each of two workers: neither is left alone with it at the end.
FIRST = ("test_pipeline.py", "test_pipeline_killed.py")


# Every program is kept, also what compiles in milliseconds: there are thousands. Caches of XLA are
# for GPUs, and their place is a part of each program's key: in another folder all is compiled anew.
KEPT = {
    "jax_persistent_cache_min_compile_time_secs": 0.0,
    "jax_persistent_cache_enable_xla_caches": "none",
}


def pytest_configure(config):
    """Compiles each program once for all tests, workers and sessions; `--cache-clear` forgets."""
    jax.config.update("jax_compilation_cache_dir", str(config.cache.mkdir("compiled")))
    for option, value in KEPT.items():
        jax.config.update(option, value)
    # What another worker is just writing is compiled here too.
    unreadable = "ignore:Error reading persistent compilation cache entry:UserWarning"
    config.addinivalue_line("filterwarnings", unreadable)


def pytest_collection_modifyitems(items):
    """What takes longest goes first."""
    items.sort(key=lambda item: (*FIRST, item.path.name).index(item.path.name))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Hands whole files to workers (`-n 2`): tests of a file share what its fixtures make."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return nodeid.partition("::")[0]

    config.option.loadscopereorder = False  # by the number of tests, which says little of time
    return ByFile(config, log)


@pytest.fixture(autouse=True)
def _own_caches(tmp_path_factory, monkeypatch):
    """Keeps tests, and the programs that they start, out of the user's cache folder."""
    folder = tmp_path_factory.getbasetemp() / "cache"
    folder.mkdir(exist_ok=True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))


@pytest.fixture(scope="module")
def quick_compilation():
    """For modules whose programs are tiny and run a few times."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="module")
def mixed_dtypes():
    """Lets optax mix dtypes, also in the thread in which a run compiles ahead."""
    jax.config.update("jax_numpy_dtype_promotion", "standard")
    yield
    jax.config.update("jax_numpy_dtype_promotion", "strict")


@pytest.fixture(scope="session")
def shared(tmp_path_factory) -> Path:
    """A folder of this session, the same for all of its workers."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(scope="session")
def quick_program(shared) -> dict[str, str]:
    """Environment of processes that run `:smoke`: compiled quickly, and what was compiled kept."""
    caches = shared / "pipeline_cache"
    kept = caches / "imitation_refinement" / "jax"
    kept.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):  # of another worker
        kept.symlink_to(jax.config.jax_compilation_cache_dir)
    return {
        "XDG_CACHE_HOME": str(caches),
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        **{option.upper(): str(value) for option, value in KEPT.items()},
    }


@pytest.fixture(scope="session")
def program(quick_program) -> Program:
    return Program(Path(quick_program["XDG_CACHE_HOME"]), QUICK, **quick_program)


@pytest.fixture(scope="session")
def reference(program, shared) -> Path:
    """The folder of an uninterrupted run, made by the worker that asks first; not to be changed."""
    folder = shared / "reference"
    folder.mkdir(exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the others wait
        if not (folder / "done").exists():
            program(folder / "run")
            (folder / "done").touch()
    return folder / "run"


@pytest.fixture(scope="module")
def here(program, quick_compilation, mixed_dtypes):
    """Runs what `program` does in this process, on the same data; what it logged."""

    def run(workdir: Path, mode: str = "all", **changes: object) -> str:
        config = preset("smoke")
        config.run.cache_dir = str(program.data)
        config.update_from_flattened_dict({**QUICK, **changes})
        lines: list[str] = []
        handler = logging.Handler()
        handler.emit = lambda record: lines.append(record.getMessage())
        logger = logging.getLogger("absl")
        level = logger.level
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        opened = WorkDir(workdir)
        try:
            run_application(check_config(config), config, opened, mode)
        finally:
            opened.close()
            logger.removeHandler(handler)
            logger.setLevel(level)
        return "\n".join([*lines, ""])

    return run


@pytest.fixture
def call(tmp_path, monkeypatch):
    """Runs the command line in this process, in an empty folder; returns its exit status."""
    monkeypatch.chdir(tmp_path)

    def main(*words: str) -> int:
        with flagsaver.flagsaver():
            flags.FLAGS.unparse_flags()
            return cli.main(parse_flags(["main.py", *words]))

    yield main
    flags.FLAGS(["main.py"])  # what comes after finds them parsed, as before


@pytest.fixture
def copy(reference, tmp_path) -> Path:
    return Path(shutil.copytree(reference, tmp_path / "run"))
