"""Rule: a kind of module is applied only where every layer of the base has a pair for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from adapterfit.answers import Effect, Sight
from adapterfit.consumers.rules._effects import ANSWERS, effect, names
from adapterfit.consumers.sight import incomplete

FIELDS = {"answer": str}


def effects(value: Mapping[str, Any], sight: Sight) -> Iterator[Effect]:
    """The pairs of kinds that lack a layer."""
    found = incomplete(sight.pairs, sight.layers)
    if found:
        kinds = ", ".join(sorted({pair.leaf for pair in found}))
        yield effect(ANSWERS[value["answer"]], value, f"{kinds}: not in every layer, so in none", names(found))
