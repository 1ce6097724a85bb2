"""`layer_replication`: the base's layer list rebuilt from spans, as `replicate_layers` of peft 0.21.2 does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from adapterfit import limits
from adapterfit.expect.methods._layer import InjectionFails, Undecided, no_config
from adapterfit.records import Module, ModuleTree


def replicated(tree: ModuleTree, spans: Any) -> ModuleTree:
    """`layer_replication`: the layer list rebuilt from `[start, end)` spans, weights shared."""
    if not _are_spans(spans):
        raise Undecided("layer_replication is not a list of [start, end] pairs")
    if sum(end - start for start, end in spans) > limits.LAYERS:
        raise Undecided(f"layer_replication asks for more than {limits.LAYERS} layers")
    if not tree.model_type:
        no_config(tree, "layer_replication")  # PEFT writes the new number of layers there
    stack = _layer_stack(tree)
    layers: dict[int, list[Module]] = {}
    for module in tree.modules:
        head, _, rest = (
            module.name[len(stack) + 1 :].partition(".") if module.name.startswith(stack + ".") else ("",) * 3
        )
        if head.isdigit():
            layers.setdefault(int(head), []).append(replace(module, name=rest))
    order = [index for start, end in spans for index in range(start, end)]
    if any(index not in layers for index in order):
        raise InjectionFails("IndexError", f"index {max(order)} is out of range")
    rebuilt = [
        replace(module, name=f"{stack}.{at}" + (f".{module.name}" if module.name else ""))
        for at, index in enumerate(order)
        for module in layers[index]
    ]
    before, after = _around(tree, stack)
    return replace(tree, modules=(*before, *rebuilt, *after))


def _are_spans(spans: Any) -> bool:
    return isinstance(spans, list) and all(
        isinstance(span, list) and len(span) == 2 and all(isinstance(i, int) for i in span) and 0 <= span[0] <= span[1]
        for span in spans
    )


def _layer_stack(tree: ModuleTree) -> str:
    names = {module.name for module in tree.modules}
    root = ""
    while f"{root}model" in names:
        root += "model."
    if f"{root}bert" in names:
        root += "bert."
    for stack in ("layers", "encoder.layer", "h"):
        if f"{root}{stack}" in names:
            return f"{root}{stack}"
    raise InjectionFails(
        "ValueError",
        "Could not locate the layers attribute in the model. Expected Llama, Bert or Falcon compatible architectures.",
    )


def _around(tree: ModuleTree, stack: str) -> tuple[list[Module], list[Module]]:
    before: list[Module] = []
    after: list[Module] = []
    side = before
    for module in tree.modules:
        if module.name.startswith(stack + "."):
            continue
        side.append(module)
        if module.name == stack:
            side = after
    return before, after
