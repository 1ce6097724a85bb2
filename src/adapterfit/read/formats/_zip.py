"""A zip's central directory, read by one narrow law; `zipfile` is too forgiving to decide anything.

Accepted: local headers from byte 0, members side by side without gaps or overlaps, stored, not encrypted,
unique sane names, the same name, size and checksum in both headers, one end record at the end.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from adapterfit import limits
from adapterfit.errors import BadInput
from adapterfit.read.formats._flaws import note, refuse
from adapterfit.read.source import Source
from adapterfit.records import Flaw
from adapterfit.text import quote

LOCAL = b"PK\x03\x04"
_CENTRAL = b"PK\x01\x02"
_END = b"PK\x05\x06"
_END64 = b"PK\x06\x06"
_LOCATOR64 = b"PK\x06\x07"
DESCRIPTOR = b"PK\x07\x08"
_END_BYTES = 22
_LOCATOR_BYTES = 20
_END64_BYTES = 56
NAME_BYTES = 1_000
#: torch looks for the directory from the end backwards, in steps of 4,093 bytes up to 64 KiB; in a file of such a size the last step
#: would lead before its beginning, and fails. Measured with torch 2.13.
_STEPS = range(4_097, 4_096 + 16 * 4_093)
_STEPPED_BEFORE = "OSError: [Errno 22] Invalid argument"
_NOT_FOUND = "RuntimeError: PytorchStreamReader failed reading zip archive: failed finding central directory"
#: Flags a member may carry: 3 sizes in a record after the data, 11 UTF-8 names, 1 and 2 hints of compressors.
FLAGS = 0x0808 | 0x0006
_SENTINEL32 = 0xFFFFFFFF


class Member(NamedTuple):
    """One stored member: `start` and `size` of its data in the file."""

    name: str
    start: int
    size: int
    crc: int


class _Record(NamedTuple):
    raw: bytes
    name: str
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    offset: int


class Directory(NamedTuple):
    """The directory's entries in file order, where it starts, and what was odd but harmless."""

    records: tuple[_Record, ...]
    start: int
    flaws: tuple[Flaw, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The members' names; each is a plain relative path, and none occurs twice."""
        return tuple(record.name for record in self.records)


def read_directory(source: Source, name: str) -> Directory:
    """What the archive says it holds.

    Raises:
        BadInput: The directory bends the law above.
    """
    start, size, count, end = _directory(source, name)
    records = tuple(sorted(_records(name, source.read(name, start, size), count), key=lambda record: record.offset))
    seen: set[str] = set()
    for record in records:
        if record.name in seen:
            raise refuse("archive-ambiguous", name, f"holds the member {quote(record.name)} twice")
        seen.add(record.name)
    left = source.size(name) - end
    tail = note("bytes-unowned", name, f"has {left:,} bytes after the end of its zip archive; torch passes over them")
    return Directory(records, start, (tail,) if left else ())


def read_members(source: Source, name: str, directory: Directory) -> dict[str, Member]:
    """Where each member's bytes lie.

    Raises:
        BadInput: A member bends the law above.
    """
    members: dict[str, Member] = {}
    position = 0
    for record in directory.records:
        if record.offset != position:
            raise _gap(name, record, position)
        member, position = _member(source, name, record, directory.start)
        members[member.name] = member
    if position != directory.start:
        raise refuse("archive-ambiguous", name, "has bytes between its members and its directory that belong to none")
    return members


def checksum(source: Source, name: str, member: Member) -> tuple[bytes, bool]:
    """The member's bytes, and whether their CRC is the one the archive gives."""
    import zlib

    data = source.read(name, member.start, member.size)
    return data, zlib.crc32(data) == member.crc


# ------------------------------------------------------------------------------------------------ directory


def _directory(source: Source, name: str) -> tuple[int, int, int, int]:
    """Where the directory starts, its bytes and entries, and where the archive ends."""
    size = source.size(name)
    tail_size = min(size, (1 << 16) + _END_BYTES)
    tail = source.read(name, size - tail_size, tail_size)
    at = _end_record(name, tail, size)
    end = size - tail_size + at
    disk, disk_of, here, count, length, start, comment = struct.unpack("<HHHHIIH", tail[at + 4 : at + _END_BYTES])
    if comment or disk or disk_of or here != count:
        raise refuse("archive-ambiguous", name, "ends with a comment or in several volumes, which torch never writes")
    last = end
    if at >= _LOCATOR_BYTES and tail[at - _LOCATOR_BYTES : at - _LOCATOR_BYTES + 4] == _LOCATOR64:
        wide, last = _end64(source, name, end)
        for short, full, sentinel in zip((count, length, start), wide, (0xFFFF, _SENTINEL32, _SENTINEL32)):
            if short not in (full, sentinel):
                raise refuse("archive-ambiguous", name, "has two end records that contradict each other")
        count, length, start = wide
    if start + length != last:
        raise refuse("archive-ambiguous", name, "has a directory that does not end where its end record begins")
    if count > limits.ZIP_MEMBERS:
        raise refuse(
            "over-limit", name, f"has {count:,} members; at most {limits.ZIP_MEMBERS:,} are read (limits.ZIP_MEMBERS)"
        )
    if length > limits.ZIP_DIRECTORY_BYTES:
        raise refuse("over-limit", name, f"has a directory of {length:,} bytes (limits.ZIP_DIRECTORY_BYTES)")
    return start, length, count, end + _END_BYTES


def _end_record(name: str, tail: bytes, size: int) -> int:
    at = tail.rfind(_END)
    if at < 0 or at + _END_BYTES > len(tail):
        raise refuse(
            "truncated-file",
            name,
            f"is a zip archive without its end: the download stopped at {size:,} bytes",
            raised=_STEPPED_BEFORE if size in _STEPS else _NOT_FOUND,
            remedy="download it again",
        )
    if at + _END_BYTES != len(tail) and tail.find(_END) != at:
        raise refuse("archive-ambiguous", name, "has more than one end record")
    return at


def _end64(source: Source, name: str, end: int) -> tuple[tuple[int, int, int], int]:
    at = end - _LOCATOR_BYTES - _END64_BYTES
    locator = source.read(name, end - _LOCATOR_BYTES, _LOCATOR_BYTES)
    disk, offset, disks = struct.unpack("<IQI", locator[4:])
    record = source.read(name, at, _END64_BYTES) if at >= 0 else b""
    if offset != at or disk or disks != 1 or record[:4] != _END64:
        raise refuse("archive-ambiguous", name, "has a zip64 end record in an unusual place")
    rest, _, _, disk, disk_of, here, count, length, start = struct.unpack("<QHHIIQQQQ", record[4:])
    if rest != _END64_BYTES - 12 or disk or disk_of or here != count:
        raise refuse("archive-ambiguous", name, "has an unusual zip64 end record")
    return (count, length, start), at


def _records(name: str, data: bytes, count: int) -> Iterator[_Record]:
    position = 0
    for _ in range(count):
        head = data[position : position + 46]
        if len(head) < 46 or head[:4] != _CENTRAL:
            raise refuse("archive-ambiguous", name, "has a directory that does not hold the entries it promises")
        flags, method = struct.unpack("<HH", head[8:12])
        crc, packed, size, name_size, extra_size, comment_size, disk = struct.unpack("<IIIHHHH", head[16:36])
        offset = struct.unpack("<I", head[42:46])[0]
        raw = data[position + 46 : position + 46 + name_size]
        extra = data[position + 46 + name_size : position + 46 + name_size + extra_size]
        position += 46 + name_size + extra_size + comment_size
        if disk or position > len(data):
            raise refuse("archive-ambiguous", name, "has a directory that does not hold the entries it promises")
        size, packed, offset = _widened(name, extra, size, packed, offset)
        yield _Record(raw, sane(name, raw), flags, method, crc, packed, size, offset)
    if position != len(data):
        raise refuse("archive-ambiguous", name, "has more in its directory than the entries it promises")


def _widened(name: str, extra: bytes, *fields: int) -> tuple[int, ...]:
    """Sizes and offset with those of the zip64 field in place of each sentinel."""
    if _SENTINEL32 not in fields:
        return fields
    position, wide = 0, b""
    while position + 4 <= len(extra):
        kind, length = struct.unpack("<HH", extra[position : position + 4])
        if kind == 1:
            wide = extra[position + 4 : position + 4 + length]
            break
        position += 4 + length
    needed = sum(field == _SENTINEL32 for field in fields)
    if len(wide) < 8 * needed:
        raise refuse("archive-ambiguous", name, "has a member without its zip64 sizes")
    values = iter(struct.unpack(f"<{needed}Q", wide[: 8 * needed]))
    return tuple(next(values) if field == _SENTINEL32 else field for field in fields)


def sane(name: str, raw: bytes) -> str:
    """A member's name as text.

    Raises:
        BadInput: It is no plain relative path.
    """
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = ""
    parts = text.split("/")
    if (
        not text
        or len(raw) > NAME_BYTES
        or "\0" in text
        or "\\" in text
        or ".." in parts
        or not parts[0]
        or ":" in parts[0]
    ):
        raise refuse(
            "archive-ambiguous", name, f"has a member with the unsafe name {quote(raw[:60].decode('utf-8', 'replace'))}"
        )
    return text


# ------------------------------------------------------------------------------------------------ members


def _member(source: Source, name: str, record: _Record, stop: int) -> tuple[Member, int]:
    """The member, and where what follows it begins."""
    shown = quote(record.name, 60)
    if record.flags & ~FLAGS:
        raise refuse(
            "archive-ambiguous", name, f"has the member {shown} encrypted or with unusual flags (0x{record.flags:x})"
        )
    if record.method or record.packed != record.size:
        raise refuse(
            "compressed-member",
            name,
            f"has the member {shown} compressed ({record.packed:,} → {record.size:,} bytes); torch stores members as they are",
            predicted="silent" if record.method == 8 else "none",
        )
    if record.offset + 30 > stop:
        raise refuse("archive-ambiguous", name, f"has no room for the member {shown}")
    head = source.read(name, record.offset, min(30 + len(record.raw), stop - record.offset))
    name_size, extra_size = struct.unpack("<HH", head[26:30])
    if head[:4] != LOCAL or head[30 : 30 + name_size] != record.raw or name_size != len(record.raw):
        raise refuse("archive-ambiguous", name, f"gives the member {shown} another name where it lies")
    start = record.offset + 30 + name_size + extra_size
    extra = source.read(name, start - extra_size, extra_size) if start <= stop and head[18:26].count(255) >= 4 else b""
    _check_local(name, shown, head, extra, record)
    end = start + record.size
    if end > stop:
        raise refuse("archive-ambiguous", name, f"lets the member {shown} reach into its directory")
    if record.flags & 8:
        end += _descriptor(source, name, record, end, stop)
    return Member(record.name, start, record.size, record.crc), end


def _check_local(name: str, shown: str, head: bytes, extra: bytes, record: _Record) -> None:
    flags, method = struct.unpack("<HH", head[6:10])
    crc, packed, size = struct.unpack("<III", head[14:26])
    if flags != record.flags or method != record.method:
        raise refuse("archive-ambiguous", name, f"describes the member {shown} in two ways")
    if record.flags & 8 and not (crc or packed or size):
        return  # they follow the data
    size, packed = _widened(name, extra, size, packed)
    if (crc, packed, size) != (record.crc, record.packed, record.size):
        raise refuse("archive-ambiguous", name, f"gives the member {shown} two sizes")


def _descriptor(source: Source, name: str, record: _Record, at: int, stop: int) -> int:
    """How long the record after the data is; it must say what the directory says."""
    data = source.read(name, at, min(24, stop - at))
    short = struct.pack("<III", record.crc, record.packed & _SENTINEL32, record.size & _SENTINEL32)
    wide = struct.pack("<IQQ", record.crc, record.packed, record.size)
    for body in (wide, short):
        if data.startswith(DESCRIPTOR + body):
            return 4 + len(body)
    raise refuse("archive-ambiguous", name, f"gives the member {quote(record.name, 60)} two sizes")


def _gap(name: str, record: _Record, position: int) -> BadInput:
    shown = quote(record.name, 60)
    problem = "shares bytes with another" if record.offset < position else "has bytes before it that belong to none"
    return refuse("archive-ambiguous", name, f"has the member {shown}, which {problem}")
