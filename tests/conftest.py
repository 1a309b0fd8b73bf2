"""Settings under which silent mistakes fail; warnings are errors by pyproject.toml."""

import shutil
from pathlib import Path

import jax
import pytest
from program import Program

jax.config.update("jax_numpy_rank_promotion", "raise")  # no broadcasting by a forgotten axis
jax.config.update("jax_numpy_dtype_promotion", "strict")  # no mixing of dtypes


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


@pytest.fixture(scope="session")
def program(tmp_path_factory) -> Program:
    return Program(tmp_path_factory.getbasetemp() / "pipeline_cache")


@pytest.fixture(scope="session")
def reference(program, tmp_path_factory) -> Path:
    """The folder of an uninterrupted run; not to be changed."""
    workdir = tmp_path_factory.mktemp("reference") / "run"
    program(workdir)
    return workdir


@pytest.fixture
def copy(reference, tmp_path) -> Path:
    return Path(shutil.copytree(reference, tmp_path / "run"))
