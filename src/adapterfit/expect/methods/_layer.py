"""What every tuner method is made of: the tensors one wrapped module gets, and the ways an injection can fail."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, NoReturn

from adapterfit.records import Module, Raised, Shape

#: The adapter's name while PEFT loads it, unless the caller chooses another.
ADAPTER = "default"


class LayerSlot(NamedTuple):
    """A tensor of one wrapped module. `key` is its name in a file, `model_key` in the model, both after the module's."""

    key: str
    model_key: str
    shape: Shape
    optional: bool = False


class InjectionFails(Exception):
    """PEFT would raise while it puts the adapter's layers into the base."""

    def __init__(self, kind: str, line: str) -> None:
        super().__init__(line)
        self.raised = Raised(kind, line, stage="inject")


class Undecided(Exception):
    """We do not know what PEFT does here; the message says why."""


def submodule(name: str, shape: Shape, leaf: str = "weight") -> LayerSlot:
    """A weight that lives in an `nn.ModuleDict`: `lora_A.weight` in the file, `lora_A.default.weight` in the model."""
    return LayerSlot(f"{name}.{leaf}", f"{name}.{ADAPTER}.{leaf}", shape)


def parameter(name: str, shape: Shape, *, optional: bool = False) -> LayerSlot:
    """A weight that lives in an `nn.ParameterDict`: `ia3_l` in the file, `ia3_l.default` in the model."""
    return LayerSlot(name, f"{name}.{ADAPTER}", shape, optional)


def features(module: Module) -> tuple[int, int]:
    """`(in, out)` of a Linear, Conv1D, Embedding (num, dim) or convolution (channels)."""
    weight = module.params["weight"]
    if module.kind in ("Conv1D", "Embedding"):
        return weight[0], weight[1]
    if module.kind in ("Conv1d", "Conv2d", "Conv3d"):
        return weight[1] * module.groups, weight[0]
    return weight[1], weight[0]


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


def no_layers_with_regex(config: Mapping[str, Any]) -> None:
    """The config checks that LoRA-like methods share (`__post_init__`)."""
    if isinstance(config.get("target_modules"), str):
        for key in ("layers_to_transform", "layers_pattern"):
            if config.get(key) is not None:
                raise InjectionFails("ValueError", f"`{key}` cannot be used when `target_modules` is a str.")
    if config.get("layers_pattern") and config.get("layers_to_transform") is None:
        raise InjectionFails(
            "ValueError", "When `layers_pattern` is specified, `layers_to_transform` must also be specified. "
        )
