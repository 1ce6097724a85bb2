"""Walking libcst's tree by its fields: its own `children` goes through a visitor and takes ten times as long."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import libcst as cst

#: Fields that hold layout only: space, brackets, commas, operators' spelling.
_LAYOUT = (
    "whitespace", "lpar", "rpar", "lbracket", "rbracket", "lbrace", "rbrace", "comma", "semicolon", "leading_lines",
    "lines_after", "header", "footer", "trailing_whitespace", "equal", "dot", "colon", "operator",
)  # fmt: skip


@lru_cache(maxsize=1_000)
def _fields(kind: type[cst.CSTNode]) -> tuple[str, ...]:
    return tuple(name for name in kind.__dataclass_fields__ if not name.startswith(_LAYOUT))


def children(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """The parts of a node that mean something, in the order of the code."""
    for name in _fields(type(node)):
        value = getattr(node, name)
        if isinstance(value, cst.CSTNode):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from (part for part in value if isinstance(part, cst.CSTNode))


def walk(root: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """A node and all below it."""
    found = [root]
    while found:
        node = found.pop()
        yield node
        found += children(node)


def dotted(node: cst.CSTNode | None) -> str:
    """`a.b.c` as it stands in the code, empty for anything else."""
    parts: list[str] = []
    while isinstance(node, cst.Attribute):
        parts.append(node.attr.value)
        node = node.value
    return ".".join([node.value, *reversed(parts)]) if isinstance(node, cst.Name) else ""
