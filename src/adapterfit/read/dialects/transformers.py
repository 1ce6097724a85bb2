"""PEFT's tensors without the wrapper's prefix: `model.layers.0.self_attn.q_proj.lora_A.weight`.

transformers' own loader takes them; `PeftModel.from_pretrained` does not.
"""

from __future__ import annotations

from collections.abc import Sequence

_MARKS = (".lora_A", ".lora_B", ".lora_embedding_A", ".lora_embedding_B", ".lora_magnitude_vector")
_OTHERS = (
    "base_model.",
    "lora_unet_",
    "lora_te",
    "unet.",
    "transformer.transformer_blocks.",
    "diffusion_model.",
    "text_encoder",
)


def claims(names: Sequence[str]) -> bool:
    """Whether the adapter's tensors carry PEFT's suffixes, and none its prefix or a diffusion model's."""
    tuned = [name for name in names if any(mark in name for mark in _MARKS)]
    return bool(tuned) and not any(name.startswith(_OTHERS) or ".loras." in name for name in tuned)
