"""TRAINABLE_TOKENS: single rows of an embedding are replaced.

Saved, relative to a module of width D: `trainable_tokens_delta` (n, D), n being the number of `token_indices`; these stand
in the config only, in the order of the rows. A tied output layer repeats the same rows. Source: peft 0.21.2
`tuners/trainable_tokens/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapterfit.expect.extras import tied_with_embedding
from adapterfit.expect.methods._layer import LayerSlot, Undecided, fails, parameter
from adapterfit.expect.wrapped import Wrapped
from adapterfit.records import LoadRename, Module, ModuleTree

KIND = "tuner"
PREFIX = "trainable_tokens_"
TARGETS = ""
RENAMES: tuple[LoadRename, ...] = ()


def prepare(_config: Mapping[str, Any]) -> None:
    """Nothing that a loaded config could trip."""


def default_targets(tree: ModuleTree) -> str:
    """The input embedding."""
    return tree.input_embeddings or "embed_tokens"


def inert(config: Mapping[str, Any]) -> bool:
    """Rows start as they are in the base."""
    return bool(config.get("init_weights", True))


def layer(module: Module, _name: str, _rank: int, config: Mapping[str, Any]) -> tuple[LayerSlot, ...]:
    """The tensors of one module."""
    weight = module.params.get("weight")
    name = module.class_name or module.kind
    if weight is None:
        fails(f"'{name}' object has no attribute 'weight'", "AttributeError")
    if module.kind not in ("Embedding", "Linear"):
        fails(f"'{name}' object has no attribute 'in_features'", "AttributeError")
    tokens = config.get("token_indices") or []
    if not isinstance(tokens, list) or not all(isinstance(token, int) for token in tokens):
        raise Undecided("token_indices are not whole numbers")
    beyond = next((token for token in tokens if not -weight[0] <= token < weight[0]), None)
    if beyond is not None:
        fails(f"index {beyond} is out of bounds for dimension 0 with size {weight[0]}", "IndexError")
    return (parameter("trainable_tokens_delta", (len(tokens), weight[1])),)


def finish(wrapped: Wrapped, _config: Mapping[str, Any]) -> None:
    """Modules tied to a targeted input embedding repeat its rows."""
    tree = wrapped.tree
    source = wrapped.tuned.get(tree.input_embeddings)
    tied = tied_with_embedding(tree) if tree.config.get("tie_word_embeddings", True) else ()
    if source is None or not tied:
        return
    if any(name.endswith(tied) for name in tree.aliases):
        raise Undecided("token rows of an embedding that several modules share")
    owner = f"base_model.model.{tree.input_embeddings}."
    shared = tuple(slot._replace(shares=owner + slot.model_key) for slot in source[0])
    for module in tree.modules:
        if module.name.endswith(tied):
            wrapped.tuned[module.name] = [shared]
