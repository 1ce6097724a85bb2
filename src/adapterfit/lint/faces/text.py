"""`--format text`: one line a finding, as compilers write them, and a last line that counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from adapterfit.lint.engine import Finding, Result
from adapterfit.lint.rule import SAFE
from adapterfit.text import show


def render(results: Sequence[Result], *, colour: bool = False) -> str:
    """`path:line:column: id message`; in a notebook `path:cell 3:line:column`."""
    from adapterfit.report.text import Line, paint

    lines = [Line(text, style) for text, style in _lines(results)]
    return paint(lines) if colour else "".join(f"{line.text}\n" for line in lines)


def _lines(results: Sequence[Result]) -> Iterator[tuple[str, str]]:
    for result in results:
        for found in result.findings:
            style = "red" if found.severity == "error" else "yellow"
            yield f"{where(result, found)}: {found.rule} {show(found.message, 1_000)}{_mark(found)}", style
        for reason in result.unread:
            yield f"{show(result.path)}: not checked: {show(reason, 1_000)}", "yellow"
    yield from ((line, "bold") for line in _sum(results))


def where(result: Result, found: Finding) -> str:
    """A finding's place."""
    cell = f":cell {found.cell}" if found.cell is not None else ""
    return f"{show(result.path)}{cell}:{found.line}:{found.column}"


def _mark(found: Finding) -> str:
    if found.fix is None:
        return ""
    return " [*]" if found.fix.safety == SAFE else " [unsafe fix]"


def _sum(results: Sequence[Result]) -> Iterator[str]:
    left = [found for result in results for found in result.findings]
    fixed = sum(sum(result.fixed.values()) for result in results)
    files = sum(1 for result in results if result.findings)
    if fixed:
        yield f"{fixed} fixed."
    if not left:
        unread = sum(1 for result in results if result.unread)
        yield (
            "Nothing found."
            if not unread
            else f"Nothing found in what was checked; {unread} {_files(unread)} not checked whole."
        )
        return
    yield f"{len(left)} {'finding' if len(left) == 1 else 'findings'} in {files} {_files(files)}."
    safe = sum(1 for found in left if found.fix and found.fix.safety == SAFE)
    unsafe = sum(1 for found in left if found.fix and found.fix.safety != SAFE)
    if safe or unsafe:
        more = f" ({unsafe} more with --unsafe-fixes)" if unsafe else ""
        yield f"[*] {safe} can be mended with --fix{more}. A rule's page: adapterfit lint --explain ID"
    else:
        yield "A rule's page: adapterfit lint --explain ID"


def _files(count: int) -> str:
    return "file" if count == 1 else "files"
