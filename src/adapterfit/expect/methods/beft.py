"""BEFT: a learned bias added to a module's output.

Saved, relative to a module with O outputs: `beft_bias` (1, O). Source: peft 0.21.2 `tuners/beft/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapterfit.expect.methods._layer import LayerSlot, features, parameter, unsupported
from adapterfit.records import LoadRename, Module

KIND = "tuner"
PREFIX = "beft_"
TARGETS = "BEFT"
RENAMES: tuple[LoadRename, ...] = ()


def prepare(_config: Mapping[str, Any]) -> None:
    """Nothing that a loaded config could trip."""


def inert(config: Mapping[str, Any]) -> bool:
    """The bias starts at zero."""
    return bool(config.get("init_weights", True))


def layer(module: Module, _name: str, _rank: int, _config: Mapping[str, Any]) -> tuple[LayerSlot, ...]:
    """The tensors of one module."""
    if module.kind != "Linear":
        unsupported(module, "Currently, only `torch.nn.Linear` is supported.", "TypeError")
    return (parameter("beft_bias", (1, features(module)[1])),)
