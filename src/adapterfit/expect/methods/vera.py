"""VERA: ΔW = diag(b) B diag(d) A with one random A and B for the whole model; only b and d are trained.

Saved, relative to a module with O outputs: `vera_lambda_b` (O,), `vera_lambda_d` (r,); and with `save_projection`, once,
`base_model.vera_A` (r, largest I), `base_model.vera_B` (largest O, r), the largest among the *targeted* modules. Without
it both are drawn anew from `projection_prng_key`. Source: peft 0.21.2 `tuners/vera/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapterfit.expect.methods._layer import (
    LayerSlot,
    features,
    no_layers_with_regex,
    parameter,
    positive_rank,
    unsupported,
)
from adapterfit.expect.methods._projected import held_by_layers, held_once, largest, projection
from adapterfit.records import LoadRename, Module, ModuleTree, Slot

KIND = "tuner"
PREFIX = "vera_lambda_"
TARGETS = "VERA"
RENAMES: tuple[LoadRename, ...] = ()
_SUPPORTED = (
    "Currently, only `torch.nn.Linear` (optionally quantized) and `transformers.pytorch_utils.Conv1D` are supported."
)


def prepare(config: Mapping[str, Any]) -> None:
    """The checks of its config's `__post_init__`."""
    no_layers_with_regex(config, beside=())


def inert(config: Mapping[str, Any]) -> bool:
    """`vera_lambda_b` starts at zero."""
    return bool(config.get("init_weights", True))


def survey(modules: tuple[Module, ...], _config: Mapping[str, Any], _tree: ModuleTree) -> tuple[int, int]:
    """The largest `(in, out)` among the targets."""
    return largest(modules, "VeRA")


def layer(module: Module, _name: str, rank: int, config: Mapping[str, Any]) -> tuple[LayerSlot, ...]:
    """The tensors of one module."""
    if module.kind not in ("Linear", "Conv1D"):
        unsupported(module, _SUPPORTED, "TypeError")
    positive_rank(rank)
    own = parameter("vera_lambda_b", (features(module)[1],)), parameter("vera_lambda_d", (rank,))
    return (*own, *held_by_layers(projection(config, "vera_")))


def shared(config: Mapping[str, Any]) -> tuple[Slot, ...]:
    """The projection, once for the whole model."""
    return held_once(projection(config, "vera_"))
