"""Rule: where experts have pairs of their own, every expert of a layer needs one, and all of one rank per projection."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from adapterfit.answers import Effect, Pair, Sight
from adapterfit.consumers.rules._effects import ANSWERS, effect, names

FIELDS = {"answer": str, "rank_says": str}
#: Fields of config.json that hold the number of experts.
_COUNTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")


def effects(value: Mapping[str, Any], sight: Sight) -> Iterator[Effect]:
    """The experts of the layers where some are missing, or of different ranks."""
    groups: dict[str, list[Pair]] = {}
    for pair in sight.pairs:
        if pair.expert is not None:
            groups.setdefault(pair.module.replace(f".experts.{pair.expert}.", ".experts.*."), []).append(pair)
    count = max((given for key in _COUNTS if isinstance(given := sight.base_config.get(key), int)), default=None)
    if groups and count is None:
        yield effect("unknown", {}, "how many experts a layer has is not known")
        return
    uneven = [pair for group in groups.values() if len({p.rank for p in group}) > 1 for pair in group]
    if uneven:
        words = {"says": value.get("rank_says", ""), "cure": "pad"}
        yield effect("refused", words, "needs one rank for all experts of a layer", names(uneven))
    short = [pair for group in groups.values() if len(group) < (count or 0) for pair in group]
    if short:
        yield effect(ANSWERS[value["answer"]], value, f"needs a pair for each of the {count} experts", names(short))
