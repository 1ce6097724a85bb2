"""Some files of another source, under other names: one file of a folder, a sub-folder of a repository."""

from __future__ import annotations

from typing import Callable

from adapterfit.errors import CannotCheck
from adapterfit.read.source import Source
from adapterfit.records import Flaw
from adapterfit.text import show


class PartSource:
    """The files of `whole` that `rename` gives a name; the others do not exist here.

    Args:
        whole: The source that is read.
        rename: Name in `whole` → name here, or None to leave the file out.
        label: What people see.
    """

    def __init__(self, whole: Source, rename: Callable[[str], str | None], label: str) -> None:
        self._whole = whole
        self._inner = {new: name for name in whole.names() if (new := rename(name)) is not None}
        self.label = label
        self.revision: str = getattr(whole, "revision", "")
        self.flaws: tuple[Flaw, ...] = tuple(flaw for flaw in whole.flaws if _concerns(flaw, rename))

    def names(self) -> tuple[str, ...]:
        """Names of the files, sorted."""
        return tuple(sorted(self._inner))

    def size(self, name: str) -> int:
        """Size in bytes."""
        return self._whole.size(self._name(name))

    def read(self, name: str, offset: int, length: int) -> bytes:
        """Exactly `length` bytes from `offset`."""
        return self._whole.read(self._name(name), offset, length)

    @property
    def descriptor(self) -> Callable[[str], int] | None:
        """A descriptor to read a file from, by its name; None where the whole does not lie on a disk."""
        whole = getattr(self._whole, "descriptor", None)
        return None if whole is None else lambda name: int(whole(self._name(name)))

    def mode(self, name: str) -> int:
        """The permission bits of a file; 0 where they are not known."""
        whole = getattr(self._whole, "mode", None)
        return 0 if whole is None else int(whole(self._name(name)))

    def close(self) -> None:
        """Let go of what the whole has open."""
        self._whole.close()

    def _name(self, name: str) -> str:
        try:
            return self._inner[name]
        except KeyError:
            raise CannotCheck(f"{show(name)} is not in {show(self.label)}") from None


def _concerns(flaw: Flaw, rename: Callable[[str], str | None]) -> bool:
    return not flaw.where or rename(flaw.where) is not None
