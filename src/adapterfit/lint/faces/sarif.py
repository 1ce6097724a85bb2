"""`--format sarif`: SARIF 2.1.0, for code scanning; each rule brings its page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

from adapterfit import __version__
from adapterfit.lint.engine import Finding, Result
from adapterfit.lint.rule import Entry, all_rules
from adapterfit.text import show


def render(results: Sequence[Result], *, colour: bool = False) -> str:  # noqa: ARG001 - a face's signature
    """One run with all findings."""
    rules = list(all_rules().values())
    numbers = {entry.id: at for at, entry in enumerate(rules)}
    unread = [f"{show(result.path, None)}: {show(why, 1_000)}" for result in results for why in result.unread]
    run = {
        "tool": {
            "driver": {"name": "adapterfit lint", "version": __version__, "rules": [_rule(entry) for entry in rules]}
        },
        "columnKind": "unicodeCodePoints",
        "invocations": [
            {
                "executionSuccessful": not unread,
                "toolExecutionNotifications": [{"level": "warning", "message": {"text": line}} for line in unread],
            }
        ],
        "results": [_result(result, found, numbers) for result in results for found in result.findings],
    }
    document = {"$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0", "runs": [run]}
    return json.dumps(document, indent=2, ensure_ascii=True) + "\n"


def _rule(entry: Entry) -> dict[str, Any]:
    title, _, rest = entry.page.strip().partition("\n")
    return {
        "id": entry.id,
        "shortDescription": {"text": title},
        "help": {"text": rest.strip()},
        "defaultConfiguration": {"level": entry.rule.severity},
    }


def _result(result: Result, found: Finding, numbers: dict[str, int]) -> dict[str, Any]:
    location: dict[str, Any] = {"artifactLocation": {"uri": _uri(result.path)}}
    if found.cell is None:
        location["region"] = {
            "startLine": found.line,
            "startColumn": found.column,
            "endLine": found.end_line,
            "endColumn": found.end_column,
        }
    where = f" (cell {found.cell}, line {found.line})" if found.cell is not None else ""
    return {
        "ruleId": found.rule,
        "ruleIndex": numbers[found.rule],
        "level": found.severity,
        "message": {"text": show(found.message, 1_000) + where},
        "locations": [{"physicalLocation": location}],
    }


def _uri(path: str) -> str:
    return quote(PurePath(path).as_posix(), safe="/", errors="surrogateescape")
