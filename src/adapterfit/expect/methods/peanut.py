"""PEANUT: ΔW is a small network applied to the base's own weight.

Saved, relative to a module with O outputs: `peanut_A.weight` (r, O), `peanut_B.weight` (O, r), and per layer i of `depth`
`peanut_encoders.<i>.weight` and `peanut_decoders.<i>.weight` (r, r). Source: peft 0.21.2 `tuners/peanut/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapterfit import limits
from adapterfit.expect.methods._layer import (
    ADAPTER,
    LayerSlot,
    Undecided,
    fails,
    features,
    no_layers_with_regex,
    submodule,
    whole,
)
from adapterfit.records import LoadRename, Module

KIND = "tuner"
PREFIX = "peanut_"
TARGETS = "PEANUT"
RENAMES: tuple[LoadRename, ...] = ()
#: The activations of transformers 5.23 (`ACT2FN`).
_ACTIVATIONS = (
    "gelu", "gelu_10", "gelu_accurate", "gelu_fast", "gelu_new", "gelu_python", "gelu_python_tanh", "gelu_pytorch_tanh",
    "hardswish", "laplace", "leaky_relu", "linear", "mish", "prelu", "quick_gelu", "relu", "relu2", "relu6", "sigmoid",
    "silu", "sqrtsoftplus", "swish", "tanh", "xielu",
)  # fmt: skip


def prepare(config: Mapping[str, Any]) -> None:
    """The checks of `PeanutConfig.__post_init__`."""
    no_layers_with_regex(config, beside=(), alone="")
    rank, depth = config.get("r"), config.get("depth")
    if isinstance(rank, int) and rank <= 0:
        fails("`r` must be a positive integer.")
    if isinstance(depth, int) and depth < 0:
        fails("`depth` can only be a non-negative integer.")
    function = config.get("act_fn", "relu")
    if function not in _ACTIVATIONS:
        fails(f"Unsupported `act_fn`: {function}. Must be one of {list(_ACTIVATIONS)}.")


def inert(config: Mapping[str, Any]) -> bool:
    """`peanut_B` starts at zero."""
    return bool(config.get("init_weights", True))


def layer(module: Module, _name: str, _rank: int, config: Mapping[str, Any]) -> tuple[LayerSlot, ...]:
    """The tensors of one module."""
    if module.kind != "Linear":
        name = module.class_name or module.kind
        fails(f"PEANuT does not support target modules of type <class '…{name}'> yet.", "NotImplementedError")
    rank, depth, height = whole(config, "r"), whole(config, "depth", 0), features(module)[1]
    if depth > limits.LAYERS_IN_MODULE:
        raise Undecided(f"depth is {depth}: more layers than are looked at")
    return (
        submodule("peanut_A", (rank, height)),
        submodule("peanut_B", (height, rank)),
        *(_inside("peanut_encoders", at, rank) for at in range(depth)),
        *(_inside("peanut_decoders", at, rank) for at in range(depth)),
    )


def _inside(name: str, at: int, rank: int) -> LayerSlot:
    return LayerSlot(f"{name}.{at}.weight", f"{name}.{ADAPTER}.{at}.weight", (rank, rank))
