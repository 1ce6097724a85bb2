"""Drawn numbers of the type that the config class takes."""

from __future__ import annotations

import re
from typing import Any


def typed(value: Any, annotation: str, default: Any) -> Any:
    """A drawn number as the class says that the field may be: else the file is refused, and the field kept as it is."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return value
    while "[" in annotation and annotation != (bare := re.sub(r"\[[^\[\]]*\]", "", annotation)):
        annotation = bare
    words = set(re.findall(r"\w+", annotation))
    if type(value).__name__ in words or not words & {"int", "float", "list", "tuple"}:
        return value
    return float(value) if "float" in words else default
