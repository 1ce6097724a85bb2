"""SHIRA: a sparse, random part of the base's weight is trained.

Saved, relative to a module with I inputs and O outputs: `shira_weight` (r (I + O),), `shira_indices` (2, r (I + O)), where
each entry lies. PEFT reads the indices by name, whatever their shape, and draws new ones, without a word, where the file
has none. Source: peft 0.21.2 `tuners/shira/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapterfit.expect.methods._layer import LayerSlot, fails, features, parameter, positive_rank, unsupported
from adapterfit.records import LoadRename, Module

KIND = "tuner"
PREFIX = "shira_"
TARGETS = "SHIRA"
RENAMES: tuple[LoadRename, ...] = ()


def prepare(_config: Mapping[str, Any]) -> None:
    """Nothing that a loaded config could trip."""


def inert(config: Mapping[str, Any]) -> bool:
    """The weights start at zero."""
    return bool(config.get("init_weights", True))


def layer(module: Module, _name: str, rank: int, _config: Mapping[str, Any]) -> tuple[LayerSlot, ...]:
    """The tensors of one module."""
    if module.kind != "Linear":
        line = "Currently, only the following modules are supported: `torch.nn.Linear`."
        unsupported(module, line, "TypeError")
    positive_rank(rank)
    width, height = features(module)
    count = rank * (width + height)
    if count > width * height:
        fails(
            f"The set rank {rank} results in more shira params than the total number of params in the base layer "
            f"{width * height} and this is not allowed."
        )
    return (
        parameter("shira_weight", (count,)),
        LayerSlot("shira_indices", "shira_indices", (2, count), silent=True),
    )
