"""Weights as the runtime names them → tensors of the checkpoint, where one goes over to the other as it is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from adapterfit.errors import BadInput
from adapterfit.expect import modules
from adapterfit.expect.checkpoint import Loader, Rule, load_rules
from adapterfit.expect.fields import Facts, Fields
from adapterfit.expect.growth import Growth
from adapterfit.records import Base, TensorInfo


class Pieces(NamedTuple):
    """The tensors that a parameter is made of: `parts[source]`, expert after expert, and the operations in their order."""

    parts: tuple[tuple[TensorInfo, ...], ...]
    ops: tuple[tuple[str | int, ...], ...]


def places(base: Base, class_name: str) -> Mapping[str, TensorInfo]:
    """Name of a parameter → the one tensor that becomes it. What is joined, split or turned on the way is left out.

    For a class without facts the names of the checkpoint are taken as they are.
    """
    loader = _loader(base, class_name)
    if loader is None:
        return base.tensors
    placed: dict[str, list[TensorInfo]] = {}
    for name, info in base.tensors.items():
        target, converter, _ = loader.place(name)
        if converter is None:
            placed.setdefault(target, []).append(info)
    return {name: infos[0] for name, infos in placed.items() if len(infos) == 1}


def pieces(base: Base, class_name: str) -> Mapping[str, Pieces]:
    """Name of a parameter that is stacked, joined or turned on the way → what it is made of."""
    loader = _loader(base, class_name)
    made: dict[str, dict[int, list[TensorInfo]]] = {}
    ops: dict[str, tuple[tuple[str | int, ...], ...]] = {}
    if loader is not None:
        for name, info in base.tensors.items():
            target, converter, source = loader.place(name)
            if converter is not None and len(converter.targets) == 1:
                made.setdefault(target, {}).setdefault(source, []).append(info)
                ops[target] = converter.ops
    return {
        target: Pieces(tuple(tuple(sorted(parts[at], key=_numbers)) for at in sorted(parts)), ops[target])
        for target, parts in made.items()
    }


def _numbers(info: TensorInfo) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", info.name)]


def _loader(base: Base, class_name: str) -> Loader | None:
    """How transformers loads this class; None where there are no facts of it, or its rules are not known."""
    found = modules.facts(base.model_type)
    if found is None or class_name not in found["classes"]:
        return None
    try:
        tree = modules.tree(base, class_name)
    except BadInput:
        return None
    rules = _rules(base, found, class_name)
    return None if any("unknown" in rule for rule in rules) else Loader(tree, rules)


def _rules(base: Base, found: Facts, class_name: str) -> list[Rule]:
    growth = Growth(Fields(found, base.config or {}, modules.facts), modules.facts, modules.common)
    growth.grow(found, class_name)
    return load_rules(found, class_name, growth.sub_models, modules.common)
