"""Rule: the kinds of numbers an engine reads (`allowed`, in safetensors' spelling)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from adapterfit.answers import Effect, Sight
from adapterfit.consumers.rules._effects import effect

FIELDS = {"allowed": list}


def effects(value: Mapping[str, Any], sight: Sight) -> Iterator[Effect]:
    """Refused where a tensor has another."""
    odd = [tensor for pair in sight.pairs for tensor in pair.tensors if tensor.dtype not in value["allowed"]]
    odd += [tensor for tensor in sight.others if tensor.dtype not in value["allowed"]]
    if odd:
        kinds = ", ".join(sorted({tensor.dtype for tensor in odd}))
        yield effect("refused", value, f"does not read {kinds}", [tensor.name for tensor in odd], dtype=odd[0].dtype)
