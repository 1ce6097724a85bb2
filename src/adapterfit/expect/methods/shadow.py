"""SHADOW: a small transformer runs beside the base and is mixed into every layer.

Saved, d being the base's hidden size and u `update_hidden_size` or r: relative to a layer `shadow_down.default.weight` (r, d),
`shadow_up.default.weight` (d, r), `shadow_update_transform.default` and `shadow_update_gate.default`, each with `.0.weight`
(u, d), `.0.bias` (u,), `.2.weight` (d, u), `.2.bias` (d,); and `base_model.shadow_backbone.default.*`, the base's own first
`shadow_num_hidden_layers` layers without the embeddings. The word `default` stays in the names. Source: peft 0.21.2
`tuners/shadow/`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from adapterfit.expect.methods._layer import (
    ADAPTER,
    InjectionFails,
    LayerSlot,
    Undecided,
    fails,
    no_config,
    no_layers_with_regex,
    positive_rank,
    whole,
)
from adapterfit.records import LoadRename, Module, ModuleTree, Shape, Slot

KIND = "tuner"
PREFIX = "shadow_"
TARGETS = ""
RENAMES: tuple[LoadRename, ...] = ()
_STACKS = ("layers", "h", "single_transformer_blocks", "transformer_blocks")
_OVERRIDES = (
    "shadow_num_hidden_layers",
    "shadow_hidden_size",
    "shadow_num_attention_heads",
    "shadow_intermediate_size",
)
_WIDTHS = ("hidden_size", "n_embd", "d_model")


def prepare(config: Mapping[str, Any]) -> None:
    """The checks of `ShadowConfig.__post_init__`."""
    no_layers_with_regex(config, alone="")
    if config.get("shadow_model", "mirror") == "mirror":
        return
    given = [field for field in _OVERRIDES if config.get(field) is not None]
    if given:
        fails(
            "Explicit `shadow_model` checkpoints define their architecture; unset these mirror-only overrides: "
            f"{', '.join(given)}."
        )
    raise Undecided("shadow_model names another model, which PEFT would fetch")


def inert(config: Mapping[str, Any]) -> bool:
    """`shadow_up` starts at zero."""
    return bool(config.get("init_weights", True))


def default_targets(tree: ModuleTree) -> list[str]:
    """The base's decoder layers."""
    backbone = _backbone(tree)
    stack = _stack(tree, backbone)
    if not stack:
        fails(
            "Unable to automatically find a `nn.ModuleList` of decoder layers (expected `.layers`/`.h`) inside the backbone "
            "(required when `target_modules` is not set). Please set `target_modules` explicitly to the decoder blocks you "
            "want to wrap, e.g. `r'.*\\.layers\\.\\d+$'`.",
            "AttributeError",
        )
    return [module.name for module in tree.modules if _parent(module.name) == stack]


def survey(modules: tuple[Module, ...], config: Mapping[str, Any], tree: ModuleTree) -> Mapping[str, Any]:
    """The base's hidden size and the tensors of its small copy; nothing where PEFT would not get so far."""
    if not modules:
        return {}
    names = [module.name for module in modules]
    if any(name.startswith(f"{outer}.") for name in names for outer in names):
        raise Undecided("SHADOW on modules inside one another")
    return {"width": _width(tree), "mirror": tuple(_mirror(tree, config)), "head": _head(tree, config)}


def layer(_module: Module, _name: str, rank: int, config: Mapping[str, Any]) -> tuple[LayerSlot, ...]:
    """The tensors of one module, whatever it is."""
    positive_rank(rank)
    width = config["surveyed"]["width"]
    update = whole(config, "update_hidden_size") if config.get("update_hidden_size") else rank
    slots = [_own("shadow_down", "weight", (rank, width)), _own("shadow_up", "weight", (width, rank))]
    for name in ("shadow_update_transform", "shadow_update_gate"):
        slots += [_own(name, "0.weight", (update, width)), _own(name, "0.bias", (update,))]
        slots += [_own(name, "2.weight", (width, update)), _own(name, "2.bias", (width,))]
    return tuple(slots)


