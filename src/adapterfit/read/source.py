"""What everything is read through: names, sizes, and ranges of bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from adapterfit.records import Flaw


class Source(Protocol):
    """A closed set of regular files. Implementations live in `read/sources/`, one file each.

    `label` is shown to people. `flaws` are entries that were left out, and why (a FIFO, a link that leaves the
    root, too many entries). `read` never returns fewer bytes than asked: it raises `CannotCheck` when the file
    changed meanwhile, and `BadInput` when the range lies outside the file.
    """

    label: str
    flaws: tuple[Flaw, ...]

    def names(self) -> tuple[str, ...]:
        """Names of the files, sorted, relative, `/`-separated."""
        ...

    def size(self, name: str) -> int:
        """Size in bytes."""
        ...

    def read(self, name: str, offset: int, length: int) -> bytes:
        """Exactly `length` bytes from `offset`."""
        ...

    def close(self) -> None:
        """Let go of what is open; reading again opens it again."""
        ...
