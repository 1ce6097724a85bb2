"""The order of versions, as far as the rules of this stage need it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

#: Where the rules of an older loader stand in a config on its way through this stage.
LOADER = "loader rules"


def rule(config: Mapping[str, Any], name: str, newest: Any = None) -> Any:
    """What an older loader does otherwise; `newest` where it does as the newest PEFT."""
    return config[LOADER].get(name, newest) if LOADER in config else newest


@cache
def numbers(version: str) -> tuple[int, int, int]:
    """`4.52` → (4, 52, 0); what is no number counts as 0."""
    found = [int(part) for part in re.findall(r"\d{1,9}", version)[:3]]
    major, minor, patch = (*found, 0, 0, 0)[:3]
    return major, minor, patch


def below(version: str, other: str) -> bool:
    """Whether a version is older than another."""
    return numbers(version) < numbers(other)
