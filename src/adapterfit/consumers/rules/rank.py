"""Rule: the ranks an engine takes.

`choices`: the values its limit may be set to, with `default` and the `flag` that sets it. `at_least`, `at_most`: fixed
bounds. They are those of the config (r and rank_pattern); the tensors' where it says none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from adapterfit.answers import Effect, Sight
from adapterfit.consumers.rules._effects import effect

FIELDS = {"choices": list, "default": int, "flag": str, "at_least": int, "at_most": int}


def effects(value: Mapping[str, Any], sight: Sight) -> Iterator[Effect]:
    """Refused beyond what any setting allows; `flags` where the default is too small."""
    ranks = ranks_of(sight)
    if not ranks:
        return
    choices, default = value.get("choices", ()), value.get("default")
    most = max(choices) if choices else value.get("at_most")
    least = value.get("at_least")
    top, low = max(ranks), min(ranks)
    page = "rank-over-engine-limit"
    if most is not None and top > most:
        yield effect("refused", value, f"rank {top} is more than the {most} it takes", page=page, rank=top, limit=most)
    elif least is not None and low < least:
        yield effect(
            "refused", value, f"rank {low} is less than the {least} it takes", page=page, rank=low, limit=least
        )
    elif default is not None and top > default:
        needed = setting(value, top)
        flag = f"{value.get('flag', '')} {needed}".strip()
        yield effect(
            "flags", value, f"rank {top} needs {flag} (the default is {default})", page=page, rank=top, limit=default
        )


def ranks_of(sight: Sight) -> list[int]:
    """The ranks of the config, pattern by pattern as they hold for modules in the file; else the tensors'."""
    found = {scaling.rank for scaling in sight.scalings.values()}
    given = sight.config.get("r")
    if isinstance(given, int) and not isinstance(given, bool) and given > 0:
        found.add(given)
    return sorted(found) or sorted({pair.rank for pair in sight.pairs if pair.rank and pair.kind != "experts"})


def setting(value: Mapping[str, Any], rank: int) -> int:
    """The smallest limit that may be set and is enough."""
    return min((choice for choice in value.get("choices", ()) if choice >= rank), default=rank)
