r"""What PEFT multiplies each LoRA module's product by.

Source: peft 0.21.2 `tuners/lora/model.py` (`_create_and_replace`: `get_pattern_key` on rank_pattern and alpha_pattern)
and `tuners/lora/layer.py` (`update_layer`: alpha / r, alpha / √r with `use_rslora`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from adapterfit.answers import Scaling
from adapterfit.errors import BadInput
from adapterfit.expect.patterns import Patterns
from adapterfit.expect.targets import pattern_key


def scalings(config: Mapping[str, Any], modules: Iterable[str]) -> Mapping[str, Scaling]:
    """Module → its scaling, for those where the config gives one. `modules` are runtime names, as PEFT matches them."""
    ranks, alphas = _table(config.get("rank_pattern")), _table(config.get("alpha_pattern"))
    patterns = Patterns()
    found = {}
    for name in modules:
        try:
            rank = _at(ranks, name, config.get("r"), patterns)
            alpha = _at(alphas, name, config.get("lora_alpha"), patterns)
        except BadInput:
            continue
        if _number(rank) and rank > 0 and float(rank).is_integer() and _number(alpha):
            root = math.sqrt(rank) if config.get("use_rslora") else rank
            found[name] = Scaling(int(rank), float(alpha), float(alpha) / root)
    return found


def _at(table: Mapping[str, Any], name: str, default: Any, patterns: Patterns) -> Any:
    key = pattern_key(table, name, patterns) if table else None
    return default if key is None else table[key]


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
