"""Rule: the engine refuses an `added_tokens.json` with ids beyond the base's vocabulary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from adapterfit.answers import Effect, Sight
from adapterfit.consumers.rules._effects import effect

FIELDS: Mapping[str, Any] = {}


def effects(value: Mapping[str, Any], sight: Sight) -> Iterator[Effect]:
    """Refused where the tokenizer beside the adapter has more tokens than the base has rows."""
    if "added-tokens" not in sight.features:
        return
    rows = sight.tokenizer.get() if sight.tokenizer is not None else None
    size = vocabulary(sight.base_config)
    if rows is None or size is None:
        yield effect("unknown", {}, "added_tokens.json: its ids and the base's vocabulary could not be compared")
    elif rows > size:
        yield effect(
            "refused", value, f"{rows} tokens, and the base has {size} rows", page="vocabulary-over-engine-limit"
        )


def vocabulary(config: Mapping[str, Any]) -> int | None:
    """`vocab_size` of a config, or of its text part."""
    text = config.get("text_config")
    found = config.get("vocab_size", text.get("vocab_size") if isinstance(text, Mapping) else None)
    return found if isinstance(found, int) else None
