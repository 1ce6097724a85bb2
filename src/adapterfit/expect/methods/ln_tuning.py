"""LN_TUNING: whole modules, meant for normalizations, are trained as copies.

Saved, relative to a module: `ln_tuning_layers.<parameter>`, of the shape it has in the base. Source: peft 0.21.2
`tuners/ln_tuning/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapterfit.computed import is_computed
from adapterfit.expect.methods._layer import LayerSlot, Undecided, fails, submodule
from adapterfit.records import LoadRename, Module, ModuleTree

KIND = "tuner"
PREFIX = "ln_tuning_"
TARGETS = "LN_TUNING"
RENAMES: tuple[LoadRename, ...] = ()


def prepare(_config: Mapping[str, Any]) -> None:
    """Nothing that a loaded config could trip."""


def inert(_config: Mapping[str, Any]) -> bool:
    """A copy starts as what it is a copy of."""
    return True


def survey(modules: tuple[Module, ...], _config: Mapping[str, Any], _tree: ModuleTree) -> None:
    """A module inside a copied one is no longer where PEFT looks for it."""
    copied: list[str] = []
    for module in modules:
        outer = next((name for name in copied if module.name.startswith(f"{name}.")), None)
        if outer is not None:
            attribute = module.name[len(outer) + 1 :].partition(".")[0]
            fails(f"LNTuningLayer has no attribute `{attribute}`", "AttributeError")
        copied.append(module.name)


def layer(module: Module, _name: str, _rank: int, _config: Mapping[str, Any]) -> tuple[LayerSlot, ...]:
    """The tensors of one module."""
    if module.kind in ("container", "MultiheadAttention") or "BatchNorm" in module.class_name or is_computed(module):
        raise Undecided(f"LN_TUNING copies {module.name} with all that is inside; its buffers are not known")
    return tuple(submodule("ln_tuning_layers", shape, name) for name, shape in module.params.items())
