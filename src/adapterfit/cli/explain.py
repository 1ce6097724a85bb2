"""`adapterfit explain`: the page of a cause."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import click

from adapterfit.cli import _page, _screen
from adapterfit.text import quote

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adapterfit.report.text import Line


@click.command(short_help="The page of a cause.")
@click.argument("cause", metavar="ID", required=False)
@click.option("--list", "listing", is_flag=True, help="All ids, with what they stand for.")
@click.option("--color", "color", type=_screen.COLOURS, default="auto", show_default=True)
def command(cause: str | None, listing: bool, color: str) -> int:
    """The page of a cause: what it means, why it happens, how to mend it.

    ID is a cause's id as `adapterfit check` prints it, such as wrapper-prefix.
    """
    from adapterfit.report.text import paint

    if cause is None and not listing:
        raise click.UsageError("Give the id of a cause, or --list for all of them.")
    width, pages = min(_screen.width(), 100), _page.pages()
    lines = list(_all(pages, width) if cause is None or listing else _lines(_known(cause, pages), width))
    _screen.emit(paint(lines) if _screen.colour(color) else "".join(f"{line.text}\n" for line in lines))
    return 0


def _known(asked: str, pages: dict[str, _page.Page]) -> _page.Page:
    """The page of that id, or of the cause that knows it as a code."""
    wanted = asked.strip().lower().replace("_", "-")
    codes = {code: page for page in pages.values() for code in page.cause.codes}
    known = {**codes, **pages}
    if wanted in known:
        return known[wanted]
    import difflib

    near = difflib.get_close_matches(wanted, known, n=3)
    hint = f"Did you mean {' or '.join(near)}?" if near else "adapterfit explain --list shows all of them."
    raise click.UsageError(f"No cause is called {quote(asked)}. {hint}")


def _all(pages: dict[str, _page.Page], width: int) -> Iterator[Line]:
    from adapterfit.report.text import Line

    for family in sorted({page.family for page in pages.values()}):
        yield Line(family, "bold")
        for page in pages.values():
            if page.family == family:
                yield from _wrapped(f"  {page.id:<32}{page.title}", width, " " * 34)


def _lines(page: _page.Page, width: int) -> Iterator[Line]:
    from adapterfit.report.text import Line

    cause = page.cause
    yield Line(page.id, "bold")
    yield from _wrapped(page.title, width)
    yield Line(f"{cause.severity} · {page.family} · {cause.level} · {cause.minutes} minutes · {cause.versions}", "dim")
    if cause.messages:
        yield from (Line(""), Line("What you see", "bold"))
        yield from (Line(f"  {message}") for message in cause.messages)
    for heading, paragraphs in page.sections.items():
        yield from (Line(""), Line(heading, "bold"))
        for paragraph in paragraphs:
            yield from _wrapped(f"  {paragraph}", width, "  ")
    for heading, code in (("Broken", cause.broken), ("Fixed", cause.fixed)):
        if code:
            yield from (Line(""), Line(heading, "bold"))
            yield from (Line(f"  {line}".rstrip()) for line in textwrap.dedent(code).strip().splitlines())


def _wrapped(text: str, width: int, hang: str = "") -> Iterator[Line]:
    from adapterfit.report.text import Line

    wrapper = textwrap.TextWrapper(width, "", hang, break_long_words=False, break_on_hyphens=False)
    return (Line(line) for line in wrapper.wrap(text))
