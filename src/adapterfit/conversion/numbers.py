"""Tensors whose numbers are read when they are due, one at a time, and the ways to lay them out anew.

Arrays hold the bits of the numbers as unsigned integers (`repair/numbers.py`), so everything that only moves numbers is exact
for any dtype: transposes, slices, permutations.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable

from adapterfit.errors import CannotConvert
from adapterfit.read.source import Source
from adapterfit.records import DTYPE_BITS, Shape, TensorInfo
from adapterfit.repair import numbers as bits
from adapterfit.text import quote

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

#: What can be computed with.
FLOATS = ("F64", "F32", "F16", "BF16")


@dataclass(frozen=True)
class Tensor:
    """Numbers not read yet. `load` gives their bits as an array of `shape`.

    `piece` is set while they are some file's bytes as they stand, so that they can be copied without being held.
    """

    dtype: str
    shape: Shape
    load: Callable[[], Array]
    piece: tuple[Source, TensorInfo] | None = None

    @property
    def width(self) -> int:
        """Bytes of one number."""
        return DTYPE_BITS[self.dtype] // 8

    @property
    def size(self) -> int:
        """Bytes of its data."""
        return math.prod(self.shape) * self.width

    def bytes(self) -> memoryview:
        """Its bytes in C order, little-endian, as a weights file holds them."""
        return bits.to_bytes(self.load())

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
        return numbers_of(self)

    def times(self, factor: float, dtype: str = "") -> Tensor:
        """Its numbers times a factor, computed in float64 and rounded once, to `dtype` (by default its own)."""
        kept = dtype or self.dtype
        return Tensor(kept, self.shape, lambda: bits.from_float64(numbers_of(self) * factor, kept))

    def cast(self, dtype: str) -> Tensor:
        """Its numbers in another dtype; exact where that one holds all of them."""
        return self if dtype == self.dtype else self.times(1.0, dtype)


def numbers_of(tensor: Tensor) -> Array:
    """Its numbers as float64.

    Raises:
        CannotConvert: They are of a type that is not computed with.
    """
    if tensor.dtype not in FLOATS:
        raise CannotConvert(f"numbers of type {tensor.dtype} are not computed with")
    found: Array = bits.to_float64(tensor.load(), tensor.dtype)
    return found


_WHOLE = ("I8", "U8", "I16", "U16", "I32", "U32", "I64", "U64")


def single(tensor: Tensor, what: str) -> float:
    """The one number of a tensor, which trainers write as whole numbers too.

    Raises:
        CannotConvert: It holds several, none, or no plain number.
    """
    if math.prod(tensor.shape) != 1:
        raise CannotConvert(f"{what} has the shape {tensor.shape}: one number is needed")
    if tensor.dtype in _WHOLE:
        return float(int.from_bytes(tensor.bytes(), "little", signed=tensor.dtype.startswith("I")))
    return float(tensor.floats().reshape(-1)[0])


def stored(source: Source, info: TensorInfo) -> Tensor:
    """A tensor of a file.

    Raises:
        CannotConvert: Its elements are no whole bytes.
    """
    if DTYPE_BITS.get(info.dtype, 0) % 8 or info.dtype not in DTYPE_BITS:
        raise CannotConvert(
            f"{quote(info.name)} holds numbers of type {quote(info.dtype, 40)}: not converted", (info.name,)
        )
    piece = (source, info) if info.span is not None else None
    return Tensor(info.dtype, info.shape, lambda: bits.read(source, info), piece)


def made(numbers: Array, dtype: str) -> Tensor:
    """A tensor of floating-point numbers that are already there."""
    return Tensor(dtype, tuple(numbers.shape), lambda: bits.from_float64(numbers, dtype))


def scalar(value: float) -> Tensor:
    """A single float32."""
    import numpy as np

    return made(np.array(value), "F32")


def undone(tensor: Tensor, factor: float, dtype: str) -> Tensor | None:
    """Numbers of `dtype` that `times(factor)` makes this tensor of; None where there are none. The tensor is read."""
    import numpy as np

    found, wanted = tensor.load(), numbers_of(tensor)

    def missed(tried: Array) -> Array:
        again = bits.from_float64(bits.to_float64(tried, dtype) * factor, tensor.dtype)
        off: Array = again != found
        return off

    before = bits.from_float64(wanted / factor, dtype)
    off = missed(before)
    if off.any() and dtype == "F32":  # rounded twice: the right number is a neighbour
        for way in (np.inf, -np.inf):
            beside = np.where(off, np.nextafter(before.view("<f4"), np.float32(way)).view(before.dtype), before)
            off, before = off & missed(beside), np.where(missed(beside), before, beside)
    return None if off.any() else Tensor(dtype, tensor.shape, lambda: before)


def padded(tensor: Tensor, axis: int, length: int) -> Tensor:
    """With zeros behind its numbers along one axis, up to `length`."""
    missing = length - tensor.shape[axis]
    if missing == 0:
        return tensor
    shape = tuple(length if i == axis else size for i, size in enumerate(tensor.shape))

    return tensor.changed(lambda array: bits.padded(array, axis, length), shape)


def cut(tensor: Tensor, axis: int, start: int, end: int) -> Tensor:
    """The part from `start` to `end` along one axis."""
    shape = tuple(end - start if i == axis else size for i, size in enumerate(tensor.shape))
    return tensor.changed(lambda array: bits.cut(array, axis, start, end), shape)


def joined(tensors: Sequence[Tensor], axis: int) -> Tensor:
    """Several of one dtype, one behind the other along an axis."""
    first = tensors[0]
    total = sum(tensor.shape[axis] for tensor in tensors)
    shape = tuple(total if i == axis else size for i, size in enumerate(first.shape))

    return Tensor(first.dtype, shape, lambda: bits.joined([tensor.load() for tensor in tensors], axis))
