"""PROMPT_TUNING: learned rows put before the input embeddings.

Saved: `prompt_embeddings` (num_virtual_tokens · num_transformer_submodules, token_dim). Source: peft 0.21.2
`tuners/prompt_tuning/model.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapterfit.expect.methods._prompt import sizes
from adapterfit.records import Shape

KIND = "prompt"


def prompt(config: Mapping[str, Any], base: Mapping[str, Any]) -> Shape:
    """The shape of `prompt_embeddings`."""
    size = sizes(config, base, keys_and_values=False)
    return size.tokens * size.submodules, size.width
