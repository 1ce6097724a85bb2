"""Notebooks: their code cells as one Python text, and edits to it written back into the JSON as it was formatted.

Cells run one after the other in one namespace, so they are read as one script. IPython's own lines (`%…`, `!…`, `?`) are
read as `pass`; a cell in another language, or one that is no Python, is left out, and the latter said.
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from adapterfit.errors import BadInput, CannotCheck
from adapterfit.lint.rule import Edit
from adapterfit.read import strictjson

#: Cell magics under which Python stays Python.
_PYTHON_CELLS = frozenset({"time", "timeit", "capture", "prun", "python", "python3", "debug", "adapterfit"})
_MAGIC = re.compile(r"(\s*)(?:[%!?]|\w[\w.]*\?{1,2}\s*$).*")
_MAGIC_VALUE = re.compile(r"(\s*[\w.]+(?:\s*,\s*[\w.]+)*\s*=\s*)[%!].*")
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+', re.DOTALL)


@dataclass(frozen=True)
class Cell:
    """A code cell: its number among all cells (from 1), its source, and where that stands in the JSON.

    `strings` are the spans of the source's strings (one, or one a line); `whole` is the span of all of it.
    """

    number: int
    source: str
    whole: tuple[int, int]
    strings: tuple[tuple[int, int], ...]
    listed: bool


class Notebook:
    """One notebook. `text` is all code, `unread` says which cells were left out and why."""

    def __init__(self, raw: str) -> None:
        """Take a notebook apart.

        Raises:
            CannotCheck: It is no notebook with code in Python.
        """
        self.raw = raw
        self.cells = tuple(_cells(raw))
        self.unread: list[str] = []
        self._starts: list[tuple[int, Cell]] = []
        self._kept: list[frozenset[int]] = []
        parts: list[str] = []
        length = 0
        for cell in self.cells:
            code, own = self._python(cell)
            self._starts.append((length, cell))
            self._kept.append(own)
            parts.append(code if code.endswith("\n") else code + "\n")
            length += len(parts[-1])
        self.text = "".join(parts)

    def _python(self, cell: Cell) -> tuple[str, frozenset[int]]:
        """A cell's code as Python, line for line, and which of its lines stand as they were written."""
        lines = cell.source.split("\n")
        first = next((line for line in lines if line.strip()), "")
        if first.startswith("%%") and first[2:].split(" ")[0].strip() not in _PYTHON_CELLS:
            return "\n" * (len(lines) - 1), frozenset()
        for out in (lines, [_plain(line) for line in lines]):
            if is_python("\n".join(out)):
                return "\n".join(out), frozenset(at for at, (old, new) in enumerate(zip(lines, out)) if old == new)
        self.unread.append(f"cell {cell.number} is no Python that lint can read")
        return "\n" * (len(lines) - 1), frozenset()

    def cell_of(self, offset: int) -> tuple[int, int]:
        """The number of the cell that a character of `text` is in, and the offset at which that cell begins."""
        start, cell = [(start, cell) for start, cell in self._starts if start <= offset][-1]
        return cell.number, start

    def edited(self, edits: Sequence[Edit]) -> str | None:
        """The notebook's JSON with these edits of `text`; None where one of them cannot be carried over."""
        sources: dict[int, list[Edit]] = {}
        for edit in edits:
            at = max(at for at, (start, _) in enumerate(self._starts) if start <= edit.start)
            start, cell = self._starts[at]
            local = Edit(edit.start - start, edit.end - start, edit.text)
            moved = self._to_source(at, local)
            if moved is None:
                return None
            sources.setdefault(at, []).append(moved)
        raw = self.raw
        for at in sorted(sources, reverse=True):
            cell = self._starts[at][1]
            raw = _written(raw, cell, apply(cell.source, sources[at]))
        return raw

    def _to_source(self, at: int, edit: Edit) -> Edit | None:
        """An edit of a cell's code as one of its source; lines that were read as another text are not touched."""
        start, cell = self._starts[at]
        code = self.text[start : self._starts[at + 1][0] if at + 1 < len(self._starts) else len(self.text)]
        first, last = code.count("\n", 0, edit.start), code.count("\n", 0, edit.end)
        column, end = edit.start - (code.rfind("\n", 0, edit.start) + 1), edit.end - (code.rfind("\n", 0, edit.end) + 1)
        lines = cell.source.split("\n")
        if last >= len(lines):  # the newline that was added at the end of the cell
            last, end = len(lines) - 1, len(lines[-1])
        touched = range(first, last + (1 if end else 0))
        if not set(touched) <= self._kept[at]:
            return None
        starts = [0]
        for line in lines:
            starts.append(starts[-1] + len(line) + 1)
        return Edit(starts[first] + column, starts[last] + end, edit.text)


