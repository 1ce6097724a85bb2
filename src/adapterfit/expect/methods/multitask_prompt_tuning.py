"""MULTITASK_PROMPT_TUNING: rows put before the input embeddings, scaled by a low-rank matrix of each task.

Saved, with t = num_virtual_tokens · num_transformer_submodules: `prompt_embeddings` (t, token_dim), `prefix_task_cols`
(num_tasks, t, num_ranks), `prefix_task_rows` (num_tasks, num_ranks, token_dim). PEFT says nothing where the last two are
missing. Source: peft 0.21.2 `tuners/multitask_prompt_tuning/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapterfit.expect.methods._layer import Undecided, fails, whole
from adapterfit.expect.methods._prompt import sizes
from adapterfit.records import Shape

KIND = "prompt"

_FROM_A_FILE = ("AVERAGE_SOURCE_TASKS", "EXACT_SOURCE_TASK", "ONLY_SOURCE_SHARED")


def prompt(config: Mapping[str, Any], base: Mapping[str, Any]) -> Shape:
    """The shape of `prompt_embeddings`."""
    init = config.get("prompt_tuning_init")
    if init in _FROM_A_FILE:
        if config.get("prompt_tuning_init_state_dict_path") is None:
            fails(f"prompt_tuning_init_state_dict_path needs to be specified with {init} init method")
        raise Undecided(f"prompt_tuning_init={init!r} makes PEFT read the file that the config names")
    size = sizes(config, base, keys_and_values=False)
    return size.tokens * size.submodules, size.width


def more(config: Mapping[str, Any], base: Mapping[str, Any]) -> Mapping[str, Shape]:
    """The prompt's other tensors."""
    tasks, ranks = whole(config, "num_tasks"), whole(config, "num_ranks")
    rows, width = prompt(config, base)
    return {"prefix_task_cols": (tasks, rows, ranks), "prefix_task_rows": (tasks, ranks, width)}
