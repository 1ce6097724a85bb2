"""Edits carried out on the records alone, so that a cure can be tried before anything is written."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Callable

from adapterfit.edits import OF_CONFIG, DropConfig, Edit, SetConfig
from adapterfit.plan.making import made
from adapterfit.records import Adapter, AdapterConfig, Flaw, Stamp, TensorInfo, ValueSummary, Weights, WeightSample

Reparse = Callable[[dict[str, Any]], AdapterConfig]
Remark = Callable[[str, tuple[TensorInfo, ...]], Iterable[Flaw]]
#: What weights are written as, whatever they were read from.
WEIGHTS = "adapter_model.safetensors"


def apply(adapter: Adapter, edits: Iterable[Edit], reparse: Reparse, remark: Remark | None = None) -> Adapter:
    """The adapter as it would be read after the edits.

    Args:
        adapter: The adapter before.
        edits: What to do, in order.
        reparse: Reads a changed config.
        remark: What a reader remarks on the names of tensors in a sound file; nothing, without it.

    Raises:
        BadEdit: An edit cannot be carried out.
    """
    edits = tuple(edits)
    config = _config(adapter.config, edits, reparse)
    born = adapter.config is None and config is not None
    return dataclasses.replace(
        adapter,
        weights=_weights(adapter.weights, edits, remark) if adapter.weights is not None else None,
        config=config,
        values=_values(adapter, edits),
        stamp=restamped(adapter, edits, reparse),
        layout="peft" if born else adapter.layout,
        flaws=tuple(flaw for flaw in adapter.flaws if not (born and "adapter_config.json" in flaw.raised)),
    )


def rewrites(edits: Iterable[Edit]) -> bool:
    """Whether the weights are written anew."""
    return any(not isinstance(edit, OF_CONFIG) for edit in edits)


def _weights(weights: Weights, edits: tuple[Edit, ...], remark: Remark | None) -> Weights:
    """As they would be read: a file written anew has none of the old one's flaws, but may have bad names."""
    if not rewrites(edits):
        return weights
    tensors = tuple(tensor.info for tensor in made(weights.tensors, edits))
    flaws = tuple(remark(WEIGHTS, tensors)) if remark is not None else ()
    return dataclasses.replace(weights, file=WEIGHTS, format="safetensors", tensors=tensors, flaws=flaws)


def _values(adapter: Adapter, edits: tuple[Edit, ...]) -> dict[str, ValueSummary] | None:
    """The numbers' summaries under the tensors' new names; of a tensor that changed otherwise they are not known."""
    if adapter.values is None or adapter.weights is None:
        return None
    kept = ((tensor.info.name, tensor.source) for tensor in made(adapter.weights.tensors, edits))
    return {name: adapter.values[old.name] for name, old in kept if old is not None and old.name in adapter.values}


def _config(config: AdapterConfig | None, edits: tuple[Edit, ...], reparse: Reparse) -> AdapterConfig | None:
    raw = changed_config(config.raw if config is not None else {}, edits)
    changed = any(isinstance(edit, OF_CONFIG) for edit in edits)
    return reparse(raw) if changed else config


def restamped(adapter: Adapter, edits: tuple[Edit, ...], reparse: Reparse) -> Stamp | None:
    """The stamp as it tells of the adapter after the edits: of tensors under their new names, without those that changed."""
    stamp = adapter.stamp
    if stamp is None or not edits:
        return stamp
    names: dict[str, list[str]] = {tensor.name: [] for tensor in adapter.tensors}
    for tensor in made(adapter.tensors, edits):
        if tensor.source is not None and tensor.info.shape == tensor.source.shape:
            names[tensor.source.name].append(tensor.info.name)
    return dataclasses.replace(
        stamp,
        adapter_config=_config(stamp.adapter_config, edits, reparse) if stamp.adapter_config is not None else None,
        adapter_content=_renamed(stamp.adapter_content, names),
        adapter_now=_renamed(stamp.adapter_now, names),
    )


def _renamed(held: Mapping[str, WeightSample], names: Mapping[str, list[str]]) -> dict[str, WeightSample]:
    return {new: sample for name, sample in held.items() for new in names.get(name, [name])}


def changed_config(raw: Any, edits: Iterable[Edit]) -> dict[str, Any]:
    """The fields of a config after the edits; those that stay keep their order, new ones come last."""
    fields = dict(raw)
    for edit in edits:
        if isinstance(edit, SetConfig):
            fields[edit.key] = edit.value
        elif isinstance(edit, DropConfig):
            fields.pop(edit.key, None)
    return fields
