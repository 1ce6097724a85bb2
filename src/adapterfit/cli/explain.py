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
    width = min(_screen.width(), 100)
    lines = list(_all(width) if cause is None or listing else _lines(_page.page(_known(cause)), width))
    _screen.emit(paint(lines) if _screen.colour(color) else "".join(f"{line.text}\n" for line in lines))
    return 0


def _known(asked: str) -> str:
    """The cause of that id, or the one that knows it as a code."""
    known = _page.families()
    wanted = asked.strip().lower().replace("_", "-")
    if wanted in known:
        return wanted
    by_code = {code: cause for cause in known for code in _page.page(cause).cause.codes}
    if wanted in by_code:
        return by_code[wanted]
    import difflib

    near = difflib.get_close_matches(wanted, [*known, *by_code], n=3)
    hint = f"Did you mean {' or '.join(near)}?" if near else "adapterfit explain --list shows all of them."
    raise click.UsageError(f"No cause is called {quote(asked)}. {hint}")


def _all(width: int) -> Iterator[Line]:
    from adapterfit.report.text import Line

    families = _page.families()
    for family in sorted(set(families.values())):
        yield Line(family, "bold")
        for cause in sorted(cause for cause in families if families[cause] == family):
            yield from _wrapped(f"  {cause:<32}{_page.page(cause).title}", width, " " * 34)


def _lines(page: _page.Page, width: int) -> Iterator[Line]:
    from adapterfit.report.text import Line

    cause = page.cause
    yield Line(page.id, "bold")
    yield from _wrapped(page.title, width)
    yield Line(f"{cause.severity} · {page.family} · {cause.level} · {cause.minutes} minutes · {cause.versions}", "dim")
    if cause.messages:
        yield from (Line(""), Line("What you see", "bold"))
        yield from (Line(f"  {message}") for message in cause.messages)
    for heading, text in page.sections.items():
        yield from (Line(""), Line(heading, "bold"))
        for paragraph in text.split("\n\n"):
            yield from _wrapped(f"  {' '.join(paragraph.split())}", width, "  ")
    for heading, code in (("Broken", cause.broken), ("Fixed", cause.fixed)):
        if code:
            yield from (Line(""), Line(heading, "bold"))
            yield from (Line(f"  {line}".rstrip()) for line in textwrap.dedent(code).strip().splitlines())


def _wrapped(text: str, width: int, hang: str = "") -> Iterator[Line]:
    from adapterfit.report.text import Line

    wrapper = textwrap.TextWrapper(width, "", hang, break_long_words=False, break_on_hyphens=False)
    return (Line(line) for line in wrapper.wrap(text))
