"""torchtune: `layers.0.attn.q_proj.lora_a.weight`."""

from __future__ import annotations

from collections.abc import Sequence


def claims(names: Sequence[str]) -> bool:
    """Whether the names end as torchtune's do."""
    return any(name.endswith((".lora_a.weight", ".lora_b.weight")) for name in names)
