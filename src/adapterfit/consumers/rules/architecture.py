"""Rule: the bases an engine takes a LoRA for, by model type (`allowed`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from adapterfit.answers import Effect, Sight
from adapterfit.consumers.rules._effects import effect

FIELDS = {"allowed": list}


def effects(value: Mapping[str, Any], sight: Sight) -> Iterator[Effect]:
    """Refused for any other base."""
    if not sight.model_type:
        yield effect("unknown", {}, "it depends on the base's model type, and none is known")
    elif sight.model_type not in value["allowed"]:
        took = ", ".join(value["allowed"])
        yield effect(
            "refused", value, f"takes a LoRA for {took} only, not for {sight.model_type}", type=sight.model_type
        )
