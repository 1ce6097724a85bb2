"""The module tree of a base as an older transformers builds it: steps back from the newest, each with a version.

Facts: `architectures/_history.json`. Names, kinds and fused experts change; sizes do not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from adapterfit.expect.versions import below, numbers
from adapterfit.records import LoadRename, Module, ModuleTree

_FILE = Path(__file__).parent / "architectures" / "_history.json"
#: From where on PEFT converts the adapters of older transformers by itself, and needs this transformers for it.
_PEFT_CONVERTS, _CONVERTIBLE = "0.19.0", "5.0"
#: PEFT versions that take the renamings a model class lists for its own checkpoints.
_PEFT_MAPS = "0.16.0"


@lru_cache(maxsize=1)
def _facts() -> Mapping[str, Any]:
    loaded: Mapping[str, Any] = json.loads(_FILE.read_bytes())
    return loaded


def as_built(tree: ModuleTree, rules: Mapping[str, Any]) -> ModuleTree:
    """The tree under the transformers of these rules, with what the PEFT of these rules renames while it loads."""
    wanted = str(rules["transformers"])
    for step in _facts()["steps"]:
        if below(wanted, step["before"]) and _concerns(step, tree):
            tree = _stepped(tree, step)
    native = bool(rules.get("converts"))  # transformers' own loader, whatever the PEFT
    converts = native or (not below(str(rules["peft"]), _PEFT_CONVERTS) and not below(wanted, _CONVERTIBLE))
    maps = rules.get("key-mapping", True) and not below(str(rules["peft"]), _PEFT_MAPS)
    return replace(
        tree,
        adapter_renames=_adapter_renames(tree, wanted, native=native) if converts else (),
        expert_fusion=tree.expert_fusion if converts else "",
        key_mapping=tuple(_listed("key_mapping", tree, wanted)) if maps else (),
    )


def _concerns(step: Mapping[str, Any], tree: ModuleTree) -> bool:
    return tree.model_type in step["types"] and tree.class_name in step.get("classes", (tree.class_name,))


def _stepped(tree: ModuleTree, step: Mapping[str, Any]) -> ModuleTree:
    if "unknown" in step:
        return replace(tree, doubts=(*tree.doubts, step["unknown"]))
    if "towers" in step and not any(module.class_name in step["towers"] for module in tree.modules):
        return tree
    if step.get("plain_experts"):
        return replace(tree, modules=tuple(replace(module, transposed_experts=False) for module in tree.modules))
    if "shared" in step:
        return _with_one_embedding(tree, *step["shared"])
    if "unfuse" in step:
        tree = replace(tree, modules=tuple(_unfused(tree.modules, step["unfuse"])))
    return _linear(_renamed(tree, step.get("rename", ())), step.get("linear", ()))


def _renamed(tree: ModuleTree, rules: Sequence[Sequence[str]]) -> ModuleTree:
    compiled = [(re.compile(pattern), replacement) for pattern, replacement in rules]

    def back(name: str) -> str:
        for pattern, replacement in compiled:
            name = pattern.sub(replacement, name, count=1)
        return name

    def parameter(name: str) -> str:
        module, _, leaf = name.rpartition(".")
        return f"{back(module)}.{leaf}"

    return replace(
        tree,
        modules=tuple(replace(module, name=back(module.name)) for module in tree.modules),
        aliases={back(second): back(first) for second, first in tree.aliases.items()},
        tied=tuple(tuple(map(parameter, group)) for group in tree.tied),
        input_embeddings=back(tree.input_embeddings) if tree.input_embeddings else "",
        output_embeddings=back(tree.output_embeddings) if tree.output_embeddings else "",
    )


def _linear(tree: ModuleTree, patterns: Sequence[str]) -> ModuleTree:
    """Routers that were plain `nn.Linear`."""
    if not patterns:
        return tree
    wanted = [re.compile(pattern) for pattern in patterns]
    return replace(
        tree,
        modules=tuple(
            replace(m, kind="Linear", class_name="Linear") if any(each.search(m.name) for each in wanted) else m
            for m in tree.modules
        ),
    )


def _unfused(modules: Sequence[Module], leaves: Sequence[str]) -> Iterator[Module]:
    """One module per expert and projection for what is one stack of parameters now: (E, 2·I, H) and (E, H, I)."""
    gate, up, down = leaves
    for module in modules:
        if not {"gate_up_proj", "down_proj"} <= module.params.keys():
            yield module
            continue
        count, double, hidden = module.params["gate_up_proj"]
        yield replace(module, params={}, kind="container", class_name="ModuleList")
        for number in range(count):
            name = f"{module.name}.{number}"
            yield Module(name, "container")
            for leaf in (gate, up):
                yield Module(f"{name}.{leaf}", "Linear", {"weight": (double // 2, hidden)}, "Linear")
            yield Module(f"{name}.{down}", "Linear", {"weight": module.params["down_proj"][1:]}, "Linear")


def _with_one_embedding(tree: ModuleTree, second: str, first: str) -> ModuleTree:
    """Embeddings that were one module under several paths, where now several modules share one weight."""
    pattern = re.compile(second)
    again = {m.name: pattern.sub(first, m.name) for m in tree.modules if pattern.fullmatch(m.name)}
    gone = {f"{name}.weight" for name in again}
    return replace(
        tree,
        modules=tuple(module for module in tree.modules if module.name not in again),
        aliases={**tree.aliases, **again},
        tied=tuple(
            group for group in (tuple(n for n in tied if n not in gone) for tied in tree.tied) if len(group) > 1
        ),
    )


# -------------------------------------------------------------------------------------------- while loading


def _adapter_renames(tree: ModuleTree, transformers: str, *, native: bool = False) -> tuple[LoadRename, ...]:
    """The renamings of that transformers where they were others, else those of the newest.

    PEFT leaves some of them alone that transformers' own loader applies, as it does to its checkpoints.
    """
    found = list(_entries("adapter_renames", tree, transformers))
    renames = tuple(_pairs(found[0])) if found else tree.adapter_renames
    of_class = (entry for entry in _facts()["key_mapping"] if native and tree.model_type in entry["types"])
    return (*(pair for entry in of_class for pair in _pairs(entry)), *renames)


def _listed(what: str, tree: ModuleTree, transformers: str) -> Iterator[LoadRename]:
    for entry in _entries(what, tree, transformers):
        yield from _pairs(entry)


def _entries(what: str, tree: ModuleTree, transformers: str) -> Iterator[Mapping[str, Any]]:
    for entry in _facts()[what]:
        first, after = map(numbers, entry["versions"])
        if first <= numbers(transformers) < after and tree.model_type in entry["types"]:
            yield entry


def _pairs(entry: Mapping[str, Any]) -> Iterator[LoadRename]:
    return (LoadRename(pattern, replacement) for pattern, replacement in entry["rename"])
