"""Tensors of a file as torch has them: their numbers, and the summaries that `check --values` makes without torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from adapterfit import limits
from adapterfit.read.source import Source
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


def read_tensor(source: Source, info: TensorInfo) -> torch.Tensor | None:
    """A tensor from its bytes; None where they do not lie in one piece, or torch has no such type."""
    import torch

    dtype = getattr(torch, _DTYPES.get(info.dtype, ""), None)
    if info.span is None or dtype is None:
        return None
    start, end = info.span
    if start == end:
        return torch.empty(info.shape, dtype=dtype)
    data = bytearray(source.read(info.file, start, end - start))
    return torch.frombuffer(data, dtype=dtype).reshape(info.shape)


class Numbers:
    """The numbers of a file, read once: what was checked before a load is what the model is held against after it.

    A file of more than `limits.KEPT_BYTES` is read again instead, tensor by tensor.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self._room = limits.KEPT_BYTES
        self._kept: dict[tuple[str, tuple[int, int]], torch.Tensor] = {}

    def read(self, info: TensorInfo) -> torch.Tensor | None:
        """The tensor, as `read_tensor` gives it; nobody may write into it."""
        if info.span is None:
            return None
        place = (info.file, info.span)
        if place not in self._kept:
            tensor = read_tensor(self.source, info)
            size = info.span[1] - info.span[0]
            if tensor is None or size > self._room:
                return tensor
            self._room -= size
            self._kept[place] = tensor
        return self._kept[place]

    def unchanged(self) -> None:
        """Look whether the files that were read are still the same.

        Raises:
            CannotCheck: Another file has taken the place of one.
        """
        for file in {file for file, _ in self._kept}:
            self.source.size(file)


def summaries(numbers: Numbers, tensors: Iterable[TensorInfo]) -> Mapping[str, ValueSummary]:
    """A summary per tensor name, as `--values` makes them; some twenty times faster."""
    return {info.name: _summary(numbers.read(info)) for info in tensors}


def _summary(tensor: torch.Tensor | None) -> ValueSummary:
    """In as few passes as there can be, on one core: a load must not become slower by being checked."""
    import numpy as np
    import torch

    if tensor is None:
        return ValueSummary(0, 0, 0, 0.0, 0.0, skipped="its numbers were not read")
    if tensor.numel() == 0:
        return ValueSummary(0, 0, 0, 0.0, 0.0)
    numbers = (tensor if tensor.dtype == torch.float64 else tensor.float()).reshape(-1).numpy()
    count, bad = numbers.size, 0
    largest = _largest(numbers)
    if not math.isfinite(largest):
        numbers = numbers[np.isfinite(numbers)]
        bad, largest = count - numbers.size, _largest(numbers)
    exact = (
        numbers.astype(np.float64) if largest == 1 else numbers
    )  # all ones is a start value, and is told by the norm
    norm = float(np.dot(exact, exact)) ** 0.5
    return ValueSummary(count, bad, int(np.count_nonzero(numbers == 0)), largest, norm)


def _largest(numbers: Floats) -> float:
    """The largest magnitude; NaN where one number is."""
    return float(max(abs(float(numbers.min())), abs(float(numbers.max())))) if numbers.size else 0.0


def same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors of one dtype and shape hold the same bits; compared as integers, NaN and -0 included."""
    import numpy as np
    import torch

    whole = one.numel() * one.element_size() % 8 == 0  # wide integers are half the work
    narrow = {1: torch.uint8, 2: torch.int16, 4: torch.int32}.get(one.element_size(), torch.int64)
    flat = (each.contiguous().reshape(-1).view(torch.uint8 if whole else narrow).numpy() for each in (one, other))
    if whole:
        flat = (each.view(np.int64) for each in flat)
    return bool(np.array_equal(*flat))
