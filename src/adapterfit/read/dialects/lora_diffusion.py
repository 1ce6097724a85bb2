"""cloneofsimo/lora: `unet:0:up`, `text_encoder:0:down`, learned words as `<s1>`."""

from __future__ import annotations

import re
from collections.abc import Sequence

_PLACE = re.compile(r"(?:unet|text_encoder):[0-9]+:(?:up|down)")


def claims(names: Sequence[str]) -> bool:
    """Whether the names count places instead of naming modules."""
    return any(_PLACE.fullmatch(name) for name in names)
