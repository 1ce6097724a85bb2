"""Rule: whose layout an engine reads (`reads`: `peft`, `mlx`, `diffusers`, `kohya`, `llama_cpp` …).

`otherwise`: what it does with any other: `refused`, `ignored` (no tensor is applied) or `unknown`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from adapterfit.answers import Effect, Sight
from adapterfit.consumers.rules._effects import ANSWERS, effect

FIELDS = {"reads": list, "otherwise": str}


def effects(value: Mapping[str, Any], sight: Sight) -> Iterator[Effect]:
    """One effect for a layout it does not read."""
    if sight.dialect in value["reads"] or not sight.names:
        return
    wants = " or ".join(value["reads"]) or "no adapter at all"
    message = f"reads {wants}, not the layout of {sight.dialect or 'these tensors'}"
    at = sight.names if value["otherwise"] == "ignored" else ()
    yield effect(ANSWERS[value["otherwise"]], value, message, at, "weights-refused-by-engine")
