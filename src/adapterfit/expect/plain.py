"""A plain `nn.Module` known by its weights file alone: the ways in which its names and shapes can be read.

A header says `weight (24, 36)` and not whether that is a Linear, transformers' Conv1D or an Embedding. Each way to read
it is a tree of its own; the adapter is held against all. A reading under which every tensor lands with its exact shape
and no slot stays empty is taken: the adapter was saved from such modules, and where two readings do that, PEFT does the
same under both. Anything less proves nothing, for the modules might be of another kind; then it cannot be told.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from adapterfit.expect import modules
from adapterfit.records import AdapterConfig, Base, Module, ModuleTree

#: Why a reading under which the adapter does not fit completely decides nothing.
DOUBT = (
    "the base has no config.json: its modules are known by the names and shapes of their weights only, and read as any "
    "kind of module that they can be, the adapter does not fit completely; give the live model to be sure"
)


def is_plain(base: Base, config: AdapterConfig) -> bool:
    """Whether the adapter says it was made for a class that is not transformers', and the base does not contradict.

    PEFT records the class of the base where there is no task type (`auto_mapping`).
    """
    recorded = config.values.get("auto_mapping")
    library = recorded.get("parent_library") if isinstance(recorded, dict) else None
    foreign = isinstance(library, str) and library.partition(".")[0] != "transformers"
    return base.config is None and bool(base.tensors) and config.values.get("task_type") is None and foreign


def readings(base: Base, config: AdapterConfig) -> list[ModuleTree]:
    """The trees, the likeliest first: matrices as Linear, as transformers' Conv1D, as Embedding."""
    tree = modules.tree_from_headers(base)
    tree = replace(tree, doubts=tuple(_hidden(tree, config)), modules=tuple(_with_attention(tree.modules)))
    return [replace(tree, modules=tuple(_read(module, kind) for module in tree.modules)) for kind in _MATRICES]


_MATRICES = ("Linear", "Conv1D", "Embedding")


def _read(module: Module, kind: str) -> Module:
    """A matrix as a module of this kind; an Embedding has no bias."""
    weight = module.params.get("weight", ())
    fixed = module.kind not in ("Linear", "Embedding") or len(weight) != 2
    if fixed or (kind == "Embedding" and "bias" in module.params) or (module.kind == "Embedding" and kind == "Linear"):
        return module
    return replace(module, kind=kind)


def _with_attention(given: Iterable[Module]) -> Iterable[Module]:
    """`nn.MultiheadAttention` is the one module that holds `in_proj_weight` and has a child `out_proj`."""
    for module in given:
        yield replace(module, kind="MultiheadAttention") if "in_proj_weight" in module.params else module


def _hidden(tree: ModuleTree, config: AdapterConfig) -> Iterable[str]:
    """Targets that might also meet modules without weights, which no header shows: PEFT would raise on those."""
    targets: Any = config.values.get("target_modules")
    if isinstance(targets, str):
        yield "a pattern may also meet modules without weights, which the base's header does not show"
        return
    numbers = {str(name).rpartition(".")[2] for name in targets or ()}
    gaps = _gaps(tree.modules)
    for name in sorted(numbers):
        if name.isascii() and name.isdigit() and any(int(name) in each for each in gaps.values()):
            yield f"the target {name} may also meet a module without weights, which the base's header does not show"


def _gaps(given: Iterable[Module]) -> Mapping[str, set[int]]:
    """Container → the numbers that its numbered children leave out."""
    children: dict[str, set[int]] = {}
    for module in given:
        parent, _, leaf = module.name.rpartition(".")
        if leaf.isascii() and leaf.isdigit():
            children.setdefault(parent, set()).add(int(leaf))
    return {parent: set(range(max(held))) - held for parent, held in children.items()}
