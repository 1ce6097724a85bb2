"""Edits carried out on tensors as records: which tensors there are afterwards, and what each is made of."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable
from typing import Any, Callable

from adapterfit import limits
from adapterfit.edits import (
    OF_NO_TENSOR,
    WIDENS,
    Cast,
    Copy,
    Drop,
    Edit,
    Extend,
    Fill,
    Join,
    JoinDiagonal,
    Pad,
    Rename,
    Reshape,
    Scale,
    Split,
    Transpose,
    Trim,
)
from adapterfit.errors import BadEdit
from adapterfit.plans import Made
from adapterfit.records import DTYPE_BITS, Shape, TensorInfo
from adapterfit.text import quote

#: Types that numbers are computed in.
FLOATS = frozenset(("F64", "F32", "F16", "BF16"))
#: No array has more numbers, not even where one of its sizes is 0.
_NUMBERS = 2**60
Table = dict[str, Made]


def made(tensors: Iterable[TensorInfo], edits: Iterable[Edit]) -> tuple[Made, ...]:
    """The tensors after the edits; those that keep their bytes in the order of the file, then the others as they were made.

    Raises:
        BadEdit: An edit cannot be carried out; its text says which and why.
    """
    table = {tensor.name: Made(tensor, source=tensor) for tensor in tensors}
    order = {name: place for place, name in enumerate(table)}
    for renames, group in itertools.groupby(edits, key=lambda edit: isinstance(edit, Rename)):
        if renames:
            _rename(table, [edit for edit in group if isinstance(edit, Rename)])
            continue
        for edit in group:
            if not isinstance(edit, OF_NO_TENSOR):
                _BY_KIND[type(edit)](table, edit)
    return tuple(sorted(table.values(), key=lambda one: order[one.source.name] if one.source else len(order)))


# ------------------------------------------------------------------------------------------------ names


def _rename(table: Table, edits: list[Rename]) -> None:
    """All at once: first every old name is given up, then every new one taken."""
    taken = [(edit, _take(table, edit, edit.old)) for edit in edits]
    for edit, one in taken:
        _put(table, edit, _named(one, edit.new))


def _drop(table: Table, edit: Drop) -> None:
    _take(table, edit, edit.name)


def _copy(table: Table, edit: Copy) -> None:
    _put(table, edit, _named(_get(table, edit, edit.name), edit.new))


# ------------------------------------------------------------------------------------------------ one tensor


def _transpose(table: Table, edit: Transpose) -> None:
    one = _get(table, edit, edit.name)
    shape = one.info.shape
    if sorted(edit.axes) != list(range(len(shape))):
        raise _bad(edit, f"{list(edit.axes)} is no order of the axes of {list(shape)}")
    _change(table, edit, tuple(shape[axis] for axis in edit.axes))


def _reshape(table: Table, edit: Reshape) -> None:
    one = _get(table, edit, edit.name)
    _check_shape(edit, edit.shape)
    if math.prod(one.info.shape) != math.prod(edit.shape):
        raise _bad(edit, f"{list(one.info.shape)} does not have as many numbers as {list(edit.shape)}")
    if one.source is not None:
        table[edit.name] = dataclasses.replace(one, info=dataclasses.replace(one.info, shape=tuple(edit.shape)))
    else:
        _change(table, edit, tuple(edit.shape))


def _cast(table: Table, edit: Cast) -> None:
    one = _get(table, edit, edit.name)
    if not {one.info.dtype, edit.dtype} <= FLOATS:
        raise _bad(edit, f"{one.info.dtype} cannot be cast to {edit.dtype}")
    if one.info.dtype != edit.dtype:
        table[edit.name] = Made(TensorInfo(edit.name, edit.dtype, one.info.shape), None, edit, (one,))


def _scale(table: Table, edit: Scale) -> None:
    one = _get(table, edit, edit.name)
    if one.info.dtype not in FLOATS:
        raise _bad(edit, f"{one.info.dtype} cannot be scaled")
    if not math.isfinite(edit.factor):
        raise _bad(edit, "the factor is not finite")
    _change(table, edit, one.info.shape)


def _pad(table: Table, edit: Pad) -> None:
    _resize(table, edit, grows=True)


def _trim(table: Table, edit: Trim) -> None:
    _resize(table, edit, grows=False)


def _extend(table: Table, edit: Extend) -> None:
    one = _get(table, edit, edit.name)
    _axis(edit, one, 0)
    bits = math.prod(one.info.shape[1:]) * DTYPE_BITS.get(edit.dtype, 0) * edit.rows
    if edit.rows < 1 or bits != 8 * (edit.end - edit.start) or edit.start < 0 or not bits:
        raise _bad(edit, f"{edit.rows} rows of the base are not {edit.end - edit.start} bytes")
    if edit.dtype != one.info.dtype and (edit.dtype, one.info.dtype) not in WIDENS:
        raise _bad(edit, f"{one.info.dtype} does not hold every number of {edit.dtype}")
    _change(table, edit, _with(one.info.shape, 0, one.info.shape[0] + edit.rows))


def _resize(table: Table, edit: Pad | Trim, *, grows: bool) -> None:
    one = _get(table, edit, edit.name)
    now = one.info.shape[_axis(edit, one, edit.axis)]
    if (edit.size < now) if grows else not 0 <= edit.size <= now:
        raise _bad(edit, f"it has {now} entries along axis {edit.axis}, and {edit.size} are wanted")
    if edit.size != now:
        _change(table, edit, _with(one.info.shape, edit.axis, edit.size))


# ------------------------------------------------------------------------------------------------ several


def _split(table: Table, edit: Split) -> None:
    one = _take(table, edit, edit.name)
    now = one.info.shape[_axis(edit, one, edit.axis)]
    sizes = [size for _, size in edit.into]
    if sum(sizes) != now or min(sizes, default=0) < 0:
        raise _bad(edit, f"{sizes} do not add up to its {now} entries along axis {edit.axis}")
    for part, (name, size) in enumerate(edit.into):
        info = TensorInfo(name, one.info.dtype, _with(one.info.shape, edit.axis, size))
        _put(table, edit, Made(info, None, edit, (one,), part))


def _join(table: Table, edit: Join) -> None:
    parts = _parts(table, edit)
    axis = edit.axis
    size = sum(one.info.shape[_axis(edit, one, axis)] for one in parts)
    if len({_with(one.info.shape, axis, 0) for one in parts}) > 1:
        raise _bad(edit, f"{[list(one.info.shape) for one in parts]} differ on another axis than {axis}")
    info = TensorInfo(edit.new, parts[0].info.dtype, _with(parts[0].info.shape, axis, size))
    _put(table, edit, Made(info, None, edit, parts))


def _join_diagonal(table: Table, edit: JoinDiagonal) -> None:
    parts = _parts(table, edit)
    shapes = [one.info.shape for one in parts]
    if any(len(shape) != 2 for shape in shapes):
        raise _bad(edit, f"{[list(shape) for shape in shapes]} are not all matrices")
    info = TensorInfo(edit.new, parts[0].info.dtype, (sum(shape[0] for shape in shapes), sum(s[1] for s in shapes)))
    _put(table, edit, Made(info, None, edit, parts))


def _fill(table: Table, edit: Fill) -> None:
    _check_shape(edit, edit.shape)
    if edit.dtype not in FLOATS or not math.isfinite(edit.value):
        raise _bad(edit, f"{edit.dtype} cannot be filled with {edit.value}")
    _put(table, edit, Made(TensorInfo(edit.new, edit.dtype, tuple(edit.shape)), None, edit))


_BY_KIND: dict[type, Callable[[Table, Any], None]] = {
    Drop: _drop,
    Copy: _copy,
    Transpose: _transpose,
    Reshape: _reshape,
    Cast: _cast,
    Scale: _scale,
    Split: _split,
    Join: _join,
    JoinDiagonal: _join_diagonal,
    Pad: _pad,
    Trim: _trim,
    Extend: _extend,
    Fill: _fill,
}

# ------------------------------------------------------------------------------------------------ shared


def _change(table: Table, edit: Transpose | Reshape | Scale | Pad | Trim | Extend, shape: Shape) -> None:
    """The one tensor that an edit names, made anew under its name."""
    one = table[edit.name]
    table[edit.name] = Made(TensorInfo(edit.name, one.info.dtype, shape), None, edit, (one,))


def _named(one: Made, name: str) -> Made:
    return dataclasses.replace(one, info=dataclasses.replace(one.info, name=name))


def _get(table: Table, edit: Edit, name: str) -> Made:
    if name not in table:
        raise _bad(edit, f"there is no tensor {quote(name)}")
    return table[name]


def _take(table: Table, edit: Edit, name: str) -> Made:
    one = _get(table, edit, name)
    del table[name]
    return one


def _put(table: Table, edit: Edit, one: Made) -> None:
    name = one.info.name
    if name in table:
        raise _bad(edit, f"there is a tensor {quote(name)} already")
    if not name or name == "__metadata__" or len(name) > limits.NAME_CHARS:
        raise _bad(edit, f"{quote(name, 60)} is no name for a tensor")
    table[name] = one


def _parts(table: Table, edit: Join | JoinDiagonal) -> tuple[Made, ...]:
    parts = tuple(_take(table, edit, name) for name in edit.names)
    if not parts:
        raise _bad(edit, "there is nothing to join")
    if len({one.info.dtype for one in parts}) > 1:
        raise _bad(edit, f"the types differ: {sorted({one.info.dtype for one in parts})}")
    return parts


def _axis(edit: Edit, one: Made, axis: int) -> int:
    if not 0 <= axis < len(one.info.shape):
        raise _bad(edit, f"{list(one.info.shape)} has no axis {axis}")
    return axis


def _check_shape(edit: Edit, shape: Shape) -> None:
    if len(shape) > limits.DIMS or any(size < 0 for size in shape) or math.prod(filter(None, shape)) > _NUMBERS:
        raise _bad(edit, f"{list(shape)} is no shape")


def _with(shape: Shape, axis: int, size: int) -> Shape:
    return (*shape[:axis], size, *shape[axis + 1 :])


def _bad(edit: Edit, problem: str) -> BadEdit:
    return BadEdit(f"{type(edit).__name__} cannot be carried out: {problem}")
