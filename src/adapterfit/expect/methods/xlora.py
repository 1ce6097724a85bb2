"""XLORA: a classifier mixes several LoRA adapters per token.

Saved: `base_model.internal_xlora_classifier.layers.<i>.weight` and `.bias`, the last with as many outputs as there are
adapters (times the LoRA layers with `layerwise_scalings`); the adapters themselves lie in folders of their own. Source: peft
0.21.2 `tuners/xlora/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapterfit.expect.methods._layer import LayerSlot, Undecided
from adapterfit.records import LoadRename, Module

KIND = "tuner"
PREFIX = "xlora_"
TARGETS = ""
RENAMES: tuple[LoadRename, ...] = ()
_WHY = (
    "X-LoRA mixes other adapters, which PEFT loads from the folders and Hub ids that its config names (`adapters`); nothing that "
    "an adapter names is opened here, so check each of them by itself"
)


def prepare(_config: Mapping[str, Any]) -> None:
    """Its layers are those of other adapters."""
    raise Undecided(_WHY)


def inert(_config: Mapping[str, Any]) -> bool:
    """The classifier starts at random."""
    return False


def layer(_module: Module, _name: str, _rank: int, _config: Mapping[str, Any]) -> tuple[LayerSlot, ...]:
    """Never reached: `prepare` ends before."""
    raise Undecided(_WHY)
