"""Tensors as arrays of unsigned integers that hold the bits of the elements, so that moving them can change none.

Only `cast` and `scaled` read the bits as numbers. numpy has no bfloat16: it is the upper half of a float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from adapterfit.errors import CannotWrite
from adapterfit.records import DTYPE_BITS, Shape, TensorInfo
from adapterfit.repair.staging import Original
from adapterfit.text import quote

_WORDS = {8: "<u1", 16: "<u2", 32: "<u4", 64: "<u8"}
_FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}
_QUIET_NAN = 0x7FC0


def read(source: Original, info: TensorInfo) -> Any:
    """The elements of one tensor of the source, as bits.

    Raises:
        CannotWrite: Its bytes do not lie open in the file (they are compressed), or its elements are no whole bytes.
    """
    import numpy as np

    bits = DTYPE_BITS.get(info.dtype, 0)
    if bits not in _WORDS:
        raise CannotWrite(f"{quote(info.name)} of type {quote(info.dtype, 40)} can be renamed, but not taken apart")
    word = np.dtype(_WORDS[bits])
    if info.span is not None:
        start, end = info.span
        return np.frombuffer(source.read(info.file, start, end - start), word).reshape(info.shape)
    if info.view is None:
        raise CannotWrite(f"the bytes of {quote(info.name)} do not lie open in {quote(info.file)}")
    start, strides = info.view
    if 0 in info.shape:
        return np.empty(info.shape, word)
    last = sum((size - 1) * stride for size, stride in zip(info.shape, strides))
    held = np.frombuffer(source.read(info.file, start, (last + 1) * word.itemsize), word)
    return np.lib.stride_tricks.as_strided(held, info.shape, [stride * word.itemsize for stride in strides])


def to_bytes(array: Any) -> memoryview:
    """Row-major, little-endian."""
    import numpy as np

    flat: Any = np.ascontiguousarray(array).reshape(-1).view("u1")
    return memoryview(flat)


# ------------------------------------------------------------------------------------------------ moved


def joined(arrays: Sequence[Any], axis: int) -> Any:
    """One behind the other."""
    import numpy as np

    return np.concatenate(arrays, axis=axis)


def on_diagonal(arrays: Sequence[Any]) -> Any:
    """Matrices as blocks on the diagonal, zeros elsewhere."""
    import numpy as np

    whole = np.zeros((sum(a.shape[0] for a in arrays), sum(a.shape[1] for a in arrays)), arrays[0].dtype)
    row = column = 0
    for array in arrays:
        whole[row : row + array.shape[0], column : column + array.shape[1]] = array
        row, column = row + array.shape[0], column + array.shape[1]
    return whole


def cut(array: Any, axis: int, start: int, end: int) -> Any:
    """The entries `[start, end)` along an axis."""
    return array[(slice(None),) * axis + (slice(start, end),)]


def padded(array: Any, axis: int, size: int) -> Any:
    """Zeros behind the last entry along an axis."""
    import numpy as np

    widths = [(0, size - array.shape[axis] if at == axis else 0) for at in range(array.ndim)]
    return np.pad(array, widths)


def filled(shape: Shape, dtype: str, value: float) -> Any:
    """Every element the same number."""
    import numpy as np

    return from_float64(np.full(shape, value, np.float64), dtype)


# ------------------------------------------------------------------------------------------------ computed


def cast(bits: Any, old: str, new: str) -> Any:
    """To another floating-point type, rounded to nearest even; to BF16 through float32, as torch does."""
    return from_float64(to_float64(bits, old), new)


def scaled(bits: Any, dtype: str, factor: float) -> Any:
    """Times a number, in float64, then rounded to its own type."""
    import numpy as np

    with np.errstate(all="ignore"):
        return from_float64(to_float64(bits, dtype) * factor, dtype)


def to_float64(bits: Any, dtype: str) -> Any:
    """The numbers of a floating-point type, exactly."""
    import numpy as np

    bits = np.ascontiguousarray(bits)
    wide = bits.astype("<u4") << np.uint32(16) if dtype == "BF16" else bits
    return _quietly(wide.view(_FLOATS.get(dtype, "<f4")), "<f8")


def from_float64(array: Any, dtype: str) -> Any:
    """Numbers as the bits of a floating-point type, rounded to nearest even; to BF16 through float32, as torch does."""
    if dtype == "BF16":
        return _to_bfloat16(_quietly(array, "<f4"))
    return _quietly(array, _FLOATS[dtype]).view(_WORDS[DTYPE_BITS[dtype]])


def _quietly(array: Any, kind: str) -> Any:
    """To another type; what is too large becomes infinite, and numpy need not say so."""
    import numpy as np

    with np.errstate(all="ignore"):
        return array.astype(kind)


def _to_bfloat16(singles: Any) -> Any:
    """Round to nearest even on the lower half's bits; a NaN stays one."""
    import numpy as np

    bits = singles.view("<u4")
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    return np.where(np.isnan(singles), np.uint32(_QUIET_NAN), rounded).astype("<u2")
