"""`--format markdown`: a summary for a pull request or a job's page."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from adapterfit.report._words import PREDICTIONS, VERDICTS
from adapterfit.report.json import document

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from adapterfit.records import Report

#: Signs that Markdown or the HTML inside it would read; a mention (@), a number (#) and a link are names here.
_SIGNS = re.compile(r"([\\`*_{}\[\]<>()#+\-.!|~@&:=$])")


def render(report: Report, *, width: int = 80, colour: bool = False, quiet: bool = False) -> str:  # noqa: ARG001 - a format's signature
    """The verdict as a heading, the findings and the engines as tables."""
    found = document(report)
    lines = list(_head(found))
    if not quiet:
        lines += [*_findings(found), *_engines(report), *_gaps(found)]
    return "\n".join(lines) + "\n"


def _head(found: dict[str, Any]) -> Iterator[str]:
    who, base = found["consumer"], found["base"]
    yield f"## {_plain(found['verdict'].replace('-', ' ').capitalize())}: {_plain(VERDICTS[found['verdict']])}"
    yield ""
    yield from _table(("", ""), [
        ("adapter", found["adapter"]["label"]),
        ("base", base["label"] if base is not None else "none given"),
        ("with", f"peft {who['peft']}, transformers {who['transformers']}, by {who['loader']}"),
        ("loader", PREDICTIONS[found["predicted"]]),
        *([("raises", found["raised"].split("\n", 1)[0])] if found["raised"] else []),
        ("next", found["next_step"]),
    ])  # fmt: skip


def _findings(found: dict[str, Any]) -> Iterator[str]:
    if found["findings"]:
        yield from ("", "### Findings", "")
        yield from _table(
            ("finding", "severity", "by itself", "what", "fix"),
            [
                (f["id"], f["severity"], f["predicted"], f["message"], f["fix"]["summary"] if f["fix"] else "")
                for f in found["findings"]
            ],
        )


def _engines(report: Report) -> Iterator[str]:
    if report.consumers:
        from adapterfit.report import _consumers

        yield from ("", "### Engines", "")
        yield from _table(_consumers.HEAD, [row[: len(_consumers.HEAD)] for row in _consumers.rows(report)])


def _gaps(found: dict[str, Any]) -> Iterator[str]:
    if found["not_checked"]:
        yield from ("", "### Not checked", "")
        yield from (f"- {_plain(gap['what'])}: {_plain(gap['why'])}" for gap in found["not_checked"])


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(map(_plain, head))} |"
    yield f"| {' | '.join('---' for _ in head)} |"
    yield from (f"| {' | '.join(map(_plain, row))} |" for row in rows)


def _plain(text: str) -> str:
    """Text that is text only: one line, every sign escaped."""
    return _SIGNS.sub(r"\\\1", " ".join(text.split()))
