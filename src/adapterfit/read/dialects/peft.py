"""PEFT's own names: `base_model.model.<module>.lora_A.weight`, or a prompt's bare `prompt_embeddings`."""

from __future__ import annotations

from collections.abc import Sequence

_BARE = frozenset(("prompt_embeddings", "prefix_task_cols", "prefix_task_rows"))


def claims(names: Sequence[str]) -> bool:
    """Whether all names are PEFT's."""
    return bool(names) and all(name.startswith("base_model.") or name in _BARE for name in names)
