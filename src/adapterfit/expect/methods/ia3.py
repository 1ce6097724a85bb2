"""IA3: a learned vector that scales a module's output, or its input where the module is a feed-forward one.

Saved, relative to a module: `ia3_l` (O, 1), or (1, I) for feed-forward modules; convolutions (1, channels, 1, …).
Which modules are feed-forward is decided by a plain `endswith`. Source: peft 0.21.2 `tuners/ia3/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapterfit.expect.methods._layer import InjectionFails, LayerSlot, Undecided, features, parameter, unsupported
from adapterfit.expect.patterns import Patterns
from adapterfit.records import LoadRename, Module

KIND = "tuner"
PREFIX = "ia3_"
TARGETS = "IA3"
RENAMES: tuple[LoadRename, ...] = ()
#: IA3 looks its feed-forward modules up in a second table of defaults.
MORE_TARGETS = {"feedforward_modules": "IA3_FEEDFORWARD"}


def prepare(config: Mapping[str, Any]) -> None:
    """`feedforward_modules` must be a part of `target_modules`."""
    targets, forward = config.get("target_modules"), config.get("feedforward_modules")
    if isinstance(targets, list) and isinstance(forward, list) and not set(forward) <= set(targets):
        raise InjectionFails("ValueError", "`feedforward_modules` should be a subset of `target_modules`")


def inert(config: Mapping[str, Any]) -> bool:
    """The vector starts at one."""
    return bool(config.get("init_ia3_weights", True))


def layer(module: Module, name: str, _rank: int, config: Mapping[str, Any]) -> tuple[LayerSlot, ...]:
    """The tensors of one module."""
    if module.kind not in ("Linear", "Conv1D", "Conv2d", "Conv3d"):
        unsupported(module, "Currently, only `torch.nn.Linear`, `torch.nn.Conv2d`, and `Conv1D` are supported.")
    width, height = features(module)
    forward = _feed_forward(name, config)
    if module.kind in ("Conv2d", "Conv3d"):
        ones = tuple(1 for _ in module.params["weight"][2:])
        return (parameter("ia3_l", (1, width if forward else height, *ones)),)
    return (parameter("ia3_l", (1, width) if forward else (height, 1)),)


def _feed_forward(name: str, config: Mapping[str, Any]) -> bool:
    forward = config.get("feedforward_modules")
    if isinstance(forward, str):
        return Patterns().full(forward, name)
    if not isinstance(forward, (list, tuple)):
        raise Undecided("feedforward_modules is neither a list nor a pattern")
    return any(name.endswith(suffix) for suffix in forward)
