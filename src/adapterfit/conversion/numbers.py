"""Tensors whose numbers are read when they are due, one at a time, and the exact ways to lay them out anew.

numpy has no bfloat16 and no 8-bit floats: such numbers are carried as unsigned integers of their size, which is enough for
everything that moves numbers without computing (transposes, slices, permutations), so those are bit-exact for any dtype.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable

from adapterfit.errors import CannotConvert
from adapterfit.read.source import Source
from adapterfit.records import Shape, TensorInfo
from adapterfit.text import quote

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

#: safetensors' dtypes → numpy's of the same size; the same number where numpy has the type, else its bits.
CARRIERS = {
    "BOOL": "u1", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "U32": "<u4", "I32": "<i4", "U64": "<u8", "I64": "<i8",
    "F16": "<f2", "BF16": "<u2", "F32": "<f4", "F64": "<f8", "F8_E4M3": "u1", "F8_E5M2": "u1",
}  # fmt: skip
#: What can be computed with.
FLOATS = ("F64", "F32", "F16", "BF16")
_CHUNK = 8 * 1024 * 1024


@dataclass(frozen=True)
class Tensor:
    """Numbers not read yet. `load` gives them as an array of the carrier dtype and of `shape`.

    `piece` is set while they are some file's bytes as they stand, so that they can be copied without being held.
    """

    dtype: str
    shape: Shape
    load: Callable[[], Array]
    piece: tuple[Source, TensorInfo] | None = None

    @property
    def width(self) -> int:
        """Bytes of one number."""
        return int(CARRIERS[self.dtype][-1])

    @property
    def size(self) -> int:
        """Bytes of its data."""
        return math.prod(self.shape) * self.width

    def chunks(self) -> Iterator[bytes]:
        """Its bytes in C order, little-endian, as a weights file holds them."""
        if self.piece is None:
            import numpy as np

            yield np.ascontiguousarray(self.load()).tobytes()
            return
        source, info = self.piece
        start, end = info.span or (0, 0)
        for at in range(start, end, _CHUNK):
            yield source.read(info.file, at, min(_CHUNK, end - at))

    def changed(self, change: Callable[[Array], Array], shape: Shape, dtype: str = "") -> Tensor:
        """What `change` makes of its array when it is due."""
        return Tensor(dtype or self.dtype, shape, lambda: change(self.load()))

    def transposed(self) -> Tensor:
        """Both of its dimensions exchanged."""
        return self.changed(lambda array: array.T, self.shape[::-1])

    def reshaped(self, shape: Shape) -> Tensor:
        """The same bytes under another shape of the same size."""
        if self.piece is not None:
            return Tensor(self.dtype, shape, lambda: self.load().reshape(shape), self.piece)
        return self.changed(lambda array: array.reshape(shape), shape)

    def floats(self) -> Array:
        """Its numbers as float64; exact for every dtype of `FLOATS`."""
        return to_floats(self.load(), self.dtype)

    def times(self, factor: float, dtype: str = "") -> Tensor:
        """Its numbers times a factor, computed in float64 and rounded once, to `dtype` (by default its own)."""
        kept = dtype or self.dtype
        return self.changed(lambda array: from_floats(to_floats(array, self.dtype) * factor, kept), self.shape, kept)

    def cast(self, dtype: str) -> Tensor:
        """Its numbers in another dtype; exact where that one holds all of them."""
        return self if dtype == self.dtype else self.times(1.0, dtype)


def stored(source: Source, info: TensorInfo) -> Tensor:
    """A tensor of a file.

    Raises:
        CannotConvert: Its data does not lie in one piece, or its dtype is not known.
    """
    if info.span is None or info.dtype not in CARRIERS:
        why = f"numbers of type {info.dtype}" if info.span is not None else "data that does not lie in one piece"
        raise CannotConvert(f"{quote(info.name)} holds {why}: not converted", (info.name,))
    start, end = info.span

    def load() -> Array:
        import numpy as np

        data = source.read(info.file, start, end - start)
        return np.frombuffer(data, dtype=CARRIERS[info.dtype]).reshape(info.shape)

    return Tensor(info.dtype, info.shape, load, (source, info))


def made(array: Array, dtype: str) -> Tensor:
    """A tensor of numbers that are already there."""
    return Tensor(dtype, tuple(array.shape), lambda: array)


def scalar(value: float) -> Tensor:
    """A single float32."""
    import numpy as np

    return made(np.array(value, dtype="<f4"), "F32")


def to_floats(array: Array, dtype: str) -> Array:
    """An array of the carrier dtype as float64, exactly."""
    import numpy as np

    if dtype == "BF16":
        return (array.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    if dtype not in FLOATS:
        raise CannotConvert(f"numbers of type {dtype} are not computed with")
    return array.astype(np.float64)


def from_floats(numbers: Array, dtype: str) -> Array:
    """Floating-point numbers rounded to the nearest, ties to even, as the carrier of `dtype`.

    bfloat16 is rounded from float32, as PyTorch does it; float64 numbers are rounded to float32 first.
    """
    import numpy as np

    with np.errstate(over="ignore"):
        if dtype != "BF16":
            return numbers.astype(CARRIERS[dtype])
        bits = np.ascontiguousarray(numbers.astype(np.float32)).view(np.uint32)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")
    nan: Array = np.where(np.isnan(numbers), np.asarray(0x7FC0, dtype="<u2"), rounded)
    return nan.astype("<u2")


def undone(tensor: Tensor, factor: float, dtype: str) -> Tensor | None:
    """Numbers of `dtype` that `times(factor)` makes this tensor of; None where there are none. The tensor is read."""
    import numpy as np

    found = tensor.load()
    numbers = from_floats(to_floats(found, tensor.dtype) / factor, dtype)
    off = from_floats(to_floats(numbers, dtype) * factor, tensor.dtype) != found
    if off.any() and dtype == "F32":  # rounded twice: the right number is a neighbour
        for way in (np.inf, -np.inf):
            beside = np.where(off, np.nextafter(numbers, np.float32(way)), numbers)
            hit = from_floats(to_floats(beside, dtype) * factor, tensor.dtype) == found
            numbers, off = np.where(off & hit, beside, numbers), off & ~hit
    return None if off.any() else made(numbers, dtype)


def padded(tensor: Tensor, axis: int, length: int) -> Tensor:
    """With zeros behind its numbers along one axis, up to `length`."""
    missing = length - tensor.shape[axis]
    if missing == 0:
        return tensor
    shape = tuple(length if i == axis else size for i, size in enumerate(tensor.shape))

    def pad(array: Array) -> Array:
        import numpy as np

        return np.pad(array, [(0, missing if i == axis else 0) for i in range(array.ndim)])

    return tensor.changed(pad, shape)


def cut(tensor: Tensor, axis: int, start: int, end: int) -> Tensor:
    """The part from `start` to `end` along one axis."""
    shape = tuple(end - start if i == axis else size for i, size in enumerate(tensor.shape))
    index = tuple(slice(start, end) if i == axis else slice(None) for i in range(len(shape)))
    return tensor.changed(lambda array: array[index], shape)


def joined(tensors: Sequence[Tensor], axis: int) -> Tensor:
    """Several of one dtype, one behind the other along an axis."""
    first = tensors[0]
    total = sum(tensor.shape[axis] for tensor in tensors)
    shape = tuple(total if i == axis else size for i, size in enumerate(first.shape))

    def load() -> Array:
        import numpy as np

        return np.concatenate([tensor.load() for tensor in tensors], axis=axis)

    return Tensor(first.dtype, shape, load)
