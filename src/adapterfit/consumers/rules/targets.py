"""Rule: the only modules an engine applies a LoRA to, by the last part of their path.

`leaves`: a list; or a table, model type → list. `outside`: `refused` or `ignored`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from adapterfit.answers import Effect, Sight
from adapterfit.consumers.rules._effects import ANSWERS, effect, names

FIELDS = {"leaves": (list, dict), "outside": str}


def effects(value: Mapping[str, Any], sight: Sight) -> Iterator[Effect]:
    """The pairs on other modules."""
    leaves = value["leaves"]
    if isinstance(leaves, Mapping):
        if sight.places is None:
            yield effect("unknown", {}, "which modules it applies depends on the base, and none was given")
            return
        if sight.model_type not in leaves:
            yield effect("unknown", {}, f"no facts about the modules it applies on {sight.model_type or 'this base'}")
            return
        leaves = leaves[sight.model_type]
    outside = [pair for pair in sight.pairs if pair.leaf not in leaves]
    if outside:
        kinds = ", ".join(sorted({pair.leaf for pair in outside}))
        did = {"refused": "refuses", "ignored": "does not apply"}[value["outside"]]
        yield effect(
            ANSWERS[value["outside"]], value, f"{did} {kinds}", names(outside), "targets-refused-by-engine",
            modules=kinds, module=outside[0].leaf,
        )  # fmt: skip
