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
    """The categories, sorted, each with the inputs of its modules."""
    widths: dict[str, set[int]] = {}
    for module in modules:
        if module.kind in ("Linear", "Conv1D"):
            widths.setdefault(category(module.name), set()).add(features(module)[0])
    if not widths:
        fails("No layer types compatible with FRoD were found. Please check `peft_config.target_modules`.")
    uneven = next((name for name, found in widths.items() if len(found) > 1), None)
    if uneven is not None:
        raise Undecided(f"the modules called {uneven} differ in width, and FRoD makes one basis for all of them")
    return {name: min(widths[name]) for name in sorted(widths)}


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
    width = features(module)[0]
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
