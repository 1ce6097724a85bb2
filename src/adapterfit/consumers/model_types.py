"""Which model types each transformers knows. Generated data: `tools/gen_model_types.py`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from adapterfit.consumers.versions import version

_DATA = Path(__file__).with_name("model_types.json")


@lru_cache(maxsize=1)
def _data() -> Mapping[str, Any]:
    loaded: Mapping[str, Any] = json.loads(_DATA.read_text(encoding="utf-8"))
    return loaded


def releases() -> tuple[str, ...]:
    """The last patch of every minor of transformers, oldest first."""
    return tuple(_data()["releases"])


def bounds(model_type: str) -> tuple[str, str] | None:
    """The oldest and the newest of these releases that know a model type; None for one that none of them knows."""
    entry = _data()["types"].get(model_type)
    return None if entry is None else (releases()[entry[0]], releases()[entry[1] if len(entry) > 1 else -1])


def lacks(transformers: str, model_type: str) -> bool:
    """Whether that transformers does not know a type that others do. Models come with minors: patches count as one."""
    found = bounds(model_type)
    if found is None:
        return False
    return not _minor(found[0]) <= _minor(transformers) <= _minor(found[1])


def _minor(text: str) -> tuple[int, int]:
    numbers = (*version(text).numbers, 0, 0)
    return numbers[0], numbers[1]
