"""What is converted: an adapter's files, opened and read as far as `check` reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Callable

from adapterfit.conversion.numbers import Tensor, stored
from adapterfit.errors import BadInput, CannotConvert
from adapterfit.expect import modules
from adapterfit.read.adapter import read_adapter
from adapterfit.read.source import Source
from adapterfit.read.sources.part import PartSource
from adapterfit.read.weights import read_weights
from adapterfit.records import Adapter, Base, ModuleTree, Weights
from adapterfit.text import shorten, show


@dataclass(frozen=True)
class Opened:
    """An adapter with its files open. `weights` is the one file that holds its tensors; `base` what it was trained on."""

    source: Source
    adapter: Adapter
    weights: Weights
    base: Base | None = None

    def tensors(self) -> Mapping[str, Tensor]:
        """Its tensors by name, none of them read."""
        return {info.name: stored(self.source, info) for info in self.weights.tensors}

    def tree(self) -> ModuleTree | None:
        """The base's modules, found once."""
        return self._tree

    @cached_property
    def _tree(self) -> ModuleTree | None:
        """The base's modules as transformers names them; None without a base, or where it cannot be built."""
        if self.base is None:
            return None
        try:
            return self.base.tree or modules.tree(self.base, self.base.architecture)
        except BadInput:
            return None

    def class_known(self) -> bool:
        """Whether the base's modules are those of its class; the names and shapes of its weights alone tell neither kinds nor ties."""
        tree = self.tree()
        return tree is not None and tree.known != "headers"

    def ties_known(self) -> bool:
        """Whether it is known which weights of the base are another one's too."""
        config = self.base.config if self.base is not None else None
        return self.class_known() or (config or {}).get("tie_word_embeddings") is False

    def tied(self) -> frozenset[str]:
        """Modules of the base whose weight is another one's too; none where the base is not at hand."""
        tree = self.tree()
        return (
            frozenset(name.rpartition(".")[0] for group in tree.tied for name in group)
            if tree is not None
            else frozenset()
        )


def opened(source: Source, base: Base | None = None) -> Opened:
    """Open an adapter of any format.

    Raises:
        CannotConvert: There are no weights, or several files that may be meant, or they cannot be read.
        CannotCheck: A file must not be read, or changed meanwhile.
    """
    adapter = read_adapter(source)
    weights = adapter.weights or next(iter(adapter.others), None) or _only(source)
    if weights is None:
        raise CannotConvert(f"{source.label} holds no weights of an adapter")
    if weights.refused and weights.format != "gguf":
        raise CannotConvert(
            f"the weights cannot be read: {next(flaw.message for flaw in weights.flaws if flaw.refused)}"
        )
    return Opened(source, adapter, weights, base)


def _only(source: Source) -> Weights | None:
    """The one weights file of a folder that other programs name as they like."""
    found = [name for name in source.names() if "/" not in name and name.endswith((".safetensors", ".gguf"))]
    if len(found) > 1:
        raise CannotConvert(
            f"{source.label} holds several weights files ({shorten(found)}): give the one that is meant"
        )
    return read_weights(source, found[0]) if found else None


def inner_folders(source: Source) -> Mapping[str, Source]:
    """The folders directly in a source that hold a PEFT adapter each, by name; none where it is one itself."""
    names = source.names()
    if "adapter_config.json" in names:
        return {}
    folders = sorted(
        {name.split("/")[0] for name in names if name.endswith("/adapter_config.json") and name.count("/") == 1}
    )
    return {folder: PartSource(source, _within(folder), f"{source.label}/{show(folder)}") for folder in folders}


def _within(folder: str) -> Callable[[str], str | None]:
    return lambda name: name[len(folder) + 1 :] if name.startswith(f"{folder}/") else None
