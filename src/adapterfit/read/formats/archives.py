"""Compressed files and archives other than torch's zip: gzip, xz, bzip2, zstd, 7z, rar."""

from __future__ import annotations

from adapterfit.read.formats._flaws import impostor
from adapterfit.read.source import Source
from adapterfit.records import Weights

_KINDS = (
    (b"\x1f\x8b\x08", "gzip"),
    (b"\xfd7zXZ\0", "xz"),
    (b"BZh", "bzip2"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"Rar!\x1a\x07", "rar"),
)


def _kind(head: bytes) -> str | None:
    return next((kind for mark, kind in _KINDS if head.startswith(mark)), None)


def claims(head: bytes, size: int) -> bool:  # noqa: ARG001
    """Whether it starts with the mark of one of them."""
    return _kind(head) is not None


def read(source: Source, name: str) -> Weights:
    """Refused, named as what it is."""
    kind = _kind(source.read(name, 0, min(source.size(name), 8)))
    return impostor(source, name, "archives", f"is a {kind} file, not weights: unpack it first", "unpack it first")
