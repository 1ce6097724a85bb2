"""`--format json`: `{"schema": "adapterfit/lint/v1", …}`, described in docs/lint.md."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from adapterfit import __version__
from adapterfit.lint.engine import Finding, Result
from adapterfit.text import show

SCHEMA = "adapterfit/lint/v1"


def render(results: Sequence[Result], *, colour: bool = False) -> str:  # noqa: ARG001 - a face's signature
    """The results as ASCII JSON."""
    document = {
        "schema": SCHEMA,
        "tool": {"name": "adapterfit", "version": __version__},
        "findings": [_finding(result, found) for result in results for found in result.findings],
        "fixed": sum(sum(result.fixed.values()) for result in results),
        "not_checked": [
            {"what": show(result.path, None), "why": show(why, 1_000)} for result in results for why in result.unread
        ],
    }
    return json.dumps(document, indent=2, ensure_ascii=True) + "\n"


def _finding(result: Result, found: Finding) -> dict[str, Any]:
    return {
        "id": found.rule,
        "severity": found.severity,
        "message": show(found.message, 1_000),
        "path": show(result.path, None),
        "cell": found.cell,
        "line": found.line,
        "column": found.column,
        "end_line": found.end_line,
        "end_column": found.end_column,
        "fix": {"safety": found.fix.safety, "summary": show(found.fix.summary)} if found.fix is not None else None,
    }
