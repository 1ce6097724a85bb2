"""SUPERTUNING: the largest (or smallest) few entries of the base's weight are trained; optionally a LoRA beside them.

Saved, relative to a module with I inputs and O outputs and n = I · O · (1 - sparsity) entries: `supertuning_values` (n,),
with `save_precomputed_indices` `supertuning_indices` (n,), and with `r` `supertuning_lora_A.weight` (r, I),
`supertuning_lora_B.weight` (O, r). Without saved indices they are found anew in the base. Source: peft 0.21.2
`tuners/supertuning/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapterfit.expect.methods._layer import (
    LayerSlot,
    Undecided,
    fails,
    features,
    parameter,
    submodule,
    unsupported,
    whole,
)
from adapterfit.records import LoadRename, Module

KIND = "tuner"
PREFIX = "supertuning_"
TARGETS = "SUPERTUNING"
RENAMES: tuple[LoadRename, ...] = ()


def prepare(config: Mapping[str, Any]) -> None:
    """The checks of `SupertuningConfig.__post_init__`."""
    sparsity, rank, dropout = config.get("sparsity", 0.99), config.get("r"), config.get("lora_dropout", 0.0)
    if isinstance(sparsity, (int, float)) and not 0.0 <= sparsity < 1.0:
        fails(f"sparsity must be in [0.0, 1.0), got {sparsity}")
    if rank is not None and (not isinstance(rank, int) or rank <= 0):
        fails(f"r must be a positive integer or None, got {rank!r}")
    if rank is None and config.get("lora_alpha") is not None:
        fails("lora_alpha is set but r is None — Supra mode requires an explicit r.")
    if isinstance(dropout, (int, float)) and not 0.0 <= dropout < 1.0:
        fails(f"lora_dropout must be in [0.0, 1.0), got {dropout}")


def inert(config: Mapping[str, Any]) -> bool:
    """Values and B start at zero."""
    return bool(config.get("init_weights", True))


def layer(module: Module, _name: str, _rank: int, config: Mapping[str, Any]) -> tuple[LayerSlot, ...]:
    """The tensors of one module."""
    if module.kind != "Linear":
        unsupported(module, "Currently, only `torch.nn.Linear` is supported.", "TypeError")
    width, height = features(module)
    sparsity = config.get("sparsity", 0.99)
    if not isinstance(sparsity, (int, float)):
        raise Undecided(f"sparsity {sparsity!r} is no number")
    count = int(width * height * (1 - sparsity))
    if count < 1:
        fails(
            f"sparsity={sparsity} leaves no trainable entries for a weight with {width * height} elements — no parameter "
            "would be adapted. Lower the sparsity so at least one entry is trainable."
        )
    slots = [parameter("supertuning_values", (count,))]
    if config.get("save_precomputed_indices", True):
        slots.append(parameter("supertuning_indices", (count,)))
    if config.get("r") is not None:
        rank = whole(config, "r")
        slots += [submodule("supertuning_lora_A", (rank, width)), submodule("supertuning_lora_B", (height, rank))]
    return tuple(slots)
