"""Rule: what the engine multiplies each pair by.

`formula`: `alpha/r` (the config's), `alpha/rank` (the tensor's), `one` (neither is read), `given` (one number that the
caller gives: the scale itself where all modules have one, else alpha / r, or alpha / √r). `reads`: which of `rslora`,
`rank-pattern` and `alpha-pattern` it heeds. `zero_alpha_is_one`: alpha 0 counts as "no scale", `no_alpha_is_one`: so does a
config without lora_alpha, for which PEFT takes 8.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from adapterfit.answers import Effect, Pair, Ratio, Scaling, Sight

FIELDS = {"formula": str, "reads": list, "zero_alpha_is_one": bool, "no_alpha_is_one": bool}


def effects(value: Mapping[str, Any], sight: Sight) -> Iterator[Effect]:  # noqa: ARG001 - a rule's signature
    """None: what differs shows in the ratios."""
    return iter(())


def ratios(value: Mapping[str, Any], sight: Sight) -> Iterator[Ratio]:
    """The engine's scale beside PEFT's, for every pair whose scale is known."""
    for pair in sight.pairs:
        scaling = sight.scalings.get(pair.module)
        if scaling is not None:
            yield Ratio(pair.module, scaling.factor, _served(value, sight, pair, scaling))


def _served(value: Mapping[str, Any], sight: Sight, pair: Pair, scaling: Scaling) -> float | None:
    config = sight.config
    if value["formula"] == "one":
        return 1.0
    given = value["formula"] == "given"
    if given and len({each.factor for each in sight.scalings.values()}) == 1:
        return scaling.factor
    reads = ("rslora",) if given else value.get("reads", ())
    alpha = scaling.alpha if "alpha-pattern" in reads else config.get("lora_alpha")
    rank = scaling.rank if "rank-pattern" in reads else config.get("r")
    if value["formula"] == "alpha/rank":
        rank = pair.rank if pair.kind != "experts" else scaling.rank
    if not isinstance(alpha, (int, float)) or not isinstance(rank, int) or rank <= 0:
        return None
    absent = value.get("no_alpha_is_one") and "lora_alpha" not in sight.raw
    if absent or (alpha == 0 and value.get("zero_alpha_is_one")):
        return 1.0
    return float(alpha) / (math.sqrt(rank) if "rslora" in reads and config.get("use_rslora") else rank)
