"""The files of an adapter, and beside them, under names that no file has, those of its base."""

from __future__ import annotations

from typing import Callable

from adapterfit.edits import OF_BASE
from adapterfit.read.source import Source


class WithBase:
    """All of `source`; a name that begins with `OF_BASE` is read from `base`, and is not listed.

    Args:
        source: The adapter's files.
        base: The base's.
    """

    def __init__(self, source: Source, base: Source) -> None:
        self._source = source
        self._base = base
        self.label = source.label
        self.flaws = source.flaws
        self.joined: dict[str, tuple[str, ...]] = getattr(source, "joined", {})

    def names(self) -> tuple[str, ...]:
        """The adapter's files."""
        return self._source.names()

    def size(self, name: str) -> int:
        """Size in bytes."""
        return self._base.size(name[len(OF_BASE) :]) if name.startswith(OF_BASE) else self._source.size(name)

    def read(self, name: str, offset: int, length: int) -> bytes:
        """Exactly `length` bytes from `offset`."""
        if name.startswith(OF_BASE):
            return self._base.read(name[len(OF_BASE) :], offset, length)
        return self._source.read(name, offset, length)

    @property
    def descriptor(self) -> Callable[[str], int | None] | None:
        """A descriptor to read a file of the adapter from, by its name; None for the base's, which are read."""
        opened = getattr(self._source, "descriptor", None)
        return None if opened is None else lambda name: None if name.startswith(OF_BASE) else opened(name)

    def mode(self, name: str) -> int:
        """The permission bits of a file of the adapter; 0 where they are not known."""
        mode = getattr(self._source, "mode", None)
        return 0 if mode is None else int(mode(name))

    def close(self) -> None:
        """Let go of what both have open."""
        self._source.close()
        self._base.close()
