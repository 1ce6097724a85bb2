"""Look at a model on the meta device: its modules as a tree of plain nodes."""
# ruff: noqa: SLF001 - a module's own parameters and children are kept in private tables

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import torch
from torch import nn
from transformers import AutoBackbone, AutoModel, PreTrainedModel
from transformers.backbone_utils import BackboneMixin
from transformers.initialization import no_init_weights
from transformers.pytorch_utils import Conv1D

from architectures import trace

#: The function that fills such a table.
_SINES = "get_sinusoid_encoding_table"
#: Modules of a model that is learned from.
MOST = 3000
_KINDS = (
    ("MultiheadAttention", nn.MultiheadAttention),
    ("Linear", nn.Linear),
    ("Conv1D", Conv1D),
    ("Embedding", nn.Embedding),
    ("Conv1d", nn.Conv1d),
    ("Conv2d", nn.Conv2d),
    ("Conv3d", nn.Conv3d),
)


@dataclass
class Node:
    """One module: `children` in registration order. `opaque` names the sub-config it was built from by AutoModel."""

    name: str
    kind: str
    cls: str
    params: dict[str, tuple[int, ...]] = field(default_factory=dict)
    groups: int = 1
    transposed: bool = False
    children: dict[str, Node] = field(default_factory=dict)
    opaque: str = ""
    texts: dict[str, tuple[str, ...]] = field(default_factory=dict)
    groups_text: str = ""

    def opaque_paths(self, path: str = "") -> list[str]:
        """Where the sub-models stand that were not entered."""
        found = [path] if self.opaque else []
        for name, child in self.children.items():
            found += child.opaque_paths(f"{path}.{name}" if path else name)
        return found

    def flat(self, path: str = "") -> list[tuple[Any, ...]]:
        """(path, kind, class, params, groups, transposed) of this node and all below, in `named_modules()` order."""
        cls = "" if self.opaque else self.cls
        rows = [(path, self.kind, cls, tuple(self.params.items()), self.groups, self.transposed)]
        for name, child in self.children.items():
            rows += child.flat(f"{path}.{name}" if path else name)
        return rows


def kind_of(module: nn.Module) -> str:
    """The word `records.Module.kind` has for this module."""
    for kind, cls in _KINDS:
        if isinstance(module, cls):
            return kind
    if any(True for _ in module.children()):
        return "container"
    return "norm" if "Norm" in type(module).__name__ else "other"


class TooLargeError(Exception):
    """A model of more modules than one learns from."""


@contextmanager
def at_most(count: int) -> Iterator[None]:
    """Give up a model while it is built, once it has more modules than `count`: a few sizes make thousands of equal ones."""
    make, made = nn.Module.__init__, itertools.count()

    def init(module: nn.Module, *given: Any, **more: Any) -> None:
        if next(made) > count:
            raise TooLargeError(f"more than {count} modules")
        make(module, *given, **more)

    with mock.patch.object(nn.Module, "__init__", init):
        yield


@contextmanager
def without_tables(cls: type) -> Iterator[None]:
    """Leave out what a model fills number by number in Python and keeps in no parameter: VideoMAE's table of sines takes minutes."""
    module = sys.modules[cls.__module__]
    if not hasattr(module, _SINES):
        yield
        return
    with mock.patch.object(module, _SINES, lambda count, width: torch.empty(1, count, width)):
        yield


def build(cls: type, config: Any) -> PreTrainedModel:
    """An instance without memory; TooLargeError where it has more than `MOST` modules."""
    with torch.device("meta"), no_init_weights(), at_most(MOST), without_tables(cls):
        model = cls(config)
    model.tie_weights()
    sound(model)
    return model


def sound(model: nn.Module) -> None:
    """ValueError for a model that no input passes through: a kernel of another number of dimensions than its convolution's."""
    for name, module in model.named_modules():
        ranks = [rank for kind, rank in ((nn.Conv1d, 3), (nn.Conv2d, 4), (nn.Conv3d, 5)) if isinstance(module, kind)]
        if ranks and module.weight.ndim != ranks[0]:
            raise ValueError(f"{name} has a kernel of {module.weight.ndim} dimensions")


def build_traced(cls: type, config: Any) -> PreTrainedModel:
    """The same, from a config whose numbers remember their names; the config is changed in place."""
    trace.mark(config)
    with trace.tracing():
        return build(cls, config)


