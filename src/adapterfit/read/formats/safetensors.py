"""safetensors: eight bytes that say how long the JSON header is, the header, the data.

Stricter than the reference reader in four places, each of them in the specification: a name twice, an entry
that is no object, blanks before the header (only noted), and numbers of keys it would ignore.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

from adapterfit import limits
from adapterfit.errors import BadInput
from adapterfit.read import strictjson
from adapterfit.read.formats._flaws import header_says, note, refuse, refused
from adapterfit.read.source import Source
from adapterfit.records import DTYPE_BITS, Flaw, Shape, TensorInfo, Weights
from adapterfit.text import quote, shorten, show

_MAX = 2**64 - 1
#: What has been found hidden behind the tensors.
_TAILS = ((b"PK", " (a zip archive)"), (b"#!", " (a script)"), (b"\x80", " (a pickle)"), (b"\0\0\0\0", " (zeros)"))
_FIELDS = frozenset(("dtype", "shape", "data_offsets"))


class _Entry(NamedTuple):
    name: str
    dtype: str
    shape: Shape
    start: int
    end: int
    unknown: tuple[str, ...]


def claims(head: bytes, size: int) -> bool:
    """Whether it starts with a plausible length and a brace (a header longer than the file is a cut file)."""
    return size >= 8 and int.from_bytes(head[:8], "little") <= 1 << 32 and head[8:].lstrip(b" \t\r\n")[:1] == b"{"


def read(source: Source, name: str) -> Weights:
    """The header of one safetensors file; flaws instead of exceptions."""
    size = source.size(name)
    try:
        raw = _header_bytes(source, name, size)
        return _weights(source, name, raw, _parsed(name, raw))
    except BadInput as bad:
        return refused(source, name, "safetensors", bad.flaw)


def _parsed(name: str, raw: bytes) -> object:
    try:
        return strictjson.loads(raw, what=f"the header of {show(name)}", duplicates="keep")
    except BadInput as bad:
        problem = "invalid UTF-8 in header" if not _is_utf8(raw) else "invalid JSON in header"
        raise BadInput(replace(bad.flaw, where=name, raised=header_says(problem))) from None


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _header_bytes(source: Source, name: str, size: int) -> bytes:
    if size < 8:
        raise refuse(
            "truncated-file",
            name,
            "is empty (0 bytes)"
            if not size
            else f"has only {size} bytes: a safetensors file starts with 8 and a header",
            raised=header_says("header too small"),
            remedy="download or save it again",
        )
    length = int.from_bytes(source.read(name, 0, 8), "little")
    if length > _MAX // 4 or (length > 100_000_000 and length > size):
        raise refuse(
            "header-too-large",
            name,
            f"is no safetensors file: its first 8 bytes would mean a header of {length:,} bytes",
            raised=header_says("header too large"),
        )
    if length > size - 8:
        raise refuse(
            "truncated-file",
            name,
            f"is cut off inside its header: it has {size:,} of at least {length + 8:,} bytes",
            raised=header_says("invalid header length"),
            remedy="download it again",
        )
    if length > limits.HEADER_BYTES:
        raise refuse(
            "over-limit",
            name,
            f"has a header of {length:,} bytes; at most {limits.HEADER_BYTES:,} are read (limits.HEADER_BYTES)",
            predicted="none" if length <= 100_000_000 else "raises",
        )
    return source.read(name, 8, length)


def _weights(source: Source, name: str, raw: bytes, header: object) -> Weights:
    if not isinstance(header, strictjson.Pairs):
        raise refuse(
            "header-not-json", name, "has a header that is no JSON object", raised=header_says("invalid JSON in header")
        )
    _unique(name, header)
    metadata, flaws = _metadata(name, header.get("__metadata__"), "__metadata__" in header)
    names = [key for key in header if key != "__metadata__"]
    if len(names) > limits.TENSORS:
        raise refuse(
            "over-limit", name, f"has {len(names):,} tensors; at most {limits.TENSORS:,} are read (limits.TENSORS)"
        )
    entries = [_entry(name, key, header[key]) for key in names]
    size, base = source.size(name), 8 + len(raw)
    try:
        end = base + _layout(name, entries, size - base)
    except BadInput as bad:
        if bad.flaw.code != "truncated-file":
            raise
        return _cut_off(refused(source, name, "safetensors", bad.flaw), entries, base, metadata)
    if end < size:
        raise _tail(source, name, end)
    flaws += _remarks(name, raw, entries)
    tensors = tuple(_info(entry, name, base) for entry in entries)
    return Weights(file=name, format="safetensors", size=size, tensors=tensors, metadata=metadata, flaws=tuple(flaws))


def _cut_off(found: Weights, entries: list[_Entry], base: int, metadata: dict[str, str]) -> Weights:
    """The refused file with what lies before its cut."""
    whole = tuple(_info(e, found.file, base) for e in entries if base + e.end <= found.size)
    lost = tuple(e.name for e in entries if base + e.end > found.size)
    return replace(found, metadata=metadata, intact=whole, lost=lost)


def _info(entry: _Entry, file: str, base: int) -> TensorInfo:
    return TensorInfo(entry.name, entry.dtype, entry.shape, file, (base + entry.start, base + entry.end))


# ------------------------------------------------------------------------------------------------ header


def _unique(name: str, header: strictjson.Pairs) -> None:
    for key, values in header.twice:
        if key == "__metadata__":
            raised = header_says("invalid JSON in header: duplicate field")
            raise refuse("duplicate-name", name, "has its metadata twice", raised=raised)
        shapes = [value.get("shape") if isinstance(value, dict) else value for value in values]
        silent = _same_range(values)
        raise refuse(
            "duplicate-name",
            name,
            f"holds the tensor {quote(key)} {len(values)} times, with the shapes {shorten(map(str, shapes))}",
            found=show(key),
            predicted="silent" if silent else "raises",
            raised="" if silent else header_says("").strip(),
        )


def _same_range(values: tuple[Any, ...]) -> bool:
    """One range under one name twice: safetensors takes the last and says nothing."""
    ranges = [value.get("data_offsets") if isinstance(value, dict) else None for value in values]
    return all(each == ranges[0] for each in ranges)


def _metadata(name: str, value: object, present: bool) -> tuple[dict[str, str], list[Flaw]]:
    if value is None:
        flaw = note("metadata-not-strings", name, "has null as its __metadata__", severity="note", predicted="none")
        return {}, [flaw] if present else []
    if isinstance(value, dict) and set(value) >= _FIELDS:
        raise refuse(
            "reserved-name",
            name,
            'holds a tensor called "__metadata__", a name that safetensors keeps for itself and cannot read back',
            raised=header_says("invalid JSON in header"),
            remedy="save it again with another name for that tensor",
        )
    if not isinstance(value, strictjson.Pairs) or not all(isinstance(each, str) for each in value.values()):
        raise refuse(
            "metadata-not-strings",
            name,
            "has a __metadata__ that is no table of strings",
            raised=header_says("invalid JSON in header: invalid type"),
        )
    twice = [note("duplicate-name", name, f"has the metadata key {quote(key)} twice") for key, _ in value.twice]
    return dict(value), twice[:1]


def _entry(name: str, key: str, info: object) -> _Entry:
    if len(key) > limits.NAME_CHARS:
        raise refuse(
            "over-limit", name, f"has a tensor name of {len(key):,} characters (limits.NAME_CHARS): {quote(key, 60)}"
        )
    if not isinstance(info, strictjson.Pairs):
        silent = isinstance(info, list) and len(info) == 3
        raise refuse(
            "tensor-info-not-object",
            name,
            f"describes the tensor {quote(key)} by {_json_kind(info)} instead of an object",
            predicted="silent" if silent else "raises",
        )
    if info.twice:
        problem = f"gives {quote(info.twice[0][0])} of the tensor {quote(key)} twice"
        raise refuse("duplicate-name", name, problem, raised=header_says("invalid JSON in header: duplicate field"))
    dtype = _dtype(name, key, info.get("dtype"))
    shape = _shape(name, key, info.get("shape"))
    start, end = _offsets(name, key, info.get("data_offsets"))
    _size(name, key, dtype, shape, end - start)
    return _Entry(key, dtype, shape, start, end, tuple(field for field in info if field not in _FIELDS))


def _json_kind(value: object) -> str:
    kinds = {list: "a list", str: "a string", int: "a number", float: "a number", bool: "a truth value"}
    return kinds.get(type(value), "null")


def _dtype(name: str, key: str, dtype: object) -> str:
    if isinstance(dtype, str) and dtype in DTYPE_BITS:
        return dtype
    newer = isinstance(dtype, str) and dtype[:1] in "BFIUC" and dtype[1:2].isdigit() and dtype.isupper()
    hint = " (perhaps newer than this version knows)" if newer else ""
    what = (
        "no data type" if dtype is None else f"the data type {quote(dtype, 60)}, which safetensors does not have{hint}"
    )
    raise refuse(
        "unknown-dtype",
        name,
        f"gives the tensor {quote(key)} {what}",
        raised=header_says("invalid JSON in header" + (": unknown variant" if isinstance(dtype, str) else "")),
    )


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= _MAX


def _shape(name: str, key: str, shape: object) -> Shape:
    if not isinstance(shape, list) or not all(map(_is_count, shape)):
        raise refuse(
            "bad-geometry",
            name,
            f"gives the tensor {quote(key)} a shape that is no list of sizes: {quote(shape, 60)}",
            raised=header_says("invalid JSON in header"),
        )
    if len(shape) > limits.DIMS:
        raise refuse(
            "over-limit",
            name,
            f"gives the tensor {quote(key)} {len(shape):,} dimensions (limits.DIMS)",
            predicted="none",
        )
    return tuple(shape)


def _offsets(name: str, key: str, offsets: object) -> tuple[int, int]:
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(_is_count, offsets)):
        raise refuse(
            "bad-geometry",
            name,
            f"gives the tensor {quote(key)} data_offsets that are no pair of positions: {quote(offsets, 60)}",
            raised=header_says("invalid JSON in header"),
        )
    start, end = offsets
    if start > end:
        raise refuse(
            "bad-geometry",
            name,
            f"lets the data of {quote(key)} end ({end:,}) before they start ({start:,})",
            raised=header_says(f"invalid offset for tensor `{show(key)}`"),
        )
    return start, end


def _size(name: str, key: str, dtype: str, shape: Shape, held: int) -> None:
    count = 1
    for size in shape:  # multiplied in file order, as the reference does: an overflow before a zero is one
        count *= size
        if count > _MAX:
            break
    bits = count * DTYPE_BITS[dtype]
    if bits > _MAX:
        raise refuse(
            "shape-overflow",
            name,
            f"gives the tensor {quote(key)} the impossible shape {shape_text(shape)}",
            raised=header_says("overflow computing buffer size from shape and/or element type"),
        )
    if bits % 8:
        raise refuse(
            "misaligned",
            name,
            f"has the tensor {quote(key)} of {bits} bits of {dtype}, which is no whole number of bytes",
            raised=header_says("The slice is slicing for subbytes dtypes"),
        )
    if bits // 8 != held:
        raise refuse(
            "size-mismatch",
            name,
            f"holds {held:,} bytes for the tensor {quote(key)}, but {dtype} {shape_text(shape)} needs {bits // 8:,}",
            raised=header_says("invalid shape, data type, or offset for tensor"),
        )


def shape_text(shape: Shape) -> str:
    """A shape, cut where it is long."""
    return show(list(shape), 60)


# ------------------------------------------------------------------------------------------------ layout


def _layout(name: str, entries: list[_Entry], room: int) -> int:
    """Where the last tensor ends: every byte before belongs to exactly one, none lies outside the file."""
    position = 0
    before = None
    for entry in sorted(entries, key=lambda entry: (entry.start, entry.end)):
        if entry.start != position:
            raise _hole(name, before, entry, position)
        position = entry.end
        before = entry
    if position > room:
        missing = position - room
        raise refuse(
            "truncated-file",
            name,
            f"is cut off: the download stopped {missing:,} bytes before the end, at {room:,} of {position:,} bytes of data",
            found=str(room),
            expected=str(position),
            raised=header_says("incomplete metadata, file not fully covered"),
            remedy="download it again",
        )
    return position


def _tail(source: Source, name: str, end: int) -> BadInput:
    left = source.size(name) - end
    head = source.read(name, end, min(left, 4))
    kind = next((kind for mark, kind in _TAILS if head.startswith(mark)), "")
    return refuse(
        "bytes-unowned",
        name,
        f"has {left:,} bytes after its last tensor that belong to none{kind}",
        raised=header_says("incomplete metadata, file not fully covered"),
    )


def _hole(name: str, before: _Entry | None, entry: _Entry, position: int) -> BadInput:
    # Of two tensors on the very same range the library names the one or the other, as its table happens to be ordered.
    either = before is not None and (before.start, before.end) == (entry.start, entry.end)
    raised = header_says("invalid offset for tensor" if either else f"invalid offset for tensor `{show(entry.name)}`")
    if before is not None and entry.start < position:
        problem = f"lets {quote(before.name)} and {quote(entry.name)} share bytes"
        return refuse("bytes-shared", name, problem, raised=raised)
    problem = f"has {entry.start - position:,} bytes before {quote(entry.name)} that belong to no tensor"
    return refuse("bytes-unowned", name, problem, raised=raised)


# ------------------------------------------------------------------------------------------------ remarks


def _remarks(name: str, raw: bytes, entries: list[_Entry]) -> list[Flaw]:
    flaws = []
    if raw[:1] != b"{":
        flaws.append(
            note("header-starts-with-blank", name, "has blanks before its header", severity="note", predicted="none")
        )
    unknown = sorted({field for entry in entries for field in entry.unknown})
    if unknown:
        flaws.append(
            note(
                "unknown-field", name, f"has fields that safetensors does not know: {shorten(unknown)}", severity="note"
            )
        )
    huge = [entry.name for entry in entries if 0 in entry.shape and max(entry.shape) > 1 << 32]
    if huge:
        flaws.append(note("zero-size-tensor", name, f"has empty tensors with absurd sizes: {shorten(huge)}"))
    return flaws
