"""What the rules share: an effect made from a claim's words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from adapterfit.answers import Effect, Pair, Sight

#: What an engine does about something → the kind of effect it has.
ANSWERS = {
    "refused": "refused",
    "ignored": "dropped",
    "differs": "differs",
    "unknown": "unknown",
    "note": "note",
    "flags": "flags",
}


def effect(
    kind: str, value: Mapping[str, Any], message: str, at: Iterable[str] = (), page: str = "", **words: object
) -> Effect:
    """An effect with the claim's own line, note and cure; `words` fill their `{placeholders}`."""
    return Effect(
        kind=kind,
        message=fill(str(value.get("note") or message), words),
        says=fill(str(value.get("says", "")), words),
        at=tuple(at),
        cure=str(value.get("cure", "")),
        page=str(value.get("page", "")) or page,
    )


def fill(text: str, words: Mapping[str, object]) -> str:
    """`{word}` replaced where it is known; other braces belong to the engine's own line."""
    for word, given in words.items():
        text = text.replace("{" + word + "}", str(given))
    return text


def of_tensor(name: str) -> dict[str, str]:
    """Words for a tensor as engines speak of it: its `name`, its `path` without PEFT's prefix, the `weight` it is made for."""
    path = name.removeprefix("base_model.model.")
    module = re.split(r"\.(?:lora_[A-Za-z_]+|modules_to_save)(?:\.|$)", path, maxsplit=1)[0]
    return {"name": name, "path": path, "weight": f"{module.removesuffix('.weight')}.weight"}


def names(pairs: Iterable[Pair]) -> tuple[str, ...]:
    """The tensors of some pairs."""
    return tuple(name for pair in pairs for name in pair.names)


def scales(sight: Sight) -> tuple[str, ...]:
    """What PEFT multiplies its pairs by, each number once, as it is written on a command line."""
    return tuple(sorted({f"{scaling.factor:.6g}" for scaling in sight.scalings.values()}))
