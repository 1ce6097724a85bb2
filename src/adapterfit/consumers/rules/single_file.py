"""Rule: a file of diffusion trainers, whose config is in the file: which ends of names an engine reads, and where alpha stands.

`layouts`: those it is about (`kohya`, `diffusers`). `known`: ends of names that are read. `ignored`: an end → what falls away with
it. `rest`: what becomes of other ends, `ignored` or `unknown`. `alpha`: `beside` (a tensor `….alpha`, else the rank) or `header` (of
the file, else the rank).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from adapterfit.answers import Effect, Sight
from adapterfit.consumers.rules._effects import ANSWERS, effect

FIELDS = {"layouts": list, "known": list, "ignored": dict, "rest": str, "alpha": str}
_UPS = (".lora_up.weight", ".lora_B.weight", ".lora.up.weight")
_HEADER = "lora_adapter_metadata"


def effects(value: Mapping[str, Any], sight: Sight) -> Iterator[Effect]:
    """What falls away by the ends of names, which scale is applied, and that the base decides about the rest."""
    if sight.dialect not in value["layouts"]:
        return
    left = sight.names
    for end, what in value.get("ignored", {}).items():
        lost = tuple(name for name in left if name.endswith(end))
        left = tuple(name for name in left if name not in lost)
        if lost:
            yield effect("dropped", value, what, lost, "applied-in-part")
    strange = tuple(name for name in left if not name.endswith(tuple(value["known"])))
    if strange:
        kind = ANSWERS[value.get("rest", "unknown")]
        yield effect(kind, value, f"{len(strange)} names have an end that it does not read", strange, "applied-in-part")
    yield effect("note", value, _scale(value["alpha"], sight))
    yield effect("unknown", value, "which of its names fit is a matter of the model that it is put into")


def _scale(alpha: str, sight: Sight) -> str:
    """Where the scale comes from, counted."""
    names = frozenset(sight.names)
    modules = [name[: -len(end)] for name in sight.names for end in _UPS if name.endswith(end)]
    if alpha == "header" and _HEADER in sight.metadata:
        return "alpha stands in the file's header"
    without = [module for module in modules if f"{module}.alpha" not in names]
    if not without:
        return f"alpha stands beside each of {len(modules)} pairs: scale alpha / r"
    return (
        f"{len(without)} of {len(modules)} pairs have no alpha: scale 1, right only if they were trained with alpha = r"
    )
