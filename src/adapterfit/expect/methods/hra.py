"""HRA: the base's weight times a chain of r Householder reflections.

Saved, relative to a module with I inputs: `hra_u` (I, r); Conv2d (I · k · k, r), k being the kernel's height. Source:
peft 0.21.2 `tuners/hra/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapterfit.expect.methods._layer import (
    LayerSlot,
    fails,
    features,
    no_layers_with_regex,
    parameter,
    positive_rank,
    unsupported,
)
from adapterfit.records import LoadRename, Module

KIND = "tuner"
PREFIX = "hra_"
TARGETS = "HRA"
RENAMES: tuple[LoadRename, ...] = ()


def prepare(config: Mapping[str, Any]) -> None:
    """The checks of `HRAConfig.__post_init__`."""
    no_layers_with_regex(config)


def inert(config: Mapping[str, Any]) -> bool:
    """Reflections start in equal pairs, which undo each other; an odd one out does not, nor does a basis made of them."""
    rank = config.get("r")
    even = isinstance(rank, int) and rank % 2 == 0
    return bool(config.get("init_weights", True)) and even and not config.get("apply_GS")


def layer(module: Module, _name: str, rank: int, _config: Mapping[str, Any]) -> tuple[LayerSlot, ...]:
    """The tensors of one module."""
    if module.kind not in ("Linear", "Conv2d"):
        unsupported(module, "Currently, only `torch.nn.Linear` and `torch.nn.Conv2d` are supported.", "TypeError")
    positive_rank(rank)
    width = features(module)[0]
    if module.kind == "Conv2d":
        if module.groups > 1:
            name = module.class_name or module.kind
            line = f"HRA does not support {name} layers with groups > 1 (got groups={module.groups})."
            fails(line, "NotImplementedError")
        width *= module.params["weight"][2] ** 2
    return (parameter("hra_u", (width, rank)),)
