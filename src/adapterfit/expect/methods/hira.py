"""HIRA: W' = W ∘ (1 + B A), a product of low rank that scales the base's own entries.

Saved, relative to a module with I inputs and O outputs: `hira_A` (r, I), `hira_B` (O, r); Embedding
`hira_embedding_A` (r, num), `hira_embedding_B` (dim, r); convolutions `hira_A` (r, in_channels, *kernel), `hira_B`
(O, r, 1, …). Source: peft 0.21.2 `tuners/hira/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapterfit.expect.methods._layer import (
    LayerSlot,
    fails,
    features,
    no_layers_with_regex,
    parameter,
    positive_rank,
    unsupported,
)
from adapterfit.records import LoadRename, Module

KIND = "tuner"
PREFIX = "hira_"
TARGETS = "HIRA"
RENAMES: tuple[LoadRename, ...] = ()
_CONVOLUTIONS = ("Conv1d", "Conv2d", "Conv3d")
_SUPPORTED = (
    "Currently, only the following modules are supported: `torch.nn.Linear`, `torch.nn.Embedding`, `torch.nn.Conv1d`, "
    "`torch.nn.Conv2d`, `torch.nn.Conv3d`, `transformers.pytorch_utils.Conv1D`."
)


def prepare(config: Mapping[str, Any]) -> None:
    """The checks of `HiraConfig.__post_init__`."""
    no_layers_with_regex(config, alone=None)


def inert(config: Mapping[str, Any]) -> bool:
    """`hira_B`, or an embedding's `hira_embedding_A`, starts at zero."""
    return bool(config.get("init_weights", True))


def layer(module: Module, _name: str, _rank: int, config: Mapping[str, Any]) -> tuple[LayerSlot, ...]:
    """The tensors of one module. PEFT looks `rank_pattern` up and then takes `r` all the same."""
    if module.kind not in ("Linear", "Conv1D", "Embedding", *_CONVOLUTIONS):
        unsupported(module, _SUPPORTED)
    rank = positive_rank(config.get("r"))
    width, height = features(module)
    if module.kind in _CONVOLUTIONS:
        return _convolution(module, rank)
    if module.kind == "Embedding":
        return parameter("hira_embedding_A", (rank, width)), parameter("hira_embedding_B", (height, rank))
    _known_init(config.get("init_weights", True))
    return parameter("hira_A", (rank, width)), parameter("hira_B", (height, rank))


def _convolution(module: Module, rank: int) -> tuple[LayerSlot, ...]:
    if module.groups > 1:
        fails(
            f"HiRA does not support {module.class_name or module.kind} layers with groups > 1 (got groups={module.groups}). "
            "This applies to both the forward pass and to merging.",
            "NotImplementedError",
        )
    width, height = features(module)
    kernel = module.params["weight"][2:]
    return parameter("hira_A", (rank, width, *kernel)), parameter("hira_B", (height, rank, *(1 for _ in kernel)))


def _known_init(value: Any) -> None:
    if isinstance(value, str) and value and value.lower() != "gaussian":
        fails(f"Unknown initialization init_weights={value!r}")
