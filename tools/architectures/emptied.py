"""Lists without entries that a config class takes as not given, as Llama 4 does `no_rope_layers: []`."""

from __future__ import annotations

from typing import Any

from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from architectures.yielding import made


def with_them(model_type: str, facts: dict[str, Any]) -> dict[str, Any]:
    """The facts, where such a field has the value of an absent one."""
    fields = {
        name: _heard(spec) if isinstance(spec, list) and _is_emptied(model_type, facts, name) else spec
        for name, spec in facts["fields"].items()
    }
    return {key: fields if key == "fields" else value for key, value in facts.items()}


def _heard(spec: list[str]) -> list[str]:
    return spec if len(spec) > 2 else [*spec, f"len(given) == 0 ? {spec[0]} : given"]


def _is_emptied(model_type: str, facts: dict[str, Any], name: str) -> bool:
    head, _, leaf = name.rpartition(".")
    sub = facts["configs"].get(head, {}).get("type") if head else model_type
    if sub not in CONFIG_MAPPING:
        return False
    default, found = (made(CONFIG_MAPPING[sub], leaf, raw) for raw in ({}, {leaf: []}))
    return bool(default) and isinstance(default, (list, tuple)) and found == default
