"""The closed set of edits a cure may consist of. Pure data; `plan` orders them, `repair` carries them out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Union


@dataclass(frozen=True)
class Rename:
    """Give a tensor another name; its bytes stay."""

    old: str
    new: str


@dataclass(frozen=True)
class Drop:
    """Leave a tensor out."""

    name: str


@dataclass(frozen=True)
class SetConfig:
    """Set a field of `adapter_config.json`."""

    key: str
    value: Any


@dataclass(frozen=True)
class DropConfig:
    """Leave a field of `adapter_config.json` out."""

    key: str


Edit = Union[Rename, Drop, SetConfig, DropConfig]
