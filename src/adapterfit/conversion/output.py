"""What a conversion is to write: files that are bytes already, and weights whose tensors are read when they are due."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from adapterfit.conversion.numbers import Tensor
from adapterfit.conversion.opened import Opened


@dataclass(frozen=True)
class WeightsFile:
    """A safetensors file to be written: tensors by name."""

    name: str
    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str] = field(default_factory=dict)

    def chunks(self) -> Iterator[bytes]:
        """The file, piece by piece; at most one tensor is held."""
        yield self.header()
        for _, tensor in self._ordered():
            yield from tensor.chunks()

    def _ordered(self) -> list[tuple[str, Tensor]]:
        """Wide numbers first, as the reference writes them: then each lies at a multiple of its own size."""
        return sorted(self.tensors.items(), key=lambda item: (-item[1].width, item[0]))

    def header(self) -> bytes:
        """The eight bytes and the JSON; padded to 8 with blanks, as the reference writes it."""
        entries: dict[str, object] = {"__metadata__": dict(self.metadata)} if self.metadata else {}
        at = 0
        for name, tensor in self._ordered():
            entries[name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [at, at + tensor.size]}
            at += tensor.size
        text = json.dumps(entries, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        return len(text).to_bytes(8, "little") + text


@dataclass(frozen=True)
class Wanted:
    """What a writer is told beyond the neutral form: the adapter it comes from, PEFT's release, a pipeline's component."""

    opened: Opened
    version: str = ""
    part: str = ""


@dataclass(frozen=True)
class Output:
    """`files` by name; `weights` are streamed. `notes` are said to the user, one sentence each."""

    files: Mapping[str, bytes]
    weights: tuple[WeightsFile, ...] = ()
    notes: tuple[str, ...] = ()
