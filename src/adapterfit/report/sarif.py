"""`--format sarif`: SARIF 2.1.0, which code hosts show beside the files. Engines that were asked for are findings, too.

Source: https://docs.oasis-open.org/sarif/sarif/v2.1.0/
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from adapterfit.report import _engines
from adapterfit.report.json import document

if TYPE_CHECKING:
    from adapterfit.records import Report

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def render(report: Report, *, width: int = 80, colour: bool = False, quiet: bool = False) -> str:  # noqa: ARG001 - a format's signature
    """One run: a rule for each cause found, a result for each finding, and the rows of engines as properties."""
    found = document(report)
    ids = list(dict.fromkeys(finding["id"] for finding in found["findings"]))
    run = {
        "tool": {"driver": {**found["tool"], "rules": [_rule(name, found) for name in ids]}},
        "results": [_result(finding, ids, found) for finding in found["findings"]],
        "invocations": [
            {
                "executionSuccessful": True,
                "toolExecutionNotifications": [
                    {"level": "note", "message": {"text": f"not checked: {gap['what']}: {gap['why']}"}}
                    for gap in found["not_checked"]
                ],
            }
        ],
        "properties": {
            "verdict": found["verdict"],
            "predicted": found["predicted"],
            "consumer": found["consumer"],
            "engines": [
                {"engine": name, "predicted": predicted, "message": said}
                for name, predicted, said, _ in _engines.told(report)
            ],
        },
    }
    return json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2, ensure_ascii=True) + "\n"


def _rule(name: str, found: dict[str, Any]) -> dict[str, Any]:
    first = next(finding for finding in found["findings"] if finding["id"] == name)
    return {"id": name, "helpUri": first["url"], "shortDescription": {"text": name.replace("-", " ")}}


def _result(finding: dict[str, Any], ids: list[str], found: dict[str, Any]) -> dict[str, Any]:
    fix = finding["fix"]
    cure = f". Fix ({fix['safety']}): {fix['summary']}" if fix is not None else ""
    names = [{"fullyQualifiedName": name, "kind": "member"} for name in finding["at"]]
    place: dict[str, Any] = {"physicalLocation": {"artifactLocation": {"uri": _uri(found)}}}
    return {
        "ruleId": finding["id"],
        "ruleIndex": ids.index(finding["id"]),
        "level": finding["severity"],
        "message": {"text": finding["message"] + cure},
        "locations": [{**place, "logicalLocations": names} if names else place],
        "properties": {key: finding[key] for key in ("code", "confidence", "predicted", "expected", "found", "count")},
    }


def _uri(found: dict[str, Any]) -> str:
    """The file that a finding is shown at: the weights, else the config, else the folder."""
    from urllib.parse import quote

    adapter = found["adapter"]
    file = adapter["weights_file"] or adapter["config_file"]
    return quote(f"{adapter['label'].rstrip('/')}/{file}" if file else adapter["label"], safe="/:@")
