"""Weight files written by hand, good ones and bad ones: no torch, no safetensors, no binaries in the repository.

A member of a header, an archive or a pickle can be given lies. Everything is pure: arguments in, bytes out.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Sequence
from typing import Any

ST = "adapter_model.safetensors"
BIN = "adapter_model.bin"

# ------------------------------------------------------------------------------------------------ safetensors


def entry(dtype: str, shape: Any, offsets: Any, **more: Any) -> dict[str, Any]:
    """An entry of a safetensors header."""
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets, **more}


def st(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    """A file with this header (bytes as they are, anything else as JSON) and a length that may lie."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def pairs(*items: tuple[str, Any]) -> bytes:
    """A JSON object whose keys may repeat."""
    return b"{" + b",".join(json.dumps(key).encode() + b":" + json.dumps(value).encode() for key, value in items) + b"}"


def bytes_of(count: int) -> bytes:
    """Bytes that are not all alike."""
    return bytes(i % 251 for i in range(count))


#: One good tensor of 16 bytes.
ONE = entry("F32", [2, 2], [0, 16])
GOOD_ST = st({"__metadata__": {"format": "pt"}, "a": ONE, "b": entry("F16", [4], [16, 24])}, bytes_of(24))

# ------------------------------------------------------------------------------------------------ pickles


def text(value: str) -> bytes:
    """A text, as an instruction."""
    raw = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(raw)) + raw


def number(value: int) -> bytes:
    """A whole number, as the shortest instruction for it."""
    if 0 <= value < 256:
        return b"K" + bytes([value])
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def name(module: str, attribute: str) -> bytes:
    """The instruction that names a class or function."""
    return b"c" + f"{module}\n{attribute}\n".encode()


def tup(*items: bytes) -> bytes:
    """A tuple of values."""
    return b"(" + b"".join(items) + b"t"


def numbers(values: Sequence[int]) -> bytes:
    """A tuple of whole numbers."""
    return tup(*map(number, values))


def call(function: bytes, *arguments: bytes) -> bytes:
    """A call of a function with values."""
    return function + tup(*arguments) + b"R"


def storage(key: str, count: int, kind: str = "FloatStorage", *more: bytes) -> bytes:
    """A storage, as torch refers to it."""
    return tup(text("storage"), name("torch", kind), text(key), text("cpu"), number(count), *more) + b"Q"


def tensor(
    shape: Sequence[int] = (2, 2), strides: Sequence[int] = (2, 1), offset: int = 0, where: bytes | None = None
) -> bytes:
    """A tensor on a storage; by default a good one of four numbers."""
    hooks = call(name("collections", "OrderedDict"))
    place = storage("0", 4) if where is None else where
    return call(
        name("torch._utils", "_rebuild_tensor_v2"),
        place,
        number(offset),
        numbers(shape),
        numbers(strides),
        b"\x89",
        hooks,
    )


def table(*items: tuple[bytes, bytes]) -> bytes:
    """A dict of key and value."""
    return b"}(" + b"".join(key + value for key, value in items) + b"u"


def pickled(body: bytes, proto: int = 2) -> bytes:
    """A whole pickle around a value."""
    return b"\x80" + bytes([proto]) + body + b"."


def of(value: bytes) -> bytes:
    """The pickle of a dict with one tensor `a` whose value is `value`."""
    return pickled(table((text("a"), value)))


# ------------------------------------------------------------------------------------------------ zips


class Member:
    """A zip member and everything about it that can lie."""

    def __init__(self, name: str | bytes, data: bytes = b"", **lies: Any) -> None:
        self.name = name if isinstance(name, bytes) else name.encode()
        self.data, self.lies = data, lies

    def get(self, field: str, default: Any) -> Any:
        """What the headers are to say about a field."""
        return self.lies.get(field, default)


def torch_zip(body: bytes, storages: Sequence[bytes] = (bytes(16),), **more: bytes) -> list[Member]:
    """The members `torch.save` writes."""
    extras = {"byteorder": b"little", "version": b"3\n", **more}
    members = [Member("archive/data.pkl", body)]
    members += [Member(f"archive/data/{i}", data) for i, data in enumerate(storages)]
    return members + [Member(f"archive/{each}", data) for each, data in extras.items()]


def packed(data: bytes) -> bytes:
    """Deflated, as zip does it."""
    squeezer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return squeezer.compress(data) + squeezer.flush()


def zipped(members: Sequence[Member], comment: bytes = b"", before_directory: bytes = b"") -> bytes:
    """A zip written by hand: whatever a member's `lies` say goes into its headers instead of the truth."""
    out, central = bytearray(), bytearray()
    for member in members:
        data = packed(member.data) if member.get("method", 0) == 8 else member.data
        crc = member.get("crc", zlib.crc32(member.data))
        flags, method = member.get("flags", 0), member.get("method", 0)
        offset = member.get("offset", len(out))
        local_name = member.get("local_name", member.name)
        sizes = (crc, member.get("packed", len(data)), member.get("size", len(member.data)))
        local = (crc, *member.get("local_sizes", sizes[1:]))
        out += b"PK\x03\x04" + struct.pack("<HHHHH", 20, flags, method, 0, 0) + struct.pack("<III", *local)
        out += struct.pack("<HH", len(local_name), 0) + local_name + data
        central += b"PK\x01\x02" + struct.pack("<HHHHHH", 20, 20, flags, method, 0, 0) + struct.pack("<III", *sizes)
        central += struct.pack("<HHHHHII", len(member.name), 0, 0, 0, 0, 0, offset) + member.name
    out += before_directory
    start = len(out)
    count = len(members)
    end = (
        b"PK\x05\x06"
        + struct.pack("<HHHHIIH", 0, 0, count & 0xFFFF, count & 0xFFFF, len(central), start, len(comment))
        + comment
    )
    return bytes(out + central) + end


GOOD_BIN = zipped(torch_zip(of(tensor())))

# ------------------------------------------------------------------------------------------------ stacked pickles

MAGIC = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19\x2e"


def legacy(body: bytes, keys: Sequence[str] = ("0",), data: bytes | None = None) -> bytes:
    """What `torch.save` wrote before 1.6."""
    system = table((text("protocol_version"), number(1001)), (text("little_endian"), b"\x88"))
    listed = b"](" + b"".join(map(text, keys)) + b"e"
    stored = struct.pack("<q", 4) + bytes(16) if data is None else data
    return MAGIC + pickled(number(1001)) + pickled(system) + body + pickled(listed) + stored


GOOD_LEGACY = legacy(of(tensor(where=storage("0", 4, "FloatStorage", b"N"))))


def npy(shape: str = "(2, 2)", descr: str = "<f4", data: bytes = bytes(16), fortran: bool = False) -> bytes:
    """An array of numpy's."""
    head = f"{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}".encode()
    head += b" " * (-(len(head) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + data


GOOD_NPZ = zipped([Member("a.npy", npy()), Member("b.npy", npy("(3,)", "<f2", bytes(6)))])
