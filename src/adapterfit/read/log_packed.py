"""A text that lies in JSON: a notebook's file, or a log with one object for each line, unpacked to the lines it holds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

#: Fields of a log's object that hold its line, the first that is there.
_FIELDS = ("log", "message", "msg", "text", "line", "event", "exc_info", "exception", "error", "stack")
#: Depth of values that are looked at.
_DEPTH = 8
#: Parts of a notebook that are its author's code and words, and what says the error a second time.
_NOT_TOLD = frozenset(
    {"source", "metadata", "ename", "evalue", "output_type", "cell_type", "name", "image/png", "text/html"}
)


def unpacked(text: str) -> str:
    """The lines within, or the text itself where it is no JSON."""
    start = text.lstrip()[:1]
    if start != "{":
        return text
    whole = _object(text)
    if whole is not None:
        return _told(whole) or text
    return "\n".join(_lines(text.split("\n")))


def _object(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _lines(lines: Iterable[str]) -> Iterator[str]:
    """Each line, of an object that has one the line that it holds."""
    for line in lines:
        row = _object(line) if line.lstrip()[:1] == "{" else None
        told = [str(row[field]).rstrip("\n") for field in _FIELDS if isinstance(row.get(field), str)] if row else []
        yield "\n".join(told) if told else line


def _told(value: dict[str, Any]) -> str:
    """All that a notebook's cells gave out, or the fields of one object of a log."""
    if isinstance(value.get("cells"), list):
        return "\n".join(_strings(value["cells"], _DEPTH))
    return "\n".join(_strings(value, _DEPTH))


def _strings(value: Any, depth: int) -> Iterator[str]:
    if isinstance(value, str):
        yield value.rstrip("\n")
    elif depth and isinstance(value, list):
        # the lines of one output: those of a stream end with their line end, those of a traceback do not
        for one in value:
            yield from _strings(one, depth - 1)
    elif depth and isinstance(value, dict):
        for name, one in value.items():
            if name not in _NOT_TOLD or ("traceback" not in value and name == "evalue"):
                yield from _strings(one, depth - 1)
