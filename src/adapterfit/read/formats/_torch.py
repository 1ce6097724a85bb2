"""The two layouts `torch.save` has had: a zip with one pickle inside, and five pickles in a row before the data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Callable

from adapterfit import limits
from adapterfit.errors import BadInput
from adapterfit.read.formats import _cut
from adapterfit.read.formats._closed_pickle import Ended, Refused, Storage, Table, Value, read_pickle
from adapterfit.read.formats._flaws import loader_says, note, refuse, refused
from adapterfit.read.formats._state_dict import Held, state_dict, storage_width
from adapterfit.read.formats._zip import LOCAL, Member, checksum, read_directory, read_members
from adapterfit.read.source import Source
from adapterfit.records import Flaw, Weights
from adapterfit.text import quote, shorten, show

_PICKLE = "data.pkl"
#: Of torch's archive layout.
_VERSIONS = ("1", "2", "3", "4")
_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL_VERSION = 1001


def read_zip(source: Source, name: str) -> Weights:
    """A zip archive of torch's; flaws instead of exceptions."""
    return _answered(source, name, "torch_zip", _zip_weights)


def read_legacy(source: Source, name: str) -> Weights:
    """Stacked pickles; flaws instead of exceptions."""
    return _answered(source, name, "torch_legacy", _legacy_weights)


def _answered(source: Source, name: str, form: str, reader: Callable[[Source, str], Weights]) -> Weights:
    try:
        return reader(source, name)
    except BadInput as bad:
        return refused(source, name, form, bad.flaw)
    except Refused as bad:
        flaw = refuse(bad.code, name, bad.problem, predicted=bad.predicted, raised=bad.raised).flaw
        return refused(source, name, form, flaw)


def _zip_weights(source: Source, name: str) -> Weights:
    try:
        directory = read_directory(source, name)
    except BadInput as bad:
        if bad.flaw.code != "truncated-file":
            raise
        return _cut.left_of_zip(source, name, bad.flaw)
    root = _root(name, directory.names)
    members = read_members(source, name, directory)
    _check_version(source, name, members, root)
    member = members[root + _PICKLE]
    if member.size > limits.PICKLE_BYTES:
        raise refuse(
            "over-limit", name, f"has a pickle of {member.size:,} bytes (limits.PICKLE_BYTES)", predicted="none"
        )
    data, intact = checksum(source, name, member)
    flaws = list(directory.flaws)
    if not intact:
        flaws.append(
            note("crc-mismatch", name, "has a data.pkl whose checksum is wrong; torch does not look at it", "error")
        )
    value, end = read_pickle(data, 0, limits.PICKLE_OPCODES + limits.PICKLE_OPCODES_PER_MEMBER * len(members))
    if end != len(data):
        raise refuse("malformed", name, f"has {len(data) - end:,} bytes after the end of its pickle")
    prefix = root + "data/"
    held = {each[len(prefix) :]: Held(m.start, m.size) for each, m in members.items() if each.startswith(prefix)}
    found = state_dict(value, held, name)
    flaws += others_flaw(name, found.others)
    size = source.size(name)
    return Weights(file=name, format="torch_zip", size=size, tensors=found.tensors, flaws=tuple(flaws))


def others_flaw(name: str, others: tuple[str, ...]) -> list[Flaw]:
    """Keys beside the tensors whose values are no tensors."""
    if not others:
        return []
    problem = f"holds values that are no tensors beside them: {shorten(others)}"
    return [note("wrapped-state-dict", name, problem)]


def _root(name: str, members: tuple[str, ...]) -> str:
    """The folder all members lie in, with its slash."""
    pickles = [each for each in members if each.rpartition("/")[2] == _PICKLE]
    roots = {each.partition("/")[0] for each in members}
    if not pickles:
        raise _not_torch(name, members)
    if len(pickles) > 1 or len(roots) > 1 or pickles[0].count("/") != 1:
        raise refuse(
            "archive-ambiguous",
            name,
            f"holds more than one thing to load: {shorten(pickles)} in {shorten(sorted(roots))}",
        )
    root = pickles[0][: -len(_PICKLE)]
    if any(each == root + "constants.pkl" or each.startswith(root + "code/") for each in members):
        raise refuse(
            "torchscript",
            name,
            "is a TorchScript program (torch.jit.save), not a dict of tensors",
            raised="RuntimeError: Cannot use ``weights_only=True`` with TorchScript archives passed to ``torch.load``.",
            remedy="save the adapter again with model.save_pretrained",
        )
    return root


def _not_torch(name: str, members: tuple[str, ...]) -> BadInput:
    raised = loader_says(name, LOCAL + b"\x14" + bytes(2) + b"\x08", 1 << 62)
    problem = f"is an ordinary zip archive ({shorten(members)}), not weights"
    return refuse("not-this-format", name, problem, raised=raised, remedy="unpack it first")


