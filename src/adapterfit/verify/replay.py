"""The edits once more, on whole tensors with plain numpy, in groups that have nothing to do with each other.

Numbers that are only moved are compared as bits. A number that was computed must be as near to the true one as its type can
be: within half a unit in the last place, once for every time it was rounded.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from adapterfit.edits import (
    OF_BASE,
    OF_NO_TENSOR,
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
    makes,
    uses,
)
from adapterfit.errors import NotProven
from adapterfit.records import DTYPE_BITS, Shape, TensorInfo
from adapterfit.text import quote

#: Half a unit in the last place, relative, and the smallest number above zero.
_ROUNDING = {
    "F64": (2.0**-53, 2.0**-1074),
    "F32": (2.0**-24, 2.0**-149),
    "F16": (2.0**-11, 2.0**-24),
    "BF16": (2.0**-8, 2.0**-133),  # through float32: rounded twice, so that a tie may go the other way
}
#: Numbers compared at once.
_NUMBERS = 1 << 18
#: Edits joined by a line of names, in order; renames at once stand together.
Blocks = list[list[Edit]]


class Readable(Protocol):
    """Files whose bytes are compared."""

    def read(self, name: str, offset: int, length: int) -> bytes:
        """Exactly `length` bytes from `offset`."""
        ...


@dataclass(frozen=True)
class Held:
    """A tensor in the middle of the edits.

    `source`: its bytes are still those of this tensor of the file. Else `array` holds its bits, or, once something was
    computed, its numbers in float64 with `slack`, the relative error that the rounding since may have brought.
    """

    dtype: str
    shape: Shape
    source: TensorInfo | None = None
    array: Any = None
    slack: float = 0.0

    @property
    def is_exact(self) -> bool:
        """Whether it must be equal bit by bit."""
        return self.slack == 0.0


def groups(before: Iterable[TensorInfo], edits: Sequence[Edit]) -> Iterator[tuple[list[TensorInfo], Blocks]]:
    """The tensors that edits bring together, with these edits; a tensor that no edit names is a group by itself."""
    root: dict[str, str] = {}

    def find(name: str) -> str:
        root.setdefault(name, name)
        while root[name] != name:
            root[name] = root[root[name]]
            name = root[name]
        return name

    tensors = list(before)
    ours = [edit for edit in edits if not isinstance(edit, OF_NO_TENSOR)]
    for edit in ours:
        first, *rest = (*uses(edit), *makes(edit))
        for other in rest:
            root[find(other)] = find(first)
    members: dict[str, tuple[list[TensorInfo], Blocks]] = {}
    for tensor in tensors:
        members.setdefault(find(tensor.name), ([], []))[0].append(tensor)
    for block in _blocks(edits):
        for name, own in itertools.groupby(sorted(block, key=lambda e: find(_any(e))), key=lambda e: find(_any(e))):
            members.setdefault(name, ([], []))[1].append(list(own))
    yield from members.values()


def _any(edit: Edit) -> str:
    return (*uses(edit), *makes(edit))[0]


def _blocks(edits: Iterable[Edit]) -> Blocks:
    blocks: Blocks = []
    for renames, own in itertools.groupby(edits, key=lambda edit: isinstance(edit, Rename)):
        kept: list[Edit] = [edit for edit in own if not isinstance(edit, OF_NO_TENSOR)]
        blocks += [kept] if renames else [[edit] for edit in kept]
    return blocks


def replayed(source: Readable, tensors: Iterable[TensorInfo], blocks: Blocks) -> dict[str, Held]:
    """The tensors of one group after its edits."""
    table = {tensor.name: Held(tensor.dtype, tensor.shape, source=tensor) for tensor in tensors}
    for block in blocks:
        if isinstance(block[0], Rename):
            taken = [(edit.new, table.pop(edit.old)) for edit in block if isinstance(edit, Rename)]
            table.update(taken)
        else:
            _step(source, table, block[0])
    return table


def _step(source: Readable, table: dict[str, Held], edit: Edit) -> None:
    import numpy as np

    if isinstance(edit, Drop):
        del table[edit.name]
    elif isinstance(edit, Copy):
        table[edit.new] = table[edit.name]
    elif isinstance(edit, Reshape) and table[edit.name].source is not None:
        table[edit.name] = replace(table[edit.name], shape=edit.shape)
    elif isinstance(edit, Extend):
        old = loaded(source, table[edit.name])
        both = _alike([old, _rows_of_base(source, edit, old)])
        array = np.concatenate([one.array for one in both])
        table[edit.name] = Held(old.dtype, array.shape, array=array, slack=old.slack)
    elif isinstance(edit, Fill):
        table[edit.new] = _filled(edit)
    else:
        olds = [loaded(source, table.pop(name)) for name in uses(edit)]
        if isinstance(edit, (Join, JoinDiagonal)):
            olds = _alike(olds)
        for name, array in _arrays(edit, [old.array for old in olds]):
            dtype = edit.dtype if isinstance(edit, Cast) else olds[0].dtype
            slack = max(old.slack for old in olds)
            table[name] = Held(dtype, array.shape, array=array, slack=slack)
        if isinstance(edit, (Cast, Scale)):
            table[edit.name] = _computed(table[edit.name], olds[0], edit)


def _filled(edit: Fill) -> Held:
    """Every number the same, rounded once; without any number nothing is."""
    import numpy as np

    if 0 in edit.shape:
        word = np.dtype(f"<u{DTYPE_BITS[edit.dtype] // 8}")
        return Held(edit.dtype, edit.shape, array=np.zeros(edit.shape, word))
    return Held(edit.dtype, edit.shape, array=np.full(edit.shape, edit.value), slack=_ROUNDING[edit.dtype][0])


def _rows_of_base(source: Readable, edit: Extend, old: Held) -> Held:
    """The rows as bits of the tensor's own type.

    Raises:
        NotProven: They are not the ones that the plan was made for.
    """
    import numpy as np

    raw = source.read(OF_BASE + edit.file, edit.start, edit.end - edit.start)
    if hashlib.sha256(raw).hexdigest() != edit.sha256:
        raise NotProven(f"the base's rows for {quote(edit.name)} are not the ones that the plan was made for")
    word = np.dtype(f"<u{DTYPE_BITS[edit.dtype] // 8}")
    rows = Held(
        edit.dtype, (edit.rows, *old.shape[1:]), array=np.frombuffer(raw, word).reshape(edit.rows, *old.shape[1:])
    )
    if edit.dtype == old.dtype:
        return rows
    wide = {"F32": "<f4", "F64": "<f8"}[old.dtype]
    exact = as_numbers(rows).astype(wide).view(wide.replace("f", "u"))
    return Held(old.dtype, rows.shape, array=exact)


def _arrays(edit: Edit, arrays: list[Any]) -> Iterator[tuple[str, Any]]:
    """What an edit makes of whole arrays, by name; of Cast and Scale the array as it was."""
    import numpy as np

    first = arrays[0]
    if isinstance(edit, Transpose):
        yield edit.name, np.transpose(first, edit.axes)
    elif isinstance(edit, Reshape):
        yield edit.name, np.reshape(first, edit.shape)
    elif isinstance(edit, Split):
        ends = np.cumsum([size for _, size in edit.into])[:-1]
        yield from zip((name for name, _ in edit.into), np.split(first, ends, axis=edit.axis))
    elif isinstance(edit, Join):
        yield edit.new, np.concatenate(arrays, axis=edit.axis)
    elif isinstance(edit, JoinDiagonal):
        ends = np.cumsum([array.shape for array in arrays], axis=0)
        whole = np.zeros(ends[-1], first.dtype)
        for array, (row, column) in zip(arrays, ends):
            whole[row - array.shape[0] : row, column - array.shape[1] : column] = array
        yield edit.new, whole
    elif isinstance(edit, Pad):
        more = list(first.shape)
        more[edit.axis] = edit.size - first.shape[edit.axis]
        yield edit.name, np.concatenate([first, np.zeros(more, first.dtype)], axis=edit.axis)
    elif isinstance(edit, Trim):
        yield edit.name, np.take(first, range(edit.size), axis=edit.axis)
    elif isinstance(edit, (Cast, Scale)):
        yield edit.name, first
    else:
        raise NotImplementedError(f"{edit} is not known to the proof")


def _computed(now: Held, old: Held, edit: Cast | Scale) -> Held:
    """The numbers after a Cast or Scale; every rounding adds what it may be off."""
    import numpy as np

    if old.is_exact and isinstance(edit, Cast) and old.dtype == edit.dtype:
        return old
    with np.errstate(all="ignore"):
        numbers = as_numbers(old) * edit.factor if isinstance(edit, Scale) else as_numbers(old)
    return replace(now, array=numbers, slack=old.slack + _ROUNDING[now.dtype][0])


def _alike(olds: list[Held]) -> list[Held]:
    """All as bits, or all as numbers."""
    if all(old.is_exact for old in olds):
        return olds
    return [replace(old, array=as_numbers(old), slack=old.slack) for old in olds]


def flat(tensors: Sequence[TensorInfo], blocks: Blocks) -> Iterator[slice] | None:
    """The stretches of a large tensor of which each number is computed by itself; None where it is looked at as a whole."""
    edits = [edit for block in blocks for edit in block]
    is_computed = any(
        isinstance(edit, (Cast, Scale)) for edit in edits
    )  # else it is copied, and its bytes are compared
    alone = all(isinstance(edit, (Cast, Scale, Rename)) for edit in edits)
    if len(tensors) != 1 or not is_computed or not alone or tensors[0].span is None:
        return None
    count = math.prod(tensors[0].shape)
    return (
        (slice(start, min(start + _NUMBERS, count)) for start in range(0, count, _NUMBERS))
        if count > _NUMBERS
        else None
    )


def stretch(info: TensorInfo, where: slice) -> TensorInfo:
    """Some of the numbers of a tensor that lies in one piece, as a tensor by itself."""
    width, first = DTYPE_BITS[info.dtype] // 8, info.span[0] if info.span is not None else 0
    span = (first + where.start * width, first + where.stop * width)
    return replace(info, shape=(where.stop - where.start,), span=span)


# ------------------------------------------------------------------------------------------------ numbers


def loaded(source: Readable, held: Held) -> Held:
    """With its bits in memory."""
    if held.source is None:
        return held
    return replace(held, array=bits(source, held.source).reshape(held.shape), source=None)


def bits(source: Readable, info: TensorInfo) -> Any:
    """The elements of a tensor of a file, as unsigned integers."""
    import numpy as np

    word = np.dtype(f"<u{DTYPE_BITS[info.dtype] // 8}")
    if info.span is not None:
        return np.frombuffer(source.read(info.file, info.span[0], info.span[1] - info.span[0]), word).reshape(
            info.shape
        )
    if info.view is None or 0 in info.shape:
        return np.zeros(info.shape, word)
    start, strides = info.view
    steps = [np.arange(size).reshape([-1 if at == axis else 1 for at in range(len(strides))]) * stride
             for axis, (size, stride) in enumerate(zip(info.shape, strides))]  # fmt: skip
    places = sum(steps[1:], steps[0])
    raw = source.read(info.file, start, (int(places.max()) + 1) * word.itemsize)
    return np.frombuffer(raw, word)[places]


def as_numbers(held: Held) -> Any:
    """In float64."""
    import numpy as np

    if not held.is_exact:
        return held.array
    array = np.ascontiguousarray(held.array)
    if held.dtype == "BF16":
        return np.ldexp(*_parts_of_bfloat16(array))
    with np.errstate(all="ignore"):  # a signalling NaN is one of the numbers to compare
        return array.view({"F64": "<f8", "F32": "<f4", "F16": "<f2"}[held.dtype]).astype(np.float64)


def _parts_of_bfloat16(array: Any) -> tuple[Any, Any]:
    """Significand and exponent of numbers with 1 bit for the sign, 8 for the exponent and 7 for the fraction."""
    import numpy as np

    exponent = (array >> 7).astype(np.int64) & 0xFF
    fraction = (array & 0x7F).astype(np.float64)
    sign = np.where(array >> 15, -1.0, 1.0)
    size = np.where(exponent == 0, fraction, fraction + 128.0)
    endless = np.where(fraction == 0, np.inf, np.nan)
    return sign * np.where(exponent == 0xFF, endless, size), np.where(
        exponent == 0xFF, 0, np.maximum(exponent, 1) - 134
    )


def equal(made: Held, written: Readable, info: TensorInfo) -> bool:
    """Whether a tensor that was written is the one made here: bit by bit, or as near as its roundings allow."""
    if info.dtype != made.dtype or tuple(info.shape) != tuple(made.shape):
        return False
    wanted = made.array.reshape(-1)
    if info.span is None:
        return _is_alike(made, bits(written, info).reshape(-1), wanted)
    pieces = (slice(start, min(start + _NUMBERS, len(wanted))) for start in range(0, len(wanted), _NUMBERS))
    return all(_is_alike(made, bits(written, stretch(info, piece)), wanted[piece]) for piece in pieces)


def _is_alike(made: Held, found: Any, wanted: Any) -> bool:
    return bool((found == wanted).all()) if made.is_exact else _is_near(made, found, wanted)


def _is_near(made: Held, found: Any, wanted: Any) -> bool:
    """Whether numbers that were written are within the roundings of those made here."""
    import numpy as np

    numbers = as_numbers(Held(made.dtype, found.shape, array=found))
    with np.errstate(all="ignore"):
        largest = {"F16": 65504.0, "BF16": 3.3895313892515355e38, "F32": 3.4028234663852886e38}.get(made.dtype, np.inf)
        near = np.abs(numbers - wanted) <= made.slack * np.abs(wanted) * (1 + 1e-9) + _ROUNDING[made.dtype][1]
        beyond = (
            np.isinf(numbers) & (np.abs(wanted) * (1 + made.slack) >= largest) & (np.sign(numbers) == np.sign(wanted))
        )
    return bool(np.all(near | beyond | (np.isnan(numbers) & np.isnan(wanted)) | (numbers == wanted)))
