"""Nothing at all: an upload or a download that never began."""

from __future__ import annotations

from adapterfit.read.formats._flaws import impostor
from adapterfit.read.source import Source
from adapterfit.records import Weights


def claims(head: bytes, size: int) -> bool:  # noqa: ARG001
    """Whether there is not one byte."""
    return size == 0


def read(source: Source, name: str) -> Weights:
    """Refused, named as what it is."""
    remedy = "download or save it again"
    return impostor(source, name, "empty", "is empty (0 bytes)", remedy, code="truncated-file")
