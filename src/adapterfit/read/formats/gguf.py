"""GGUF: the format of llama.cpp; PEFT does not read it."""

from __future__ import annotations

from adapterfit.read.formats._flaws import impostor
from adapterfit.read.source import Source
from adapterfit.records import Weights


def claims(head: bytes, size: int) -> bool:  # noqa: ARG001
    """Whether it starts with GGUF."""
    return head.startswith(b"GGUF")


def read(source: Source, name: str) -> Weights:
    """Refused, named as what it is."""
    problem = "is a GGUF file of llama.cpp; PEFT reads safetensors"
    return impostor(source, name, "gguf", problem, "use the adapter it was made from", code="foreign-format")
