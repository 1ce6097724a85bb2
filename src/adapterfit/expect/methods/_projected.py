"""What the methods with one random projection for the whole model share: VeRA, PVeRA, RandLoRA."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapterfit.expect.methods._layer import LayerSlot, fails, features, second_name, whole
from adapterfit.expect.methods._layer import shared as on_tuner
from adapterfit.records import Module, Shape, Slot

Named = tuple[tuple[str, Shape], ...]


def largest(modules: tuple[Module, ...], method: str) -> tuple[int, int]:
    """The largest inputs and the largest outputs among the targets, for which the projection is made (`_find_dim`)."""
    sizes = [features(module) for module in modules if module.kind in ("Linear", "Conv1D")]
    if not sizes:
        fails(f"No layers types compatible with {method} were found. Please check `peft_config.target_modules`.")
    return max(width for width, _ in sizes), max(height for _, height in sizes)


def projection(config: Mapping[str, Any], prefix: str, times: int = 1) -> Named:
    """VeRA's and PVeRA's: A (times · r, largest I) and B (largest O, r), which `save_projection` puts into the file."""
    if not config.get("save_projection", True):
        return ()
    width, height = config["surveyed"]
    rank = whole(config, "r")
    return (f"{prefix}A", (times * rank, width)), (f"{prefix}B", (height, rank))


def held_by_layers(named: Named) -> tuple[LayerSlot, ...]:
    """The same tensors once more, under the names of each layer that holds them."""
    return tuple(second_name(name, "", shape) for name, shape in named)


def held_once(named: Named) -> tuple[Slot, ...]:
    """The slots of the file. PEFT refuses a file without A; a missing B it draws anew and says nothing."""
    return tuple(on_tuner(name, shape, if_missing=what) for (name, shape), what in zip(named, ("raises", "silent")))
