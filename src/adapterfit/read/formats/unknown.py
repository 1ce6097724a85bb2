"""What no format claims: `read/weights.py` hands it here by name."""

from __future__ import annotations

from adapterfit.read.formats._flaws import loader_says, refuse, refused
from adapterfit.read.source import Source
from adapterfit.records import Weights


def claims(head: bytes, size: int) -> bool:  # noqa: ARG001
    """Never: this is what is left when every other format has said no."""
    return False


def read(source: Source, name: str) -> Weights:
    """Refused, with its first bytes shown."""
    size = source.size(name)
    head = source.read(name, 0, min(size, 512))
    problem = f"is no weights file: it starts with the bytes {head[:8].hex(' ')}, which belong to no format we know"
    bad = refuse("not-this-format", name, problem, raised=loader_says(name, head, size))
    return refused(source, name, "unknown", bad.flaw)
