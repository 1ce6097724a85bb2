"""A file that was split for an upload, seen as the whole that its parts are together; they themselves stay what they are."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Callable

from adapterfit.read.source import Source

#: `adapter_model.safetensors.partaa`, `….part1`, `….001`: the whole's name, the word, and a place in the order.
_PART = re.compile(r"(?P<whole>adapter_model\.(?:safetensors|bin)\.(?:part|split)?)(?P<place>[a-z]{1,3}|[0-9]{1,4})\Z")


def with_parts(source: Source) -> Source:
    """The source, which can also be read under `WHOLE*` where there are parts of one file and nothing is missing between them."""
    if isinstance(source, JoinedSource):
        return source
    found: dict[str, list[tuple[str, str]]] = {}
    for name in source.names():
        match = _PART.fullmatch(name)
        if match is not None:
            found.setdefault(match["whole"], []).append((match["place"], name))
    joined = {f"{whole}*": names for whole, parts in found.items() if len(names := _in_order(parts)) > 1}
    taken = set(source.names())
    if len(joined) != 1 or joined.keys() & taken or {"adapter_model.safetensors", "adapter_model.bin"} & taken:
        return source
    return JoinedSource(source, joined)


def _in_order(parts: list[tuple[str, str]]) -> tuple[str, ...]:
    """The names in the order of their places, which must follow each other from the first one on; else none."""
    places = {_number(place): name for place, name in parts}
    first = min(places)
    whole = first in (0, 1) and len(places) == len(parts) == max(places) - first + 1
    if not whole or len({place.isdigit() for place, _ in parts}) > 1 or (first == 1 and not parts[0][0].isdigit()):
        return ()
    return tuple(places[place] for place in sorted(places))


def _number(place: str) -> int:
    """`007` is 7; of letters, `aa` is 0 and `ab` is 1."""
    if place.isdigit():
        return int(place)
    number = 0
    for letter in place:
        number = number * 26 + ord(letter) - ord("a")
    return number


class JoinedSource:
    """All files of `source`, and files that are several of them one behind the other, which `names` does not list.

    Args:
        source: Where the parts lie.
        joined: The name of each whole, and its parts in order.
    """

    def __init__(self, source: Source, joined: Mapping[str, tuple[str, ...]]) -> None:
        self._source = source
        self.joined = dict(joined)
        self.label = source.label
        self.flaws = source.flaws
        self.revision: str = getattr(source, "revision", "")

    def names(self) -> tuple[str, ...]:
        """Names of the files that are there."""
        return self._source.names()

    def size(self, name: str) -> int:
        """Size in bytes; of a whole, that of its parts together."""
        return sum(self._source.size(part) for part in self.joined.get(name, (name,)))

    def read(self, name: str, offset: int, length: int) -> bytes:
        """Exactly `length` bytes from `offset`, from as many parts as they lie in."""
        if name not in self.joined:
            return self._source.read(name, offset, length)
        pieces = [self._source.read(part, start, end - start) for part, start, end in self._cut(name, offset, length)]
        if sum(map(len, pieces)) != length:  # beyond the end: the last part says so
            return self._source.read(self.joined[name][-1], offset, length)
        return b"".join(pieces)

    def _cut(self, name: str, offset: int, length: int) -> Iterator[tuple[str, int, int]]:
        for part in self.joined[name]:
            size = self._source.size(part)
            start, end = max(offset, 0), min(offset + length, size)
            if start < end:
                yield part, start, end
            offset, length = max(offset - size, 0), length - max(end - start, 0)

    @property
    def descriptor(self) -> Callable[[str], int | None] | None:
        """A descriptor to read a file from, by its name: None for a whole, or where the files do not lie on a disk."""
        opened = getattr(self._source, "descriptor", None)
        return None if opened is None else lambda name: None if name in self.joined else int(opened(name))

    def mode(self, name: str) -> int:
        """The permission bits of a file, of a whole those of its first part; 0 where they are not known."""
        mode = getattr(self._source, "mode", None)
        return 0 if mode is None else int(mode(self.joined.get(name, (name,))[0]))

    def close(self) -> None:
        """Let go of what is open."""
        self._source.close()
