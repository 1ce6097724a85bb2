"""GRALORA: ΔW is cut into k · k blocks, each of low rank; optionally with one low-rank pair for the whole.

Saved, relative to a module with I inputs and O outputs: `gralora_A` (k, I / k, r), `gralora_B` (k, r, O / k), and with
`hybrid_r` h > 0 `gralora_A_general.weight` (h, I), `gralora_B_general.weight` (O, h). Source: peft 0.21.2 `tuners/gralora/`.
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
PREFIX = "gralora_"
TARGETS = "GRALORA"
RENAMES: tuple[LoadRename, ...] = ()


def prepare(config: Mapping[str, Any]) -> None:
    """The checks of `GraloraConfig.__post_init__`."""
    blocks, rank = config.get("gralora_k", 2), config.get("r")
    if isinstance(blocks, int) and blocks <= 0:
        fails(f"`gralora_k` should be a positive integer value but the value passed is {blocks}")
    if isinstance(blocks, int) and isinstance(rank, int) and rank % blocks:
        fails(f"r should be divisible by gralora_k, but got {rank} and {blocks}")


def inert(config: Mapping[str, Any]) -> bool:
    """`gralora_B` starts at zero."""
    return bool(config.get("init_weights", True))


def layer(module: Module, _name: str, rank: int, config: Mapping[str, Any]) -> tuple[LayerSlot, ...]:
    """The tensors of one module."""
    if module.kind not in ("Linear", "Conv1D"):
        kinds = "`torch.nn.Linear`, `transformers.pytorch_utils.Conv1D`"
        unsupported(module, f"Currently, only the following modules are supported: {kinds}.", "TypeError")
    positive_rank(rank)
    general = config.get("hybrid_r", 0)
    if isinstance(general, int) and general < 0:
        fails(f"`hybrid_r` should be a non-negative integer value but the value passed is {general}")
    general, blocks = whole(config, "hybrid_r", 0), whole(config, "gralora_k")
    width, height = features(module)
    for side, size in (("in_features", width), ("out_features", height)):
        if size % blocks:
            fails(f"{side} should be divisible by gralora_k, but got {size} and {blocks}")
    slots = (
        parameter("gralora_A", (blocks, width // blocks, rank)),
        parameter("gralora_B", (blocks, rank, height // blocks)),
    )
    if not general:
        return slots
    return (
        *slots,
        submodule("gralora_A_general", (general, width)),
        submodule("gralora_B_general", (height, general)),
    )
