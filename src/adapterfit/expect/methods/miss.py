"""MISS: ΔW repeats one block of r rows over the whole matrix. The successor of BONE.

Saved, relative to a module with I inputs and O outputs: `miss_block` (r, O); with `init_weights="bat"` (O / r, r, r), with
`"mini"` (r, mini_r). Source: peft 0.21.2 `tuners/miss/`.
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
    whole,
)
from adapterfit.records import LoadRename, Module

KIND = "tuner"
PREFIX = "miss_"
TARGETS = "MISS"
RENAMES: tuple[LoadRename, ...] = ()


def prepare(config: Mapping[str, Any]) -> None:
    """The checks of `MissConfig.__post_init__`."""
    no_layers_with_regex(config, alone=None)


def inert(config: Mapping[str, Any]) -> bool:
    """The block starts at zero."""
    return bool(config.get("init_weights", True))


def layer(module: Module, _name: str, rank: int, config: Mapping[str, Any]) -> tuple[LayerSlot, ...]:
    """The tensors of one module."""
    if module.kind != "Linear":
        unsupported(module, "Currently, only `torch.nn.Linear` (optionally quantized) is supported.", "TypeError")
    positive_rank(rank)
    width, height = features(module)
    if rank > width:
        fails(f"`r` ({rank}) must be less than or equal to in_features ({width})")
    init = config.get("init_weights")
    if init == "bat":
        if width % rank or height % rank:
            fails("The weight matrix must be fully divisible into [r, r] blocks.")
        return (parameter("miss_block", (height // rank, rank, rank)),)
    if init == "mini":
        small = whole(config, "mini_r")
        if height % small:
            # PEFT prints this without filling in the numbers.
            fails(
                "mini_r is divided along the out_features dimension. For optimal performance and implementation simplicity,"
                "it is recommended that out_features be divisible by mini_r.Error: {self.out_features} % mini_r != 0"
            )
        return (parameter("miss_block", (rank, small)),)
    return (parameter("miss_block", (rank, height)),)
