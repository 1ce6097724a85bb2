"""npz: numpy's (and MLX's) zip of arrays. Read for its names and shapes; PEFT itself does not load it."""

from __future__ import annotations

from adapterfit.read.source import Source
from adapterfit.records import Weights

_LOCAL = b"PK\x03\x04"


def claims(head: bytes, size: int) -> bool:  # noqa: ARG001
    """A zip from its first byte whose first member is an array."""
    return head[:4] == _LOCAL and head[30 : 30 + int.from_bytes(head[26:28], "little")].endswith(b".npy")


def read(source: Source, name: str) -> Weights:
    """The arrays, read without numpy."""
    from adapterfit.read.formats._npz import read_npz

    return read_npz(source, name)
