"""What `torch.save` wrote before 1.6: five pickles in a row (a magic number first), then the storages."""

from __future__ import annotations

from adapterfit.read.source import Source
from adapterfit.records import Weights

#: The pickle of torch's magic number.
_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."


def claims(head: bytes, size: int) -> bool:  # noqa: ARG001
    """Whether it starts with torch's magic number."""
    return head.startswith(_MAGIC)


def read(source: Source, name: str) -> Weights:
    """The tensors, read without unpickling."""
    from adapterfit.read.formats._torch import read_legacy

    return read_legacy(source, name)
