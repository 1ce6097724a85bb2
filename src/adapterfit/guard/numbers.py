"""Tensors of a file as torch has them: their numbers, and the summaries that `check --values` makes without torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from adapterfit.read.source import Source
from adapterfit.read.sources.folder import FolderSource
from adapterfit.records import TensorInfo, ValueSummary

if TYPE_CHECKING:
    import numpy as np
    import torch

    Floats = np.ndarray[Any, np.dtype[Any]]

#: safetensors' spelling → torch's.
_DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2", "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip
#: Of these, what numpy reads as it stands.
_NUMPY = {"F64": "<f8", "F32": "<f4"}
_SPELT = {f"torch.{name}": code for code, name in _DTYPES.items()}


class Numbers:
    """The numbers of a file, tensor by tensor through a buffer per length: what is not kept costs no new pages of memory.

    Every read makes sure that the file is still the one that was first seen, so that what was checked before a load is what
    the model is held against after it.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self._buffers: dict[int, bytearray] = {}
        self._files: set[str] = set()

    def read(self, info: TensorInfo) -> torch.Tensor | None:
        """A tensor in memory of its own; None where its bytes do not lie in one piece, or torch has no such type."""
        seen = self.look(info)
        return seen if seen is None else seen.clone()

    def look(self, info: TensorInfo) -> torch.Tensor | None:
        """As `read`, but only until the next tensor is read: it lies in the buffer."""
        import torch

        dtype = getattr(torch, _DTYPES.get(info.dtype, ""), None)
        if info.span is None or dtype is None:
            return None
        if info.span[0] == info.span[1]:
            return torch.empty(info.shape, dtype=dtype)
        return torch.frombuffer(self._bytes(info.file, *info.span), dtype=dtype).reshape(info.shape)

    def floats(self, info: TensorInfo) -> Floats | None:
        """As `look`, in one row of float32 (float64 for float64), without torch where numpy has the type."""
        import numpy as np

        if info.dtype in _NUMPY and info.span is not None and info.span[0] < info.span[1]:
            return np.frombuffer(self._bytes(info.file, *info.span), _NUMPY[info.dtype])
        found = self.look(info)
        return found if found is None else found.float().reshape(-1).numpy()

    def has(self, info: TensorInfo) -> bool:
        """Whether the tensor can be read."""
        return info.span is not None and info.dtype in _DTYPES

    def are(self, info: TensorInfo, held: Any) -> bool:
        """Whether a tensor of the model holds exactly the file's numbers, as far as its dtype can."""
        if held.device.type == "meta" or info.span is None or info.shape != tuple(held.shape):
            return False
        whole = whole_tensor(held)
        if info.dtype == _SPELT.get(str(whole.dtype)):
            return self._bytes(info.file, *info.span) == _raw(whole)  # compared in place, without a copy
        found = self.look(info)
        return found is not None and same_bits(found.to(whole.dtype), whole)

    def unchanged(self) -> None:
        """Look whether the files that were read are still the same.

        Raises:
            CannotCheck: Another file has taken the place of one.
        """
        for file in self._files:
            self.source.size(file)

    def _bytes(self, file: str, start: int, end: int) -> bytearray:
        self._files.add(file)
        if end - start not in self._buffers:
            self._buffers[end - start] = bytearray(end - start)
        buffer = self._buffers[end - start]
        if isinstance(self.source, FolderSource):
            self.source.fill(file, start, memoryview(buffer))
        else:
            buffer[:] = self.source.read(file, start, end - start)
        return buffer


def summaries(numbers: Numbers, tensors: Iterable[TensorInfo]) -> Mapping[str, ValueSummary]:
    """A summary per tensor name, as `--values` makes them; some twenty times faster."""
    return {info.name: _summary(numbers.floats(info)) for info in tensors}


def _summary(numbers: Floats | None) -> ValueSummary:
    """In as few passes as there can be, on one core: a load must not become slower by being checked."""
    import numpy as np

    if numbers is None:
        return ValueSummary(0, 0, 0, 0.0, 0.0, skipped="its numbers were not read")
    if numbers.size == 0:
        return ValueSummary(0, 0, 0, 0.0, 0.0)
    count, bad = numbers.size, 0
    largest = _largest(numbers)
    if not math.isfinite(largest):
        numbers = numbers[np.isfinite(numbers)]
        bad, largest = count - numbers.size, _largest(numbers)
    exact = (
        numbers.astype(np.float64) if largest == 1 else numbers
    )  # all ones is a start value, and is told by the norm
    norm = float(np.dot(exact, exact)) ** 0.5
    zeros = int(np.count_nonzero(numbers == 0)) if largest in (0, 1) else None  # nobody asks for them otherwise
    return ValueSummary(count, bad, zeros, largest, norm)


def _largest(numbers: Floats) -> float:
    """The largest magnitude; NaN where one number is."""
    return float(max(abs(float(numbers.min())), abs(float(numbers.max())))) if numbers.size else 0.0


def is_held(found: torch.Tensor, held: Any) -> bool:
    """As `Numbers.are`, for a tensor that is no longer the file's own."""
    if held.device.type == "meta" or tuple(found.shape) != tuple(held.shape):
        return False
    whole = whole_tensor(held)
    return same_bits(found.to(whole.dtype), whole)


def whole_tensor(held: Any) -> torch.Tensor:
    """On the CPU; of a sharded tensor all shards."""
    full: torch.Tensor = held.full_tensor() if is_sharded(held) else held
    return full.detach().cpu()


def is_sharded(tensor: Any) -> bool:
    """Whether it is a `DTensor`, of which this process holds a part."""
    return callable(getattr(tensor, "full_tensor", None))


def same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors of one dtype and shape hold the same bits; NaN and -0 included."""
    import numpy as np

    return bool(np.array_equal(_raw(one), _raw(other)))


def _raw(tensor: torch.Tensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The bytes of a tensor on the CPU."""
    import torch

    flat: np.ndarray[Any, np.dtype[np.uint8]] = tensor.reshape(-1).view(torch.uint8).numpy()
    return flat
