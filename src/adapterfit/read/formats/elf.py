"""A program: an ELF or Windows executable under the name of weights."""

from __future__ import annotations

from adapterfit.read.formats._flaws import impostor
from adapterfit.read.source import Source
from adapterfit.records import Weights


def claims(head: bytes, size: int) -> bool:  # noqa: ARG001
    """Whether it starts as a program does."""
    return head.startswith((b"\x7fELF", b"MZ\x90\0"))


def read(source: Source, name: str) -> Weights:
    """Refused, named as what it is."""
    return impostor(source, name, "elf", "is a program, not weights; do not start it", "delete it")
