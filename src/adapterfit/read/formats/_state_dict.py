"""What a closed pickle described → the tensors of a state dict, checked against the storages that are there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from adapterfit import limits
from adapterfit.read.formats._closed_pickle import Refused, Storage, Table, Tensor, Value
from adapterfit.read.formats.safetensors import shape_text
from adapterfit.records import DTYPE_BITS, TensorInfo
from adapterfit.text import quote, shorten

_PLAIN = (str, int, float, bool, type(None))


class Held(NamedTuple):
    """A storage's bytes in the file."""

    start: int
    size: int


class Found(NamedTuple):
    """The tensors, and the keys of values that are no tensors."""

    tensors: tuple[TensorInfo, ...]
    others: tuple[str, ...]


def state_dict(root: Value, held: Mapping[str, Held], file: str) -> Found:
    """The tensors of a plain `dict[str, Tensor]`.

    Raises:
        Refused: It is something else, or a tensor does not lie in its storage.
    """
    if type(root) is not Table:
        raise Refused(
            "not-a-state-dict", f"holds {_what(root)} where a dict of tensors is due", raised="AttributeError"
        )
    names = [key for key, _ in root.items]
    if not all(type(name) is str for name in names):
        raise Refused("malformed", "holds a dict whose keys are not all text", "raises")
    if len(names) > limits.TENSORS:
        raise Refused("over-limit", f"has {len(names):,} tensors; at most {limits.TENSORS:,} are read (limits.TENSORS)")
    if len(set(names)) != len(names):
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise Refused("duplicate-name", f"holds the tensor {quote(twice)} more than once", "silent")
    _check_plain(root)
    others = tuple(name for name, value in root.items if type(value) is not Tensor)
    tensors = tuple(_info(name, value, held, file) for name, value in root.items if type(value) is Tensor)
    if others and not tensors:
        raise Refused("wrapped-state-dict", _wrapped(root), "warns")
    return Found(tensors, others)


def _what(root: Value) -> str:
    if type(root) is Tensor:
        return "a single tensor"
    return f"a list of {len(root)} values" if type(root) in (list, tuple) else f"a {type(root).__name__}"


def _wrapped(root: Table) -> str:
    inner = [(key, value) for key, value in root.items if type(value) is Table]
    for key, value in inner:
        count = sum(type(each) is Tensor for _, each in value.items)
        if count:
            return f"holds its {count:,} tensors one level down, under {quote(key)}; a plain dict of tensors is due"
    return f"holds no tensors, only {shorten(key for key, _ in root.items)}"


def _check_plain(root: Table) -> None:
    """Every value is a tensor, or built of dicts, lists, text and numbers; the dict does not hold itself."""
    for value in walk(root):
        if value is root:
            raise Refused("malformed", "holds a dict that holds itself")
        if type(value) not in (Table, Tensor, list, tuple, *_PLAIN):
            raise Refused("malformed", "holds a value that is neither tensor, dict, list, text nor number")


def walk(root: Value) -> Iterator[Value]:
    """Everything inside `root`, each container once (it may be shared a million times over)."""
    seen: set[int] = set()
    pending = _inside(root)
    while pending:
        value = pending.pop()
        yield value
        if value is not root and type(value) in (Table, list, tuple) and id(value) not in seen:
            seen.add(id(value))
            pending.extend(_inside(value))


def _inside(value: Value) -> list[Value]:
    if type(value) is Table:
        return [each for pair in value.items for each in pair]
    return list(value) if type(value) in (list, tuple) else []


# ------------------------------------------------------------------------------------------------ geometry


def _info(name: str, tensor: Tensor, held: Mapping[str, Held], file: str) -> TensorInfo:
    if len(name) > limits.NAME_CHARS:
        raise Refused(
            "over-limit", f"has a tensor name of {len(name):,} characters (limits.NAME_CHARS): {quote(name, 60)}"
        )
    if len(tensor.shape) > limits.DIMS:
        raise Refused("over-limit", f"gives the tensor {quote(name)} {len(tensor.shape):,} dimensions (limits.DIMS)")
    place = _place(name, tensor.storage, held)
    width = _width(tensor.dtype)
    count = _check_view(name, tensor, place.size // width)
    start = place.start + tensor.offset * width
    whole = _contiguous(tensor)
    span, view = ((start, start + count * width), None) if whole else (None, (start, tensor.strides))
    return TensorInfo(name, tensor.dtype, tensor.shape, file, span, view)


def _width(dtype: str) -> int:
    return 16 if dtype == "C128" else DTYPE_BITS[dtype] // 8


def storage_width(storage: Storage) -> int:
    """Bytes of one element; an untyped storage counts bytes."""
    return _width(storage.dtype) if storage.dtype else 1


def _place(name: str, storage: Storage, held: Mapping[str, Held]) -> Held:
    place = held.get(storage.key)
    if place is None:
        problem = f"points to a storage {quote(storage.key, 40)} for {quote(name)} that is not in the file"
        raise Refused("malformed", problem, raised="RuntimeError: PytorchStreamReader failed locating file")
    wanted = storage.length * storage_width(storage)
    if place.size != wanted:
        problem = f"holds {place.size:,} bytes for the storage of {quote(name)}, but says that it has {wanted:,}"
        raise Refused("size-mismatch", problem, raised="RuntimeError: record size")
    return place


def _check_view(name: str, tensor: Tensor, room: int) -> int:
    """The number of elements, once the view lies in its storage and shows no element twice."""
    shape, strides = tensor.shape, tensor.strides
    where = f"the tensor {quote(name)} the shape {shape_text(shape)} with strides {shape_text(strides)} from {tensor.offset:,}"
    if len(shape) != len(strides) or tensor.offset < 0 or min((*shape, *strides, 0)) < 0:
        raise Refused("bad-geometry", f"gives {where}", raised="RuntimeError")
    count = 1
    for size in shape:
        count *= size
    if count == 0:
        return 0
    steps = [(stride, size) for size, stride in zip(shape, strides) if size > 1]
    last = tensor.offset + sum((size - 1) * stride for stride, size in steps)
    if last >= room:
        raise Refused("bad-geometry", f"gives {where}, beyond its storage of {room:,} elements", raised="RuntimeError")
    if count > room or any(stride == 0 for stride, _ in steps):
        problem = f"gives {where}: {count:,} elements that share {room:,} places (an expanded view)"
        raise Refused("expanded-tensor", problem, "silent")
    return count


def _contiguous(tensor: Tensor) -> bool:
    step = 1
    for size, stride in zip(reversed(tensor.shape), reversed(tensor.strides)):
        if size == 0:
            return True
        if size != 1 and stride != step:
            return False
        step *= size
    return True
