"""Faces of a Diagnosis: the screen for people, and JSON as `schema/why-v1.json` describes it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from adapterfit import __version__, limits
from adapterfit.report._words import VERDICTS, page
from adapterfit.report.text import Line, _labelled, _wrap, paint
from adapterfit.text import show

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adapterfit.records import Diagnosis, Suspicion
    from adapterfit.symptoms import LogError

SCHEMA = "adapterfit/why/v1"
FORMATS = ("text", "json")
_STYLES = {"high": "bold red", "medium": "bold yellow", "low": "bold"}
_CONFIRMED = {"yes": ", confirmed by the files", "no": ", the files say otherwise"}
#: Narrower than this nothing is readable, wider than this no eye finds the next line.
_WIDTHS = (40, 120)


def render(diagnosis: Diagnosis, form: str, *, width: int = 80, colour: bool = False) -> str:
    """The answer in one of `FORMATS`, ending in a newline."""
    if form == "json":
        return json.dumps(document(diagnosis), indent=2, ensure_ascii=True) + "\n"
    lines = list(_screen(diagnosis, min(max(width, _WIDTHS[0]), _WIDTHS[1])))
    return paint(lines) if colour else "".join(f"{line.text}\n" for line in lines)


# ------------------------------------------------------------------------------------------- JSON


def document(diagnosis: Diagnosis) -> dict[str, Any]:
    """The answer as plain JSON values, keys in the schema's order."""
    symptoms, report = diagnosis.symptoms, diagnosis.report
    return {
        "schema": SCHEMA,
        "tool": {"name": "adapterfit", "version": __version__},
        "causes": [_cause(cause) for cause in diagnosis.causes],
        "unread": [_line(text) for text in diagnosis.unread],
        "symptoms": {
            "innermost": _error(symptoms.errors[0]) if symptoms.errors else None,
            "outermost": _error(symptoms.errors[-1]) if symptoms.errors else None,
            "versions": {show(name): show(version) for name, version in symptoms.versions.items()},
            "missing": len(symptoms.missing),
            "unexpected": len(symptoms.unexpected),
            "misshapen": len(symptoms.misshapen),
        },
        "checked": {"verdict": report.verdict, "predicted": report.predicted} if report is not None else None,
    }


def _cause(cause: Suspicion) -> dict[str, Any]:
    return {
        "id": cause.id,
        "confidence": cause.confidence,
        "message": _line(cause.message),
        "evidence": [_line(text) for text in cause.evidence],
        "fix": {"safety": cause.fix.safety, "summary": _line(cause.fix.summary)} if cause.fix is not None else None,
        "apart": _line(cause.apart),
        "confirmed": {"yes": True, "no": False}.get(cause.confirmed),
        "url": page(cause.id),
    }


def _error(error: LogError) -> dict[str, str]:
    return {"kind": show(error.kind), "message": _line(error.message), "raised_by": show(error.library)}


def _line(text: str) -> str:
    return show(text, limits.REPORT_MESSAGE_CHARS)


# ------------------------------------------------------------------------------------------- the screen


def _screen(diagnosis: Diagnosis, width: int) -> Iterator[Line]:
    if not diagnosis.causes:
        yield from _nothing(width)
    elif diagnosis.causes[0].confidence == "low":
        yield from (Line("CANNOT TELL for sure; it may be one of these:", "bold"), Line(""))
    for number, cause in enumerate(diagnosis.causes):
        if number:
            yield Line("")
        yield from _suspicion(cause, width, alone=len(diagnosis.causes) == 1)
    if diagnosis.report is not None:
        verdict = diagnosis.report.verdict
        yield Line("")
        yield from _labelled("files", f"{verdict.replace('-', ' ')}: {VERDICTS.get(verdict, '')}", width, "")
    if diagnosis.unread:
        yield from (Line(""), Line("Not accounted for:"))
    for text in diagnosis.unread:
        yield from _wrap(_line(text), width, "  ", "dim")


def _nothing(width: int) -> Iterator[Line]:
    yield Line("CANNOT TELL: nothing in this text names a cause", "bold")
    yield from _wrap(
        "Paste more of it: the lines above the last one, from the first Traceback on, or the whole list of keys. "
        "With the adapter at hand: adapterfit check ADAPTER --base BASE",
        width,
    )


def _suspicion(cause: Suspicion, width: int, *, alone: bool) -> Iterator[Line]:
    sure = f"{cause.confidence} confidence{_CONFIRMED.get(cause.confirmed, '')}"
    yield from _wrap(f"{show(cause.id)}: {sure}", width, style=_STYLES.get(cause.confidence, ""))
    yield from _wrap(_line(cause.message), width, "  ")
    for number, text in enumerate(cause.evidence):
        yield Line(f"  {'' if number else 'read':<10}{_line(text)}", "dim")  # never wrapped: people search for it
    rows = {
        "fix": _line(cause.fix.summary) if cause.fix is not None else "",
        "look at": _line(cause.apart) if not (alone and cause.confidence == "high") else "",
        "more": f"adapterfit explain {show(cause.id)}",
    }
    for label, value in rows.items():
        if value:
            yield from _labelled(label, value, width)
