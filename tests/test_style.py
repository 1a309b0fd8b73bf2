"""One hand: what ruff has no rule for."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = sorted((ROOT / "imitation_refinement").rglob("*.py"))
CODE = [*PACKAGE, *sorted((ROOT / "tests").rglob("*.py")), *sorted((ROOT / "configs").glob("*.py"))]
SECTION = re.compile(r"^( *)(Args|Attributes|Raises|Returns|Yields):$")


def docstrings(path):
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            yield ast.get_docstring(node, clean=True) or ""


def indents(docstring):
    """By how much the first line below each heading is indented."""
    lines = docstring.splitlines()
    for heading, line in zip(lines, lines[1:], strict=False):
        if found := SECTION.match(heading):
            yield len(line) - len(line.lstrip()) - len(found[1])


@pytest.mark.parametrize("path", PACKAGE, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_docstrings_have_one_form(path):
    for docstring in docstrings(path):
        assert set(indents(docstring)) <= {4}, docstring
        assert not re.search(r"What belongs here|Here belongs?\b", docstring), docstring


def test_indents_by_hand():
    assert list(indents("One.\n\nArgs:\n  x: two.\n\nReturns:\n    y: four.")) == [2, 4]


def test_no_file_is_long_and_none_needs_the_future():
    for path in CODE:
        text = path.read_text()
        assert len(text.splitlines()) <= 400, path
        assert "from __future__ import" not in text or path == Path(__file__), path