def is_python(text: str) -> bool:
    """Whether a text parses."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def apply(text: str, edits: Sequence[Edit]) -> str:
    """A text with edits that do not overlap."""
    for edit in sorted(edits, key=lambda edit: (edit.start, edit.end), reverse=True):
        text = text[: edit.start] + edit.text + text[edit.end :]
    return text


def _plain(line: str) -> str:
    value = _MAGIC_VALUE.fullmatch(line)
    if value is not None:
        return f"{value.group(1)}None"
    found = _MAGIC.fullmatch(line)
    return f"{found.group(1)}pass" if found is not None else line


def _cells(raw: str) -> Iterator[Cell]:
    found = _json(raw)
    language = _get(_get(found, "metadata"), "language_info", "name") or "python"
    if not isinstance(_get(found, "cells"), list):
        raise CannotCheck("it is no notebook of format 4: it has no list of cells")
    if language not in {"python", "ipython"}:
        raise CannotCheck("its language is not Python")
    spans = _spans(raw)
    for at, cell in enumerate(found["cells"]):
        source = _get(cell, "source")
        if _get(cell, "cell_type") != "code" or at not in spans:
            continue
        if isinstance(source, str):
            yield Cell(at + 1, source, spans[at][0], spans[at][1], listed=False)
        elif isinstance(source, list) and all(isinstance(line, str) for line in source):
            yield Cell(at + 1, "".join(source), spans[at][0], spans[at][1], listed=True)


def _json(raw: str) -> Any:
    try:
        return strictjson.loads(raw.encode("utf-8", "surrogatepass"), what="the notebook")
    except BadInput as bad:
        raise CannotCheck(bad.flaw.message) from bad


def _get(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _spans(raw: str) -> dict[int, tuple[tuple[int, int], tuple[tuple[int, int], ...]]]:
    """For each cell: the span of its `source` in the JSON, and the spans of the strings in it.

    The text is known to be JSON. `path` holds, for each open bracket, the key or index that is being read.
    """
    out: dict[int, tuple[tuple[int, int], tuple[tuple[int, int], ...]]] = {}
    path: list[Any] = []
    strings: list[tuple[int, int]] = []
    start = 0
    key = ""
    for found in _TOKEN.finditer(raw):
        part = found.group()
        at_source = len(path) == 3 and path[0] == "cells" and path[2] == "source"
        in_source = len(path) == 4 and path[0] == "cells" and path[2] == "source"
        if part == ":":
            path[-1] = key
        elif part in "{[":
            if at_source:
                start, strings = found.start(), []
            path.append(0 if part == "[" else "")
        elif part in "}]":
            path.pop()
            if in_source:
                out[path[1]] = (start, found.end()), tuple(strings)
        elif part == ",":
            path[-1] = path[-1] + 1 if isinstance(path[-1], int) else ""
        elif part[0] == '"':
            if path and path[-1] == "":
                key = json.loads(part)
            elif at_source:
                out[path[1]] = found.span(), (found.span(),)
            elif in_source:
                strings.append(found.span())
    return out


def _written(raw: str, cell: Cell, source: str) -> str:
    """The JSON with another source for a cell. Strings that stay the same keep their spelling."""
    start, end = cell.whole
    if not cell.listed:
        return raw[:start] + _string(raw, source) + raw[end:]
    new = source.splitlines(keepends=True) if "\r" not in source else re.findall(r"[^\n]*\n|[^\n]+", source)
    old = [(json.loads(raw[a:b]), raw[a:b]) for a, b in cell.strings]
    spelled = dict(old)
    items = [spelled.get(line) or _string(raw, line) for line in new]
    between = raw[cell.strings[0][1] : cell.strings[1][0]] if len(cell.strings) > 1 else _between(raw, cell)
    before, after = raw[start : cell.strings[0][0]], raw[cell.strings[-1][1] : end]
    return raw[:start] + before + between.join(items) + after + raw[end:]


def _between(raw: str, cell: Cell) -> str:
    """What stands between two lines, where there is only one line to go by."""
    return "," + raw[cell.whole[0] + 1 : cell.strings[0][0]]


def _string(raw: str, text: str) -> str:
    return json.dumps(text, ensure_ascii=raw.isascii())
