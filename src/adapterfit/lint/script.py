"""One script, parsed: its text, its tree, where things stand in it. Strange input is refused before libcst sees it."""

from __future__ import annotations

import ast
import re
import warnings
from bisect import bisect_right
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import libcst as cst
from libcst.metadata import CodeRange, MetadataWrapper, PositionProvider

from adapterfit import limits
from adapterfit.errors import CannotCheck
from adapterfit.text import show

#: As libcst counts lines.
_NEWLINE = re.compile(r"\r\n?|\n")


class Script:
    """A Python text with its tree. `folder` is where it lies, for literal paths in it; None where there is none."""

    def __init__(self, text: str, folder: Path | None = None) -> None:
        """Parse `text`.

        Raises:
            CannotCheck: It is no Python, too long or nested too deeply.
        """
        guard(text)
        self.text = text
        self.folder = folder
        try:
            self._wrapper = MetadataWrapper(cst.parse_module(text), unsafe_skip_copy=True)
        except cst.ParserSyntaxError as error:
            raise CannotCheck(f"line {error.raw_line} is no Python that lint can read") from error
        except RecursionError as error:
            raise CannotCheck("it is nested too deeply") from error
        self.module = self._wrapper.module
        self._starts = [0, *(found.end() for found in _NEWLINE.finditer(text))]

    @cached_property
    def _positions(self) -> Mapping[cst.CSTNode, CodeRange]:
        """Where every node stands. This takes longer than all the rest, and a file without findings does not need it."""
        try:
            return self._wrapper.resolve(PositionProvider)
        except RecursionError as error:
            raise CannotCheck("it is nested too deeply") from error

    def span(self, node: cst.CSTNode) -> tuple[int, int]:
        """Where a node stands, as characters of the text: start, end."""
        found = self._positions[node]
        return self.offset(found.start.line, found.start.column), self.offset(found.end.line, found.end.column)

    def offset(self, line: int, column: int) -> int:
        """The character at a line (from 1) and column (from 0)."""
        return self._starts[line - 1] + column

    def where(self, offset: int) -> tuple[int, int]:
        """The line (from 1) and column (from 0) of a character."""
        line = bisect_right(self._starts, offset)
        return line, offset - self._starts[line - 1]

    def code(self, node: cst.CSTNode) -> str:
        """The text of a node, as it was written."""
        start, end = self.span(node)
        return self.text[start:end]

    def line_start(self, offset: int) -> int:
        """Where the line of a character begins."""
        return self._starts[bisect_right(self._starts, offset) - 1]


def guard(text: str) -> None:
    """Refuse what libcst, which is not built for hostile input, could die of.

    Raises:
        CannotCheck: The text is too long, no Python, or nested too deeply.
    """
    if len(text) > limits.LINT_CHARACTERS:
        raise CannotCheck(f"it has {len(text):,} characters; lint reads up to {limits.LINT_CHARACTERS:,}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
    except SyntaxError as error:
        raise CannotCheck(f"line {error.lineno or 1} is no Python 3: {show(error.msg)}") from error
    except (RecursionError, MemoryError) as error:
        raise CannotCheck("it is nested too deeply") from error
    except ValueError as error:
        raise CannotCheck(f"it is no Python: {show(error)}") from error
    depth = _depth(tree)
    if depth > limits.LINT_DEPTH:
        raise CannotCheck(f"it is nested {depth:,} deep; lint reads up to {limits.LINT_DEPTH:,}")


def _depth(tree: ast.AST) -> int:
    level, deep = [tree], 0
    while level:
        level = [child for node in level for child in ast.iter_child_nodes(node)]
        deep += 1
    return deep
