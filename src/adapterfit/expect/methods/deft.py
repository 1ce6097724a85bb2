"""DEFT: W' = (I - P proj) W + Q R, which takes a sub-space of the base out and puts another in.

Saved, relative to a module with I inputs and O outputs: `deft_P` (O, r) and, unless `para` is set, `deft_R` (r, I); r
is at most O. Source: peft 0.21.2 `tuners/deft/`.
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
PREFIX = "deft_"
TARGETS = "DEFT"
RENAMES: tuple[LoadRename, ...] = ()
_METHODS = ("qr", "relu")


def prepare(config: Mapping[str, Any]) -> None:
    """The checks of `DeftConfig.__post_init__`."""
    method = config.get("decomposition_method", "relu")
    if method not in _METHODS:
        fails(f"Unknown decomposition_method '{method}', must be one of {sorted(_METHODS)}.")
    no_layers_with_regex(config)


def inert(config: Mapping[str, Any]) -> bool:
    """`deft_R` starts as what P takes out of the base; without it something is only taken out."""
    return bool(config.get("init_weights", True)) and not config.get("para")


def layer(module: Module, _name: str, rank: int, config: Mapping[str, Any]) -> tuple[LayerSlot, ...]:
    """The tensors of one module."""
    if module.kind not in ("Linear", "Conv1D"):
        kinds = "`torch.nn.Linear` and `transformers.pytorch_utils.Conv1D`"
        unsupported(module, f"Currently, only {kinds} are supported.", "TypeError")
    width, height = features(module)
    rank = min(positive_rank(rank), height)
    slots = (parameter("deft_P", (height, rank)),)
    return slots if config.get("para") else (*slots, parameter("deft_R", (rank, width)))
