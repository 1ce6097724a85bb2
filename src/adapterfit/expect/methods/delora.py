"""DELORA: ΔW = B diag(λ / (r‖a‖‖b‖)) A, scaled by the norms of the base's columns.

Saved, relative to a module with I inputs and O outputs: `delora_A` (r, I), `delora_B` (O, r), `delora_lambda` (1), and
`delora_w_norm` (I), the norms of the base it was trained on. Source: peft 0.21.2 `tuners/delora/`.
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
PREFIX = "delora_"
TARGETS = "DELORA"
RENAMES: tuple[LoadRename, ...] = ()


def prepare(config: Mapping[str, Any]) -> None:
    """The checks of `DeloraConfig.__post_init__`."""
    no_layers_with_regex(config, beside=("layers_to_transform",))
    rank = config.get("r")
    if isinstance(rank, int) and rank <= 0:
        fails(f"`r` must be a positive integer; got {rank}.")


def inert(config: Mapping[str, Any]) -> bool:
    """`delora_B` starts at zero."""
    return config.get("init_weights", True) is True


def layer(module: Module, _name: str, rank: int, _config: Mapping[str, Any]) -> tuple[LayerSlot, ...]:
    """The tensors of one module."""
    if module.kind != "Linear":
        unsupported(module, "Currently, only `torch.nn.Linear` is supported.", "TypeError")
    positive_rank(rank)
    width, height = features(module)
    return (
        parameter("delora_A", (rank, width)),
        parameter("delora_B", (height, rank)),
        parameter("delora_lambda", (1,)),
        parameter("delora_w_norm", (width,)),
    )
