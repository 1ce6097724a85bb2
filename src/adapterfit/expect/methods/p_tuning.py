"""P_TUNING: learned rows before the input embeddings, trained through an MLP or LSTM that is not saved.

Saved: `prompt_embeddings` (num_virtual_tokens · num_transformer_submodules, token_dim). Source: peft 0.21.2
`tuners/p_tuning/model.py`.
"""

from __future__ import annotations

from adapterfit.expect.methods.prompt_tuning import prompt

__all__ = ["KIND", "prompt"]

KIND = "prompt"
