"""VBLORA: A and B of every module are put together from one bank of vectors by top-k mixing.

Saved, relative to a module with I inputs and O outputs, v = `vector_length`, n = `num_vectors`: `vblora_logits_A` (r, I / v, n),
`vblora_logits_B` (O / v, r, n); and once `base_model.vblora_vector_bank` (n, v). With `save_only_topk_weights` each of the
logits is saved as `…_topk_indices` (…, k) and `…_topk_weights` (…, k - 1). A missing bank stays random, without a word.
Source: peft 0.21.2 `tuners/vblora/`.
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
    second_name,
    unsupported,
    whole,
)
from adapterfit.expect.methods._layer import shared as on_tuner
from adapterfit.records import LoadRename, Module, Slot

KIND = "tuner"
PREFIX = "vblora_"
TARGETS = "VBLORA"
RENAMES: tuple[LoadRename, ...] = ()


def prepare(config: Mapping[str, Any]) -> None:
    """The checks of `VBLoRAConfig.__post_init__`."""
    no_layers_with_regex(config, beside=())


def inert(_config: Mapping[str, Any]) -> bool:
    """Bank and logits start at random."""
    return False


def layer(module: Module, _name: str, rank: int, config: Mapping[str, Any]) -> tuple[LayerSlot, ...]:
    """The tensors of one module."""
    if module.kind not in ("Linear", "Conv1D"):
        kinds = "`torch.nn.Linear`, `transformers.pytorch_utils.Conv1D`"
        unsupported(module, f"Currently, only the following modules are supported: {kinds}.", "TypeError")
    for field, value in (("r", rank), ("topk", config.get("topk", 2))):
        if isinstance(value, int) and value <= 0:
            fails(f"`{field}` {value} should be a positive integer value")
    rank, length, vectors = (whole(config, key) for key in ("r", "vector_length", "num_vectors"))
    width, height = features(module)
    for side, size in (("in_features", width), ("out_features", height)):
        if size % length:
            fails(f"`{side}` {size} must be divisible by `vector_length` {length}")
    return (
        parameter("vblora_logits_A", (rank, width // length, vectors)),
        parameter("vblora_logits_B", (height // length, rank, vectors)),
        second_name("vblora_vector_bank", "", (vectors, length)),
    )


def shared(config: Mapping[str, Any]) -> tuple[Slot, ...]:
    """The bank."""
    shape = (whole(config, "num_vectors"), whole(config, "vector_length"))
    return (on_tuner("vblora_vector_bank", shape, if_missing="silent"),)
