"""What `torch.save` writes since 1.6: a zip of stored members with one pickle, `data.pkl`, that describes them."""

from __future__ import annotations

from adapterfit.read.source import Source
from adapterfit.records import Weights

_LOCAL = b"PK\x03\x04"


def claims(head: bytes, size: int) -> bool:  # noqa: ARG001
    """A zip from its first byte whose first member is no array of numpy's."""
    first = head[30 : 30 + int.from_bytes(head[26:28], "little")]
    return head[:4] == _LOCAL and not first.endswith(b".npy")


def read(source: Source, name: str) -> Weights:
    """The tensors, read without unpickling; an ordinary zip and a TorchScript program are named as such."""
    from adapterfit.read.formats._torch import read_zip

    return read_zip(source, name)
