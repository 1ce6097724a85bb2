"""`adapterfit lint`: user code that loads, wraps or saves adapters wrongly."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from adapterfit import discover
from adapterfit.cli import _page, _screen
from adapterfit.errors import CannotCheck
from adapterfit.text import quote, show

if TYPE_CHECKING:
    from adapterfit.lint.engine import Result
    from adapterfit.lint.rule import Entry


@click.command(short_help="Scripts and notebooks that load adapters wrongly.")
@click.argument("paths", nargs=-1, metavar="PATH...")
@click.option("--fix", is_flag=True, help="Mend what can be mended safely, in place.")
@click.option("--unsafe-fixes", "unsafe", is_flag=True, help="With --fix or --diff: the other fixes too. Look at them.")
@click.option("--diff", is_flag=True, help="Show what --fix would change, and change nothing.")
@click.option("--select", "selected", multiple=True, metavar="ID", help="Run this rule only. May be repeated.")
@click.option("--ignore", "ignored", multiple=True, metavar="ID", help="Leave this rule out. May be repeated.")
@click.option("--explain", metavar="ID", help="The page of a rule.")
@click.option("--list", "listing", is_flag=True, help="All rules, with what they stand for.")
@click.option(
    "--format", "form", type=click.Choice(discover.names("adapterfit.lint.faces")), default="text", show_default=True
)
@click.option("--output", metavar="FILE", help="Write the report to FILE instead of the screen.")
@click.option("--color", "color", type=_screen.COLOURS, default="auto", show_default=True)
def command(
    *,
    paths: tuple[str, ...],
    fix: bool,
    unsafe: bool,
    diff: bool,
    selected: tuple[str, ...],
    ignored: tuple[str, ...],
    explain: str | None,
    listing: bool,
    form: str,
    output: str | None,
    color: str,
) -> int:
    """Scripts and notebooks that load, wrap or save adapters wrongly.

    PATH is a .py or .ipynb file, a folder, of which all scripts and notebooks are read, or - for a script on the standard input.
    None is ever run.
    A comment `# noqa: adapterfit[ID]` on its line silences a finding.

    Exit code: 0 nothing found (or all of it mended), 1 findings, 2 could not check.
    """
    _needs_libcst()
    if listing or explain:
        _screen.emit("".join(f"{line}\n" for line in (_all() if listing else _explained(str(explain)))))
        return 0
    if not paths:
        raise click.UsageError("Give the scripts, notebooks or folders to lint.")
    if unsafe and not (fix or diff):
        raise click.UsageError("--unsafe-fixes goes with --fix or --diff.")
    if fix and not diff and "-" in paths:
        raise click.UsageError("--fix cannot change the standard input; --diff shows what it would change.")
    safeties = {"safe", *(("unsafe",) if unsafe else ())} if fix or diff else set()
    chosen = _chosen(selected, ignored)
    results = [_linted(path, chosen, safeties, write=fix and not diff) for path in _found(paths)]
    if diff:
        to_screen = output is None and sys.stdout.isatty()
        _deliver("".join(_difference(result, to_screen=to_screen) for result in results), output, paths)
    else:
        _deliver(_rendered(results, form, color, output), output, paths)
    return _exit_code(results, diff=diff)


def _needs_libcst() -> None:
    import importlib.util

    if importlib.util.find_spec("libcst") is None:
        raise CannotCheck("lint reads Python with libcst, which is not installed: pip install adapterfit[lint]")


def _chosen(selected: Sequence[str], ignored: Sequence[str]) -> set[str]:
    from adapterfit.lint.rule import all_rules

    known = all_rules()
    for asked in (*selected, *ignored):
        if asked not in known:
            raise click.UsageError(f"No rule is called {quote(asked)}. adapterfit lint --list shows all of them.")
    return (set(selected) or set(known)) - set(ignored)


def _found(paths: Sequence[str]) -> list[str]:
    from adapterfit.lint import files

    read_in = ["-"] if "-" in paths else []
    return read_in + [str(path) for path in files.find([path for path in paths if path != "-"])]


def _linted(path: str, chosen: set[str], safeties: set[str], *, write: bool) -> Result:
    """One file's result. What keeps it from being checked is part of it: one bad file leaves the others checked."""
    from pathlib import Path

    from adapterfit.lint import engine, files

    try:
        source = files.given(sys.stdin.buffer.read()) if path == "-" else files.read(Path(path))
        result, data = engine.lint(source, chosen, safeties)
        if write and data != source.data:
            files.replace(source, data)
    except CannotCheck as error:
        return engine.Result(path, unread=(str(error),))
    return result


