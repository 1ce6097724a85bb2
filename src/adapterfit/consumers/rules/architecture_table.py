"""Rule: a table that says, per architecture of the base, whether a LoRA is taken and for which modules.

`table` names a JSON file beside the facts: architecture → null (no LoRA) or `leaves` (packed modules and their parts),
`embeddings`, `fused` (experts as one 3-D tensor), `prefixes` (how the engine renames paths); an entry that changed is
`{"since": [[release, entry], …]}`, with "absent" where a release does not know the architecture. Modules that the table
does not name are taken where the base has a Linear of that name. `language_model`: the names of a text model also fit the
language model of a multimodal one. `fused_answer`: what it does with fused experts where its layer has one for each.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from adapterfit.answers import Effect, Pair, Sight
from adapterfit.consumers.rules._effects import ANSWERS, effect, names
from adapterfit.consumers.rules.modules import has_place, of_group
from adapterfit.consumers.versions import version

FIELDS = {
    "table": str, "module_says": str, "fused_says": str, "fused_cure": str, "unknown": str, "beyond": str,
    "half_fused": str, "language_model": bool, "fused_answer": str,
}  # fmt: skip
#: Modules that are wrapped only where the table says so.
_VOCABULARY = {"embed_tokens", "lm_head", "wte", "embed_out"}
_TABLES = Path(__file__).parent.parent


@cache
def table(name: str, release: str) -> Mapping[str, Any]:
    """A table of ours, by the name that one of our facts gives it, as it was in a release of the engine."""
    loaded: dict[str, Any] = json.loads((_TABLES / f"{name}.json").read_text(encoding="utf-8"))
    then = {key: _then(entry, release) for key, entry in loaded.items()}
    return {key: entry for key, entry in then.items() if entry != "absent"}


def _then(entry: Any, release: str) -> Any:
    """The last change that the release has; the first one says since when the architecture was looked at."""
    if not entry or "since" not in entry:
        return entry
    return next((now for since, now in reversed(entry["since"]) if version(since) <= version(release)), "absent")


def effects(value: Mapping[str, Any], sight: Sight) -> Iterator[Effect]:
    """What the engine's model of this architecture takes, module by module."""
    if sight.places is None:
        return
    known = table(value["table"], value["release"])
    if sight.architecture not in known:
        yield effect("unknown", {}, f"no facts about the architecture {sight.architecture or 'of this base'}")
        return
    entry = known[sight.architecture]
    if entry is None:
        yield effect("refused", value, f"has no LoRA support for {sight.architecture}", architecture=sight.architecture)
        return
    yield from _modules(value, entry, sight)
    yield from _fused(value, entry, sight)
    yield from _landing(value, entry, sight)


def _modules(value: Mapping[str, Any], entry: Mapping[str, Any], sight: Sight) -> Iterator[Effect]:
    """Modules that the engine did not wrap: by the last part of their name."""
    places = sight.places or {}
    leaves = {name.rpartition(".")[2] for name, place in places.items() if place.kind in ("Linear", "Conv1D")}
    wrapped = (leaves - {"lm_head", "embed_out"}) | set(entry["leaves"]) | set(entry["embeddings"])
    known = {name.rpartition(".")[2] for name in places} - _VOCABULARY
    singles = [pair for pair in sight.pairs if pair.kind != "experts" and pair.expert is None]
    unsure = [pair for pair in singles if pair.leaf not in wrapped and pair.leaf in known]
    if unsure:
        kinds = sorted({pair.leaf for pair in unsure})
        yield effect("unknown", {}, f"whether it takes a LoRA on {', '.join(kinds)} is not known", names(unsure))
    outside = [pair for pair in singles if pair.leaf not in wrapped and pair.leaf not in known]
    if outside:
        kinds = sorted({pair.leaf for pair in outside})
        yield effect(
            "refused", {"says": value.get("module_says", ""), "cure": value.get("cure", "")},
            f"its {sight.architecture} takes no LoRA on {', '.join(kinds)}", names(outside),
            "targets-refused-by-engine", modules=[pair.module for pair in outside][:3],
        )  # fmt: skip


def _fused(value: Mapping[str, Any], entry: Mapping[str, Any], sight: Sight) -> Iterator[Effect]:
    """Experts in one tensor, where the engine's layer has one module for each, or where one half is missing."""
    fused = [pair for pair in sight.pairs if pair.kind == "experts"]
    if fused and not entry["fused"]:
        words = {"says": value.get("fused_says", ""), "cure": value.get("fused_cure", "")}
        yield effect(
            ANSWERS[value.get("fused_answer", "refused")],
            words,
            "takes experts one by one here, and the adapter has them fused",
            names(fused),
            name=fused[0].module,
        )
    elif fused:
        parents = {pair.module: pair for pair in fused}
        lone = [pair for path, pair in parents.items() if _other_half(path) not in parents]
        if lone:
            words = {"says": value.get("half_fused", ""), "cure": value.get("cure", "")}
            yield effect("refused", words, "needs both of the experts' tensors adapted", names(lone))


def _other_half(path: str) -> str:
    ending = ".base_layer"
    return path[: -len(ending)] if path.endswith(ending) else path + ending


def _landing(value: Mapping[str, Any], entry: Mapping[str, Any], sight: Sight) -> Iterator[Effect]:
    """Pairs whose path, as the engine renames it, is none of the model's: passed over without a word."""
    prefixes = entry["prefixes"]
    paths = {renamed(name, prefixes) for name in sight.places or ()}
    starts = ("", "language_model.") if value.get("language_model") else ("",)
    lost = [
        pair
        for pair in sight.pairs
        if not has_place(pair, sight) and not paths & {start + renamed(pair.module, prefixes) for start in starts}
    ]
    beyond = [pair for pair in lost if sight.layers is not None and (pair.layer or 0) >= sight.layers]
    rest: list[Pair] = [pair for pair in lost if pair not in beyond]
    unsure = sight.guessed or not entry["certain"]
    named_otherwise = {"wrapper-in-keys", "other-prefix"} & set(sight.features)
    value = {**value, "cure": "rename" if named_otherwise else ""}  # nothing else brings them to a module
    yield from of_group({} if unsure else value, "unknown", rest, "its model has no such module")
    yield from of_group(value, "beyond", beyond, f"the base has {sight.layers} layers only")


def renamed(name: str, prefixes: Mapping[str, str | None]) -> str:
    """A path as the engine's model has it: each prefix in turn is replaced."""
    path = f"{name}."
    for old, new in prefixes.items():
        if path.startswith(old):
            path = (new or "") + path[len(old) :]
    return path.rstrip(".")
