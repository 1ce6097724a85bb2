"""BONE: blocks added to the base's weight; PEFT 0.14 to 0.18, taken over by MISS.

Saved, relative to a module with O outputs: `bone_block` (r, O), or (O / r, r, r) with `init_weights="bat"`. Source: peft 0.18.1
`tuners/bone/layer.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapterfit.expect.methods._layer import (
    LayerSlot,
    features,
    no_layers_with_regex,
    parameter,
    positive_rank,
    unsupported,
)
from adapterfit.records import LoadRename, Module

KIND = "tuner"
PREFIX = "bone_"
TARGETS = "LORA"
RENAMES: tuple[LoadRename, ...] = ()


def prepare(config: Mapping[str, Any]) -> None:
    """The checks of `BoneConfig.__post_init__`."""
    no_layers_with_regex(config)


def inert(config: Mapping[str, Any]) -> bool:
    """Blocks start at zero."""
    return bool(config.get("init_weights", True))


def layer(module: Module, _name: str, rank: int, config: Mapping[str, Any]) -> tuple[LayerSlot, ...]:
    """The tensors of one module."""
    if module.kind != "Linear":
        unsupported(module, "Currently, only the following modules are supported: `torch.nn.Linear`.")
    positive_rank(rank)
    height = features(module)[1]
    if config.get("init_weights") == "bat":
        return (parameter("bone_block", (height // rank, rank, rank)),)
    return (parameter("bone_block", (rank, height)),)
