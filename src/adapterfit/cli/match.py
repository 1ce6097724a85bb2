"""`adapterfit match`: which of these bases does the adapter fit?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from adapterfit.cli import _screen

if TYPE_CHECKING:
    from adapterfit.matching import Candidate, Matches

_WORDS = {
    "fits": "fits",
    "fits-after-fix": "after a fix",
    "does-not-fit": "no",
    "cannot-tell": "cannot tell",
}


@click.command(short_help="Which of these bases does it fit?")
@click.argument("adapter")
@click.option("--among", required=True, metavar="DIR", help="The folder that holds the bases, at any depth.")
@click.option("--for", "consumer", metavar="CONSUMER", help="Who will load it: peft==0.21.2,transformers==5.23.0.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--quiet", is_flag=True, help="Text: the folders that it fits only.")
def command(*, adapter: str, among: str, consumer: str | None, form: str, quiet: bool) -> int:
    """Which of these bases does the adapter fit?

    Every folder under DIR that holds a base model is checked, from its headers or its config.json; links are not
    followed. The best fit comes first.

    Exit code: 0 it fits one as it is, 1 it fits none, 2 there was no base, or none could be decided.
    """
    from adapterfit.matching import match

    found = match(adapter, among, consumer)
    if form == "json":
        import json

        _screen.emit(json.dumps(_document(adapter, found), indent=1) + "\n")
    else:
        _screen.emit("".join(f"{line}\n" for line in _lines(found, quiet=quiet)))
    return _exit_code(found)


def _exit_code(found: Matches) -> int:
    verdicts = {one.report.verdict if one.report is not None else "cannot-tell" for one in found.candidates}
    if "fits" in verdicts:
        return 0
    return 1 if verdicts - {"cannot-tell"} else 2


def _lines(found: Matches, *, quiet: bool) -> list[str]:
    from adapterfit.text import show

    if quiet:
        return [show(one.folder, 500) for one in found.candidates if one.report and one.report.verdict == "fits"]
    if not found.candidates:
        return [
            "No base was found: a folder with config.json or weights of its own, and no adapter's.",
            *_passed(found),
        ]
    fitting = sum(one.report is not None and one.report.verdict == "fits" for one in found.candidates)
    lines = [f"Fits {fitting} of {len(found.candidates)} base{'s' if len(found.candidates) != 1 else ''}", ""]
    for one in found.candidates:
        lines += [f"  {_word(one):<12} {show(one.folder, 500)}", f"  {'':<12}   {_why(one)}"]
    if fitting > 1:
        lines += ["", "Names and shapes cannot tell these apart: adapterfit stamp records which one an adapter is for"]
    return [*lines, *_passed(found)]


def _word(one: Candidate) -> str:
    return _WORDS[one.report.verdict] if one.report is not None else "unread"


def _why(one: Candidate) -> str:
    """What decided it, in one line."""
    from adapterfit.text import show

    report = one.report
    if report is None:
        return show(one.cannot, 300)
    if report.verdict == "cannot-tell":
        return show(next((each.why for each in report.not_checked), ""), 300)
    counts = report.counts
    told = [finding.id for finding in report.findings if finding.severity != "note"][:4]
    landed = f"{counts.matched} land, {counts.missing} missing, {counts.extra} extra, {counts.misshapen} misshapen"
    return f"{landed}{'; ' + ', '.join(told) if told else ''}"


def _passed(found: Matches) -> list[str]:
    from adapterfit.text import shorten

    return ["", f"Not looked into: {shorten(found.passed, 5)}"] if found.passed else []


def _document(adapter: str, found: Matches) -> dict[str, Any]:
    from adapterfit.text import show

    return {
        "schema": "adapterfit/match/v1",
        "adapter": show(adapter, 500),
        "bases": [_entry(one) for one in found.candidates],
        "not_looked_into": [show(name, 500) for name in found.passed],
    }


def _entry(one: Candidate) -> dict[str, Any]:
    from adapterfit.text import show

    report = one.report
    return {
        "base": show(one.folder, 500),
        "verdict": report.verdict if report is not None else "cannot-tell",
        "predicted": report.predicted if report is not None else "cannot-tell",
        "counts": dict(zip(("matched", "missing", "extra", "misshapen"), _counts(one))),
        "findings": [finding.id for finding in report.findings] if report is not None else [],
        "why": _why(one),
    }


def _counts(one: Candidate) -> tuple[int, int, int, int]:
    counts = one.report.counts if one.report is not None else None
    return (counts.matched, counts.missing, counts.extra, counts.misshapen) if counts is not None else (0, 0, 0, 0)
