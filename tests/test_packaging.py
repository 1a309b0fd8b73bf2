import importlib
import re
import stat
import subprocess
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]


def requirement_lines() -> list[str]:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def readme_commands() -> list[str]:
    block = re.search(
        r"^```sh\n(.*?)^```", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE
    )
    assert block is not None
    return block[1].splitlines()


def test_requirements_and_pyproject_name_the_same_bounds():
    assert sorted(requirement_lines()) == sorted(PROJECT["dependencies"])


@pytest.mark.parametrize("file", ["requirements.txt", "pyproject.toml"])
def test_each_excluded_release_has_its_reason_beside_it(file):
    text = (ROOT / file).read_text()
    comments = "\n".join(line for line in text.splitlines() if line.lstrip().startswith("#"))
    for requirement in requirement_lines():
        for bound in re.findall(r"(?:>=|!=|==)([0-9.]+)", requirement):
            assert re.search(rf"(?<![0-9.]){re.escape(bound)}(?![0-9])", comments), (
                requirement,
                bound,
            )


def test_readme_opens_with_the_two_commands_each_in_its_own_environment():
    first_run, first_test = readme_commands()
    for command in (first_run, first_test):
        assert command.startswith("python3 -m venv .venv && .venv/bin/pip install -q ")
        assert not re.search(r"&& (?!\.venv/bin/)", command)  # nothing of the system's Python
    assert first_run.endswith(".venv/bin/python main.py --config=configs/xrd.py")
    parts = re.findall(r"[\w/]+\.(?:py|txt)\b", first_run)
    assert {"main.py", "configs/xrd.py"} < set(parts)
    for part in parts:
        assert (ROOT / part).is_file(), part


def test_ci_runs_the_test_command_of_the_readme():
    script = (ROOT / ".ci" / "run").read_text()
    assert (ROOT / ".ci" / "run").stat().st_mode & stat.S_IXUSR
    (extraction,) = re.findall(r"^test_command=.*$", script, re.MULTILINE)
    (removal,) = re.findall(r"^install_command=.*$", script, re.MULTILINE)
    echo = 'printf "%s\\n" "$test_command" "$install_command"'
    shell = f"set -euo pipefail\n{extraction}\n{removal}\n{echo}"
    found = subprocess.run(
        ["bash", "-c", shell], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    command = readme_commands()[1]
    assert found == [command, command.partition(" && .venv/bin/python -m pytest")[0]]
    assert 'bash -euo pipefail -c "$test_command"' in script


@pytest.mark.parametrize("name", sorted(PROJECT["scripts"]))
def test_console_command_is_importable(name):
    module, _, attribute = PROJECT["scripts"][name].partition(":")
    assert callable(getattr(importlib.import_module(module), attribute))


def test_files_that_are_not_code_are_installed():
    declared = [
        f"{package.replace('.', '/')}/{pattern}"
        for package, patterns in TOOLS["setuptools"]["package-data"].items()
        for pattern in patterns
    ]
    package = ROOT / "imitation_refinement"
    for path in package.rglob("*"):
        if path.is_file() and path.suffix != ".py" and path.parent.name != "__pycache__":
            relative = path.relative_to(ROOT).as_posix()
            assert any(fnmatch(relative, pattern) for pattern in declared), relative


def test_every_folder_of_code_is_a_package():
    # setuptools leaves out folders without __init__.py: the installed program would miss them.
    for path in (ROOT / "imitation_refinement").rglob("*.py"):
        assert (path.parent / "__init__.py").is_file(), path
