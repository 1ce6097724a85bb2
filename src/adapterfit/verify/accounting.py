"""Every byte accounted for: each tensor of the source is copied as it is, changed as planned, or dropped by name.

The edits are followed once more from the start (`replay`), and what they say is compared with what was written: bytes that
stay in pieces, straight from both files; what is changed, tensor by tensor.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from adapterfit.edits import OF_CONFIG, Drop, DropConfig, Edit, SetConfig
from adapterfit.plans import FileHash, Shown
from adapterfit.records import TensorInfo
from adapterfit.text import quote, shorten
from adapterfit.verify.replay import (
    Blocks,
    Held,
    Readable,
    bits,
    equal,
    flat,
    groups,
    loaded,
    replayed,
    stretch,
)

#: Bytes compared at once: they are still in the processor's cache then.
_CHUNK = 512 * 1024


def account(
    source: Readable,
    before: Iterable[TensorInfo],
    written: Readable,
    after: Iterable[TensorInfo],
    edits: Sequence[Edit],
    metadata: tuple[Mapping[str, str], Mapping[str, str]] = ({}, {"format": "pt"}),
) -> Shown:
    """Compare all tensors of both files with what the edits say.

    Args:
        source: The files the adapter was read from.
        before: Its tensors.
        written: The files that were written.
        after: The tensors in them, as our own reader found them.
        edits: The plan's.
        metadata: What the headers of both say beside the tensors; it stays, but for the format.
    """
    if {**metadata[0], "format": "pt"} != metadata[1]:
        return Shown("bytes", "failed", "the metadata of the weights are not as they were")
    there = {tensor.name: tensor for tensor in after}
    counts = {"copied bit by bit": 0, "made of others without computing": 0, "computed, within their rounding": 0}
    wrong: list[str] = []
    pieces = _Pieces(source, written)
    for tensors, blocks in groups(before, edits):
        if (pieces_of := flat(tensors, blocks)) is not None:
            counts["computed, within their rounding"] += 1
            name, is_equal = _by_pieces(source, tensors[0], blocks, written, there, pieces_of)
            there.pop(name, None)
            wrong += [] if is_equal else [name]
            continue
        for name, held in replayed(source, tensors, blocks).items():
            kind = 0 if held.source is not None else 1 if held.is_exact else 2
            counts[list(counts)[kind]] += 1
            new = there.pop(name, None)
            if new is None or not _is_equal(source, held, written, new, pieces):
                wrong.append(name)
    if wrong:
        return Shown(
            "bytes", "failed", f"{len(wrong)} tensors are not as planned: {shorten(map(quote, sorted(wrong)))}"
        )
    if there:
        return Shown("bytes", "failed", f"{len(there)} tensors are in no plan: {shorten(map(quote, sorted(there)))}")
    counts["dropped by name"] = sum(isinstance(edit, Drop) for edit in edits)
    return Shown("bytes", "proven", "tensors: " + ", ".join(f"{n:,} {what}" for what, n in counts.items() if n))


def configured(before: Mapping[str, Any], after: Mapping[str, Any], edits: Iterable[Edit]) -> Shown:
    """Whether a config that was written anew has the fields that the edits set, lacks those they delete, and all others as they were."""
    wanted = dict(before)
    named: list[str] = []
    for edit in edits:
        if isinstance(edit, SetConfig):
            wanted[edit.key] = edit.value
        elif isinstance(edit, DropConfig):
            wanted.pop(edit.key, None)
        named += [edit.key] if isinstance(edit, OF_CONFIG) else []
    wrong = sorted(key for key in wanted.keys() | after.keys() if _as_text(wanted, key) != _as_text(after, key))
    if wrong:
        return Shown("config", "failed", f"adapter_config.json is not as planned: {shorten(map(quote, wrong))}")
    rest = len(wanted.keys() - set(named))
    said = f"adapter_config.json: {shorten(map(quote, dict.fromkeys(named)))} as planned, {rest:,} other fields as they were"
    return Shown("config", "proven", said)


def _as_text(fields: Mapping[str, Any], key: str) -> str:
    """A field as JSON, in which 1, 1.0 and true differ; empty where it is not there."""
    return json.dumps(fields[key], sort_keys=True) if key in fields else ""


def copied(fates: Mapping[str, str], before: Mapping[str, FileHash], after: Mapping[str, FileHash]) -> Shown:
    """Whether the files that should only be copied have the hashes they had, and no other file is there."""
    wanted = {name for name, fate in fates.items() if not fate.startswith("left out")}
    wrong = sorted(name for name, fate in fates.items() if fate == "copied" and before.get(name) != after.get(name))
    wrong += sorted(wanted ^ after.keys())
    if wrong:
        return Shown("files", "failed", f"{shorten(map(quote, wrong))} are not as they were, or not there")
    count = sum(fate == "copied" for fate in fates.values())
    return Shown("files", "proven", f"{count:,} other file{'s' * (count != 1)} with the sha256 of before")


def _by_pieces(
    source: Readable,
    old: TensorInfo,
    blocks: Blocks,
    written: Readable,
    there: Mapping[str, TensorInfo],
    pieces: Iterable[slice],
) -> tuple[str, bool]:
    """The name of a large tensor after edits that leave its shape, and whether all that was written of it is as they say."""
    name, is_equal = old.name, True
    for piece in pieces:
        ((name, held),) = replayed(source, [stretch(old, piece)], blocks).items()
        new = there.get(name)
        if new is None or new.span is None or (new.dtype, tuple(new.shape)) != (held.dtype, tuple(old.shape)):
            return name, False
        is_equal = is_equal and equal(loaded(source, held), written, stretch(new, piece))
    return name, is_equal


def _is_equal(source: Readable, held: Held, written: Readable, new: TensorInfo, pieces: _Pieces) -> bool:
    old = held.source
    if old is None:
        return equal(held, written, new)
    if (new.dtype, tuple(new.shape)) != (held.dtype, tuple(held.shape)) or new.span is None:
        return False
    if old.span is None:
        return bool((bits(source, old).reshape(held.shape) == bits(written, new)).all())
    return new.span[1] - new.span[0] == old.span[1] - old.span[0] and pieces.equal(
        old.file, old.span, new.file, new.span[0]
    )


class _Pieces:
    """Two files read side by side, into memory that is used again: to take it anew for each piece costs more than to read."""

    def __init__(self, source: Readable, written: Readable) -> None:
        self._sides = tuple(
            (one, getattr(one, "fill", None), held := bytearray(_CHUNK), memoryview(held)) for one in (source, written)
        )

    def equal(self, old: str, span: tuple[int, int], new: str, start: int) -> bool:
        """Whether the bytes `span` of one are those of the other from `start`."""
        for at in range(0, span[1] - span[0], _CHUNK):
            count = min(_CHUNK, span[1] - span[0] - at)
            if self._piece(0, old, span[0] + at, count) != self._piece(1, new, start + at, count):
                return False
        return True

    def _piece(self, side: int, name: str, start: int, count: int) -> bytes | bytearray:
        source, fill, held, view = self._sides[side]
        if fill is None:
            return source.read(name, start, count)
        fill(name, start, view[:count])
        return held if count == _CHUNK else held[:count]
