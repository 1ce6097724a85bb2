"""NVIDIA NeMo: `….self_attention.linear_qkv.adapter.linear_in.weight`, older `….adapter_layer.lora_kqv_adapter.…`."""

from __future__ import annotations

from collections.abc import Sequence

_MARKS = (".adapter.linear_in.", ".adapter.linear_out.", ".adapter_layer.lora_")


def claims(names: Sequence[str]) -> bool:
    """Whether the names carry NeMo's adapter modules."""
    return any(mark in name for name in names for mark in _MARKS)