def observe(
    module: nn.Module, name: str = "", seen: set[int] | None = None, opaque: dict[int, str] | None = None
) -> Node:
    """The tree below `module`, each module object once. `opaque`: ids of sub-models that are not to be entered."""
    seen = set() if seen is None else seen
    seen.add(id(module))
    node = Node(
        name,
        kind_of(module),
        type(module).__name__,
        {key: tuple(value.shape) for key, value in module._parameters.items() if value is not None},
        getattr(module, "groups", 1) if isinstance(module, nn.modules.conv._ConvNd) else 1,
        bool(getattr(module, "is_transposed", False)) and bool(module._parameters),
        texts={key: trace.sizes(value) for key, value in module._parameters.items() if value is not None},
    )
    if node.kind == "Linear":
        _as_stated(module, node)
    if isinstance(node.groups, trace.Traced):
        node.groups, node.groups_text = int(node.groups), node.groups.text
    if opaque and id(module) in opaque:
        return Node(name, "other", node.cls, opaque=opaque[id(module)])
    for key, child in module._modules.items():
        if child is not None and id(child) not in seen:
            node.children[key] = observe(child, key, seen, opaque)
    return node


def _as_stated(module: nn.Module, node: Node) -> None:
    """A Linear has the sizes that it states, for PEFT reads those: a weight tied to one of another size stays what it is."""
    stated = (getattr(module, "out_features", None), getattr(module, "in_features", None))
    if all(isinstance(size, int) for size in stated) and node.params.get("weight", stated) != stated:
        for name, sizes in (("weight", stated), ("bias", stated[:1])):
            if name in node.params:
                node.params[name] = tuple(int(size) for size in sizes)  # type: ignore[arg-type]
                node.texts[name] = tuple(size.text if isinstance(size, trace.Traced) else "" for size in sizes)


def opaque_parts(model: PreTrainedModel, auto_keys: list[str]) -> dict[int, str]:
    """Sub-models that equal `AutoModel.from_config(config.<key>)`, or `AutoBackbone`'s, by id → key, and the task."""
    found = {}
    for key in auto_keys:
        sub = getattr(model.config, key, None)
        inner = [one for one in model.modules() if one is not model and getattr(one, "config", None) is sub]
        for module in inner if sub is not None else ():
            maker, task = (AutoBackbone, " BACKBONE") if isinstance(module, BackboneMixin) else (AutoModel, "")
            if isinstance(module, PreTrainedModel) and observe(module).flat() == _alone(maker, sub):
                found[id(module)] = key + task
    return found


def _alone(maker: Any, config: Any) -> list[tuple[Any, ...]]:
    """The modules of what an auto class makes of this config; none where it makes nothing of it."""
    try:
        with torch.device("meta"), no_init_weights():
            return observe(maker.from_config(config)).flat()
    except ValueError:  # a config without such a class
        return []


def aliases(model: nn.Module) -> dict[str, str]:
    """Second path of a module object -> its first path."""
    first: dict[int, str] = {}
    second = {}
    for name, module in model.named_modules(remove_duplicate=False):
        if id(module) in first:
            second[name] = first[id(module)]
        else:
            first[id(module)] = name
    return second


def tied(model: nn.Module) -> list[tuple[str, ...]]:
    """Names of parameters that are one object, grouped, over the modules' first paths."""
    groups: dict[int, list[str]] = {}
    for path, module in model.named_modules():
        for key, value in module._parameters.items():
            if value is not None:
                groups.setdefault(id(value), []).append(f"{path}.{key}" if path else key)
    return [tuple(names) for names in groups.values() if len(names) > 1]


def path_of(model: nn.Module, module: nn.Module | None) -> str:
    """The first path of `module`; empty where it is None or not a module of the model."""
    return next((name for name, found in model.named_modules() if found is module), "") if module is not None else ""


def embeddings(model: PreTrainedModel) -> tuple[str, str]:
    """Module names of the input and output embeddings; empty where the class has none."""
    found = []
    for getter in (model.get_input_embeddings, model.get_output_embeddings):
        try:
            found.append(path_of(model, getter()))
        except (NotImplementedError, AttributeError):
            found.append("")
    return found[0], found[1]


def config_key(model: PreTrainedModel, given: Any) -> str:
    """The sub-config of the given config that the model keeps as its own, and PEFT reads; empty where it keeps the whole."""
    return next((key for key, part in vars(given).items() if part is model.config and key[:1] != "_"), "")
