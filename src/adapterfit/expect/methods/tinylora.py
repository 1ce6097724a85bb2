"""TINYLORA: ΔW = B (Σ v_i P_i) A; A and B are the base's main directions, P is random, only v is trained.

Saved, relative to a module with I inputs and O outputs and r at most min(I, O): `tinylora_A` (r, I), `tinylora_B` (O, r), with
`save_projection` `tinylora_P` (u, r, r); Embedding `tinylora_A` (r, dim), `tinylora_B` (num, r); and once per group of modules
`base_model.tinylora_v.<group>` (u,). `weight_tying` says how many modules share a group. A missing vector stays as it
started, without a word. Source: peft 0.21.2 `tuners/tinylora/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapterfit.expect.methods._layer import (
    LayerSlot,
    Undecided,
    fails,
    features,
    no_layers_with_regex,
    parameter,
    second_name,
    whole,
)
from adapterfit.expect.methods._layer import shared as on_tuner
from adapterfit.records import LoadRename, Module, ModuleTree, Slot

KIND = "tuner"
PREFIX = "tinylora_"
TARGETS = "TINYLORA"
RENAMES: tuple[LoadRename, ...] = ()
_KINDS = ("Linear", "Conv1D", "Embedding")


def prepare(config: Mapping[str, Any]) -> None:
    """The checks of `TinyLoraConfig.__post_init__`."""
    no_layers_with_regex(config, beside=(), alone="")
    for field in ("r", "u"):
        value = config.get(field)
        if isinstance(value, int) and value <= 0:
            fails(f"`{field}` should be a positive integer value but the value passed is {value}")
    tying = config.get("weight_tying", 0.0)
    if isinstance(tying, (int, float)) and not 0.0 <= tying <= 1.0:
        fails(f"`weight_tying` should be a float between 0.0 and 1.0 but the value passed is {tying}")


def inert(config: Mapping[str, Any]) -> bool:
    """Vectors start at zero only where `init_weights` is true."""
    return config.get("init_weights", True) is True


def survey(modules: tuple[Module, ...], config: Mapping[str, Any], _tree: ModuleTree) -> tuple[str, ...]:
    """The groups that get a vector, in order."""
    total = sum(1 for module in modules if module.kind in _KINDS)
    tying = config.get("weight_tying", 0.0)
    if not isinstance(tying, (int, float)):
        raise Undecided(f"weight_tying {tying!r} is no number")
    groups = max(1, round(total * (1.0 - tying)))
    size = max(1, total // groups)
    return tuple(dict.fromkeys(str(min(at // size, groups - 1)) for at in range(total)))


def layer(module: Module, name: str, _rank: int, config: Mapping[str, Any]) -> tuple[LayerSlot, ...]:
    """The tensors of one module."""
    if module.kind not in _KINDS:
        fails(repr(name), "KeyError")
    width, height = features(module)
    if module.kind == "Embedding":
        width, height = height, width
    rank, length = min(whole(config, "r"), width, height), whole(config, "u")
    slots = [parameter(name, shape, still=True) for name, shape in _directions(width, height, rank)]
    saved = bool(config.get("save_projection", True))
    if saved or module.kind == "Embedding":  # an embedding's stays in the state dict, and still is not saved
        slots.append(parameter("tinylora_P", (length, rank, rank), optional=not saved, still=True))
    return (*slots, *(second_name("tinylora_v", group, (length,)) for group in config["surveyed"]))


def _directions(width: int, height: int, rank: int) -> tuple[tuple[str, tuple[int, int]], ...]:
    return ("tinylora_A", (rank, width)), ("tinylora_B", (height, rank))


def shared(config: Mapping[str, Any]) -> tuple[Slot, ...]:
    """The vectors."""
    shape = (whole(config, "u"),)
    return tuple(on_tuner("tinylora_v", shape, group, if_missing="silent") for group in config["surveyed"])
