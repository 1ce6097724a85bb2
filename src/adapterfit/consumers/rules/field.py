"""Rule: a field of adapter_config.json that the engine accepts with some values only.

`set`: whether any value that is not empty or false is at fault. `allowed`: the texts it may be; anything that is no text
is fine. `type = "integer"`: it must be written as a whole number. `at_least`, `at_most`: for numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from adapterfit.answers import Effect, Sight
from adapterfit.consumers.rules._effects import ANSWERS, effect

FIELDS = {
    "field": str, "answer": str, "set": bool, "allowed": list, "type": str, "at_least": int, "at_most": int,
}  # fmt: skip


def effects(value: Mapping[str, Any], sight: Sight) -> Iterator[Effect]:
    """One effect where the value is not what the engine takes."""
    given = sight.raw.get(value["field"])
    if _at_fault(value, given):
        kind = ANSWERS[value["answer"]]
        kind = "differs" if kind == "dropped" else kind  # no tensor falls away with a field that is not read
        yield effect(kind, value, f"{value['field']} = {given!r} is {value['answer']}", given=repr(given))


def _lower(texts: list[str]) -> list[str]:
    return [text.lower() for text in texts]


def _at_fault(value: Mapping[str, Any], given: Any) -> bool:
    number = isinstance(given, (int, float)) and not isinstance(given, bool)
    return (
        (bool(value.get("set")) and bool(given))
        or ("allowed" in value and isinstance(given, str) and given.lower() not in _lower(value["allowed"]))
        or (value.get("type") == "integer" and given is not None and (not number or isinstance(given, float)))
        or ("at_least" in value and number and given < value["at_least"])
        or ("at_most" in value and number and given > value["at_most"])
    )
