"""What a tensor is made of → the bytes to write: ranges of the source where that will do, else numbers computed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import Any

from adapterfit.edits import (
    OF_BASE,
    Cast,
    Extend,
    Fill,
    Join,
    JoinDiagonal,
    Pad,
    Reshape,
    Scale,
    Split,
    Transpose,
    Trim,
)
from adapterfit.errors import CannotWrite
from adapterfit.plans import Made
from adapterfit.records import DTYPE_BITS, TensorInfo
from adapterfit.repair import numbers
from adapterfit.repair.staging import Original
from adapterfit.repair.writer import Computed, Entry, Part, Span, Zeros
from adapterfit.text import quote

#: Numbers computed at once where each is by itself.
_NUMBERS = 1 << 20


def entry(made: Made, source: Original) -> Entry:
    """One tensor to write. Its parts are computed, if at all, when it is their turn."""
    info = made.info
    parts = _ranges(made)
    if parts is None:
        parts = _in_pieces(made, source)
    if parts is None:
        parts = (Computed(size_of(info), lambda: numbers.to_bytes(_array(made, source))),)
    return Entry(info.name, info.dtype, info.shape, parts)


def size_of(info: TensorInfo) -> int:
    """Bytes of a tensor."""
    bits = math.prod(info.shape) * DTYPE_BITS.get(info.dtype, 0)
    if bits % 8 or info.dtype not in DTYPE_BITS:
        raise CannotWrite(f"{quote(info.name)} of type {quote(info.dtype, 40)} cannot be written to a safetensors file")
    return bits // 8


# ------------------------------------------------------------------------------------------------ as ranges


def _ranges(made: Made) -> tuple[Part, ...] | None:
    """Parts that need no computing: bytes as they are, and whatever is cut, joined or filled up along the first axis."""
    if made.source is not None:
        span = made.source.span
        return (Span(made.source.file, *span),) if span is not None else None
    edit = made.by
    inner = [_ranges(one) for one in made.of]
    if any(parts is None for parts in inner):
        return None
    first = inner[0] if inner else None
    if isinstance(edit, Reshape):
        return first
    if isinstance(edit, Extend) and first is not None and edit.dtype == made.info.dtype:
        return (*first, Span(OF_BASE + edit.file, edit.start, edit.end))
    if isinstance(edit, Join) and edit.axis == 0:
        return tuple(part for parts in inner if parts is not None for part in parts)
    if first is None or not isinstance(edit, (Pad, Trim, Split)) or edit.axis != 0:
        return None
    if isinstance(edit, Pad):
        return (*first, Zeros(size_of(made.info) - size_of(made.of[0].info)))
    before = sum(size for _, size in edit.into[: made.part]) if isinstance(edit, Split) else 0
    row = _row(made.of[0].info)
    return None if row is None else tuple(_cut(first, before * row, before * row + size_of(made.info)))


def _row(info: TensorInfo) -> int | None:
    """Bytes of one entry along the first axis; None where that is no whole number."""
    bits = math.prod(info.shape[1:]) * DTYPE_BITS.get(info.dtype, 1)
    return bits // 8 if bits % 8 == 0 else None


def _cut(parts: Iterable[Part], start: int, end: int) -> Iterable[Part]:
    """The bytes `[start, end)` of what the parts are together. None of them is computed."""
    at = 0
    for part in parts:
        low, high = max(start - at, 0), min(end - at, part.size)
        at += part.size
        if low < high:
            yield Span(part.file, part.start + low, part.start + high) if isinstance(part, Span) else Zeros(high - low)


# ------------------------------------------------------------------------------------------------ as numbers


def _in_pieces(made: Made, source: Original) -> tuple[Part, ...] | None:
    """What is computed number by number, some of them at a time: an embedding of gigabytes need not be in memory."""
    count, width = math.prod(made.info.shape), DTYPE_BITS.get(made.info.dtype, 0) // 8
    if count <= _NUMBERS or _flat(made, 0, 1) is None:
        return None
    return tuple(
        Computed(
            width * min(_NUMBERS, count - start), partial(_piece, made, source, start, min(_NUMBERS, count - start))
        )
        for start in range(0, count, _NUMBERS)
    )


def _piece(made: Made, source: Original, start: int, count: int) -> memoryview:
    return numbers.to_bytes(_array(_flat(made, start, count) or made, source))


def _flat(made: Made, start: int, count: int) -> Made | None:
    """So many of a tensor's numbers, in the order of the file; None where one of them depends on others' places."""
    if made.source is not None and made.source.span is not None:
        width = DTYPE_BITS.get(made.source.dtype, 0) // 8
        first = made.source.span[0] + start * width
        info = replace(made.source, shape=(count,), span=(first, first + count * width))
        return Made(replace(made.info, shape=(count,)), info)
    inner = _flat(made.of[0], start, count) if isinstance(made.by, (Cast, Scale, Reshape)) else None
    if inner is None or isinstance(made.by, Reshape):
        return inner
    return Made(replace(made.info, shape=(count,)), None, made.by, (inner,))


def _array(made: Made, source: Original) -> Any:
    """The tensor as an array of unsigned integers, the bits of its elements."""
    if made.source is not None:
        return numbers.read(source, made.source).reshape(made.info.shape)
    edit, parts = made.by, [_array(one, source) for one in made.of]
    if isinstance(edit, Fill):
        return numbers.filled(edit.shape, edit.dtype, edit.value)
    if isinstance(edit, Join):
        return numbers.joined(parts, edit.axis)
    if isinstance(edit, JoinDiagonal):
        return numbers.on_diagonal(parts)
    (array,) = parts
    if isinstance(edit, Transpose):
        return array.transpose(edit.axes)
    if isinstance(edit, Reshape):
        return array.reshape(edit.shape)
    if isinstance(edit, Cast):
        return numbers.cast(array, made.of[0].info.dtype, edit.dtype)
    if isinstance(edit, Scale):
        return numbers.scaled(array, made.info.dtype, edit.factor)
    if isinstance(edit, Split):
        start = sum(size for _, size in edit.into[: made.part])
        return numbers.cut(array, edit.axis, start, start + edit.into[made.part][1])
    if isinstance(edit, Extend):
        return numbers.joined([array, _rows_of_base(edit, made.info, source)], 0)
    if isinstance(edit, Pad):
        return numbers.padded(array, edit.axis, edit.size)
    if isinstance(edit, Trim):
        return numbers.cut(array, edit.axis, 0, edit.size)
    raise AssertionError(f"{edit} makes no tensor")


def _rows_of_base(edit: Extend, info: TensorInfo, source: Original) -> Any:
    shape = (edit.rows, *info.shape[1:])
    rows = TensorInfo(info.name, edit.dtype, shape, OF_BASE + edit.file, (edit.start, edit.end))
    held = numbers.read(source, rows)
    return held if edit.dtype == info.dtype else numbers.cast(held, edit.dtype, info.dtype)
