"""CPT: the embeddings of a written prompt, changed a little.

Saved: `prompt_embeddings` (number of `cpt_token_ids`, hidden size). Its width is always the base's, whatever the config
says. Source: peft 0.21.2 `tuners/cpt/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapterfit.expect.methods._layer import Undecided, fails
from adapterfit.expect.methods._prompt import sizes
from adapterfit.expect.versions import LOADER
from adapterfit.records import Shape

KIND = "prompt"


def prepare(config: Mapping[str, Any]) -> None:
    """The check of `CPTConfig.__post_init__` that needs no base."""
    if config.get("task_type") != "CAUSAL_LM":
        fails("CPTConfig only supports task_type = CAUSAL_LM.")


def prompt(config: Mapping[str, Any], base: Mapping[str, Any]) -> Shape:
    """The shape of `prompt_embeddings`."""
    prepare(config)
    lists = [config.get(field) for field in ("cpt_token_ids", "cpt_mask", "cpt_tokens_type_mask")]
    if not all(value is None or isinstance(value, list) for value in lists):
        raise Undecided("cpt_token_ids, cpt_mask and cpt_tokens_type_mask are not lists")
    tokens = len(lists[0]) if lists[0] is not None else 1
    if any(value is not None and len(value) != tokens for value in lists):
        fails("cpt_token_ids, cpt_mask and cpt_tokens_type_mask must have the same length.")
    # PEFT forgets the sizes of the config and takes those of the base.
    own: dict[str, Any] = {"num_virtual_tokens": tokens, "num_transformer_submodules": 1, "task_type": "CAUSAL_LM"}
    own.update({LOADER: config[LOADER]} if LOADER in config else {})
    size = sizes(own, base, keys_and_values=False)
    return size.tokens, size.width
