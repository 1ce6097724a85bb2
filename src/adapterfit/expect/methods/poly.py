"""POLY: every module has several low-rank adapters ("skills"), mixed per task by a learned router.

Saved, relative to a module with I inputs and O outputs: `poly_router.module_logits` (n_tasks, n_splits · n_skills),
`poly_lora_A` (n_splits, n_skills, I / n_splits, r), `poly_lora_B` (n_splits, n_skills, r, O / n_splits). Source: peft
0.21.2 `tuners/poly/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapterfit.expect.methods._layer import (
    LayerSlot,
    fails,
    features,
    parameter,
    positive_rank,
    submodule,
    unsupported,
    whole,
)
from adapterfit.records import LoadRename, Module

KIND = "tuner"
PREFIX = "poly_"
TARGETS = "POLY"
RENAMES: tuple[LoadRename, ...] = ()


def prepare(_config: Mapping[str, Any]) -> None:
    """Nothing that a loaded config could trip."""


def inert(config: Mapping[str, Any]) -> bool:
    """`poly_lora_B` starts at zero."""
    return bool(config.get("init_weights", True))


def layer(module: Module, _name: str, rank: int, config: Mapping[str, Any]) -> tuple[LayerSlot, ...]:
    """The tensors of one module."""
    if module.kind != "Linear":
        line = "Currently, only the following modules are supported: `torch.nn.Linear`."
        unsupported(module, line, "TypeError")
    positive_rank(rank)
    width, height = features(module)
    tasks, skills, splits = (whole(config, key) for key in ("n_tasks", "n_skills", "n_splits"))
    kind = config.get("poly_type", "poly")
    if kind != "poly":
        fails(f"Unsupported poly_type: {kind}. Currently, only the following types are supported: `poly`.")
    return (
        submodule("poly_router", (tasks, splits * skills), "module_logits"),
        parameter("poly_lora_A", (splits, skills, width // splits, rank)),
        parameter("poly_lora_B", (splits, skills, rank, height // splits)),
    )
