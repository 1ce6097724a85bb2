"""Weights as the runtime names them → tensors of the checkpoint, where one goes over to the other as it is."""

from __future__ import annotations

from collections.abc import Mapping

from adapterfit.errors import BadInput
from adapterfit.expect import modules
from adapterfit.expect.checkpoint import Loader, Rule, load_rules
from adapterfit.expect.fields import Facts, Fields
from adapterfit.expect.growth import Growth
from adapterfit.records import Base, TensorInfo


def places(base: Base, class_name: str) -> Mapping[str, TensorInfo]:
    """Name of a parameter → the one tensor that becomes it. What is joined, split or turned on the way is left out.

    For a class without facts the names of the checkpoint are taken as they are.
    """
    found = modules.facts(base.model_type)
    if found is None or class_name not in found["classes"]:
        return base.tensors
    try:
        tree = modules.tree(base, class_name)
    except BadInput:
        return base.tensors
    rules = _rules(base, found, class_name)
    if any("unknown" in rule for rule in rules):
        return base.tensors
    loader = Loader(tree, rules)
    placed: dict[str, list[TensorInfo]] = {}
    for name, info in base.tensors.items():
        target, converter, _ = loader.place(name)
        if converter is None:
            placed.setdefault(target, []).append(info)
    return {name: infos[0] for name, infos in placed.items() if len(infos) == 1}


def _rules(base: Base, found: Facts, class_name: str) -> list[Rule]:
    growth = Growth(Fields(found, base.config or {}, modules.facts), modules.facts, modules.common)
    growth.grow(found, class_name)
    return load_rules(found, class_name, growth.sub_models, modules.common)
