"""Rule: modules beside each other of which some need others.

Where a parent has a pair for one of `any`, it must have one for all of `needs` that the base has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from adapterfit.answers import Effect, Pair, Sight
from adapterfit.consumers.rules._effects import ANSWERS, effect, names

FIELDS = {"any": list, "needs": list, "answer": str}


def effects(value: Mapping[str, Any], sight: Sight) -> Iterator[Effect]:
    """The pairs whose neighbours are missing."""
    lone: list[Pair] = []
    lacking: list[str] = []
    for parent, pairs in by_parent(sight.pairs).items():
        having = {pair.leaf for pair in pairs}
        missing = [f"{parent}.{leaf}" for leaf in value["needs"] if leaf not in having]
        if having & set(value["any"]) and missing and _exists(missing, sight):
            lone += [pair for pair in pairs if pair.leaf in value["any"]]
            lacking += missing
    if lone:
        leaves = ", ".join(dict.fromkeys(name.rpartition(".")[2] for name in lacking))
        yield effect(
            ANSWERS[value["answer"]], value, f"needs a pair for {leaves} too", names(lone), "engine-assumes-shape",
            missing=lone[0].prefix + lacking[0],
        )  # fmt: skip


def by_parent(pairs: tuple[Pair, ...]) -> Mapping[str, list[Pair]]:
    """Pairs by the path of the module that holds theirs."""
    found: dict[str, list[Pair]] = {}
    for pair in pairs:
        found.setdefault(pair.module.rpartition(".")[0], []).append(pair)
    return found


def _exists(missing: list[str], sight: Sight) -> bool:
    """Whether the base has such modules; taken for granted where no base was given."""
    return sight.places is None or any(name in sight.places for name in missing)
