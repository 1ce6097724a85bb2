"""llama.cpp: `blk.0.attn_q.weight.lora_a`."""

from __future__ import annotations

from collections.abc import Sequence


def claims(names: Sequence[str]) -> bool:
    """Whether the names are a GGUF adapter's."""
    return any(
        name.startswith("blk.")
        and name.endswith((".weight.lora_a", ".weight.lora_b", ".weight.loraA", ".weight.loraB"))
        for name in names
    )
