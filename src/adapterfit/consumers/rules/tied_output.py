"""Rule: a LoRA on an output layer that is tied to the embeddings is refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from adapterfit.answers import Effect, Sight
from adapterfit.consumers.rules._effects import effect

FIELDS: Mapping[str, Any] = {}


def effects(value: Mapping[str, Any], sight: Sight) -> Iterator[Effect]:
    """Refused where config.json ties them; not known without a base."""
    at = sight.features.get("lm-head")
    if at is None or sight.base_config.get("tie_word_embeddings") is False:
        return
    if sight.base_config.get("tie_word_embeddings"):
        yield effect("refused", value, "refuses a LoRA on an output layer that is tied to the embeddings", at)
    else:
        yield effect("unknown", {}, "whether the output layer is tied to the embeddings is not known", at)
