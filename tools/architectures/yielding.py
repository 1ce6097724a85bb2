"""When a field's other name is not heard: where it is null, or where the field is given under its own name, too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING


def yields(cls: type[PreTrainedConfig], names: Mapping[str, str]) -> dict[str, str]:
    """Other name → `null` (null there means that it is not given) or `given` (the field's own name is stronger, too).

    Measured for whole numbers alone; a name that is stronger in one order of the file's keys and weaker in the other is left out.
    """
    found = {}
    for alias, real in names.items():
        default = made(cls, real, {})
        if type(default) is not int:
            continue
        one, other = default + 1, default + 2
        if made(cls, real, {alias: one, real: other}) == other == made(cls, real, {real: other, alias: one}):
            found[alias] = "given"
        elif made(cls, real, {alias: None}) == default and made(cls, real, {real: other, alias: None}) == other:
            found[alias] = "null"
    return found


def measured(model_type: str, facts: Mapping[str, Any]) -> dict[str, str]:
    """The same for a type that has facts, those of its sub-configs of one type dotted."""
    cls = CONFIG_MAPPING[model_type]
    found = yields(cls, {one: real for one, real in facts["aliases"].items() if "." not in one})
    for key, spec in facts["configs"].items():
        head = f"{key}."
        own = {
            one.removeprefix(head): real.removeprefix(head)
            for one, real in facts["aliases"].items()
            if one.startswith(head)
        }
        if own and not spec.get("any"):
            found.update({head + one: how for one, how in yields(CONFIG_MAPPING[spec["type"]], own).items()})
    return found


def with_them(model_type: str, facts: dict[str, Any]) -> dict[str, Any]:
    """The facts with `yields` after `aliases`, where there are any."""
    found = measured(model_type, facts)
    made: dict[str, Any] = {}
    for key, value in facts.items():
        if key != "yields":
            made[key] = value
        if key == "aliases" and found:
            made["yields"] = found
    return made


def made(cls: type[PreTrainedConfig], field: str, raw: dict[str, Any]) -> Any:
    """What the config class has of a field for this file; None where it makes no config of it."""
    try:
        return getattr(cls(**raw), field)
    except Exception:
        return None
