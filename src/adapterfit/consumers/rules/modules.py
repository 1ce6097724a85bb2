"""Rule: what becomes of pairs for which the base has no module, or one of another size.

`unknown`: no such module. `beyond`: a layer that the base does not have. `smaller`, `larger`: a pair made for a smaller or larger
module. `embedding`: a pair on embeddings of another number of rows (else as the others). Each is `refused`, `ignored`, `unknown` or
`elsewhere` (another claim says), with a line of the engine in `unknown_says`, `beyond_says`, `larger_says`, `embedding_says`.
`by_leaf`: the engine finds modules by the last part of their path, and their layer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from adapterfit.answers import Effect, Pair, Place, Sight
from adapterfit.consumers.rules._effects import ANSWERS, effect, names, of_tensor

FIELDS = {
    "unknown": str, "unknown_says": str, "beyond": str, "beyond_says": str, "smaller": str, "larger": str,
    "larger_says": str,
    "embedding": str, "embedding_says": str, "by_leaf": bool,
}  # fmt: skip


def effects(value: Mapping[str, Any], sight: Sight) -> Iterator[Effect]:
    """Nothing where no base was given: the answer says that by itself."""
    places = sight.places
    if places is None:
        return
    leaves = {name.rpartition(".")[2] for name in places} if value.get("by_leaf") else set()
    strangers = [pair for pair in sight.pairs if not has_place(pair, sight)]
    beyond = [pair for pair in strangers if sight.layers is not None and (pair.layer or 0) >= sight.layers]
    unknown = [pair for pair in strangers if pair not in beyond and pair.leaf not in leaves]
    if unknown and sight.guessed:
        yield effect("unknown", {}, "modules of this base are known by checkpoint names only", names(unknown))
    else:
        yield from of_group(value, "unknown", unknown, "the base has no such module")
    yield from of_group(value, "beyond", beyond, f"the base has {sight.layers} layers only")
    known = [(pair, places[pair.module]) for pair in sight.pairs if pair.module in places and not sight.guessed]
    if "embedding" in value:
        rows = [pair for pair, place in known if pair.kind == "embedding" and place.width not in (None, pair.width)]
        yield from of_group(value, "embedding", rows, "the base has another number of rows")
        known = [(pair, place) for pair, place in known if pair not in rows]
    yield from of_group(value, "larger", [p for p, place in known if larger(p, place)], "made for a larger module")
    smaller = [p for p, place in known if not larger(p, place) and differs(p, place)]
    yield from of_group(value, "smaller", smaller, "made for a smaller module")


def has_place(pair: Pair, sight: Sight) -> bool:
    """Whether the base has a module for it; experts that newer transformers fuse have one together."""
    places = sight.places or {}
    return pair.module in places or (
        (pair.kind == "experts" or pair.expert is not None)
        and f"{pair.module.partition('.experts')[0]}.experts" in places
    )


def of_group(value: Mapping[str, Any], word: str, pairs: list[Pair], what: str) -> Iterable[Effect]:
    """One effect for the pairs of one kind of mismatch, as the claim says; `unknown` where it says nothing."""
    if not pairs or value.get(word) == "elsewhere":
        return
    answer = value.get(word, "unknown")
    page = "served-without-effect" if answer == "ignored" else "weights-refused-by-engine"
    words = {"says": value.get(f"{word}_says", ""), "cure": value.get("cure", "")}
    named: dict[str, Any] = {**of_tensor(pairs[0].names[0]), "module": pairs[0].module, "layer": pairs[0].layer}
    yield effect(ANSWERS[answer], words, f"{pairs[0].module}: {what}", names(pairs), page, **named)


def differs(pair: Pair, place: Place) -> bool:
    """Whether the matrices are of other sizes than the module."""
    return any(
        has is not None and wants is not None and has != wants
        for has, wants in ((pair.width, place.width), (pair.height, place.height))
    )


def larger(pair: Pair, place: Place) -> bool:
    """Whether a matrix is larger than the module."""
    return any(
        has is not None and wants is not None and has > wants
        for has, wants in ((pair.width, place.width), (pair.height, place.height))
    )
