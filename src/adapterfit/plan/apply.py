"""Edits carried out on the records alone, so that a cure can be tried before anything is written."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Callable

from adapterfit.edits import OF_CONFIG, DropConfig, Edit, Gather, SetConfig
from adapterfit.errors import BadEdit
from adapterfit.plan.making import made
from adapterfit.records import Adapter, AdapterConfig, Flaw, Stamp, TensorInfo, ValueSummary, Weights, WeightSample
from adapterfit.text import quote, shorten

#: What a reader says of a folder in which it sees no weights.
_NO_WEIGHTS = ("wrong-file-in-folder", "weights-file-missing")
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
    weights = _weights(adapter, edits, remark)
    gone = _no_more(born, adapter.weights is None and weights is not None)
    return dataclasses.replace(
        adapter,
        weights=weights,
        config=config,
        values=_values(adapter, edits),
        stamp=restamped(adapter, edits, reparse),
        layout="peft" if born or adapter.weights is None else adapter.layout,
        flaws=tuple(_reached(flaw, config) for flaw in adapter.flaws if not gone(flaw)),
    )


def _reached(flaw: Flaw, config: AdapterConfig | None) -> Flaw:
    """A loader that no longer stops at the config comes to what it did not come to before."""
    stops = config is None or any(one.predicted == "raises" and one.severity == "error" for one in config.flaws)
    return (
        dataclasses.replace(flaw, predicted="raises")
        if flaw.raised and flaw.predicted == "none" and not stops
        else flaw
    )


def rewrites(edits: Iterable[Edit]) -> bool:
    """Whether the weights are written anew."""
    return any(not isinstance(edit, OF_CONFIG) for edit in edits)


def taken(adapter: Adapter, edits: Iterable[Edit]) -> tuple[TensorInfo, ...]:
    """The tensors that the edits begin with: those of the weights, or the whole ones of the files that are gathered.

    Raises:
        BadEdit: A file was not read, or two tensors have one name.
    """
    gathered = [edit for edit in edits if isinstance(edit, Gather)]
    if not gathered:
        return adapter.tensors
    known = {each.file: each for each in (adapter.weights, *adapter.others) if each is not None}
    missing = [name for name in gathered[0].files if name not in known]
    if missing or len(gathered) > 1:
        raise BadEdit(f"Gather cannot be carried out: {shorten(map(quote, missing)) or 'it stands there twice'}")
    tensors = tuple(one for name in gathered[0].files for one in known[name].tensors or known[name].intact)
    if len({tensor.name for tensor in tensors}) != len(tensors):
        raise BadEdit("Gather cannot be carried out: two of the tensors have one name")
    return tensors


def _weights(adapter: Adapter, edits: tuple[Edit, ...], remark: Remark | None) -> Weights | None:
    """As they would be read: a file written anew has none of the old one's flaws, but may have bad names."""
    weights = adapter.weights
    if not rewrites(edits):
        return weights
    tensors = tuple(tensor.info for tensor in made(taken(adapter, edits), edits))
    flaws = tuple(remark(WEIGHTS, tensors)) if remark is not None else ()
    return Weights(
        WEIGHTS, "safetensors", weights.size if weights else 0, tensors, weights.metadata if weights else {}, flaws
    )


def _no_more(born: bool, found: bool) -> Callable[[Flaw], bool]:
    """Which flaws of the folder are gone with a new config, and with weights that were not seen before."""

    def gone(flaw: Flaw) -> bool:
        return (born and "adapter_config.json" in flaw.raised) or (found and flaw.code in _NO_WEIGHTS)

    return gone


def _values(adapter: Adapter, edits: tuple[Edit, ...]) -> dict[str, ValueSummary] | None:
    """The numbers' summaries under the tensors' new names; of a tensor that changed otherwise they are not known."""
    if adapter.values is None or adapter.weights is None or adapter.weights.refused:
        return None
    kept = ((tensor.info.name, tensor.source) for tensor in made(taken(adapter, edits), edits))
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
    for tensor in made(taken(adapter, edits), edits):
        if tensor.source is not None and tensor.source.name in names and tensor.info.shape == tensor.source.shape:
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
