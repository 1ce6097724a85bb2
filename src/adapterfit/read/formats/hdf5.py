"""HDF5: weights of Keras or TensorFlow."""

from __future__ import annotations

from adapterfit.read.formats._flaws import impostor
from adapterfit.read.source import Source
from adapterfit.records import Weights


def claims(head: bytes, size: int) -> bool:  # noqa: ARG001
    """Whether it starts with the mark of HDF5."""
    return head.startswith(b"\x89HDF\r\n\x1a\n")


def read(source: Source, name: str) -> Weights:
    """Refused, named as what it is."""
    return impostor(source, name, "hdf5", "is an HDF5 file (Keras, TensorFlow), which PEFT does not read")
