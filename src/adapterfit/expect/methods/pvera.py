"""PVERA: VeRA with a mean and a variance in every direction; one random A and B for the whole model.

Saved, relative to a module with O outputs: `pvera_lambda_b` (O,), `pvera_lambda_d` (2 r,); and with `save_projection`, once,
`base_model.pvera_A` (2 r, largest I), `base_model.pvera_B` (largest O, r), the largest among the *targeted* modules. Without
it both are drawn anew from `projection_prng_key`. Source: peft 0.21.2 `tuners/pvera/`.
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
PREFIX = "pvera_lambda_"
TARGETS = "PVERA"
RENAMES: tuple[LoadRename, ...] = ()
_SUPPORTED = (
    "Currently, only the following modules are supported: `torch.nn.Linear`, `transformers.pytorch_utils.Conv1D`."
)


def prepare(config: Mapping[str, Any]) -> None:
    """The checks of its config's `__post_init__`."""
    no_layers_with_regex(config, beside=())


def inert(config: Mapping[str, Any]) -> bool:
    """`pvera_lambda_b` starts at zero."""
    return bool(config.get("init_weights", True))


def survey(modules: tuple[Module, ...], _config: Mapping[str, Any], _tree: ModuleTree) -> tuple[int, int]:
    """The largest `(in, out)` among the targets."""
    return largest(modules, "PVeRA")


def layer(module: Module, _name: str, rank: int, config: Mapping[str, Any]) -> tuple[LayerSlot, ...]:
    """The tensors of one module."""
    if module.kind not in ("Linear", "Conv1D"):
        unsupported(module, _SUPPORTED)
    positive_rank(rank)
    own = parameter("pvera_lambda_b", (features(module)[1],)), parameter("pvera_lambda_d", (2 * rank,))
    return (*own, *held_by_layers(projection(config, "pvera_", times=2)))


def shared(config: Mapping[str, Any]) -> tuple[Slot, ...]:
    """The projection, once for the whole model."""
    return held_once(projection(config, "pvera_", times=2))
