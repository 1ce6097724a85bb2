"""FROD: modules of the same name share one basis; diagonal and a few other entries in it are trained.

Saved, relative to a module with I inputs and n = I² · sparse_rate entries: `frod_lambda_l` (I,), `frod_lambda_s_values` (n,);
and with `save_projection`, once per category (the last part of a module's name, or the last two),
`base_model.frod_V.<category>` (I, I), `base_model.frod_s_indices.<category>` (2, n), `base_model.frod_s_size.<category>` (2,).
Without it they are computed anew from the base and `projection_prng_key`. Source: peft 0.21.2 `tuners/frod/`.
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
from adapterfit.expect.methods._layer import shared as on_tuner
from adapterfit.records import LoadRename, Module, ModuleTree, Slot

KIND = "tuner"
PREFIX = "frod_"
TARGETS = "FROD"
RENAMES: tuple[LoadRename, ...] = ()


def prepare(config: Mapping[str, Any]) -> None:
    """The checks of `FrodConfig.__post_init__`."""
    no_layers_with_regex(config, beside=())
    rate = config.get("sparse_rate", 0.01)
    if isinstance(rate, (int, float)) and (rate < 0 or rate > 1):
        fails(f"`sparse_rate` should be between 0 and 1, got {rate}.")


def inert(config: Mapping[str, Any]) -> bool:
    """In its basis the base's weight starts as it is."""
    return bool(config.get("init_weights", True))


def survey(modules: tuple[Module, ...], _config: Mapping[str, Any], _tree: ModuleTree) -> Mapping[str, int]:
    """The categories, sorted, each with the inputs of the modules its basis is made of."""
    widths: dict[int, dict[str, int]] = {}
    linear = [module for module in modules if module.kind in ("Linear", "Conv1D")]
    for at, module in enumerate(linear):
        widths.setdefault(_layer_number(module.name, at), {})[category(module.name)] = features(module)[0]
    if not widths:
        fails("No layer types compatible with FRoD were found. Please check `peft_config.target_modules`.")
    names = sorted({name for layer in widths.values() for name in layer})
    return {name: _common([layer[name] for _, layer in sorted(widths.items()) if name in layer]) for name in names}


def _common(widths: list[int]) -> int:
    """The width of one category's matrices, which PEFT stacks."""
    at = next((at for at, width in enumerate(widths) if width != widths[0]), None)
    if at is not None:
        fails(
            f"Sizes of tensors must match except in dimension 0. Expected size {widths[0]} but got size {widths[at]} for "
            f"tensor number {at} in the list.",
            "RuntimeError",
        )
    return widths[0]


def _layer_number(name: str, otherwise: int) -> int:
    """Where PEFT counts a module: of two with one number and category, the later one makes the basis."""
    parts = name.split(".")
    after = parts[parts.index("layers") + 1 :][:1] if "layers" in parts else []
    digits = [part for part in (*after, *parts) if part.isascii() and part.isdigit()]
    return int(digits[0]) if digits else otherwise


def category(name: str) -> str:
    """`model.layers.0.self_attn.q_proj` → `self_attn_q_proj`."""
    parts = name.split(".")
    if len(parts) == 1:
        return parts[0]
    if parts[-2].isdigit():
        return parts[-1]
    if parts[-3:] == ["attention", "output", "dense"]:
        return "attention_output"
    return f"{parts[-2]}_{parts[-1]}"


def layer(module: Module, name: str, _rank: int, config: Mapping[str, Any]) -> tuple[LayerSlot, ...]:
    """The tensors of one module."""
    if category(name) not in config["surveyed"]:
        fails(repr(category(name)), "KeyError")
    if module.kind not in ("Linear", "Conv1D"):
        kinds = "`torch.nn.Linear`, `transformers.pytorch_utils.Conv1D`"
        unsupported(module, f"Currently, only the following modules are supported: {kinds}.", "TypeError")
    width, height = features(module)
    wide = config["surveyed"][category(name)]
    if width != wide:
        line = f"mat1 and mat2 shapes cannot be multiplied ({height}x{width} and {wide}x{wide})"
        fails(line, "RuntimeError")
    return parameter("frod_lambda_l", (width,)), parameter("frod_lambda_s_values", (_entries(width, config),))


def shared(config: Mapping[str, Any]) -> tuple[Slot, ...]:
    """Basis, places and size of every category."""
    if not config.get("save_projection", True):
        return ()
    widths = config["surveyed"]
    return (
        *(on_tuner(f"frod_V.{name}", (width, width)) for name, width in widths.items()),
        *(on_tuner(f"frod_s_indices.{name}", (2, _entries(width, config))) for name, width in widths.items()),
        *(on_tuner(f"frod_s_size.{name}", (2,)) for name in widths),
    )


def _entries(width: int, config: Mapping[str, Any]) -> int:
    """How many entries beside the diagonal are trained."""
    rate = config.get("sparse_rate", 0.01)
    if not isinstance(rate, (int, float)):
        raise Undecided(f"sparse_rate {rate!r} is no number")
    most = width * width - width
    count = min(int(width * width * rate), most)
    return max(1, count) if rate > 0 and most > 0 else count
