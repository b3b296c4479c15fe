"""Which room may import which: the hall holds the paper, wings around it never reach back."""

import ast
from pathlib import Path

import pytest

import cirlib

ROOT = Path(cirlib.__file__).parent
MAY_IMPORT = {
    "base": set(),
    "data": {"base"},
    "hall": {"base"},
    "engine": {"hall", "base"},
    "run": {"engine", "hall", "data", "base"},
    "measure": {"engine", "hall", "data", "base"},
    "report": {"measure", "engine", "hall", "data", "base"},
    "demo": {"measure", "engine", "hall", "data", "base"},
    "cli": {"run", "measure", "engine", "hall", "data", "base"},
}
FILES = [path for path in sorted(ROOT.glob("**/*.py")) if "tests" not in path.parts]
ENTRANCES = {"__init__.py", "__main__.py"}  # of the package: they hand on to any room


def room(module: str) -> str:
    """'cirlib.data.images' -> 'data', 'cirlib.networks' -> 'hall'."""
    first = module.split(".")[1]
    return first if first in MAY_IMPORT else "hall"


def imported(path: Path) -> set[str]:
    """Modules of cirlib that a file imports, in functions, too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: import from cirlib by its whole name"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {module for module in found if module.startswith("cirlib.")}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_imports_what_its_room_may(path):
    if path.parent == ROOT and path.name in ENTRANCES:
        return
    own = room(".".join(["cirlib", *path.relative_to(ROOT).parts]))
    foreign = {module for module in imported(path) if room(module) not in MAY_IMPORT[own] | {own}}
    assert not foreign, f"{own} may import {sorted(MAY_IMPORT[own])} only"


def test_every_room_says_what_it_is_for():
    for path in FILES:
        assert ast.get_docstring(ast.parse(path.read_text())), path


def test_no_file_is_too_long_to_be_read():
    assert not [path.name for path in FILES if len(path.read_text().splitlines()) > 450]
