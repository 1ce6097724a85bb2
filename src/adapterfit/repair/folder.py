"""The repaired folder: weights and config as the plan makes them, every other file as it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from adapterfit.plans import Made
from adapterfit.records import Adapter
from adapterfit.repair.config_text import rewritten
from adapterfit.repair.making import entry
from adapterfit.repair.staging import Original, Staging
from adapterfit.repair.writer import in_order, size_of, write_safetensors

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
RECEIPT = "receipt.json"
STAMP = "adapterfit.json"
#: Bytes beside the copied and written files: receipt, folder, rounding to blocks.
SLACK = 4 * 1024 * 1024


@dataclass(frozen=True)
class Contents:
    """What the new folder will hold.

    `made` are the tensors where the weights are written anew, else None. `fields` is the whole new config, None where it
    stays. `stamp` is the new stamp likewise. `names` are the files of the adapter, `unread` what lies there and was not read
    (a link that leads out of the folder, what lies too deep), each with why. `joined` are files that are read as one.
    """

    adapter: Adapter
    made: tuple[Made, ...] | None = None
    fields: Mapping[str, Any] | None = None
    stamp: bytes | None = None
    names: tuple[str, ...] = ()
    unread: Mapping[str, str] = field(default_factory=dict)
    joined: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def taken(self) -> tuple[str, ...]:
        """The files that tensors are taken from."""
        files = [self.adapter.weights.file] if self.adapter.weights is not None else []
        return tuple(dict.fromkeys([*files, *(file for one in self.made or () for file in _files(one))]))

    def fates(self) -> dict[str, str]:
        """What becomes of every file: `copied`, `rewritten`, `new` or `left out: WHY`."""
        old = [part for name in self.taken for part in self.joined.get(name, (name,))]
        seconds = {other.file for other in self.adapter.others if other.file.startswith("adapter_model.")}
        fates = {name: f"left out: {why}" for name, why in self.unread.items()}
        fates.update(dict.fromkeys(self.names, "copied"))
        fates.update({RECEIPT: "left out: it tells of an earlier repair"} if RECEIPT in fates else {})
        fates.update(dict.fromkeys(seconds & fates.keys(), "left out: PEFT never reads it beside the other weights"))
        if self.made is not None:
            index = {name for name in fates if name.endswith(".index.json") and name.startswith("adapter_model.")}
            fates.update(dict.fromkeys(set(old) & fates.keys(), f"left out: its tensors are in {WEIGHTS}"))
            fates.update(dict.fromkeys(index, f"left out: all tensors are in {WEIGHTS}"))
            fates[WEIGHTS] = "rewritten" if WEIGHTS in old else "new"
        if self.fields is not None:
            fates[CONFIG] = "rewritten" if CONFIG in fates else "new"
        if self.stamp is not None:
            fates[STAMP] = "rewritten"
        return fates


def _files(one: Made) -> Iterable[str]:
    if one.source is not None:
        return [one.source.file]
    return [file for part in one.of for file in _files(part)]


def room(contents: Contents, source: Original) -> int:
    """Bytes that the folder will take."""
    copied = sum(source.size(name) for name, fate in contents.fates().items() if fate == "copied")
    entries = in_order(entry(one, source) for one in contents.made or ())
    return copied + (size_of(entries) if contents.made is not None else 0) + SLACK


def write(stage: Staging, source: Original, contents: Contents) -> None:
    """Write every file but the receipt.

    Raises:
        CannotCheck: The source changed meanwhile.
        CannotWrite: Something cannot be written.
    """
    fates = contents.fates()
    weights = contents.adapter.weights
    if contents.made is not None:
        with stage.file(WEIGHTS, mode_of(source, contents.taken[0]) if contents.taken else None) as output:
            entries = [entry(one, source) for one in contents.made]
            write_safetensors(output, source, entries, weights.metadata if weights is not None else None)
    if contents.fields is not None:
        old = source.read(CONFIG, 0, source.size(CONFIG)) if CONFIG in contents.names else None
        _write(stage, CONFIG, rewritten(old, contents.fields), mode_of(source, CONFIG) if old is not None else None)
    if contents.stamp is not None:
        _write(stage, STAMP, contents.stamp, mode_of(source, STAMP))
    for name in _copied(fates):
        source.size(name)
        with stage.file(name, mode_of(source, name)) as output:
            output.copy(source, name, 0, source.size(name))
    for folder in sorted({above for name in _copied(fates) for above in _above(name)}):
        stage.folder_mode(folder, mode_of(source, folder))


def _above(name: str) -> Iterable[str]:
    """The folders that a file lies in, below the adapter's."""
    parts = name.split("/")
    return ("/".join(parts[:depth]) for depth in range(1, len(parts)))


def _copied(fates: Mapping[str, str]) -> Iterable[str]:
    return (name for name, fate in fates.items() if fate == "copied")


def _write(stage: Staging, name: str, data: bytes, mode: int | None) -> None:
    with stage.file(name, mode) as output:
        output.write(data)


def mode_of(source: Original, name: str) -> int | None:
    """The permission bits of a file of the source; None where it is not on a disk."""
    found = getattr(source, "mode", None)
    return (found(name) or None) if found is not None else None


def write_receipt(stage: Staging, text: str) -> None:
    """The last file of the folder."""
    _write(stage, RECEIPT, text.encode("utf-8"), None)
