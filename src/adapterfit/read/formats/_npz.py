"""The arrays of an npz: stored members, each with a header that is a Python dict of one fixed form."""

from __future__ import annotations

import re

from adapterfit import limits
from adapterfit.errors import BadInput
from adapterfit.read.formats._flaws import refuse, refused
from adapterfit.read.formats._zip import Member, read_directory, read_members
from adapterfit.read.formats.safetensors import shape_text
from adapterfit.read.source import Source
from adapterfit.records import TensorInfo, Weights
from adapterfit.text import quote, show

_MAGIC = b"\x93NUMPY"
_HEADER_BYTES = 4096
_HEADER = re.compile(
    r"\{'descr': '([<>|=]?[A-Za-z?]\d{0,3})', 'fortran_order': (True|False), 'shape': \(((?:\d{1,20}(?:, ?|,?(?=\))))*)\),? ?\} *\n?",
)
#: numpy's letters in safetensors' spelling; `V2` is how MLX writes bfloat16.
_DTYPES = {
    "f8": "F64", "f4": "F32", "f2": "F16", "i8": "I64", "i4": "I32", "i2": "I16", "i1": "I8", "u8": "U64", "u4": "U32",
    "u2": "U16", "u1": "U8", "b1": "BOOL", "?": "BOOL", "c8": "C64", "c16": "C128", "V2": "BF16",
}  # fmt: skip


def read_npz(source: Source, name: str) -> Weights:
    """All arrays; flaws instead of exceptions."""
    try:
        directory = read_directory(source, name)
        members = read_members(source, name, directory)
        if len(members) > limits.TENSORS:
            raise refuse("over-limit", name, f"has {len(members):,} arrays (limits.TENSORS)")
        tensors = tuple(_array(source, name, member) for member in members.values())
    except BadInput as bad:
        return refused(source, name, "npz", bad.flaw)
    return Weights(file=name, format="npz", size=source.size(name), tensors=tensors, flaws=directory.flaws)


def _array(source: Source, name: str, member: Member) -> TensorInfo:
    shown = quote(member.name, 60)
    if not member.name.endswith(".npy"):
        raise refuse("malformed", name, f"has the member {shown} among its arrays, which is none")
    head = source.read(name, member.start, min(member.size, _HEADER_BYTES))
    text, skip = _header_text(name, shown, head)
    match = _HEADER.fullmatch(text)
    if match is None:
        raise refuse("malformed", name, f"describes the array {shown} in an unusual way: {quote(text, 100)}")
    kind, fortran, sizes = match.groups()
    if kind.endswith("O") or kind[:2] == "|O":
        raise refuse(
            "pickle-not-plain", name, f"has the array {shown} of Python objects, which is a pickle; it was not loaded"
        )
    shape = tuple(int(size) for size in sizes.replace(" ", "").split(",") if size)
    if len(shape) > limits.DIMS:
        raise refuse("over-limit", name, f"gives the array {shown} {len(shape):,} dimensions (limits.DIMS)")
    dtype, width = _dtype(name, shown, kind)
    count = 1
    for size in shape:
        count *= size
    if count * width != member.size - skip:
        needs = f"{dtype} {shape_text(shape)} needs {count * width:,}"
        raise refuse("size-mismatch", name, f"holds {member.size - skip:,} bytes for the array {shown}, but {needs}")
    span = (member.start + skip, member.start + member.size)
    flat = fortran == "False" or len([size for size in shape if size > 1]) < 2
    return TensorInfo(member.name[:-4], dtype, shape, name, span if flat else None)


def _header_text(name: str, shown: str, head: bytes) -> tuple[str, int]:
    """The header's text, and how many bytes come before the data."""
    wide = head[6:7] in (b"\x02", b"\x03")
    start = 12 if wide else 10
    length = int.from_bytes(head[8:start], "little")
    if head[:6] != _MAGIC or head[6:7] not in (b"\x01", b"\x02", b"\x03") or start + length > len(head):
        raise refuse("malformed", name, f"has the member {shown}, which is no array of numpy's")
    return head[start : start + length].decode("latin-1"), start + length


def _dtype(name: str, shown: str, kind: str) -> tuple[str, int]:
    letters = kind.lstrip("<|=>")
    dtype = _DTYPES.get(letters)
    if dtype is None or (kind[0] == ">" and letters not in ("i1", "u1", "b1", "?")):
        raise refuse(
            "unknown-dtype", name, f"gives the array {shown} the data type {show(kind)!r}, which is not supported"
        )
    return dtype, 1 if letters == "?" else int(letters[1:])
