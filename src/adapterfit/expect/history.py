"""The module tree of a base as an older transformers builds it: steps back from the newest, each with a version.

Facts: `architectures/_history.json`, read in the source; `architectures/_older.json`, derived by `tools/older_trees.py`
from the trees that each release builds. Names, kinds and fused experts change; sizes do not.
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

_FOLDER = Path(__file__).parent / "architectures"
#: From where on PEFT converts the adapters of older transformers by itself, and needs this transformers for it.
_PEFT_CONVERTS, _CONVERTIBLE = "0.19.0", "5.0"
#: PEFT versions that take the renamings a model class lists for its own checkpoints.
_PEFT_MAPS = "0.16.0"


@lru_cache(maxsize=1)
def _facts() -> Mapping[str, Sequence[Mapping[str, Any]]]:
    read, derived = (json.loads((_FOLDER / name).read_bytes()) for name in ("_history.json", "_older.json"))
    return {what: (*read[what], *derived[what]) for what in ("steps", "adapter_renames", "key_mapping")}


@lru_cache(maxsize=1)
def hand_written() -> frozenset[str]:
    """The model types whose steps were written by hand; nothing is derived about them, but where a step stands beside."""
    read = json.loads((_FOLDER / "_history.json").read_bytes())
    entries = (entry for what in ("steps", "adapter_renames", "key_mapping") for entry in read[what])
    return frozenset(name for entry in entries if not entry.get("beside") for name in entry["types"])


def as_built(tree: ModuleTree, rules: Mapping[str, Any]) -> ModuleTree:
    """The tree under the transformers of these rules, with what the PEFT of these rules renames while it loads."""
    wanted = str(rules["transformers"])
    for step in _facts()["steps"]:
        if below(wanted, step["before"]) and not below(wanted, step.get("since", "0")):
            tree = stepped(tree, step) if _concerns(step, tree) else _with_old_parts(tree, step)
    native = bool(rules.get("converts"))  # transformers' own loader, whatever the PEFT
    converts = native or (not below(str(rules["peft"]), _PEFT_CONVERTS) and not below(wanted, _CONVERTIBLE))
    maps = rules.get("key-mapping", True) and not below(str(rules["peft"]), _PEFT_MAPS)
    return replace(
        tree,
        adapter_renames=_adapter_renames(tree, wanted, native=native) if converts else (),
        expert_fusion=tree.expert_fusion if converts else "",
        key_mapping=tuple(_listed("key_mapping", tree, wanted)) if maps else (),
    )


def steps_of(tree: ModuleTree) -> list[str]:
    """The releases with which this tree's names changed, the newest first."""
    found = {step["before"] for step in _facts()["steps"] if _concerns(step, tree)}
    return sorted(found, key=numbers, reverse=True)


def _concerns(step: Mapping[str, Any], tree: ModuleTree) -> bool:
    return tree.model_type in step["types"] and tree.class_name in step.get("classes", (tree.class_name,))


def models(tree: ModuleTree) -> frozenset[str]:
    """The classes of the models inside, by which a step knows whether it was proven for such a tree."""
    return frozenset(m.class_name for m in tree.modules if m.name and m.class_name.endswith("Model"))


def leaves(tree: ModuleTree) -> frozenset[str]:
    """The last names of modules with parameters, for the same."""
    return frozenset(part for m in tree.modules if m.params and not (part := m.name.rpartition(".")[2]).isdigit())


def _with_old_parts(tree: ModuleTree, step: Mapping[str, Any]) -> ModuleTree:
    """A doubt where a part of the tree was another one then, and no step of the whole says what became of it."""
    parts = {m.class_name for m in tree.modules if m.name and m.class_name.endswith(("Model", "Backbone"))}
    inside = sorted(parts & set(step.get("parts", step.get("classes", ()))))
    own = (one for one in _facts()["steps"] if one["before"] == step["before"] and _concerns(one, tree))
    if not inside or any(own):
        return tree
    doubt = f"the modules of {inside[0]}, which is a part of it, had other names before transformers {step['before']}"
    return replace(tree, doubts=(*tree.doubts, doubt))


def stepped(tree: ModuleTree, step: Mapping[str, Any]) -> ModuleTree:
    """The tree before this step."""
    if "unknown" in step:
        return replace(tree, doubts=(*tree.doubts, step["unknown"]))
    strange = (
        sorted((models(tree) - {*step["models"]}) | (leaves(tree) - {*step["leaves"]})) if "models" in step else ()
    )
    if strange:
        doubt = (
            f"how {strange[0]} was laid out in a {tree.class_name} before transformers {step['before']} is not known"
        )
        return replace(tree, doubts=(*tree.doubts, doubt))
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
    entries = (entry for entry in _facts()["key_mapping"] if native and not entry.get("bare"))
    of_class = (entry for entry in entries if tree.model_type in entry["types"])
    return (*(pair for entry in of_class for pair in _pairs(entry)), *renames)


def _listed(what: str, tree: ModuleTree, transformers: str) -> Iterator[LoadRename]:
    for entry in _entries(what, tree, transformers):
        yield from _pairs(entry)


def _entries(what: str, tree: ModuleTree, transformers: str) -> Iterator[Mapping[str, Any]]:
    for entry in _facts()[what]:
        first, after = map(numbers, entry["versions"])
        if first <= numbers(transformers) < after and _concerns(entry, tree):
            yield entry


def _pairs(entry: Mapping[str, Any]) -> Iterator[LoadRename]:
    return (LoadRename(pattern, replacement) for pattern, replacement in entry["rename"])
