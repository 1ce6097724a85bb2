"""What every tuner method is made of: the tensors one wrapped module gets, and the ways an injection can fail."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from math import isqrt
from types import MappingProxyType
from typing import Any, NamedTuple, NoReturn

from adapterfit import limits
from adapterfit.expect.versions import rule
from adapterfit.records import Module, ModuleTree, Raised, Shape, Slot

#: The adapter's name while PEFT loads it, unless the caller chooses another.
ADAPTER = "default"


class LayerSlot(NamedTuple):
    """A tensor of one wrapped module. `key` is its name in a file, `model_key` in the model, both after the module's.

    `silent`: PEFT says nothing where the file lacks it. `shares` is the whole model key of the tensor that this one
    is a second name of. `optional`: not saved, or nothing that training changes. `still`: by itself it has no effect.
    """

    key: str
    model_key: str
    shape: Shape
    optional: bool = False
    silent: bool = False
    shares: str = ""
    still: bool = False


class InjectionFails(Exception):
    """PEFT would raise while it puts the adapter's layers into the base."""

    def __init__(self, kind: str, line: str, packed: Mapping[str, str] = MappingProxyType({})) -> None:
        super().__init__(line)
        self.raised = Raised(kind, line, stage="inject")
        self.packed = packed


class Undecided(Exception):
    """We do not know what PEFT does here; the message says why."""


def submodule(name: str, shape: Shape, leaf: str = "weight") -> LayerSlot:
    """A weight that lives in an `nn.ModuleDict`: `lora_A.weight` in the file, `lora_A.default.weight` in the model."""
    return LayerSlot(f"{name}.{leaf}", f"{name}.{ADAPTER}.{leaf}", shape)


def parameter(name: str, shape: Shape, *, optional: bool = False, still: bool = False) -> LayerSlot:
    """A weight that lives in an `nn.ParameterDict`: `ia3_l` in the file, `ia3_l.default` in the model."""
    return LayerSlot(name, f"{name}.{ADAPTER}", shape, optional, still=still)


def second_name(name: str, leaf: str, shape: Shape) -> LayerSlot:
    """A tensor of the whole model that PEFT also hangs into every layer, and does not save there."""
    tail = f"{ADAPTER}.{leaf}" if leaf else ADAPTER
    key = f"{name}.{leaf}" if leaf else name
    return LayerSlot(key, f"{name}.{tail}", shape, optional=True, silent=True, shares=f"base_model.{name}.{tail}")


def shared(name: str, shape: Shape, leaf: str = "", *, if_missing: str = "warns") -> Slot:
    """A tensor that hangs on the tuner itself: `base_model.vera_A` in the file, `base_model.vera_A.default` in the model."""
    tail = f".{leaf}" if leaf else ""
    model_key = f"base_model.{name}.{ADAPTER}{tail}"
    return Slot(f"base_model.{name}{tail}", model_key, shape, "", if_missing=if_missing)


def whole(config: Mapping[str, Any], field: str, least: int = 1) -> int:
    """A whole number of the config that sizes a tensor; no decision on what is none, or is too small."""
    value = config.get(field)
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise Undecided(f"{field} is {value!r}, not a whole number from {least} on")
    return value


@lru_cache(maxsize=4096)
def divisors(size: int) -> tuple[int, ...]:
    """All divisors of a size, ascending; no decision on a size that no layer has, where PEFT would count for hours."""
    if size > limits.DIVIDED:
        raise Undecided(f"a size of {size} is not divided")
    lower = [number for number in range(1, isqrt(size) + 1) if size % number == 0]
    return tuple(dict.fromkeys((*lower, *(size // number for number in reversed(lower)))))


def fails(line: str, kind: str = "ValueError") -> NoReturn:
    """PEFT raises this while it builds the config or the layers."""
    raise InjectionFails(kind, line)


def features(module: Module) -> tuple[int, int]:
    """`(in, out)` of a Linear, Conv1D, Embedding (num, dim) or convolution (channels)."""
    weight = module.params["weight"]
    if module.kind in ("Conv1D", "Embedding"):
        return weight[0], weight[1]
    if module.kind in ("Conv1d", "Conv2d", "Conv3d"):
        return weight[1] * module.groups, weight[0]
    return weight[1], weight[0]


def taken_then(module: Module, config: Mapping[str, Any]) -> None:
    """Refuse a kind of module that this method did not wrap yet in an older PEFT."""
    kinds = rule(config, f"{str(config.get('peft_type')).lower().replace('_', '-')}-kinds")
    if kinds and module.kind not in kinds:
        unsupported(module, "")


def unsupported(module: Module, supported: str, kind: str = "ValueError") -> NoReturn:
    """PEFT's refusal of a module kind. It prints the module's whole repr; we know its class only."""
    name = module.class_name or module.kind
    raise InjectionFails(kind, f"Target module {name}(…) is not supported. {supported}")


def positive_rank(rank: Any) -> int:
    """The rank, or PEFT's refusal of it."""
    if not isinstance(rank, int) or isinstance(rank, bool):
        raise Undecided(f"the rank {rank!r} is not a whole number")
    if rank <= 0:
        raise InjectionFails("ValueError", f"`r` should be a positive integer value but the value passed is {rank}")
    return rank


def no_config(tree: ModuleTree, what: str) -> NoReturn:
    """A plain module, which has no config for PEFT to look at; of weights alone nobody knows whether it has one."""
    if tree.known == "headers" or tree.config:
        raise Undecided(f"{what} on a base that does not say what model it is")
    raise InjectionFails("AttributeError", f"'{tree.class_name}' object has no attribute 'config'")


def no_layers_with_regex(
    config: Mapping[str, Any],
    *,
    beside: tuple[str, ...] = ("layers_to_transform", "layers_pattern"),
    alone: str | None = " ",
) -> None:
    """The config checks that methods share (`__post_init__`), each its own part of them.

    `beside`: the fields refused beside a `target_modules` that is one pattern. `alone`: what ends the refusal of
    `layers_pattern` without `layers_to_transform`; None where the method has none.
    """
    if isinstance(config.get("target_modules"), str) and not rule(config, "layers-beside-pattern"):
        for key in beside:
            if config.get(key) is not None:
                fails(f"`{key}` cannot be used when `target_modules` is a str.")
    if rule(config, "layers-pattern-alone"):
        return
    if alone is not None and config.get("layers_pattern") and config.get("layers_to_transform") is None:
        fails(f"When `layers_pattern` is specified, `layers_to_transform` must also be specified.{alone}")
