"""Rule: modules beside each other that must have one rank (`group`: the last parts of their paths)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from adapterfit.answers import Effect, Pair, Sight
from adapterfit.consumers.rules._effects import ANSWERS, effect, names
from adapterfit.consumers.rules.together import by_parent

FIELDS = {"group": list, "answer": str}


def effects(value: Mapping[str, Any], sight: Sight) -> Iterator[Effect]:
    """The pairs of the parents where the ranks differ."""
    found: list[Pair] = []
    for pairs in by_parent(sight.pairs).values():
        group = [pair for pair in pairs if pair.leaf in value["group"]]
        if len({pair.rank for pair in group}) > 1:
            found += group
    if found:
        together = ", ".join(value["group"])
        yield effect(ANSWERS[value["answer"]], value, f"needs one rank for {together} of a layer", names(found))
