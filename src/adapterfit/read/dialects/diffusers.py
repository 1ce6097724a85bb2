"""diffusers: `unet.down_blocks.0…to_k.lora.down.weight`, `….processor.to_k_lora.down.weight`, `transformer.….lora_A.weight`."""

from __future__ import annotations

from collections.abc import Sequence

_PARTS = ("unet.", "transformer.", "text_encoder.", "text_encoder_2.", "diffusion_model.")
_ENDS = ("lora.down.weight", "lora.up.weight", "lora_down.weight", "lora_up.weight", "lora_linear_layer.down.weight")
_BLOCKS = ("down_blocks.", "up_blocks.", "mid_block.", "transformer_blocks.", "single_blocks.", "double_blocks.")


def claims(names: Sequence[str]) -> bool:
    """Whether a tensor belongs to a diffusion model's block, or ends as the older layouts do."""
    return any(_claims_one(name) for name in names)


def _claims_one(name: str) -> bool:
    if name.startswith(("lora_", "base_model.")) or "lora" not in name:
        return False
    blocks = name.startswith((*_PARTS, *_BLOCKS)) and any(block in name for block in _BLOCKS)
    return (
        blocks or name.startswith("diffusion_model.") or name.endswith(("_lora.down.weight", "_lora.up.weight", *_ENDS))
    )
