"""ROAD: a module's output is rotated and scaled in pairs.

Saved, relative to a module with O outputs: `road_theta` and `road_alpha`, each (O / 2,) for `road_1`, (O,) for `road_2`,
(2 O,) for `road_4`; `group_size` divides O. Source: peft 0.21.2 `tuners/road/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapterfit.expect.methods._layer import LayerSlot, fails, features, parameter, unsupported, whole
from adapterfit.records import LoadRename, Module

KIND = "tuner"
PREFIX = "road_"
TARGETS = "ROAD"
RENAMES: tuple[LoadRename, ...] = ()
_VARIANTS = ("road_1", "road_2", "road_4")


def prepare(config: Mapping[str, Any]) -> None:
    """The checks of `RoadConfig.__post_init__`."""
    variant = config.get("variant", "road_1")
    if variant not in _VARIANTS:
        fails(f"Invalid variant {variant} specified. Please choose from road_1, road_2 or road_4")
    size = config.get("group_size", 64)
    if isinstance(size, int) and (size <= 0 or size % 2):
        fails(f"The group_size must be divisible by 2 when using RoadLayer, but got {size}.")


def inert(config: Mapping[str, Any]) -> bool:
    """Angles start at zero, scales at one."""
    return config.get("init_weights", True) is not False


def layer(module: Module, _name: str, _rank: int, config: Mapping[str, Any]) -> tuple[LayerSlot, ...]:
    """The tensors of one module."""
    if module.kind != "Linear":
        unsupported(module, "Currently, only the following modules are supported: `torch.nn.Linear`.")
    height = features(module)[1]
    size = whole(config, "group_size")
    if height % size:
        fails(f"The out_features of the base layer must be divisible by group_size ({size}) when using RoadLayer.")
    variant = config.get("variant", "road_1")
    length = height // 2 if variant == "road_1" else height if variant == "road_2" else height * 2
    return parameter("road_theta", (length,)), parameter("road_alpha", (length,))
