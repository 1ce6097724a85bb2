"""CARTRIDGE: learned keys and values put before every layer's own, the first of them frozen.

Saved: `prompt_embeddings` (num_virtual_tokens, num_layers · 2 · token_dim), as prefix tuning does. Source: peft 0.21.2
`tuners/cartridge/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapterfit.expect.methods import prefix_tuning
from adapterfit.expect.methods._layer import fails
from adapterfit.records import Shape

KIND = "prompt"


def prompt(config: Mapping[str, Any], base: Mapping[str, Any]) -> Shape:
    """The shape of `prompt_embeddings`."""
    frozen, tokens = config.get("num_frozen_tokens", 1), config.get("num_virtual_tokens")
    if isinstance(frozen, int) and frozen < 0:
        fails(f"`num_frozen_tokens` must be >= 0, got {frozen}.")
    if isinstance(frozen, int) and isinstance(tokens, int) and frozen > tokens:
        fails(
            f"`num_frozen_tokens` must be <= `num_virtual_tokens`, got num_frozen_tokens={frozen} and "
            f"num_virtual_tokens={tokens}."
        )
    return prefix_tuning.prompt(config, base)