def _rendered(results: Sequence[Result], form: str, color: str, output: str | None) -> str:
    coloured = _screen.colour(color) if output is None else color == "always"
    shown = [result for result in results if result.findings or result.unread or result.fixed]
    face = discover.member("adapterfit.lint.faces", form)
    text: str = getattr(face, "render")(shown, colour=coloured)  # noqa: B009 - a module of an axis
    return text


def _difference(result: Result, *, to_screen: bool) -> str:
    """What mending changes, as `diff -u` writes it: byte for byte for `patch`, harmless on a screen."""
    import difflib

    path = show(result.path)
    before, after = result.before.splitlines(keepends=True), result.after.splitlines(keepends=True)
    lines = [
        line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"
        for line in difflib.unified_diff(before, after, path, path)
    ]
    return "".join(f"{show(line.rstrip().expandtabs(), None)}\n" for line in lines) if to_screen else "".join(lines)


def _exit_code(results: Sequence[Result], *, diff: bool) -> int:
    if any(result.findings or (diff and result.fixed) for result in results):
        return 1
    return 2 if any(result.unread for result in results) else 0


def _deliver(text: str, output: str | None, checked: Sequence[str]) -> None:
    if output is None or output == "-":
        _screen.emit(text)
        return
    from adapterfit.report import _file

    _file.write(text, output, checked)


# ------------------------------------------------------------------------------------------------ pages


def _all() -> Iterator[str]:
    from adapterfit.lint.rule import all_rules

    for entry in all_rules().values():
        title = entry.page.strip().partition("\n")[0]
        yield from _wrapped(f"{entry.id:<30}{title} {_fixes(entry)}", " " * 30)


def _explained(asked: str) -> Iterator[str]:
    from adapterfit.lint.rule import all_rules

    known = all_rules()
    if asked not in known:
        import difflib

        near = difflib.get_close_matches(asked, known, n=3)
        hint = f"Did you mean {' or '.join(near)}?" if near else "adapterfit lint --list shows all of them."
        raise click.UsageError(f"No rule is called {quote(asked)}. {hint}")
    return _lines(known[asked])


def _lines(entry: Entry) -> Iterator[str]:
    page = _page.parse(entry)  # type: ignore[arg-type]  # a rule's page has the headings of a cause's
    yield entry.id
    yield from _wrapped(page.title)
    yield f"{entry.rule.severity} · {_fixes(entry)}"
    for heading, paragraphs in page.sections.items():
        yield from ("", heading)
        for paragraph in paragraphs:
            yield from _wrapped(f"  {paragraph}", "  ")
    first = next((snippet for snippet in entry.module.FIRES if snippet.fixed), entry.module.FIRES[0])
    for heading, code in (("Broken", first.code), ("Fixed", first.fixed)):
        if code:
            yield from ("", heading, *(f"  {line}".rstrip() for line in code.strip().splitlines()))
    if entry.rule.cause:
        yield from ("", f"When the harm is done: adapterfit explain {entry.rule.cause}")


def _fixes(entry: Entry) -> str:
    return f"({' or '.join(entry.fixes)} fix)" if entry.fixes else "(no fix)"


def _wrapped(text: str, hang: str = "") -> list[str]:
    width = min(_screen.width(), 100)
    return textwrap.wrap(text, width, subsequent_indent=hang, break_long_words=False, break_on_hyphens=False)
