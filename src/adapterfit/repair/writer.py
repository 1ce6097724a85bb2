"""A safetensors file written as a stream: the header first, then every tensor's bytes from where they lie.

Nothing is held in memory but the header, a few megabytes on their way, and the tensor that is being computed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Callable, NamedTuple, Union

from adapterfit import limits
from adapterfit.errors import CannotWrite
from adapterfit.records import DTYPE_BITS, Shape
from adapterfit.repair.staging import Original, Output
from adapterfit.text import quote

#: What PEFT and transformers look for in the metadata.
FORMAT = {"format": "pt"}
#: Tensors start where any element type may: the header is filled up with blanks to a multiple of this.
_ALIGNMENT = 8


class Span(NamedTuple):
    """The bytes `[start, end)` of a file of the source, copied as they are."""

    file: str
    start: int
    end: int

    @property
    def size(self) -> int:
        """Bytes."""
        return self.end - self.start


class Zeros(NamedTuple):
    """So many zero bytes."""

    size: int


class Computed(NamedTuple):
    """So many bytes that `make` returns when it is their turn (row-major, little-endian)."""

    size: int
    make: Callable[[], bytes | memoryview]


Part = Union[Span, Zeros, Computed]


@dataclass(frozen=True)
class Entry:
    """One tensor to write: `dtype` in safetensors' spelling, and the parts that its bytes consist of, in order."""

    name: str
    dtype: str
    shape: Shape
    parts: tuple[Part, ...]

    @property
    def size(self) -> int:
        """Bytes of the tensor."""
        return sum(part.size for part in self.parts)


def write_safetensors(
    output: Output, source: Original, entries: Iterable[Entry], metadata: Mapping[str, str] | None = None
) -> None:
    """Write one file. Tensors of wider types come first, so that each starts where it may; else they keep their order.

    Args:
        output: The new file.
        source: What spans are read from.
        entries: The tensors; their names differ.
        metadata: What the header's `__metadata__` shall hold beside `format`.

    Raises:
        CannotWrite: A tensor cannot stand in such a file, or its parts are not as long as its shape says.
        CannotCheck: The source changed meanwhile.
    """
    ordered = in_order(entries)
    output.write(header(ordered, metadata))
    for part in _joined(part for entry in ordered for part in entry.parts):
        if isinstance(part, Span):
            output.copy(source, *part)
        elif isinstance(part, Zeros):
            output.zeros(part.size)
        else:
            data = memoryview(part.make()).cast("B")
            if len(data) != part.size:
                raise CannotWrite(f"a tensor has {len(data):,} bytes where {part.size:,} are due")
            output.write(data)


def in_order(entries: Iterable[Entry]) -> list[Entry]:
    """As they will lie in the file."""
    return sorted(entries, key=lambda entry: -DTYPE_BITS.get(entry.dtype, 0))


def header(entries: Sequence[Entry], metadata: Mapping[str, str] | None = None) -> bytes:
    """The file up to its first tensor."""
    table: dict[str, object] = {"__metadata__": {**(metadata or {}), **FORMAT}}
    at = 0
    for entry in entries:
        _check(entry, table)
        end = at + entry.size
        table[entry.name] = {"dtype": entry.dtype, "shape": list(entry.shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(table, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    text += b" " * (-(len(text) + 8) % _ALIGNMENT)
    if len(text) > limits.HEADER_BYTES:
        raise CannotWrite(
            f"the header would have {len(text):,} bytes; at most {limits.HEADER_BYTES:,} can be read again"
        )
    return len(text).to_bytes(8, "little") + text


def size_of(entries: Sequence[Entry], metadata: Mapping[str, str] | None = None) -> int:
    """Bytes of the whole file."""
    return len(header(entries, metadata)) + sum(entry.size for entry in entries)


def _check(entry: Entry, table: Mapping[str, object]) -> None:
    bits = DTYPE_BITS.get(entry.dtype)
    if bits is None:
        raise CannotWrite(f"safetensors has no data type {quote(entry.dtype, 40)}, which {quote(entry.name)} has")
    if entry.name in table:
        raise CannotWrite(f"two tensors would be called {quote(entry.name)}")
    if math.prod(entry.shape) * bits != entry.size * 8:
        raise CannotWrite(f"{quote(entry.name)} has {entry.size:,} bytes, which is not what {list(entry.shape)} takes")
    try:
        entry.name.encode("utf-8")
    except UnicodeEncodeError:
        raise CannotWrite(f"{quote(entry.name)} cannot be a tensor's name: it is not Unicode") from None


def _joined(parts: Iterable[Part]) -> Iterator[Part]:
    """Spans that follow each other in the source as one: thousands of renamed tensors are copied by one call."""
    before: Part | None = None
    for part in parts:
        if isinstance(before, Span) and isinstance(part, Span) and (before.file, before.end) == (part.file, part.start):
            before = Span(before.file, before.start, part.end)
            continue
        if before is not None:
            yield before
        before = part
    if before is not None:
        yield before
