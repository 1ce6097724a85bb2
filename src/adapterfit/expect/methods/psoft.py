"""PSOFT: the base's r main directions are rotated among themselves, and optionally scaled on both sides.

Saved, relative to a module: `psoft_R.weight` (r (r - 1) / 2,), or (r, r) without `psoft_orth`; `psoft_R.vector_b` (r,) and
`psoft_R.vector_a` (r,) with `psoft_mag_b`, `psoft_mag_a`. The directions themselves come from the base and are not
saved. Source: peft 0.21.2 `tuners/psoft/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapterfit.expect.methods._layer import (
    LayerSlot,
    fails,
    features,
    no_layers_with_regex,
    submodule,
    whole,
)
from adapterfit.records import LoadRename, Module

KIND = "tuner"
PREFIX = "psoft_"
TARGETS = "PSOFT"
RENAMES: tuple[LoadRename, ...] = ()


def prepare(config: Mapping[str, Any]) -> None:
    """The checks of `PsoftConfig.__post_init__`."""
    no_layers_with_regex(config)
    rank = config.get("r")
    if isinstance(rank, int) and rank <= 0:
        fails(f"`r` must be a positive integer; got {rank}.")
    for field, allowed in (("ab_svd_init", ("pissa_init", "psoft_init")), ("psoft_svd", ("full", "lowrank"))):
        if field in config and config[field] not in allowed:
            fails(f"`{field}` must be one of {sorted(allowed)}; got {config[field]!r}.")
    terms, most = config.get("num_cayley_neumann_terms", 5), config.get("cayley_neumann_eps")
    if config.get("use_cayley_neumann") and isinstance(terms, int) and terms <= 0:
        fails(f"`num_cayley_neumann_terms` must be a positive integer; got {terms}.")
    if config.get("use_cayley_neumann") and isinstance(most, (int, float)) and not 0.0 < most < 1.0:
        fails(f"`cayley_neumann_eps` must be in (0, 1) when set; got {most}.")


def inert(config: Mapping[str, Any]) -> bool:
    """The rotation starts as none."""
    return bool(config.get("init_weights", True))


def layer(module: Module, _name: str, _rank: int, config: Mapping[str, Any]) -> tuple[LayerSlot, ...]:
    """The tensors of one module."""
    if module.kind != "Linear":
        name = module.class_name or module.kind
        fails(f"Target module {name}(…) is not supported by minimal PSOFT. Only torch.nn.Linear is supported.")
    rank = whole(config, "r")
    width, height = features(module)
    if rank > min(width, height):
        sides = f"({width}, {height})"
        fails(f"`r` ({rank}) must be less than or equal to min(in_features, out_features) {sides}")
    turned = config.get("psoft_orth", True)
    slots = [submodule("psoft_R", (rank * (rank - 1) // 2,) if turned else (rank, rank))]
    for field, leaf in (("psoft_mag_b", "vector_b"), ("psoft_mag_a", "vector_a")):
        if config.get(field, True):
            slots.append(submodule("psoft_R", (rank,), leaf))
    return tuple(slots)
