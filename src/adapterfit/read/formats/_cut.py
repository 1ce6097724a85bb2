"""A torch file that is cut off: the tensors whose bytes lie before the cut, and the names of those that are lost.

Such a file is refused all the same, as every loader refuses it. A zip has lost its directory: what is left is followed from one
member to the next, and each must be as long as `data.pkl` says, and as the record behind it says.
"""

from __future__ import annotations

import dataclasses
import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from adapterfit import limits
from adapterfit.errors import BadInput
from adapterfit.read.formats import _zip
from adapterfit.read.formats._closed_pickle import Ended, Refused, Storage, Tensor, Value, read_pickle
from adapterfit.read.formats._flaws import refuse, refused
from adapterfit.read.formats._state_dict import Held, state_dict, storage_width, walk
from adapterfit.read.source import Source
from adapterfit.records import Flaw, TensorInfo, Weights

_PICKLE = "data.pkl"
_HEAD_BYTES = 30
#: Sizes follow the data.
_AFTERWARDS = 8
#: Members of torch's beside the pickle and the storages are a word or a number, and there are six of them.
_SMALL, _OTHERS = 256, 16
_WINDOW = 1 << 18


def storages(root: Value) -> dict[str, Storage]:
    """The storages that the tensors of a state dict lie in, by their keys."""
    return {value.storage.key: value.storage for value in (root, *walk(root)) if type(value) is Tensor}


def left_of(source: Source, name: str, form: str, flaw: Flaw, root: Value, held: Mapping[str, Held]) -> Weights:
    """The refused file, its tensors sorted into those in storages that are whole (`held`) and the others.

    Raises:
        Refused: The pickle is no plain state dict.
    """
    end = source.size(name)
    gone = {key: Held(end, one.length * storage_width(one)) for key, one in storages(root).items() if key not in held}
    tensors = state_dict(root, {**gone, **held}, name).tensors
    whole = tuple(tensor for tensor in tensors if _start(tensor) < end)
    lost = tuple(tensor.name for tensor in tensors if _start(tensor) >= end)
    return dataclasses.replace(refused(source, name, form, flaw), intact=whole, lost=lost)


def _start(tensor: TensorInfo) -> int:
    return tensor.span[0] if tensor.span is not None else tensor.view[0] if tensor.view is not None else 0


# ------------------------------------------------------------------------------------------------ zip


def left_of_zip(source: Source, name: str, flaw: Flaw) -> Weights:
    """What is left of a torch archive without its directory; nothing where it is not as torch writes it."""
    nothing = refused(source, name, "torch_zip", flaw)
    try:
        member, start = _head(source, name, 0)
        folder = member[: -len(_PICKLE)]
        if member != f"{folder}{_PICKLE}" or folder.find("/") != len(folder) - 1:
            return nothing
        root, data = _pickle(source, name, start)
        behind = _behind(source, name, start, len(data))
        if behind is None or behind.crc != zlib.crc32(data):
            return nothing
        held = dict(_held(source, name, folder, behind.end, storages(root)))
        return left_of(source, name, "torch_zip", flaw, root, held)
    except (BadInput, Refused):
        return nothing


def _pickle(source: Source, name: str, start: int) -> tuple[Value, bytes]:
    """What the pickle at `start` describes, and its bytes; reads more of the file only where it must."""
    left = source.size(name) - start
    window = min(left, _WINDOW)
    while True:
        data = source.read(name, start, window)
        try:
            root, length = read_pickle(data, 0, limits.LEGACY_OPCODES)
        except Ended:
            if window == min(left, limits.PICKLE_BYTES):
                raise
            window = min(left, window * 8, limits.PICKLE_BYTES)
        else:
            return root, data[:length]


def _held(
    source: Source, name: str, folder: str, position: int, told: Mapping[str, Storage]
) -> Iterator[tuple[str, Held]]:
    """The storages whose bytes are all there, by their keys: the members from `position` to the cut."""
    end = source.size(name)
    for _ in range(len(told) + _OTHERS):
        if position + _HEAD_BYTES >= end:
            return
        member, start = _head(source, name, position)
        key = member[len(folder) + len("data/") :] if member.startswith(f"{folder}data/") else ""
        size = told[key].length * storage_width(told[key]) if key in told else None
        if size is not None and start + size <= end:
            yield key, Held(start, size)
        behind = _behind(source, name, start, size)
        if behind is None:
            return
        if member == f"{folder}byteorder" and source.read(name, start, behind.size) != b"little":
            raise _odd(name)
        position = behind.end


class _Behind(NamedTuple):
    """What the record behind a member's data says, and where it ends."""

    size: int
    crc: int
    end: int


def _head(source: Source, name: str, position: int) -> tuple[str, int]:
    """The name of the member at `position`, and where its data start; it may be cut off in its name."""
    head = source.read(name, position, min(_HEAD_BYTES + _zip.NAME_BYTES, source.size(name) - position))
    if len(head) < _HEAD_BYTES or head[:4] != _zip.LOCAL:
        raise _odd(name)
    flags, method = struct.unpack("<HH", head[6:10])
    name_size, extra_size = struct.unpack("<HH", head[26:_HEAD_BYTES])
    if method or flags & ~_zip.FLAGS or not flags & _AFTERWARDS or any(head[14:26]):
        raise _odd(name)  # torch compresses nothing, and says sizes behind the data
    return _zip.sane(name, head[_HEAD_BYTES : _HEAD_BYTES + name_size]), position + _HEAD_BYTES + name_size + extra_size


def _behind(source: Source, name: str, start: int, size: int | None) -> _Behind | None:
    """The record behind data of `size` bytes, or of a few where that is None; None where the file ends before it does."""
    left = source.size(name) - start
    places = [size] if size is not None else range(_SMALL + 1)
    window = max(0, min(left, places[-1] + 24) - places[0])
    data = source.read(name, start + places[0], window) if window else b""
    for at, place in enumerate(places):
        for form in ("<QQ", "<II"):
            length = 8 + struct.calcsize(form)
            if data[at : at + 4] != _zip.DESCRIPTOR or at + length > len(data):
                continue
            if struct.unpack(form, data[at + 8 : at + length]) == (place, place):
                return _Behind(place, int.from_bytes(data[at + 4 : at + 8], "little"), start + place + length)
    if left >= places[-1] + 24:
        raise _odd(name)
    return None


def _odd(name: str) -> BadInput:
    return refuse("archive-ambiguous", name, "is not as torch writes it")
