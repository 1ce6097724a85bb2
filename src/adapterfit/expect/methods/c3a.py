"""C3A: ΔW is made of circulant blocks, each of one learned row.

Saved, relative to a module with I inputs and O outputs: `c3a_kernel` (O / b, I / b, b), b being `block_size`, or what
`block_size_pattern` says for the module; b divides I and O. Source: peft 0.21.2 `tuners/c3a/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapterfit.expect.methods._layer import (
    LayerSlot,
    Undecided,
    fails,
    features,
    no_layers_with_regex,
    parameter,
    unsupported,
)
from adapterfit.expect.patterns import Patterns
from adapterfit.records import LoadRename, Module

KIND = "tuner"
PREFIX = "c3a_"
TARGETS = "C3A"
RENAMES: tuple[LoadRename, ...] = ()
_INITS = ("gaussian", "xavier_uniform", "kaiming_uniform")


def prepare(config: Mapping[str, Any]) -> None:
    """The checks of `C3AConfig.__post_init__`."""
    no_layers_with_regex(config, alone=None)


def inert(config: Mapping[str, Any]) -> bool:
    """The kernel starts at zero only where `init_weights` is true; by default it is random."""
    return config.get("init_weights") is True


def layer(module: Module, name: str, _rank: int, config: Mapping[str, Any]) -> tuple[LayerSlot, ...]:
    """The tensors of one module."""
    if module.kind != "Linear":
        unsupported(module, "Currently, only `torch.nn.Linear` is supported.", "TypeError")
    size = by_dotted_pattern(config, "block_size", name)
    if size <= 0:
        fails(f"`block_size` should be a positive integer value but the value passed is {size}")
    width, height = features(module)
    for side, whole in (("input", width), ("output", height)):
        if whole % size:
            fails(
                f"The block size should be a factor of the {side} size. However, the {side} size is {whole} and the "
                f"block size is {size}"
            )
    init = config.get("init_weights")
    if init is not True and init is not False and init not in _INITS:
        fails(f"Unknown init_weights: {init}")
    return (parameter("c3a_kernel", (height // size, width // size, size)),)


def by_dotted_pattern(config: Mapping[str, Any], field: str, name: str) -> int:
    r"""A number, or what `<field>_pattern` says for a module: `re.match(rf".*\.{key}$", name)`, else the name itself."""
    table = config.get(f"{field}_pattern") or {}
    patterns = Patterns()
    key = next((key for key in table if patterns.start(rf".*\.{key}$", name)), name)
    value = table.get(key, config.get(field))
    if not isinstance(value, int) or isinstance(value, bool):
        raise Undecided(f"{field} of {name} is {value!r}, not a whole number")
    return value
