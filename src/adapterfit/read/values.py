"""The numbers of tensors, for `--values` only: not finite, zero, largest, norm. Read in chunks, no tensor library."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from adapterfit import limits
from adapterfit.errors import BadInput
from adapterfit.read.source import Source
from adapterfit.records import TensorInfo, ValueSummary

if TYPE_CHECKING:
    import numpy as np

    Floats = np.ndarray[Any, np.dtype[Any]]

_CHUNK = 8 * 1024 * 1024
_INTEGERS = {
    "I8": "i1",
    "U8": "u1",
    "BOOL": "u1",
    "I16": "<i2",
    "U16": "<u2",
    "I32": "<i4",
    "U32": "<u4",
    "I64": "<i8",
    "U64": "<u8",
}
_FLOATS = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}


def summaries(source: Source, tensors: Iterable[TensorInfo]) -> Mapping[str, ValueSummary]:
    """A summary per tensor name; `skipped` says why there is none.

    Raises:
        CannotCheck: The file changed while it was read.
    """
    return {tensor.name: summary(source, tensor) for tensor in tensors}


def summary(source: Source, tensor: TensorInfo) -> ValueSummary:
    """The numbers of one tensor."""
    decoded = _decoder(tensor.dtype)
    if tensor.span is None:
        return _skipped("its data does not lie in one piece")
    if decoded is None:
        return _skipped(f"numbers of type {tensor.dtype} are not read")
    start, end = tensor.span
    if end - start > limits.VALUE_BYTES:
        return _skipped(f"it has {end - start:,} bytes; {limits.VALUE_BYTES:,} are read")
    try:
        return _summed(source, tensor.file, start, end, decoded)
    except BadInput as error:
        return _skipped(str(error))


def _summed(source: Source, file: str, start: int, end: int, decoded: Callable[[bytes], Floats]) -> ValueSummary:
    import numpy as np

    count = bad = zeros = 0
    largest = squares = 0.0
    for place in range(start, end, _CHUNK):
        numbers = decoded(source.read(file, place, min(_CHUNK, end - place)))
        finite = np.isfinite(numbers)
        count += numbers.size
        whole = np.abs(numbers[finite].astype(np.float64))
        bad += numbers.size - whole.size
        zeros += int(np.count_nonzero(whole == 0))
        if whole.size:
            largest = max(largest, float(whole.max()))
            with np.errstate(over="ignore"):  # 64-bit numbers beyond 1e154: then the norm is infinite
                squares += float(np.dot(whole, whole))
    return ValueSummary(count, bad, zeros, largest, squares**0.5)


def _decoder(dtype: str) -> Callable[[bytes], Floats] | None:
    import numpy as np

    if dtype in _FLOATS or dtype in _INTEGERS:
        return lambda data: np.frombuffer(data, dtype=_FLOATS.get(dtype) or _INTEGERS[dtype])
    special: dict[str, Callable[[bytes], Floats]] = {
        "BF16": lambda data: (np.frombuffer(data, dtype="<u2").astype(np.uint32) << 16).view(np.float32),
        "F8_E5M2": lambda data: (np.frombuffer(data, dtype="u1").astype(np.uint16) << 8).view(np.float16),
        "F8_E4M3": lambda data: _e4m3()[np.frombuffer(data, dtype="u1")],
    }
    return special.get(dtype)


def _e4m3() -> Floats:
    """The 256 numbers of E4M3FN: no infinity, and NaN where all exponent and mantissa bits are set."""
    import numpy as np

    code = np.arange(256)
    exponent, mantissa = (code >> 3) & 15, code & 7
    size = np.where(exponent == 0, mantissa / 8 * 2.0**-6, (1 + mantissa / 8) * 2.0 ** (exponent - 7.0))
    size[(exponent == 15) & (mantissa == 7)] = np.nan
    return np.where(code & 128, -size, size)


def _skipped(why: str) -> ValueSummary:
    return ValueSummary(0, 0, 0, 0.0, 0.0, skipped=why)
