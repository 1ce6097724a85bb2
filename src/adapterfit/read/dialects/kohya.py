"""kohya-ss and its kin: `lora_unet_down_blocks_0_attentions_0_to_q.lora_down.weight`, dots written as underscores."""

from __future__ import annotations

from collections.abc import Sequence

_STARTS = (
    "lora_unet_",
    "lora_te_",
    "lora_te1_",
    "lora_te2_",
    "lora_te3_",
    "lora_transformer_",
    "lora_prior_",
    "lycoris_",
)


def claims(names: Sequence[str]) -> bool:
    """Whether the names start as kohya's do."""
    return any(name.startswith(_STARTS) for name in names)
