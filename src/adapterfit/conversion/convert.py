"""Convert an adapter: recognise its format, bring it to the neutral form, write it in another."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

from adapterfit import discover
from adapterfit.conversion.neutral import Neutral
from adapterfit.conversion.opened import Opened, inner_folders, opened
from adapterfit.conversion.output import Package, Wanted
from adapterfit.conversion.releases import written_for
from adapterfit.conversion.soundness import check_sound
from adapterfit.errors import CannotConvert
from adapterfit.plans import FileHash
from adapterfit.read import peft_facts
from adapterfit.read.base import read_base as read_base_source
from adapterfit.read.live import base_from_module, is_live
from adapterfit.read.locate import base_in_cache, locate
from adapterfit.read.source import Source
from adapterfit.read.sources.folder import FolderSource
from adapterfit.records import Base
from adapterfit.repair.hashes import hashed
from adapterfit.repair.staging import Staging, summed
from adapterfit.text import quote

FORMATS = "adapterfit.conversion.formats"
RECEIPT = "receipt.json"
SCHEMA = "adapterfit/conversion/v1"


@dataclass(frozen=True)
class Conversion:
    """What was written: from which format to which, the folder, its files in order, and what the user has to know."""

    source: str
    target: str
    folder: Path
    files: tuple[str, ...]
    modules: int
    notes: tuple[str, ...] = ()


def convert(
    adapter: Any,
    to: str,
    out: Any,
    *,
    base: Any = None,
    part: str = "",
    online: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Conversion:
    """Write the same adapter in another program's layout, or for another version of PEFT, into a new folder.

    Args:
        adapter: A folder, a file, or `hf://owner/name`; its format is recognised from its files.
        to: `peft`, `peft==VERSION`, or another member of `conversion/formats`.
        out: The folder to be made; it must not exist.
        base: The base model, where the names or the numbers depend on it. Without one, the base that the adapter names
            is looked up in the local Hub cache.
        part: The component of a diffusion pipeline that the adapter belongs to, where its names do not say it.
        online: Whether the network may be asked.
        progress: Called with bytes written and bytes to write in all.

    Raises:
        CannotConvert: The format cannot express something of this adapter; it is named, and nothing is written.
        CannotCheck: A path is not there, or cannot be read.
        CannotWrite: `out` is there already, or cannot be written; nothing is left of it.
    """
    name, _, version = to.partition("==")
    writer = discover.member(FORMATS, name)
    if writer is None or not hasattr(writer, "write") or (version and name != "peft"):
        raise CannotConvert(f"{quote(to)} is no format to convert to: {', '.join(targets())}, peft==VERSION")
    with contextlib.closing(locate(str(adapter), kind="adapter", online=online)) as source:
        folders = inner_folders(source) or {"": source}
        pieces = [_opened(each, base, online=online) for each in folders.values()]
        origin = recognised(pieces[0])
        if name == "peft" and origin == "peft" and len(pieces) == 1:
            package = written_for(pieces[0], version or peft_facts.newest())
            done = Conversion(origin, to, Path(out), (), 0, package.notes)
        else:
            neutral = _joined([_read(piece, folder) for folder, piece in zip(folders, pieces)])
            package = writer.write(neutral, Wanted(pieces[0], version, part))
            done = Conversion(
                origin,
                to,
                Path(out),
                (),
                sum(map(len, (neutral.layers, neutral.changes, neutral.parameters))),
                package.notes,
            )
        return _written(done, package, source, _given(adapter, base), progress)


def _given(*paths: Any) -> list[str]:
    """What the user named, as far as it is on this disk: nothing is written into it."""
    return [str(path) for path in paths if isinstance(path, (str, Path)) and Path(path).exists()]


def _written(
    done: Conversion, package: Package, source: Source, read: list[str], progress: Callable[[int, int], None] | None
) -> Conversion:
    """Write the folder whole or not at all, its receipt last; the conversion with its files in order."""
    room = sum(map(len, package.files.values())) + sum(stream.size() for stream in package.streams)
    with Staging(done.folder, apart_from=read, room=room, progress=summed(progress, room)) as stage:
        for name, data in package.files.items():
            with stage.file(name) as output:
                output.write(data)
        for stream in package.streams:
            with stage.file(stream.name) as output:
                stream.write(output)
        with contextlib.closing(FolderSource(stage.folder)) as written:
            after = hashed(written, written.names())
        before = hashed(source, source.names())
        with stage.file(RECEIPT) as output:
            output.write(_receipt(done, before, after))
        stage.publish()
    names = [*package.files, *(stream.name for stream in package.streams), RECEIPT]
    return dataclasses.replace(done, files=tuple(sorted(names)))


def _receipt(done: Conversion, before: Mapping[str, FileHash], after: Mapping[str, FileHash]) -> bytes:
    """What was converted, as JSON. It names no time and no place: the same conversion gives the same receipt."""
    from adapterfit import __version__

    fields = {
        "schema": SCHEMA,
        "versions": {"adapterfit": __version__},
        "from": done.source,
        "to": done.target,
        "modules": done.modules,
        "notes": list(done.notes),
        "before": {name: dataclasses.asdict(found) for name, found in before.items()},
        "after": {name: dataclasses.asdict(found) for name, found in after.items()},
    }
    return (json.dumps(fields, indent=2, ensure_ascii=True) + "\n").encode()


def targets() -> tuple[str, ...]:
    """The formats that can be written."""
    return tuple(name for name, member in discover.members(FORMATS).items() if hasattr(member, "write"))


def recognised(piece: Opened) -> str:
    """The format of an adapter's files.

    Raises:
        CannotConvert: None of ours, or several.
    """
    claimed = [
        name for name, member in discover.members(FORMATS).items() if hasattr(member, "claims") and member.claims(piece)
    ]
    if len(claimed) != 1:
        no_config = piece.adapter.layout == "weights-only"
        seen = "there is no adapter_config.json beside it" if no_config else f"its layout is {piece.adapter.layout!r}"
        what = f"it may be {' or '.join(claimed)}" if claimed else seen
        raise CannotConvert(f"{piece.source.label}: the format of this adapter is not recognised; {what}")
    return claimed[0]


def _read(piece: Opened, folder: str) -> Neutral:
    found: Neutral = discover.members(FORMATS)[recognised(piece)].read(piece)
    if not (found.layers or found.rest or found.changes or found.parameters):
        raise CannotConvert(f"{piece.source.label} holds no adapted module")
    check_sound(found)
    if not folder:
        return found
    return dataclasses.replace(
        found, layers=tuple(dataclasses.replace(layer, part=layer.part or folder) for layer in found.layers)
    )


def _joined(neutrals: list[Neutral]) -> Neutral:
    if len(neutrals) == 1:
        return neutrals[0]
    return Neutral(
        tuple(layer for each in neutrals for layer in each.layers),
        {key: value for each in neutrals for key, value in each.config.items()},
        tuple(rest for each in neutrals for rest in each.rest),
        tuple(note for each in neutrals for note in each.notes),
        tuple(change for each in neutrals for change in each.changes),
        tuple(one for each in neutrals for one in each.parameters),
    )


def _opened(source: Source, base: Any, *, online: bool) -> Opened:
    piece = opened(source)
    return dataclasses.replace(piece, base=_base(base, piece, online=online))


def _base(given: Any, piece: Opened, *, online: bool) -> Base | None:
    """The base with its files left open: some of its numbers may be needed."""
    if isinstance(given, Base):
        return given
    if is_live(given):
        return base_from_module(given)
    if given is not None:
        return read_base_source(locate(str(given), kind="base", online=online))
    config = piece.adapter.config
    source = base_in_cache(config.raw.get("base_model_name_or_path"), config.raw.get("revision")) if config else None
    return read_base_source(source) if source is not None else None
