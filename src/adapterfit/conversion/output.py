"""What a conversion is to write: files that are bytes already, and weights whose tensors are read when they are due."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from adapterfit.conversion.numbers import Tensor
from adapterfit.conversion.opened import Opened
from adapterfit.read.source import Source
from adapterfit.repair.staging import Output
from adapterfit.repair.writer import Computed, Entry, Span, size_of, write_safetensors


class Stream(Protocol):
    """A file that is written as a stream."""

    @property
    def name(self) -> str:
        """Its name in the folder."""
        ...

    def size(self) -> int:
        """Bytes it will have."""
        ...

    def write(self, output: Output) -> None:
        """Write it; at most one tensor is held."""
        ...


@dataclass(frozen=True)
class WeightsFile:
    """A safetensors file: tensors by name."""

    name: str
    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str] = field(default_factory=dict)

    def size(self) -> int:
        """Bytes it will have."""
        return size_of(self._entries(None), self.metadata)

    def write(self, output: Output) -> None:
        """Write it; bytes that stay as they are go from file to file."""
        sources = (tensor.piece[0] for tensor in self.tensors.values() if tensor.piece is not None)
        source = next(sources, None)
        write_safetensors(output, source or _NOTHING, self._entries(source), self.metadata)

    def _entries(self, source: Source | None) -> list[Entry]:
        return [_entry(name, tensor, source) for name, tensor in sorted(self.tensors.items())]


def _entry(name: str, tensor: Tensor, source: Source | None) -> Entry:
    if tensor.piece is not None and tensor.piece[0] is source:
        file, span = tensor.piece[1].file, tensor.piece[1].span or (0, 0)
        return Entry(name, tensor.dtype, tensor.shape, (Span(file, *span),))
    return Entry(name, tensor.dtype, tensor.shape, (Computed(tensor.size, tensor.bytes),))


class _Nothing:
    """Where no tensor is copied."""

    def size(self, name: str) -> int:
        raise KeyError(name)

    def read(self, name: str, offset: int, length: int) -> bytes:
        raise KeyError(name, offset, length)


_NOTHING = _Nothing()


@dataclass(frozen=True)
class Wanted:
    """What a writer is told beyond the neutral form: the adapter it comes from, PEFT's release, a pipeline's component."""

    opened: Opened
    version: str = ""
    part: str = ""


@dataclass(frozen=True)
class Package:
    """The new folder: `files` by name, `streams`; `notes` are said to the user, one sentence each."""

    files: Mapping[str, bytes]
    streams: tuple[Stream, ...] = ()
    notes: tuple[str, ...] = ()
