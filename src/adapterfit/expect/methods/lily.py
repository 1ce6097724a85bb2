"""LILY: layers share their low-rank factors; a router in every layer mixes several B.

Saved, relative to a module with I inputs and O outputs: `lily_A.weight` (r, I), `lily_B.weight` (num_B · r, O),
`lily_router.weight` (num_B, r). All modules of one entry of `target_modules` and one shape share their B, each
`stride_A` of them in a row their A; the file holds them once per layer. Source: peft 0.21.2 `tuners/lily/`.
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
    positive_rank,
    submodule,
    whole,
)
from adapterfit.records import LoadRename, Module, ModuleTree, Shape

KIND = "tuner"
PREFIX = "lily_"
TARGETS = "LILY"
RENAMES: tuple[LoadRename, ...] = ()


def prepare(config: Mapping[str, Any]) -> None:
    """The checks of `LilyConfig.__post_init__`."""
    no_layers_with_regex(config, beside=(), alone="")
    stride, number = config.get("stride_A", 1), config.get("num_B", 2)
    if isinstance(stride, int) and stride < 1:
        fails("`stride_A` must be at least 1.")
    if isinstance(number, int) and number < 2:
        fails("`num_B` must be at least 2 for the router to be trained.")


def inert(config: Mapping[str, Any]) -> bool:
    """`lily_B` starts at zero."""
    return bool(config.get("init_weights", True))


def survey(modules: tuple[Module, ...], config: Mapping[str, Any], _tree: ModuleTree) -> Mapping[str, tuple[str, str]]:
    """For every module the modules whose A and whose B it uses; itself where it is the first of its group."""
    stride = whole(config, "stride_A")
    groups: dict[tuple[str, Shape], list[str]] = {}
    for module in modules:
        entry = _entry(module.name, config.get("target_modules"))
        if module.kind == "Linear" and entry is not None:
            groups.setdefault((entry, module.params["weight"]), []).append(module.name)
    owners = {module.name: (module.name, module.name) for module in modules}
    for names in groups.values():
        owners.update((name, (names[at // stride * stride], names[0])) for at, name in enumerate(names))
    return owners


def _entry(name: str, targets: Any) -> str | None:
    """The entry of the targets that a module belongs to, by a plain `endswith`."""
    if isinstance(targets, str):
        return targets
    hits = sorted({target for target in targets or () if name.endswith(target)})
    if len(hits) > 1:
        raise Undecided(f"{name} ends with several entries of target_modules; PEFT takes one by the order of a set")
    return hits[0] if hits else None


def layer(module: Module, name: str, rank: int, config: Mapping[str, Any]) -> tuple[LayerSlot, ...]:
    """The tensors of one module."""
    if module.kind != "Linear":
        kind = module.class_name or module.kind
        fails(f"Lily does not support target modules of type <class '…{kind}'> yet.", "NotImplementedError")
    positive_rank(rank)
    width, height = features(module)
    number = whole(config, "num_B")
    first_a, first_b = config["surveyed"][name]
    return (
        _owned(submodule("lily_A", (rank, width)), name, first_a),
        _owned(submodule("lily_B", (number * rank, height)), name, first_b),
        submodule("lily_router", (number, rank)),
    )


def _owned(slot: LayerSlot, name: str, owner: str) -> LayerSlot:
    return slot if name == owner else slot._replace(shares=f"base_model.model.{owner}.{slot.model_key}")
