"""LOHA: ΔW = scale · (W1a W1b) ∘ (W2a W2b).

Saved, relative to a module: `hada_w1_a` (O, r), `hada_w1_b` (r, I·k), `hada_w2_a`, `hada_w2_b` likewise; with
`use_effective_conv2d` on a larger kernel `hada_t1`, `hada_t2` (r, r, kh, kw) and `*_a` (r, O), `*_b` (r, I).
Source: peft 0.21.2 `tuners/loha/layer.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapterfit.expect.methods._layer import (
    InjectionFails,
    LayerSlot,
    features,
    no_layers_with_regex,
    parameter,
    positive_rank,
)
from adapterfit.records import LoadRename, Module

KIND = "tuner"
PREFIX = "hada_"
TARGETS = "LOHA"
RENAMES: tuple[LoadRename, ...] = ()
CONVOLUTIONS = ("Conv1d", "Conv2d")


def prepare(config: Mapping[str, Any]) -> None:
    """The checks of `LoHaConfig.__post_init__`."""
    no_layers_with_regex(config, beside=())


def inert(config: Mapping[str, Any]) -> bool:
    """`hada_w2_b` starts at zero."""
    return bool(config.get("init_weights", True))


def layer(module: Module, _name: str, rank: int, config: Mapping[str, Any]) -> tuple[LayerSlot, ...]:
    """The tensors of one module."""
    refuse_unknown(module)
    positive_rank(rank)
    width, height = features(module)
    kernel = module.params["weight"][2:] if module.kind in CONVOLUTIONS else ()
    width = width // module.groups
    if kernel and config.get("use_effective_conv2d") and any(size != 1 for size in kernel):
        core = (rank, rank, *kernel, *((1,) if len(kernel) == 1 else ()))
        factors = (("hada_w1_a", (rank, height)), ("hada_w1_b", (rank, width)))
        more = (("hada_w2_a", (rank, height)), ("hada_w2_b", (rank, width)))
        return tuple(parameter(name, shape) for name, shape in (*factors, *more, ("hada_t1", core), ("hada_t2", core)))
    for size in kernel:
        width *= size
    return (
        parameter("hada_w1_a", (height, rank)),
        parameter("hada_w1_b", (rank, width)),
        parameter("hada_w2_a", (height, rank)),
        parameter("hada_w2_b", (rank, width)),
    )


def refuse_unknown(module: Module) -> None:
    """PEFT's refusal, which LoHa and LoKr share."""
    if module.kind not in ("Linear", *CONVOLUTIONS):
        name = module.class_name or module.kind
        raise InjectionFails(
            "TypeError",
            f"Target module of type <class '…{name}'> not supported, currently only adapters for "
            "Conv2d, Conv1d, Linear are supported",
        )
