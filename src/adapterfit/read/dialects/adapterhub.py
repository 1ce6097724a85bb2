"""AdapterHub's `adapters` library: `….attention.self.query.loras.<name>.lora_A`, `….adapters.<name>.adapter_down.0.weight`."""

from __future__ import annotations

import re
from collections.abc import Sequence

_MARK = re.compile(r"\.(?:loras|adapters|prefix_tunings)\.[^.]+\.(?:lora_[AB]|adapter_(?:down|up)|prefix)\b")


def claims(names: Sequence[str]) -> bool:
    """Whether the names carry that library's modules."""
    return any(_MARK.search(name) for name in names)
