"""The rooms of docs/architecture.md: imports run downwards, close no circle, and use the doors."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "imitation_refinement"
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
FILES = sorted(PACKAGE.rglob("*.py"))
MOST_ROOMS, MOST_FLOORS, MOST_LINES = 24, 10, 400
OF_ALL_ROOMS = {"architecture", "messages", "notebook", "packaging", "style"}


def table(heading: str) -> list[list[str]]:
    """Rows of the first table below a heading, without its two head lines."""
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


ORDER = [re.fullmatch("`(.*)`", row[0])[1] for row in table("Rooms")]


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in FILES}


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def names_in(tree: ast.AST) -> set[str]:
    """Everything that is imported, wherever the import stands."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@cache
def imports(path: Path) -> frozenset[str]:
    return frozenset(names_in(ast.parse(path.read_text(encoding="utf-8"))))


@cache
def imported_files(path: Path) -> frozenset[Path]:
    found = set()
    for name in imports(path):
        module = name if name in MODULES else name.rpartition(".")[0]
        if module in MODULES and MODULES[module] not in (path, PACKAGE / "__init__.py"):
            found.add(MODULES[module])
    return frozenset(found)


def circle(graph: dict) -> list:
    """A circle of a graph, or nothing."""
    done, way = set(), []

    def follow(node):
        if node in way:
            return way[way.index(node) :]
        if node in done:
            return []
        way.append(node)
        for following in sorted(graph.get(node, ())):
            if found := follow(following):
                return found
        done.add(way.pop())
        return []

    return next((found for node in sorted(graph) if (found := follow(node))), [])


def test_imports_are_found_wherever_they_stand():
    text = "import a.b\nif TYPE_CHECKING:\n    from c import d\ndef f():\n    from e.f import g, h"
    assert names_in(ast.parse(text)) == {"a.b", "c.d", "e.f.g", "e.f.h"}


def test_circles_are_found():
    assert circle({1: [2], 2: [3], 3: [2]}) == [2, 3]
    assert circle({1: [2, 3], 2: [3], 3: []}) == []


def test_every_room_has_its_place():
    rooms = {room(path) for path in FILES} - {"__init__"}
    assert rooms <= set(ORDER), f"no row in docs/architecture.md: {sorted(rooms - set(ORDER))}"
    assert len(rooms) <= MOST_ROOMS
    to_come = set(ORDER) - rooms
    assert to_come <= {"phases", "serve"}


def test_tests_lie_in_the_folders_of_their_rooms():
    for path in (ROOT / "tests").rglob("test_*.py"):
        *folder, name = path.relative_to(ROOT / "tests").parts
        if name not in {f"test_{subject}.py" for subject in OF_ALL_ROOMS}:
            assert "/".join(folder) in ORDER, f"{path}: belongs into tests/<room>/"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_import_runs_upwards(path):
    if path == PACKAGE / "__init__.py":
        return  # the public names, imported when they are asked for
    for other in imported_files(path):
        own, its = ORDER.index(room(path)), ORDER.index(room(other))
        assert its <= own, (
            f"{path.relative_to(PACKAGE)} imports {other.relative_to(PACKAGE)}, "
            "whose room is further up"
        )


def test_no_files_import_each_other_in_a_circle():
    graph = {path: imported_files(path) for path in FILES}
    found = [str(path.relative_to(PACKAGE)) for path in circle(graph)]
    assert not found, f"a circle of imports: {' -> '.join(found)}"


def test_floors():
    below = {name: set() for name in ORDER}
    for path in FILES:
        if path != PACKAGE / "__init__.py":
            below[room(path)] |= {room(other) for other in imported_files(path)} - {room(path)}
    floor = {}
    for name in ORDER:
        floor[name] = 1 + max((floor[other] for other in below[name]), default=0)
    assert max(floor.values()) <= MOST_FLOORS, floor


def test_each_library_has_its_door():
    for library, files in ((row[0].strip("`"), row[1]) for row in table("Doors")):
        doors = {PACKAGE / name for name in re.findall(r"`(.*?\.py)`", files)}
        users = {
            path for path in FILES if any(name.split(".")[0] == library for name in imports(path))
        }
        assert users == doors, f"{library} is imported in {sorted(map(str, users ^ doors))}"


def test_no_file_is_long():
    counts = {path: path.read_text(encoding="utf-8").count("\n") for path in FILES}
    long = {str(path): count for path, count in counts.items() if count > MOST_LINES}
    assert not long