def _own(name: str, leaf: str, shape: Shape) -> LayerSlot:
    key = f"{name}.{ADAPTER}.{leaf}"
    return LayerSlot(key, key, shape)


def shared(config: Mapping[str, Any]) -> tuple[Slot, ...]:
    """The small transformer, and for a classifier a copy of its head."""
    found = config["surveyed"]
    named = [("shadow_backbone", *entry) for entry in found["mirror"]]
    named += [("shadow_head", *entry) for entry in found["head"]]
    keys = ((f"base_model.{where}.{ADAPTER}.{name}", shape) for where, name, shape in named)
    return tuple(Slot(key, key, shape, "") for key, shape in keys)


# -------------------------------------------------------------------------------------------- the small copy


def _backbone(tree: ModuleTree) -> str:
    """The module PEFT takes for the transformer; an empty name for the whole model (`_get_backbone`)."""
    if not tree.model_type:
        raise Undecided("a shadow needs a transformers model with a config")
    names = {module.name for module in tree.modules}
    first = next((name for name in ("model", "transformer") if name in names), None)
    found = first if first is not None else (tree.prefix if tree.prefix in names else "")
    nested = f"{found}.decoder" if found else "decoder"
    return nested if nested in names and _stack(tree, nested) else found


def _stack(tree: ModuleTree, backbone: str) -> str:
    lists = {module.name for module in tree.modules if module.class_name == "ModuleList"}
    paths = (f"{backbone}.{stack}" if backbone else stack for stack in _STACKS)
    return next((path for path in paths if path in lists), "")


def _mirror(tree: ModuleTree, config: Mapping[str, Any]) -> Iterator[tuple[str, Shape]]:
    """Names and shapes of the small copy: the base's transformer, cut to its first layers."""
    if any(config.get(field) is not None for field in _OVERRIDES[1:]):
        raise Undecided("a shadow of other sizes than the base's")
    backbone = _backbone(tree)
    stack = _stack(tree, backbone)
    count = whole(config, "shadow_num_hidden_layers") if config.get("shadow_num_hidden_layers") else 1
    have = sum(1 for module in tree.modules if _parent(module.name) == stack)
    if not stack or not backbone or count > have:
        raise Undecided("a shadow whose layers are not the first of the base's")
    if any(module.name == f"{_parent(backbone)}.encoder" for module in tree.modules):
        raise Undecided("a shadow of a decoder beside an encoder: PEFT cuts the number of layers of one of them")
    skipped = f"{backbone}.embed_tokens" if config.get("share_embeddings", True) else None
    for module in tree.modules:
        if not module.name.startswith(f"{backbone}.") or module.name == skipped:
            continue
        if module.name.startswith(f"{stack}.") and int(module.name[len(stack) + 1 :].partition(".")[0]) >= count:
            continue
        inner = module.name[len(backbone) + 1 :]
        yield from ((f"{inner}.{name}", shape) for name, shape in module.params.items())


def _head(tree: ModuleTree, config: Mapping[str, Any]) -> tuple[tuple[str, Shape], ...]:
    if config.get("task_type") != "SEQ_CLS":
        return ()
    by_name = {module.name: module for module in tree.modules}
    head = next((by_name[name] for name in ("score", "classifier") if name in by_name), None)
    if head is not None and head.kind == "container":
        raise Undecided("a shadow with a copy of a head made of several modules")
    return tuple(head.params.items()) if head is not None else ()


def _width(tree: ModuleTree) -> int:
    if not tree.model_type:
        no_config(tree, "a shadow")
    size = next((tree.config[key] for key in _WIDTHS if key in tree.config), None)
    if size is None:
        raise InjectionFails("AttributeError", "Unable to infer the hidden size from the model config.")
    if not isinstance(size, int):
        raise Undecided(f"the base's hidden size is {size!r}")
    return size


def _parent(name: str) -> str:
    return name.rpartition(".")[0]
