"""Tensors of a file as torch has them: their numbers, and the summaries that `check --values` makes without torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from adapterfit.read.source import Source
from adapterfit.records import TensorInfo, ValueSummary

if TYPE_CHECKING:
    import torch

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


def summaries(source: Source, tensors: Iterable[TensorInfo]) -> Mapping[str, ValueSummary]:
    """A summary per tensor name, as `--values` makes them; some twenty times faster."""
    return {info.name: _summary(read_tensor(source, info)) for info in tensors}


def _summary(tensor: torch.Tensor | None) -> ValueSummary:
    import torch

    if tensor is None:
        return ValueSummary(0, 0, 0, 0.0, 0.0, skipped="its numbers were not read")
    if tensor.numel() == 0:
        return ValueSummary(0, 0, 0, 0.0, 0.0)
    numbers = tensor if tensor.dtype == torch.float64 else tensor.float()
    zeros = numbers.numel() - int(torch.count_nonzero(numbers))
    finite = torch.isfinite(numbers)
    bad = numbers.numel() - int(torch.count_nonzero(finite))
    whole = numbers[finite] if bad else numbers
    largest = float(whole.abs().max()) if whole.numel() else 0.0
    norm = float(torch.linalg.vector_norm(whole, dtype=torch.float64))
    return ValueSummary(numbers.numel(), bad, zeros, largest, norm)
