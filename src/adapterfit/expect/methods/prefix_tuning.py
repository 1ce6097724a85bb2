"""PREFIX_TUNING: learned keys and values put before every layer's own.

Saved: `prompt_embeddings` (num_virtual_tokens, num_layers · 2 · token_dim); token_dim is head_dim · num_key_value_heads
where the base groups its heads. The projection used in training is not saved. Source: peft 0.21.2
`tuners/prefix_tuning/model.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapterfit.expect.methods._prompt import sizes
from adapterfit.records import Shape

KIND = "prompt"


def prompt(config: Mapping[str, Any], base: Mapping[str, Any]) -> Shape:
    """The shape of `prompt_embeddings`."""
    size = sizes(config, base, keys_and_values=True)
    return size.tokens, size.layers * 2 * size.width
