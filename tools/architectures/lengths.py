"""Lists in a config whose length shapes the tree, though the facts do not know it: found by trying other lengths."""

from __future__ import annotations

import copy
from typing import Any

from adapterfit.expect import modules
from architectures import proof
from architectures.sample import Sampler, environment


def unproven(model_type: str) -> dict[str, Any]:
    """`len(field)` → the default's length, for lists of which another length makes the facts wrong without a doubt.

    Lists of numbers that are null by default are tried with numbers; there the field itself is told, with null.
    """
    import random

    found = modules.facts(model_type)
    if found is None:
        return {}
    sampler = Sampler(model_type, random.Random(0))
    lengths: dict[str, Any] = {}
    for name, field in sampler.annotated.items():
        empty = field.default is None and "list[int]" in str(field.type) and name not in found["fixed"]
        if empty and any(_wrong(model_type, cls, {name: given}) for cls in found["classes"] for given in ([1], [0, 2])):
            lengths[name] = None
    for name, value in environment(sampler.default).items():
        listed = isinstance(value, list) and len(value) > 1
        if listed and name not in found["fixed"] and f"len({name})" not in found["fixed"]:
            wrong = any(_wrong(model_type, cls, _raw(name, value, by)) for cls in found["classes"] for by in (-1, 1))
            if wrong:
                lengths[f"len({name})"] = len(value)
    return lengths


def _raw(name: str, value: list[Any], by: int) -> dict[str, Any]:
    """A config.json that gives this list alone, shorter or longer by one."""
    raw: dict[str, Any] = {}
    inner = raw
    *heads, leaf = name.split(".")
    for head in heads:
        inner = inner.setdefault(head, {})
    inner[leaf] = value[:-1] if by < 0 else [*value, value[-1]]
    return raw


def _wrong(model_type: str, class_name: str, raw: dict[str, Any]) -> bool:
    from transformers import AutoConfig

    try:
        model = proof.on_meta(class_name, AutoConfig.for_model(model_type, **copy.deepcopy(raw)))
    except Exception:
        return False
    return proof.verdict(model_type, class_name, raw, model)[0] == "wrong"
