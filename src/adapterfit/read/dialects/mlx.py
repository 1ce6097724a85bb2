"""mlx-lm: `model.layers.0.self_attn.q_proj.lora_a`, stored transposed: `lora_a` is [in, r], `lora_b` is [r, out]."""

from __future__ import annotations

from collections.abc import Sequence


def claims(names: Sequence[str]) -> bool:
    """Whether the names end as mlx-lm's do."""
    return any(name.endswith((".lora_a", ".lora_b")) and not name.startswith("blk.") for name in names)
