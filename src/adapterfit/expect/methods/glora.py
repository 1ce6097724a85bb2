"""GLORA: W' = W + W A + B, b' = b + b D + E + W C; each of the five a low-rank pair, a vector, a number or nothing.

Saved, relative to a module with I inputs and O outputs: `glora_A` and `glora_B` by `config_A_B`: `.Xd` (O, r) and `.Xu`
(r, I) for lora, `.X` (O, 1) for vector, `.X` (1) for constant, `.zeros` (O, I) for none; `glora_C` by `config_C`: `.Xd`
(I, r) and `.Xu` (r, 1), `.X` (I, 1), `.zeros` (I, 1); `glora_D` and `glora_E` by `config_D_E`: `.X` (O,), `.X` (1),
`.zeros` (O,). Where the module has no bias, C, D and E are nothing. Source: peft 0.21.2 `tuners/glora/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapterfit.expect.methods._layer import LayerSlot, Undecided, fails, features, submodule, whole
from adapterfit.records import LoadRename, Module, Shape

KIND = "tuner"
PREFIX = "glora_"
TARGETS = "GLORA"
RENAMES: tuple[LoadRename, ...] = ()
_VALID = {
    "config_A_B": ("lora", "vector", "constant", "none"),
    "config_C": ("lora", "vector", "none"),
    "config_D_E": ("vector", "constant", "none"),
}
_DEFAULTS = {"config_A_B": "lora", "config_C": "lora", "config_D_E": "constant"}


def prepare(config: Mapping[str, Any]) -> None:
    """The checks of `GloraConfig.__post_init__`."""
    for field, valid in _VALID.items():
        value = config.get(field, _DEFAULTS[field])
        if value not in valid:
            fails(f"Invalid {field} value: {value!r}. Valid values are: {', '.join(sorted(valid))}.")


def inert(config: Mapping[str, Any]) -> bool:
    """Every path starts at zero."""
    return bool(config.get("init_weights", True))


def layer(module: Module, _name: str, _rank: int, config: Mapping[str, Any]) -> tuple[LayerSlot, ...]:
    """The tensors of one module."""
    if module.kind != "Linear" or (module.class_name or "Linear") != "Linear":
        fails(
            f"Target module {module.class_name or module.kind}(…) is not a plain torch.nn.Linear (after unwrapping); GLoRA "
            "does not support this layer type."
        )
    width, height = features(module)
    bias = "bias" in module.params
    rank = whole(config, "r", 0)
    both = config.get("config_A_B", "lora")
    third, rest = (config.get(field, _DEFAULTS[field]) if bias else "none" for field in ("config_C", "config_D_E"))
    return (
        *_path("glora_A", both, (height, width), rank),
        *_path("glora_B", both, (height, width), rank),
        *_path("glora_C", third, (width, 1), rank),
        *_path("glora_D", rest, (height,), rank),
        *_path("glora_E", rest, (height,), rank),
    )


def _path(name: str, kind: str, shape: Shape, rank: int) -> tuple[LayerSlot, ...]:
    if kind == "lora" and len(shape) == 2:
        return submodule(name, (shape[0], rank), "Xd"), submodule(name, (rank, shape[1]), "Xu")
    if kind == "vector":
        return (submodule(name, (shape[0], 1) if len(shape) == 2 else shape, "X"),)
    if kind == "constant":
        return (submodule(name, (1,), "X"),)
    if kind == "none":
        return (submodule(name, shape, "zeros"),)
    raise Undecided(f"{name} of kind {kind!r}")