def _check_version(source: Source, name: str, members: Mapping[str, Member], root: str) -> None:
    version, order = (_small(source, name, members.get(root + each)) for each in ("version", "byteorder"))
    if version is None and root + ".data/version" not in members:
        raise refuse("malformed", name, "has no version in its archive", raised="RuntimeError: Expected hasRecord")
    if version is not None and version.strip() not in _VERSIONS:
        raise refuse("unsupported", name, f"is of version {quote(version)}, which is not known", predicted="raises")
    if order not in (None, "little"):
        raise refuse("unsupported", name, f"has its numbers in the byte order {quote(order)}")


def _small(source: Source, name: str, member: Member | None) -> str | None:
    if member is None:
        return None
    return source.read(name, member.start, min(member.size, 20)).decode("ascii", "replace")


# ------------------------------------------------------------------------------------------------ stacked


def _legacy_weights(source: Source, name: str) -> Weights:
    size = source.size(name)
    (magic, version, system, root, keys), end = _pickles(source, name)
    if magic != _MAGIC or version != _PROTOCOL_VERSION:
        raise refuse("malformed", name, "does not begin with the numbers that torch writes first")
    if type(system) is not Table or dict(_text_pairs(system)).get("little_endian") is not True:
        raise refuse("unsupported", name, "was not saved by a little-endian machine")
    if type(keys) is not list or not all(type(key) is str for key in keys):
        raise refuse("malformed", name, "has a list of storages that are not all text")
    try:
        held = _stored(source, name, keys, _cut.storages(root), end)
    except _CutOff as cut:
        return _cut.left_of(source, name, "torch_legacy", _cut_off(name, size, cut.wanted).flaw, root, cut.held)
    found = state_dict(root, held, name)
    flaws = others_flaw(name, found.others)
    left = size - max((place.start + place.size for place in held.values()), default=end)
    if left:
        flaws.append(note("bytes-unowned", name, f"has {left:,} bytes after its last storage; torch passes over them"))
    return Weights(file=name, format="torch_legacy", size=size, tensors=found.tensors, flaws=tuple(flaws))


def _pickles(source: Source, name: str) -> tuple[list[Value], int]:
    """The five values, and where the data begin; reads more of the file only where it must."""
    size = source.size(name)
    window = min(size, 1 << 18)
    while True:
        data = source.read(name, 0, window)
        try:
            return _five(data)
        except Ended:
            if window == size:
                problem = f"is cut off inside its description: the download stopped at {size:,} bytes"
                raise refuse("truncated-file", name, problem, raised="EOFError", remedy="download it again") from None
            if window >= limits.PICKLE_BYTES:
                raise refuse("over-limit", name, "has a pickle beyond limits.PICKLE_BYTES", predicted="none") from None
        window = min(size, window * 8, limits.PICKLE_BYTES)


def _five(data: bytes) -> tuple[list[Value], int]:
    values, position = [], 0
    for _ in range(5):
        value, position = read_pickle(data, position, limits.LEGACY_OPCODES, stacked=True)
        values.append(value)
    return values, position


def _text_pairs(table: Table) -> list[tuple[str, Value]]:
    return [(key, value) for key, value in table.items if type(key) is str]


class _CutOff(Exception):
    """The file ends before its last storage does; `held` are those that end before it, `wanted` the bytes there should be."""

    def __init__(self, held: dict[str, Held], wanted: int) -> None:
        super().__init__()
        self.held = held
        self.wanted = wanted


def _stored(
    source: Source, name: str, keys: list[str], storages: Mapping[str, Storage], position: int
) -> dict[str, Held]:
    """Each storage is its number of elements in eight bytes, then its bytes."""
    size = source.size(name)
    held: dict[str, Held] = {}
    for key in keys:
        storage = storages.get(key)
        if storage is None or key in held:
            raise refuse("malformed", name, f"lists a storage that no tensor uses, or twice: {show(key, 40)}")
        if not storage.dtype:
            problem = "holds float8 or another new type in the old layout, which torch cannot load"
            raise refuse("unsupported", name, problem, raised="AttributeError")
        if position + 8 > size:
            raise _CutOff(held, position + 8)
        count = int.from_bytes(source.read(name, position, 8), "little", signed=True)
        if count != storage.length:
            problem = f"has a storage of {count:,} elements, but says that it has {storage.length:,}"
            raise refuse("size-mismatch", name, problem, raised="RuntimeError: storage has wrong byte size")
        length = count * storage_width(storage)
        if position + 8 + length > size:
            raise _CutOff(held, position + 8 + length)
        held[key] = Held(position + 8, length)
        position += 8 + length
    return held


def _cut_off(name: str, size: int, wanted: int) -> BadInput:
    return refuse(
        "truncated-file",
        name,
        f"is cut off: the download stopped at {size:,} of at least {wanted:,} bytes",
        raised="RuntimeError: unexpected EOF",
        remedy="download it again",
    )
