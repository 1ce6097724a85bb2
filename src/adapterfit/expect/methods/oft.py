"""OFT: the base's weight is rotated by a block-diagonal orthogonal matrix on its input side.

Saved, relative to a module with I inputs: `oft_R.weight` (I / b, b (b - 1) / 2), or one row with `block_share`; Conv2d
counts I as in_channels · k · k; Embedding `oft_embedding_R.weight` with I its dim. b is `oft_block_size`, or I / `r`; where
it does not divide I, PEFT takes the nearest number that does. Before 0.16 the tensor was `oft_r` (r, b, b). Source: peft
0.21.2 `tuners/oft/`.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Mapping
from typing import Any

from adapterfit.expect.methods._layer import (
    LayerSlot,
    Undecided,
    divisors,
    fails,
    features,
    no_layers_with_regex,
    parameter,
    submodule,
    unsupported,
    whole,
)
from adapterfit.expect.versions import rule
from adapterfit.records import LoadRename, Module

KIND = "tuner"
PREFIX = "oft_"
TARGETS = "OFT"
RENAMES: tuple[LoadRename, ...] = ()


def prepare(config: Mapping[str, Any]) -> None:
    """The checks of `OFTConfig.__post_init__`."""
    no_layers_with_regex(config, beside=())
    if rule(config, "oft") == "v1":
        return
    rank, size = config.get("r", 0), config.get("oft_block_size", 32)
    if rank == 0 and size == 0:
        fails(
            f"Either `r` or `oft_block_size` must be non-zero. Currently, r = {rank} and oft_block_size = {size}.",
        )
    if rank != 0 and size != 0:
        fails(
            f"You can only specify either r ({rank}) or oft_block_size ({size}), but not both simultaneously, because "
            "r x oft_block_size == in_features."
        )


def inert(config: Mapping[str, Any]) -> bool:
    """Rotations start as none."""
    return bool(config.get("init_weights", True))


def layer(module: Module, _name: str, _rank: int, config: Mapping[str, Any]) -> tuple[LayerSlot, ...]:
    """The tensors of one module."""
    if module.kind not in ("Linear", "Conv2d", "Embedding"):
        kinds = "`torch.nn.Linear`, `torch.nn.Conv2d`, `torch.nn.Embedding` (optionally quantized)"
        unsupported(module, f"Currently, only {kinds} are supported.", "TypeError")
    if rule(config, "oft") == "v1":
        return _first_generation(module, config)
    width = features(module)[1 if module.kind == "Embedding" else 0]
    if module.kind == "Conv2d":
        width *= module.params["weight"][2] ** 2
    rank, size = whole(config, "r", 0), whole(config, "oft_block_size", 0)
    if size:
        size = nearest_divisor(width, size)
        rank = width // size
    else:
        rank = nearest_divisor(width, rank)
        size = width // rank
    init = config.get("init_weights", True)
    if init is not True and init is not False:
        fails(f"Unknown initialization init_weights={init!r}")
    if rule(config, "oft") == "v2":
        blocks = parameter("oft_r", (1 if config.get("block_share") else rank, size, size))
        return blocks, parameter("oft_s", (features(module)[1], 1))
    name = "oft_embedding_R" if module.kind == "Embedding" else "oft_R"
    return (submodule(name, (1 if config.get("block_share") else rank, size * (size - 1) // 2)),)


def _first_generation(module: Module, config: Mapping[str, Any]) -> tuple[LayerSlot, ...]:
    """Until 0.13: r blocks on the output side, each as large as O / r rounded up."""
    if module.kind != "Linear":
        raise Undecided(f"OFT of PEFT before 0.14 on {module.kind}")
    if config.get("r") == 0:
        fails("`r` should be a positive integer value but the value passed is 0")
    rank = whole(config, "r")
    size = -(-features(module)[1] // rank)
    return (parameter("oft_r", (1 if config.get("block_share") else rank, size, size)),)


def nearest_divisor(width: int, wanted: int) -> int:
    """The divisor of `width` nearest to `wanted`, the lower one of two; the width itself for what is beyond it."""
    if width % wanted == 0 and wanted <= width:
        return wanted
    if wanted >= width:
        return width
    found = divisors(width)
    at = bisect(found, wanted)
    lower, higher = found[at - 1], found[at]
    return lower if wanted - lower <= higher - wanted else higher
