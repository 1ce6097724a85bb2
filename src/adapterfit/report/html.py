"""`--format html`: one page by itself, without scripts, links to elsewhere or anything that is fetched."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adapterfit.report._words import PREDICTIONS, VERDICTS
from adapterfit.report.json import document

if TYPE_CHECKING:
    from collections.abc import Sequence
    from xml.etree.ElementTree import Element

    from adapterfit.records import Report

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_STYLE = (
    "body{font:15px/1.5 sans-serif;margin:2em auto;max-width:60em;padding:0 1em}"
    "table{border-collapse:collapse;width:100%}td,th{border-bottom:1px solid #ccc;padding:.3em .6em;text-align:left;"
    "vertical-align:top;overflow-wrap:anywhere}h1{font-size:1.4em}.error,.raises{color:#b00}.warning{color:#850}"
)


def render(report: Report, *, width: int = 80, colour: bool = False, quiet: bool = False) -> str:  # noqa: ARG001 - a format's signature
    """The page: the verdict, and tables of findings, engines and what was not checked."""
    from xml.etree.ElementTree import Element, SubElement, tostring

    found = document(report)
    root = Element("html", lang="en")
    head, body = SubElement(root, "head"), SubElement(root, "body")
    SubElement(head, "meta", charset="utf-8")
    SubElement(head, "meta", {"http-equiv": "Content-Security-Policy", "content": _POLICY})
    SubElement(head, "title").text = f"adapterfit: {found['adapter']['label']}"
    SubElement(head, "style").text = _STYLE
    _verdict(body, found)
    if not quiet:
        _findings(body, found)
        _engines(body, report)
        _section(body, "Not checked", ("what", "why"), [(gap["what"], gap["why"]) for gap in found["not_checked"]])
    return f"<!DOCTYPE html>\n{tostring(root, encoding='unicode', method='html')}\n"


def _verdict(body: Element, found: dict[str, Any]) -> None:
    from xml.etree.ElementTree import SubElement

    who, base = found["consumer"], found["base"]
    said = f"{found['verdict'].replace('-', ' ').capitalize()}: {VERDICTS[found['verdict']]}"
    SubElement(body, "h1").text = said
    rows = [
        ("adapter", found["adapter"]["label"]),
        ("base", base["label"] if base is not None else "none given"),
        ("with", f"peft {who['peft']}, transformers {who['transformers']}, by {who['loader']}"),
        ("loader", PREDICTIONS[found["predicted"]]),
        *([("raises", found["raised"])] if found["raised"] else []),
        ("next", found["next_step"]),
    ]
    _table(body, (), rows)


def _findings(body: Element, found: dict[str, Any]) -> None:
    head = ("finding", "severity", "by itself", "what", "at", "fix")
    rows = [
        (f["id"], f["severity"], f["predicted"], f["message"], "\n".join(f["at"][:3]), (f["fix"] or {"summary": ""})["summary"])
        for f in found["findings"]
    ]  # fmt: skip
    _section(body, "Findings", head, rows, [f["severity"] for f in found["findings"]])


def _engines(body: Element, report: Report) -> None:
    if report.consumers:
        from adapterfit.report import _consumers

        rows = [row[: len(_consumers.HEAD)] for row in _consumers.rows(report)]
        _section(body, "Engines", _consumers.HEAD, rows, [answer.predicted for answer in report.consumers])


def _section(
    body: Element, title: str, head: Sequence[str], rows: Sequence[Sequence[str]], kinds: Sequence[str] = ()
) -> None:
    from xml.etree.ElementTree import SubElement

    if rows:
        SubElement(body, "h2").text = title
        _table(body, head, rows, kinds)


def _table(body: Element, head: Sequence[str], rows: Sequence[Sequence[str]], kinds: Sequence[str] = ()) -> None:
    from xml.etree.ElementTree import SubElement

    table = SubElement(body, "table")
    if head:
        line = SubElement(table, "tr")
        for cell in head:
            SubElement(line, "th").text = cell
    for at, row in enumerate(rows):
        line = SubElement(table, "tr", {"class": kinds[at]} if kinds else {})
        for cell in row:
            SubElement(line, "td").text = cell
