"""UNILORA: A and B of every module are put together from the entries of one vector.

Saved: once `base_model.unilora_theta_d` (theta_d_length,); with `save_indices`, relative to a module with I inputs and O
outputs, `unilora_indices_A` and `unilora_scales_A` (r, I), `unilora_indices_B` and `unilora_scales_B` (O, r). Without them
they are drawn anew from `proj_seed`. Source: peft 0.21.2 `tuners/unilora/`.
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
    second_name,
    unsupported,
    whole,
)
from adapterfit.expect.methods._layer import shared as on_tuner
from adapterfit.records import LoadRename, Module, Slot

KIND = "tuner"
PREFIX = "unilora_"
TARGETS = "UNILORA"
RENAMES: tuple[LoadRename, ...] = ()
_BIASES = ("none", "all", "unilora_only")


def prepare(config: Mapping[str, Any]) -> None:
    """The checks of `UniLoraConfig.__post_init__`."""
    for field in ("r", "theta_d_length"):
        value = config.get(field)
        if isinstance(value, int) and value <= 0:
            fails(f"`{field}` should be a positive integer, got {value}.")
    dropout, bound = config.get("unilora_dropout", 0.0), config.get("init_theta_d_bound", 0.02)
    if isinstance(dropout, (int, float)) and not 0.0 <= dropout <= 1.0:
        fails(f"`unilora_dropout` should be between 0.0 and 1.0, got {dropout}.")
    if isinstance(bound, (int, float)) and bound <= 0:
        fails(f"`init_theta_d_bound` should be a positive float, got {bound}.")
    if config.get("bias", "none") not in _BIASES:
        fails(f"`bias` should be 'none', 'all', or 'unilora_only', got {config['bias']}.")
    no_layers_with_regex(config, alone=None)


def inert(_config: Mapping[str, Any]) -> bool:
    """The vector starts at random."""
    return False


def layer(module: Module, _name: str, rank: int, config: Mapping[str, Any]) -> tuple[LayerSlot, ...]:
    """The tensors of one module."""
    if module.kind not in ("Linear", "Conv1D"):
        kinds = "`torch.nn.Linear`, `transformers.pytorch_utils.Conv1D`"
        unsupported(module, f"Currently, only the following modules are supported: {kinds}.", "TypeError")
    rank = whole(config, "r")
    width, height = features(module)
    vector = second_name("unilora_theta_d", "", (whole(config, "theta_d_length"),))
    if not config.get("save_indices"):
        return (vector,)
    return (
        parameter("unilora_indices_A", (rank, width)),
        parameter("unilora_indices_B", (height, rank)),
        parameter("unilora_scales_A", (rank, width)),
        parameter("unilora_scales_B", (height, rank)),
        vector,
    )


def shared(config: Mapping[str, Any]) -> tuple[Slot, ...]:
    """The vector."""
    return (on_tuner("unilora_theta_d", (whole(config, "theta_d_length"),)),)
