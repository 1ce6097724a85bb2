"""Rule: how to load the adapter, line by line; `feature` restricts it to adapters with one.

In the lines: `{max_rank}` the limit to set (`choices`: the values it may have), `{top_rank}` the highest rank, `{leaves}` the
modules it targets, `{scale}` alpha / r, `{adapter}` and `{base}` the folders, `{name}` what it is called there. `flags`: a
feature → what the first line also needs. A line that takes one scale cannot load an adapter whose modules have several: then
there is none.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from adapterfit.answers import Effect, Sight
from adapterfit.consumers.rules._effects import fill, scales
from adapterfit.consumers.rules.rank import ranks_of, setting

FIELDS = {"lines": list, "feature": str, "choices": list, "flags": dict}


def effects(value: Mapping[str, Any], sight: Sight) -> Iterator[Effect]:  # noqa: ARG001 - a rule's signature
    """None: it only says how."""
    return iter(())


def lines(value: Mapping[str, Any], sight: Sight) -> Iterator[str]:
    """The lines, filled in."""
    if "feature" in value and value["feature"] not in sight.features:
        return
    found = scales(sight)
    if len(found) > 1 and any("{scale}" in line for line in value["lines"]):
        return
    ranks = ranks_of(sight)
    words = {
        "max_rank": setting(value, max(ranks)) if ranks else "RANK",
        "top_rank": max(ranks) if ranks else "RANK",
        "leaves": " ".join(sorted({pair.leaf for pair in sight.pairs})),
        "scale": found[0] if found else "SCALE",
    }
    flags = "".join(f" {flag}" for feature, flag in value.get("flags", {}).items() if feature in sight.features)
    for at, line in enumerate(value["lines"]):
        yield fill(line, {**words, **_places(line, sight)}) + ("" if at else flags)


def _places(line: str, sight: Sight) -> Mapping[str, str]:
    """The folders; inside quotes of the line only where they need none of their own."""
    found = {}
    for word, given in (("adapter", sight.label), ("base", sight.base), ("name", "adapter")):
        quoted = shlex.quote(given) if given else word.upper()
        within = f'"{{{word}' in line
        found[word] = word.upper() if within and quoted != given else quoted
    return found
