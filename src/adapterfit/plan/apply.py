"""Edits carried out on the records alone, so that a cure can be tried before anything is written."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, Callable

from adapterfit.edits import Drop, DropConfig, Edit, Rename, SetConfig
from adapterfit.records import Adapter, AdapterConfig

Reparse = Callable[[dict[str, Any]], AdapterConfig]


def apply(adapter: Adapter, edits: Iterable[Edit], reparse: Reparse) -> Adapter:
    """The adapter as it would be read after the edits. `reparse` reads a changed config."""
    edits = tuple(edits)
    names = {edit.old: edit.new for edit in edits if isinstance(edit, Rename)}
    dropped = {edit.name for edit in edits if isinstance(edit, Drop)}
    weights = adapter.weights
    if weights is not None and (names or dropped):
        kept = (t for t in weights.tensors if t.name not in dropped)
        tensors = tuple(dataclasses.replace(t, name=names.get(t.name, t.name)) for t in kept)
        weights = dataclasses.replace(weights, tensors=tensors)
    return dataclasses.replace(adapter, weights=weights, config=_config(adapter.config, edits, reparse))


def _config(config: AdapterConfig | None, edits: tuple[Edit, ...], reparse: Reparse) -> AdapterConfig | None:
    changes = [edit for edit in edits if isinstance(edit, (SetConfig, DropConfig))]
    if config is None or not changes:
        return config
    raw = dict(config.raw)
    for edit in changes:
        if isinstance(edit, SetConfig):
            raw[edit.key] = edit.value
        else:
            raw.pop(edit.key, None)
    return reparse(raw)
