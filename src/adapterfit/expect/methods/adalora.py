"""ADALORA: ΔW = B diag(E) A with ranks pruned during training.

Saved, relative to a module: `lora_A` (n, I), `lora_B` (O, n), `lora_E` (n, 1) without `.weight`; n is `init_r`, or
the number of ranks that `rank_pattern` keeps. `r` of the config is not used. PEFT creates the layers with `init_r`
and resizes them before it loads. Source: peft 0.21.2 `tuners/adalora/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapterfit.computed import is_computed
from adapterfit.expect.methods._layer import (
    ADAPTER,
    InjectionFails,
    LayerSlot,
    Undecided,
    fails,
    features,
    no_layers_with_regex,
    parameter,
    unsupported,
)
from adapterfit.expect.versions import rule
from adapterfit.records import LoadRename, Module, Raised

KIND = "tuner"
PREFIX = "lora_"
TARGETS = "ADALORA"
RENAMES: tuple[LoadRename, ...] = ()


def prepare(config: Mapping[str, Any]) -> None:
    """The checks of `AdaLoraConfig.__post_init__`."""
    if config.get("use_dora") and rule(config, "adalora-dora") != "ignored":
        raise InjectionFails("ValueError", "PeftType.ADALORA does not support DoRA.")
    no_layers_with_regex(config)
    if rule(config, "adalora-dropout") == "raises" and not config.get("lora_dropout"):
        line = "peft.tuners.adalora.AdaLoraLayer.update_layer.<locals>.lora_dropout_layer is not a Module subclass"
        raise InjectionFails("TypeError", line)
    if rule(config, "adalora-total-step") == "unchecked":
        return
    total = config.get("total_step")
    if not isinstance(total, int) or total <= 0:
        raise InjectionFails("ValueError", "AdaLoRA does not work when `total_step` is None, supply a value > 0.")
    if config.get("tinit", 0) >= total - config.get("tfinal", 0):
        raise InjectionFails(
            "ValueError",
            "The supplied schedule values don't allow for a budgeting phase. Decrease `tfinal`/`tinit` or "
            "increase `total_step`.",
        )


def inert(config: Mapping[str, Any]) -> bool:
    """`lora_E` starts at zero."""
    return bool(config.get("init_lora_weights", True))


#: What torch says where it freezes the weight of a layer, which alone among the methods it does by itself.
_NOT_A_LEAF = (
    "you can only change requires_grad flags of leaf variables. If you want to use a computed variable in a subgraph that "
    "doesn't require differentiation use var_no_grad = var.detach()."
)


def layer(module: Module, name: str, _rank: int, config: Mapping[str, Any]) -> tuple[LayerSlot, ...]:
    """The tensors of one module."""
    if module.kind not in ("Linear", "Conv1D", "Conv2d"):
        unsupported(module, "Currently, only `torch.nn.Linear`, `Conv1D`, and `torch.nn.Conv2d` are supported.")
    rank = _kept(name, config)
    if rank < 0:
        raise InjectionFails("ValueError", f"`r` should be a positive integer or 0, but the value passed is {rank}")
    if is_computed(module):
        fails(_NOT_A_LEAF, "RuntimeError")
    width, height = features(module)
    if module.kind == "Conv2d":
        kernel = module.params["weight"][2:]
        width *= kernel[0] * kernel[1]
    return (
        parameter("lora_A", (rank, width)),
        parameter("lora_B", (height, rank)),
        parameter("lora_E", (rank, 1)),
        parameter("ranknum", (1,), optional=True),
    )


def _kept(name: str, config: Mapping[str, Any]) -> int:
    """How many ranks a module has once its mask from `rank_pattern` is applied."""
    table = config.get("rank_pattern")
    if isinstance(table, Mapping):
        for key, mask in table.items():
            if key.rpartition(".")[0] == name or key == f"{name}.lora_E.default":
                if not isinstance(mask, list):
                    break  # the loader raises about it later
                if not all(isinstance(kept, bool) for kept in mask):
                    raise Undecided(f"rank_pattern of {name} is no mask")
                return sum(mask)
    rank = config.get("init_r", 12)
    if not isinstance(rank, int) or isinstance(rank, bool):
        raise Undecided(f"init_r {rank!r} is not a whole number")
    return rank


def resized(plan: Any) -> Raised | None:
    """What the loader raises when it cuts the layers to the masks of `rank_pattern`, once they all are there.

    A mask is a list with one entry for each of `init_r` ranks; its key names `lora_E` of a module.
    """
    table = plan.config.get("rank_pattern")
    modules = {module.name: module for module in plan.wrapped.tree.modules}
    for key, mask in table.items() if isinstance(table, Mapping) else ():
        if not isinstance(mask, list):
            return Raised("TypeError", "Unexpected type of rank_idx")
        parts = key.split(".")
        name = ".".join(parts[: -2 if ADAPTER in key else -1])
        module = modules.get(name)
        if module is None:
            return _nowhere(name, modules)
        if name not in plan.wrapped.tuned:
            return Raised("AttributeError", f"'{module.class_name}' object has no attribute 'lora_E'")
        ranks = plan.config.get("init_r", 12)
        if len(mask) != ranks:
            line = f"The shape of the mask [{len(mask)}] at index 0 does not match the shape of the indexed tensor"
            return Raised("IndexError", f"{line} [{ranks}, 1] at index 0")
    return None


def _nowhere(name: str, modules: Mapping[str, Module]) -> Raised:
    """The line of `nn.Module.get_submodule`: the first part of the path that is not there."""
    at = ""
    for part in name.split("."):
        inside = f"{at}.{part}" if at else part
        if inside not in modules:
            return Raised("AttributeError", f"{modules[at].class_name} has no attribute `{part}`")
        at = inside
    raise AssertionError(name)
