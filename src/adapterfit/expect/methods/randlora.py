"""RANDLORA: ΔW is a sum of products of random A and B, which all modules share; only their weights are trained.

Saved, relative to a module with I inputs and O outputs and n = ⌈min(I, O) / r⌉: `randlora_lambda` (r, n),
`randlora_gamma` (n, min(I, O)); and with `save_projection` `base_model.randlora_A` (r, 1, s), `base_model.randlora_B`
(l, ⌈s / r⌉, r), s and l being the smaller and the larger of the largest I and the largest O among the targeted modules; the
file holds both once more under every module. Without it both are drawn anew from `projection_prng_key`. Source: peft
0.21.2 `tuners/randlora/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapterfit.expect.methods._layer import LayerSlot, features, parameter, positive_rank, unsupported, whole
from adapterfit.expect.methods._layer import shared as on_tuner
from adapterfit.expect.methods._projected import largest
from adapterfit.records import LoadRename, Module, ModuleTree, Shape, Slot

KIND = "tuner"
PREFIX = "randlora_"
TARGETS = "RANDLORA"
RENAMES: tuple[LoadRename, ...] = ()


def prepare(_config: Mapping[str, Any]) -> None:
    """Nothing that a loaded config could trip."""


def inert(config: Mapping[str, Any]) -> bool:
    """`randlora_lambda` starts at zero."""
    return bool(config.get("init_weights", True))


def survey(modules: tuple[Module, ...], config: Mapping[str, Any], _tree: ModuleTree) -> tuple[int, int]:
    """The smaller and the larger of the largest inputs and the largest outputs among the targets."""
    width, height = largest(modules, "RandLora")
    whole(config, "r")
    return min(width, height), max(width, height)


def layer(module: Module, _name: str, rank: int, config: Mapping[str, Any]) -> tuple[LayerSlot, ...]:
    """The tensors of one module."""
    if module.kind not in ("Linear", "Conv1D"):
        kinds = "`torch.nn.Linear`, `transformers.pytorch_utils.Conv1D`"
        unsupported(module, f"Currently, only the following modules are supported: {kinds}.")
    positive_rank(rank)
    small = min(features(module))
    count = -(-small // rank)
    own = parameter("randlora_lambda", (rank, count)), parameter("randlora_gamma", (count, small))
    copies = (parameter(name, shape) for name, shape in _projection(config))
    return (*own, *(slot._replace(shares=f"base_model.{slot.model_key}") for slot in copies))


def shared(config: Mapping[str, Any]) -> tuple[Slot, ...]:
    """The projection."""
    return tuple(on_tuner(name, shape) for name, shape in _projection(config))


def _projection(config: Mapping[str, Any]) -> tuple[tuple[str, Shape], ...]:
    if not config.get("save_projection", True):
        return ()
    small, large = config["surveyed"]
    rank = whole(config, "r")
    return ("randlora_A", (rank, 1, small)), ("randlora_B", (large, -(-small // rank), rank))
