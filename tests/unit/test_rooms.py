"""Imports point down: no room knows a higher one, or one beside it."""

import ast
import re
from pathlib import Path

import pytest
from rooms import ROOMS

PACKAGE = Path(__file__).parents[2] / "langchain_internvl"
TRAINING = Path(__file__).parents[2] / "training" / "nano" / "nano_training"
LEVELS = {room: level for level, row in enumerate(ROOMS) for room in row}


def imports(path, package):
    """The modules of a package that a file imports anywhere, as dotted names below it."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name.split(".", 1)[1] for name in names if name.startswith(f"{package}."))


def room_of(name):
    first = name.split(".")[0]
    known = (PACKAGE / first).is_dir() or (PACKAGE / f"{first}.py").is_file()
    return first if known else "__init__"


def arrows():
    for path in sorted(PACKAGE.rglob("*.py")):
        own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for name in imports(path, "langchain_internvl"):
            if room_of(name) != own:
                yield own, room_of(name), str(path.relative_to(PACKAGE))


def test_every_module_has_a_room():
    rooms = {
        path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in PACKAGE.rglob("*.py")
    }
    assert rooms - LEVELS.keys() == set()


def test_at_most_twelve_modules_are_flat():
    assert len(list(PACKAGE.glob("*.py"))) <= 12


def test_imports_point_down():
    up = [
        f"{file} imports {to}"
        for own, to, file in arrows()
        # The front door names rooms above it, lazily.
        if LEVELS[to] <= LEVELS[own] and own != "__init__"
    ]
    assert up == []


@pytest.mark.parametrize("package", [PACKAGE, TRAINING], ids=["package", "training"])
def test_modules_import_each_other_in_no_circle(package):
    """Module by module, also within a room; imports inside functions count."""
    graph = {}
    for path in package.rglob("*.py"):
        module = ".".join(path.relative_to(package).with_suffix("").parts)
        graph[module.removesuffix(".__init__") or "__init__"] = path
    edges = {
        module: {
            near
            for name in imports(path, package.name)
            for near in (name, name.rpartition(".")[0])
            if near in graph and near != module
        }
        for module, path in graph.items()
        if module != "__init__"
    }
    done, path_now = set(), []

    def visit(module):
        if module in path_now:
            pytest.fail(" -> ".join([*path_now[path_now.index(module) :], module]))
        if module in done:
            return
        path_now.append(module)
        for other in sorted(edges.get(module, ())):
            visit(other)
        path_now.pop()
        done.add(module)

    for module in sorted(edges):
        visit(module)


def test_development_draws_the_rooms_in_their_order():
    page = (PACKAGE.parent / "DEVELOPMENT.md").read_text("utf-8")
    drawing = page.partition("```text\n")[2].partition("```")[0]
    cells = [cell for line in drawing.splitlines() for cell in re.split(r" {2,}", line)]
    drawn = [cell for cell in cells if cell in LEVELS]
    assert drawn == [room for row in ROOMS for room in row if room != "__main__"]
