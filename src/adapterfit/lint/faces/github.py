"""`--format github`: workflow commands, which GitHub shows beside the lines of a pull request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from adapterfit.lint.engine import Result
from adapterfit.text import show


def render(results: Sequence[Result], *, colour: bool = False) -> str:  # noqa: ARG001 - a face's signature
    """One command a finding; what was not checked is a notice."""
    return "".join(f"{line}\n" for line in _lines(results))


def _lines(results: Sequence[Result]) -> Iterator[str]:
    for result in results:
        path = _property(show(result.path, None))
        for found in result.findings:
            cell = f" (cell {found.cell}, line {found.line})" if found.cell is not None else ""
            place = (  # lines of a notebook are those of a cell, not of its file
                f"file={path},title=adapterfit lint {found.rule}"
                if found.cell is not None
                else f"file={path},line={found.line},col={found.column},endLine={found.end_line},"
                f"endColumn={found.end_column},title=adapterfit lint {found.rule}"
            )
            yield f"::{found.severity} {place}::{_message(show(found.message, 1_000) + cell)}"
        for why in result.unread:
            yield f"::notice file={path},title=adapterfit lint::{_message('not checked: ' + show(why, 1_000))}"


def _message(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _message(text).replace(":", "%3A").replace(",", "%2C")
