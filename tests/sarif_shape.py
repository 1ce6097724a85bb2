"""What SARIF 2.1.0 asks of the objects that we write: keys that must be there, keys that may, and what stands under them.

From the standard's text (https://docs.oasis-open.org/sarif/sarif/v2.1.0/); every object of its schema is closed but `properties`.
"""

from __future__ import annotations

from urllib.parse import urlsplit

LEVELS = {"none", "note", "warning", "error"}

#: Object → (keys that must be there, key → what stands under it). A name in brackets is a list of such objects.
OBJECTS = {
    "log": ({"version", "runs"}, {"$schema": "uri", "version": "version", "runs": "[run]", "properties": "any"}),
    "run": (
        {"tool"},
        {"tool": "tool", "results": "[result]", "invocations": "[invocation]", "columnKind": "columns", "properties": "any"},
    ),
    "tool": ({"driver"}, {"driver": "driver"}),
    "driver": (
        {"name"},
        {"name": "text", "version": "text", "semanticVersion": "text", "informationUri": "uri", "rules": "[rule]"},
    ),
    "rule": (
        {"id"},
        {"id": "text", "name": "text", "shortDescription": "message", "fullDescription": "message", "help": "message", "helpUri": "uri",
         "defaultConfiguration": "configuration", "properties": "any"},
    ),
    "configuration": (set(), {"level": "level", "enabled": "bool", "rank": "number"}),
    "invocation": (
        {"executionSuccessful"},
        {"executionSuccessful": "bool", "toolExecutionNotifications": "[notification]"},
    ),
    "notification": ({"message"}, {"message": "message", "level": "level", "locations": "[location]"}),
    "result": (
        {"message"},
        {"ruleId": "text", "ruleIndex": "index", "level": "level", "message": "message", "locations": "[location]", "properties": "any"},
    ),
    "message": ({"text"}, {"text": "text", "markdown": "text"}),
    "location": (set(), {"physicalLocation": "physical", "logicalLocations": "[logical]", "message": "message"}),
    "physical": ({"artifactLocation"}, {"artifactLocation": "artifact", "region": "region"}),
    "artifact": ({"uri"}, {"uri": "uri", "uriBaseId": "text"}),
    "logical": (set(), {"name": "text", "fullyQualifiedName": "text", "kind": "text"}),
    "region": (
        {"startLine"},
        {"startLine": "from one", "startColumn": "from one", "endLine": "from one", "endColumn": "from one"},
    ),
}  # fmt: skip


def _number(value, least):
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


VALUES = {
    "text": lambda value: isinstance(value, str) and bool(value),
    "bool": lambda value: isinstance(value, bool),
    "number": lambda value: isinstance(value, (int, float)),
    "any": lambda value: isinstance(value, dict),
    "version": lambda value: value == "2.1.0",
    "level": lambda value: value in LEVELS,
    "columns": lambda value: value in {"utf16CodeUnits", "unicodeCodePoints"},
    "index": lambda value: _number(value, 0),
    "from one": lambda value: _number(value, 1),
    "uri": lambda value: isinstance(value, str) and value.isascii() and not set(' <>"{}|\\^`') & set(value) and urlsplit(value) is not None,
}  # fmt: skip


def faults(value, kind="log", at="$"):
    """Everything in which a document is no SARIF 2.1.0."""
    if kind.startswith("["):
        if not isinstance(value, list):
            return [f"{at}: no list"]
        return [fault for number, one in enumerate(value) for fault in faults(one, kind[1:-1], f"{at}[{number}]")]
    if kind not in OBJECTS:
        return [] if VALUES[kind](value) else [f"{at}: {value!r} is no {kind}"]
    needed, allowed = OBJECTS[kind]
    if not isinstance(value, dict):
        return [f"{at}: no object"]
    found = [f"{at}: lacks {key}" for key in needed - value.keys()]
    found += [f"{at}: {key} is no key of {kind}" for key in value.keys() - allowed.keys()]
    return found + [
        fault for key in value.keys() & allowed.keys() for fault in faults(value[key], allowed[key], f"{at}.{key}")
    ]
