"""GGUF, version 3: a table of typed keys, a table of tensors, the tensors at multiples of 32 bytes; all little-endian.

Source: the specification in ggml's `docs/gguf.md`. Shapes stand in reverse: the first number is the length of a row. Written and
read here is what an adapter needs: texts, numbers and lists as keys, tensors of plain floating-point numbers.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Union

from adapterfit import limits
from adapterfit.conversion.numbers import Tensor
from adapterfit.errors import BadInput, CannotConvert
from adapterfit.read.source import Source
from adapterfit.records import TensorInfo
from adapterfit.repair.staging import Output
from adapterfit.text import quote

MAGIC, _VERSION, _ALIGNMENT = b"GGUF", 3, 32
#: ggml's numbers for the types of plain tensors.
_TYPES = {"F32": 0, "F16": 1, "F64": 28, "BF16": 30}
_NAMES = {number: name for name, number in _TYPES.items()}
#: Kinds of values: number → struct format; 8 is a text, 9 a list.
_PLAIN = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TEXT, _LIST, _UINT32, _FLOAT32 = 8, 9, 4, 6

Value = Union[str, int, float]


@dataclass(frozen=True)
class GgufFile:
    """A GGUF file to be written: whole numbers become uint32, others float32."""

    name: str
    keys: Mapping[str, Value]
    tensors: Mapping[str, Tensor]

    def size(self) -> int:
        """Bytes it will have."""
        return len(self._head()) + sum(_padded(tensor.size) for tensor in self.tensors.values())

    def write(self, output: Output) -> None:
        """Write it; at most one tensor is held."""
        output.write(self._head())
        for tensor in self.tensors.values():
            output.write(tensor.bytes())
            output.zeros(_padded(tensor.size) - tensor.size)

    def _head(self) -> bytes:
        head = MAGIC + struct.pack("<IQQ", _VERSION, len(self.tensors), len(self.keys))
        for key, value in self.keys.items():
            head += _text(key) + _value(value)
        at = 0
        for name, tensor in self.tensors.items():
            if tensor.dtype not in _TYPES:
                raise CannotConvert(
                    f"{quote(name)} holds numbers of type {tensor.dtype}, which are not written as GGUF", (name,)
                )
            head += _text(name) + struct.pack("<I", len(tensor.shape))
            head += struct.pack(f"<{len(tensor.shape)}Q", *reversed(tensor.shape))
            head += struct.pack("<IQ", _TYPES[tensor.dtype], at)
            at += _padded(tensor.size)
        return head + bytes(_padded(len(head)) - len(head))


def _padded(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _value(value: Value) -> bytes:
    if isinstance(value, str):
        return struct.pack("<I", _TEXT) + _text(value)
    if isinstance(value, int):
        return struct.pack("<II", _UINT32, value)
    return struct.pack("<If", _FLOAT32, value)


# --------------------------------------------------------------------------------------------------- read


@dataclass(frozen=True)
class Contents:
    """What stands in a GGUF file. Lists of keys are left out: an adapter's are not asked for."""

    keys: Mapping[str, Any]
    tensors: tuple[TensorInfo, ...]


class _Reader:
    """The head of a file, read in order; nothing it says is believed before it is compared with the file's size."""

    def __init__(self, source: Source, name: str) -> None:
        self._source, self._name = source, name
        self._size = min(source.size(name), limits.HEADER_BYTES)
        self._data = source.read(name, 0, self._size)
        self.at = 0

    def take(self, form: str) -> Any:
        """One number."""
        end = self.at + struct.calcsize("<" + form)
        if end > self._size:
            raise self.bad("ends inside its head, or has a head that is too long to be read")
        (value,) = struct.unpack_from("<" + form, self._data, self.at)
        self.at = end
        return value

    def text(self) -> str:
        """A text behind its length."""
        length = self.take("Q")
        if length > limits.CONFIG_BYTES or self.at + length > self._size:
            raise self.bad("holds a text that is longer than what is left of it")
        self.at += length
        try:
            return self._data[self.at - length : self.at].decode()
        except UnicodeDecodeError:
            raise self.bad("holds a text that is not UTF-8") from None

    def value(self, kind: int) -> Any:
        """A value of some kind; None for a list."""
        if kind == _TEXT:
            return self.text()
        if kind == _LIST:
            inner, count = self.take("I"), self.take("Q")
            if inner == _LIST or count > limits.CONFIG_ITEMS:
                raise self.bad("holds a list that is too long, or one of lists")
            for _ in range(count):
                self.value(inner)
            return None
        if kind not in _PLAIN:
            raise self.bad(f"holds a value of the unknown kind {kind}")
        return self.take(_PLAIN[kind])

    def bad(self, what: str) -> CannotConvert:
        """The refusal of this file."""
        return CannotConvert(f"{quote(self._name)} {what}")


def read_gguf(source: Source, name: str) -> Contents:
    """The head of a GGUF file.

    Raises:
        CannotConvert: It is none of version 2 or 3, is damaged, or holds packed numbers.
    """
    reader = _Reader(source, name)
    if source.read(name, 0, 4) != MAGIC:
        raise reader.bad("is no GGUF file")
    reader.at = 4
    version, count, entries = reader.take("I"), reader.take("Q"), reader.take("Q")
    if version not in (2, 3):
        raise reader.bad(f"is GGUF of version {version}; 2 and 3 are read")
    if count > limits.TENSORS or entries > limits.CONFIG_ITEMS:
        raise reader.bad("says that it holds more than is read")
    keys: dict[str, Any] = {}
    for _ in range(entries):
        key = reader.text()
        if key in keys:
            raise reader.bad(f"names the key {quote(key)} twice")
        keys[key] = reader.value(reader.take("I"))
    infos = [_info(reader, name) for _ in range(count)]
    alignment = keys.get("general.alignment", _ALIGNMENT)
    if not isinstance(alignment, int) or not 0 < alignment <= limits.CONFIG_BYTES:
        raise reader.bad("has an odd alignment")
    start = -(-reader.at // alignment) * alignment
    placed = tuple(_placed(info, start, source, reader) for info in infos)
    if len({info.name for info in placed}) < len(placed):
        raise reader.bad("names a tensor twice")
    return Contents(keys, placed)


def _info(reader: _Reader, file: str) -> TensorInfo:
    name = reader.text()
    dims = reader.take("I")
    if dims > limits.DIMS:
        raise reader.bad(f"gives {quote(name)} {dims} dimensions")
    shape = tuple(reader.take("Q") for _ in range(dims))[::-1]
    kind, offset = reader.take("I"), reader.take("Q")
    if kind not in _NAMES:
        raise CannotConvert(f"{quote(name)} is quantised (ggml type {kind}): only plain numbers are converted", (name,))
    size = math.prod(shape) * {"F32": 4, "F16": 2, "F64": 8, "BF16": 2}[_NAMES[kind]]
    return TensorInfo(name, _NAMES[kind], shape, file, (offset, offset + size))


def _placed(info: TensorInfo, start: int, source: Source, reader: _Reader) -> TensorInfo:
    begin, end = info.span or (0, 0)
    if start + end > source.size(info.file):
        raise reader.bad(f"ends before the numbers of {quote(info.name)}")
    return TensorInfo(info.name, info.dtype, info.shape, info.file, (start + begin, start + end))


def is_gguf(source: Source, name: str) -> bool:
    """Whether a file starts as GGUF does."""
    try:
        return source.read(name, 0, 4) == MAGIC
    except BadInput:
        return False
