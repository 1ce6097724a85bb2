"""The project's own source, each file parsed once, for the laws."""

import ast
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src" / "adapterfit"


@dataclass(frozen=True)
class Import:
    """One imported name: `module` absolute, where it stands, and whether a function holds it or only type checkers see it."""

    module: str
    where: str
    inside_function: bool
    for_types_only: bool


@dataclass(frozen=True, eq=False)
class File:
    """One file: `room` is its first folder under the package, or its own name."""

    path: Path

    @cached_property
    def text(self):
        return self.path.read_text("utf-8")

    @cached_property
    def tree(self):
        return ast.parse(self.text)

    @property
    def name(self):
        return self.path.relative_to(SRC).as_posix()

    @property
    def room(self):
        return self.name.split("/")[0].removesuffix(".py")


#: Every Python file of the package, in order. A file is parsed when a law first asks, not when tests are collected.
FILES = [File(path) for path in sorted(SRC.rglob("*.py"))]


@cache
def imports(file):
    """Every import of a file, relative ones made absolute."""
    return tuple(_imports(file))


def _imports(file):
    package = ["adapterfit", *file.path.relative_to(SRC).parts[:-1]]
    for node, function, types in _walk(file.tree, False, False):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*start, *([node.module] if node.module else [])])
            found = [f"{module}.{alias.name}" for alias in node.names]
        else:
            continue
        for module in found:
            yield Import(module, f"{file.name}:{node.lineno}", function, types)


def _walk(node, function, types):
    """Statements alone: no expression holds an import."""
    yield node, function, types
    function = function or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    is_guard = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.stmt, ast.ExceptHandler)):
            yield from _walk(child, function, types or (is_guard and child in node.body))


@cache
def calls(file):
    """Every call of a file, as (dotted name, node)."""
    return tuple(
        (ast.unparse(node.func), node)
        for node in ast.walk(file.tree)
        if isinstance(node, ast.Call) and isinstance(node.func, (ast.Name, ast.Attribute))
    )
