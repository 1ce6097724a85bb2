"""Bytes that are already in memory: tests, a file dropped on a web page."""

from __future__ import annotations

from collections.abc import Mapping

from adapterfit.errors import BadInput, CannotCheck
from adapterfit.records import Flaw
from adapterfit.text import show


class MemorySource:
    """Files by name, as bytes."""

    flaws: tuple[Flaw, ...] = ()

    def __init__(self, files: Mapping[str, bytes], label: str = "memory") -> None:
        self._files = dict(files)
        self.label = label

    def names(self) -> tuple[str, ...]:
        """Names of the files, sorted."""
        return tuple(sorted(self._files))

    def size(self, name: str) -> int:
        """Size in bytes."""
        return len(self._get(name))

    def read(self, name: str, offset: int, length: int) -> bytes:
        """Exactly `length` bytes from `offset`."""
        data = self._get(name)
        if offset < 0 or length < 0 or offset + length > len(data):
            raise BadInput(outside(name, offset, length, len(data)))
        return data[offset : offset + length]

    def close(self) -> None:
        """Nothing is open."""

    def _get(self, name: str) -> bytes:
        try:
            return self._files[name]
        except KeyError:
            raise CannotCheck(f"{show(name)} is not in {self.label}") from None


def outside(name: str, offset: int, length: int, size: int) -> Flaw:
    """The flaw of a file that points beyond its own end."""
    return Flaw(
        code="truncated-file",
        message=f"{show(name)} has {size:,} bytes, but points to bytes {offset:,} to {offset + length:,}",
        where=name,
    )
