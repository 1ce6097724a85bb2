"""What no format claims: `read/weights.py` hands it here by name."""

from __future__ import annotations

from adapterfit.read.formats._flaws import impostor
from adapterfit.read.source import Source
from adapterfit.records import Weights


def claims(head: bytes, size: int) -> bool:  # noqa: ARG001
    """Never: this is what is left when every other format has said no."""
    return False


def read(source: Source, name: str) -> Weights:
    """Refused, with its first bytes shown."""
    head = source.read(name, 0, min(source.size(name), 8))
    problem = f"is no weights file: it starts with the bytes {head.hex(' ')}, which belong to no format we know"
    return impostor(source, name, "unknown", problem, "download it again")
