"""`adapterfit explain`: the page of a cause or of a rule of lint."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import click

from adapterfit.cli import _page, _screen
from adapterfit.text import quote

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adapterfit.report.text import Line


@click.command(short_help="The page of a cause, or of a rule of lint.")
@click.argument("cause", metavar="[ID]", required=False)
@click.option("--list", "listing", is_flag=True, help="All ids, with what they stand for; so does no ID at all.")
@click.option("--color", "color", type=_screen.COLOURS, default="auto", show_default=True)
def command(cause: str | None, listing: bool, color: str) -> int:
    """The page of a cause or a rule: what it means, why it happens, how to mend it, code that shows it.

    ID is a cause's id as `adapterfit check` and `adapterfit why` print it, such as wrapper-prefix, or a rule's as
    `adapterfit lint` does. Without one, all of them are listed.
    """
    from adapterfit.report.text import paint

    width, pages = min(_screen.width(), 100), _page.pages()
    lines = list(_all(pages, width) if cause is None or listing else _lines(_known(cause, pages), width))
    _screen.emit(paint(lines) if _screen.colour(color) else "".join(f"{line.text}\n" for line in lines))
    return 0


def _known(asked: str, pages: dict[str, _page.Page]) -> _page.Page:
    """The page of that id, of the cause that knows it as a code, or of the rule."""
    wanted = asked.strip().lower().replace("_", "-")
    codes = {code: page for page in pages.values() for code in page.cause.codes}
    known = {**codes, **pages}
    if wanted in known:
        return known[wanted]
    import difflib

    known = {**_page.rules(), **known}
    if wanted in known:
        return known[wanted]
    close = difflib.get_close_matches(wanted, known, n=3)
    near = list(dict.fromkeys((*close, *(name for name in sorted(known) if wanted and wanted in name))))[:4]
    hint = f"Did you mean {' or '.join(near)}?" if near else "adapterfit explain shows all of them."
    raise click.UsageError(f"No cause or rule is called {quote(asked)}. {hint}")


def _all(pages: dict[str, _page.Page], width: int) -> Iterator[Line]:
    from adapterfit.report.text import Line

    everything = [*pages.values(), *_page.rules().values()]
    families = sorted({page.family for page in pages.values()})
    for family in (*families, _page.LINT):
        yield Line("lint: rules for scripts and notebooks" if family == _page.LINT else family, "bold")
        for page in everything:
            if page.family == family:
                yield from _wrapped(f"  {page.id:<33} {page.title}", width, " " * 36)


def _lines(page: _page.Page, width: int) -> Iterator[Line]:
    from adapterfit.report.text import Line

    yield Line(page.id, "bold")
    yield from _wrapped(page.title, width)
    yield Line(page.head, "dim")
    if page.cause.messages:
        yield from (Line(""), Line("What you see", "bold"))
        yield from (Line(f"  {message}") for message in page.cause.messages)
    for heading, paragraphs in page.sections.items():
        yield from (Line(""), Line(heading, "bold"))
        for paragraph in paragraphs:
            yield from _wrapped(f"  {paragraph}", width, "  ")
    for heading, code in (("Setup", page.code.setup), ("Broken", page.code.broken), ("Fixed", page.code.fixed)):
        if code:
            yield from (Line(""), Line(heading, "bold"))
            yield from (Line(f"  {line}".rstrip()) for line in code.splitlines())
    yield from _verification(page, width)
    yield from _notes(page, width)
    if page.see:
        yield from (Line(""), Line(f"When the harm is done: adapterfit explain {page.see}"))
    elif page.family != _page.LINT:
        finding = [rule.id for rule in _page.rules().values() if page.id in (rule.see, rule.id)]
        if finding:
            yield Line("")
            yield from _wrapped(f"Rules of adapterfit lint that find it in code: {', '.join(finding)}", width, "  ")


def _verification(page: _page.Page, width: int) -> Iterator[Line]:
    """Whether the code was run, and what it did; a rule's code is run by the tests."""
    from adapterfit.cli import _verified
    from adapterfit.report.text import Line

    if page.family != _page.LINT and (page.code.broken or page.code.not_run):
        yield Line("")
        for text in _verified.lines(page):
            yield from (Line(line.text, "dim") for line in _wrapped(text, width, "  "))
        if page.code.runs:
            yield Line("What the code starts from: docs/causes/prelude.md", "dim")


def _notes(page: _page.Page, width: int) -> Iterator[Line]:
    """What users say about it."""
    from adapterfit.cli import _notes
    from adapterfit.report.text import Line

    for note in _notes.notes().get(page.id, ()):
        yield from (Line(""), Line("Note", "bold"))
        yield from _wrapped(f"  {_notes.head(note)}", width, "  ")
        for block in note.blocks:
            if isinstance(block, str):
                yield from _wrapped(f"  {block}", width, "  ")
            else:
                yield from (Line(f"    {line}".rstrip()) for line in block)


def _wrapped(text: str, width: int, hang: str = "") -> Iterator[Line]:
    from adapterfit.report.text import Line

    wrapper = textwrap.TextWrapper(width, "", hang, break_long_words=False, break_on_hyphens=False)
    return (Line(line) for line in wrapper.wrap(text))
