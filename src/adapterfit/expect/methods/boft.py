"""BOFT: the base's weight is rotated by a product of block-diagonal (butterfly) matrices, and scaled per output.

Saved, relative to a module with I inputs and O outputs: `boft_R` (m, I / b, b, b), `boft_s` (O, 1), or (1, O) for Conv2d,
where I is in_channels · k · k; b is `boft_block_size`, or I / `boft_block_num`; m is `boft_n_butterfly_factor` where PEFT
can build its CUDA extension, and 1 elsewhere, as here; a second adapter of PEFT 0.11 and 0.12 has the factor of its config
everywhere. Source: peft 0.21.2 and 0.12.0 `tuners/boft/`.
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
    unsupported,
    whole,
)
from adapterfit.expect.versions import rule
from adapterfit.records import LoadRename, Module

KIND = "tuner"
PREFIX = "boft_"
TARGETS = "BOFT"
RENAMES: tuple[LoadRename, ...] = ()


def prepare(config: Mapping[str, Any]) -> None:
    """The checks of `BOFTConfig.__post_init__`."""
    no_layers_with_regex(config, beside=())
    size, number = config.get("boft_block_size", 4), config.get("boft_block_num", 0)
    if size == 0 and number == 0:
        fails(
            f"Either `boft_block_size` or `boft_block_num` must be non-zero. Currently, boft_block_size = {size} and "
            f"boft_block_num = {number}."
        )
    if size != 0 and number != 0:
        fails(
            f"You can only specify either boft_block_size ({size}) or boft_block_num ({number}), but not both "
            "simultaneously, because boft_block_size x boft_block_num == in_features."
        )


def inert(config: Mapping[str, Any]) -> bool:
    """Rotations start as none, scales at one."""
    return bool(config.get("init_weights", True))


def layer(module: Module, _name: str, _rank: int, config: Mapping[str, Any]) -> tuple[LayerSlot, ...]:
    """The tensors of one module."""
    if module.kind not in ("Linear", "Conv2d"):
        kinds = "`torch.nn.Linear` and `torch.nn.Conv2d` (optionally quantized)"
        unsupported(module, f"Currently, only {kinds} are supported.", "TypeError")
    width, height = features(module)
    what = "in_features"
    if module.kind == "Conv2d":
        if module.groups > 1:
            name = module.class_name or module.kind
            line = f"BOFT does not support {name} layers with groups > 1 (got groups={module.groups})."
            fails(line, "NotImplementedError")
        width, what = width * module.params["weight"][2] ** 2, "Convolutional kernel dimension"
    size, number = _blocks(width, what, config)
    factors = 1
    if rule(config, "butterfly") == "as configured":
        factors = whole(config, "boft_n_butterfly_factor")
        _halvings(width, size, number, factors, config)
    init = config.get("init_weights", True)
    if init is not True and init is not False:
        fails(f"Unknown initialization init_weights={init!r}")
    scale = (1, height) if module.kind == "Conv2d" else (height, 1)
    return parameter("boft_R", (factors, number, size, size)), parameter("boft_s", scale)


def _blocks(width: int, what: str, config: Mapping[str, Any]) -> tuple[int, int]:
    """Size and number of the blocks; the one that is given divides the width."""
    size, number = whole(config, "boft_block_size", 0), whole(config, "boft_block_num", 0)
    field, given = ("boft_block_size", size) if size else ("boft_block_num", number)
    if width % given:
        fails(f"{what} ({width}) must be divisible by {field} ({given})!")
    return (size, width // size) if size else (width // number, number)


def _halvings(width: int, size: int, number: int, factors: int, config: Mapping[str, Any]) -> None:
    """What PEFT refuses of more than one factor: each further one pairs the blocks once more."""
    if factors == 1:
        return
    if whole(config, "boft_block_size", 0):
        if width % (size * 2 ** (factors - 1)):
            fails(
                f"Invalid combination of in_features ({width}), boft_n_butterfly_factor ({factors}) and boft_block_size "
                f"({size})!"
            )
    elif 2 ** (factors - 1) > number:
        fails(f"Invalid combination of boft_n_butterfly_factor ({factors}) and boft_block_num ({number})!")
    elif number % 2 ** (factors - 1):
        fails(
            f"boft_block_num ({number}) must be a multiple of 2 raised to the power of boft_n_butterfly_factor ({factors})!"
        )
    for field, value in (("boft_block_num", number), ("boft_block_size", size)):
        if value % 2:
            fails(f"{field} ({value}) must be an even number!")
