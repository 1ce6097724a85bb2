"""Shard indexes (`model.safetensors.index.json`): which shard holds which tensor, and which names may be opened.

transformers joins a `weight_map` value to the folder as it stands (measured on 5.23: `../x.safetensors` is
loaded without a word). Here a shard is one plain file name, or it is not opened.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field
from typing import Any

from adapterfit import limits
from adapterfit.errors import BadInput
from adapterfit.read import strictjson
from adapterfit.read.oddnumbers import set_aside
from adapterfit.read.source import Source
from adapterfit.record import dataclass
from adapterfit.records import Flaw
from adapterfit.text import quote, shorten, show

#: Names that Windows takes for devices, whatever the extension.
_DEVICES = re.compile(r"(?i)(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?")
#: How git marks the two halves of a merge conflict; no line of JSON starts so.
_CONFLICT = (b"<<<<<<<", b"=======", b">>>>>>>")
_INDEX_NAME = re.compile(r".*\.(safetensors|bin)\.index(\.[\w-]+)?\.json")


@dataclass(frozen=True)
class ShardIndex:
    """One index. `shards`: the names that may be opened, sorted → the tensors the index puts there."""

    file: str
    shards: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    flaws: tuple[Flaw, ...] = ()


def is_index_name(name: str) -> bool:
    """Whether a file is a shard index by its name."""
    return _INDEX_NAME.fullmatch(name) is not None


def read_index(source: Source, name: str) -> ShardIndex:
    """Read one index. Everything that is wrong with it is a flaw; nothing it names is opened here."""
    try:
        document, odd = _document(source, name)
        weight_map, flaws = _weight_map(document, name)
    except BadInput as error:
        return ShardIndex(name, flaws=(error.flaw,))
    flaws += _metadata_flaws(document, odd, name)
    shards, more = _shards(weight_map, name)
    return ShardIndex(name, shards, flaws + more)


def unsafe(shard: str, suffixes: tuple[str, ...]) -> str:
    """Why `shard` is not one plain file name, under POSIX and Windows rules alike; empty where it is one."""
    if not shard or shard in (".", ".."):
        return "it names no file"
    if any(ord(char) < 32 or char == "\x7f" for char in shard):
        return "it holds a control character"
    if "/" in shard or "\\" in shard:
        return "it leads into another folder"
    if ":" in shard:
        return "it names a drive or a stream"
    if _DEVICES.fullmatch(shard):
        return "it is a device's name on Windows"
    if len(shard) > 255:
        return f"it has {len(shard):,} characters"
    return "" if shard.endswith(suffixes) else f"it does not end in {' or '.join(suffixes)}"


def _document(source: Source, name: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    size = source.size(name)
    if size > limits.INDEX_BYTES:
        problem = f"has {size:,} bytes; an index of more than {limits.INDEX_BYTES:,} is not read"
        raise BadInput(_flaw("over-limit", name, problem))
    data, odd = set_aside(source.read(name, 0, size))
    if any(data.startswith(mark) or b"\n" + mark in data for mark in _CONFLICT):
        raise BadInput(_conflict(name))
    document = strictjson.loads(data, what=show(name), code="index-not-json", duplicates="keep")
    if not isinstance(document, dict):
        problem = f"holds a {type(document).__name__} where a table is due"
        raise BadInput(_flaw("index-not-json", name, problem, raised="TypeError: list indices must be integers"))
    return document, odd


def _conflict(name: str) -> Flaw:
    return _flaw(
        "index-not-json",
        name,
        "still holds the markers of a merge conflict (<<<<<<<, =======, >>>>>>>)",
        remedy="fetch the file again, or remove the markers and one of the two halves",
        raised="json.decoder.JSONDecodeError: Extra data",
    )


def _weight_map(document: dict[str, Any], name: str) -> tuple[dict[str, Any], tuple[Flaw, ...]]:
    found = document.get("weight_map")
    if "weight_map" not in document:
        raise BadInput(_flaw("index-without-weight-map", name, "has no weight_map", raised="KeyError: 'weight_map'"))
    if not isinstance(found, dict):
        kind = type(found).__name__
        line = f"AttributeError: '{kind}' object has no attribute 'values'"
        raise BadInput(_flaw("index-without-weight-map", name, f"has a {kind} for a weight_map", raised=line))
    if not found:
        line = "IndexError: list index out of range"
        raise BadInput(_flaw("index-without-weight-map", name, "has an empty weight_map", raised=line))
    if len(found) > limits.TENSORS:
        problem = f"lists {len(found):,} tensors; more than {limits.TENSORS:,} are not read"
        raise BadInput(_flaw("over-limit", name, problem, predicted="none"))
    return found, _twice(document, found, name)


def _twice(document: dict[str, Any], weight_map: dict[str, Any], name: str) -> tuple[Flaw, ...]:
    names = [key for table in (document, weight_map) for key, _ in getattr(table, "twice", ())]
    if not names:
        return ()
    problem = f"has {shorten(names)} more than once; the last one counts"
    return (_flaw("index-key-twice", name, problem, severity="warning", refused=False, predicted="silent"),)


def _metadata_flaws(document: dict[str, Any], odd: tuple[str, ...], name: str) -> tuple[Flaw, ...]:
    found = document.get("metadata")
    if "metadata" not in document:
        return (_flaw("index-metadata-missing", name, "has no metadata", raised="KeyError: 'metadata'", refused=False),)
    if not isinstance(found, dict):
        problem = f"has a {type(found).__name__} for metadata"
        line = f"TypeError: {type(found).__name__} indices must be integers or slices, not str"
        return (_flaw("index-metadata-missing", name, problem, raised=line, refused=False),)
    total = found.get("total_size", 0)
    if odd or not isinstance(total, (int, float)) or not 0 <= total < 2**63:
        shown = odd[0] + "…" if odd else show(total, 60)
        problem = f"says that the model has {shown} bytes; no loader looks at it"
        return (
            _flaw("index-total-size", name, problem, severity="note", refused=False, predicted="none", found=shown),
        )
    return ()


def _shards(weight_map: dict[str, Any], name: str) -> tuple[dict[str, tuple[str, ...]], tuple[Flaw, ...]]:
    tensors: dict[str, list[str]] = {}
    nameless = []
    for tensor, shard in weight_map.items():
        if isinstance(shard, str):
            tensors.setdefault(shard, []).append(tensor)
        else:
            nameless.append(tensor)
    flaws = _nameless(nameless, weight_map, name)
    if len(tensors) > limits.SHARDS:
        problem = f"names {len(tensors):,} shards; more than {limits.SHARDS:,} are not read"
        return {}, (*flaws, _flaw("over-limit", name, problem, predicted="none"))
    reasons = {shard: unsafe(shard, _suffixes(name)) for shard in tensors}
    bad = {shard: why for shard, why in reasons.items() if why}
    good = {shard: tuple(tensors[shard]) for shard in sorted(tensors) if shard not in bad}
    return good, flaws + _escaping(bad, name)


def _suffixes(name: str) -> tuple[str, ...]:
    if ".safetensors" in name:
        return (".safetensors",)
    return (".bin",) if ".bin" in name else (".safetensors", ".bin")


def _nameless(tensors: list[str], weight_map: dict[str, Any], name: str) -> tuple[Flaw, ...]:
    if not tensors:
        return ()
    kind = type(weight_map[tensors[0]]).__name__
    problem = f"gives {shorten(tensors)} a {kind} where the name of a shard is due"
    line = f"TypeError: '<' not supported between instances of '{kind}' and 'str'"
    return (_flaw("index-shard-not-a-name", name, problem, raised=line),)


def _escaping(bad: dict[str, str], name: str) -> tuple[Flaw, ...]:
    if not bad:
        return ()
    shard = next(iter(bad))
    more = f" (and {len(bad) - 1} more like it)" if len(bad) > 1 else ""
    return (
        Flaw(
            "shard-path-escapes",
            f"{show(name)} names the shard {quote(shard)}{more}: {bad[shard]}; it was not opened",
            where=name,
            found=show(shard),
            expected="one file name beside the index",
            predicted="silent",
            remedy="do not load this base with transformers before you know who wrote the index: it follows such names",
        ),
    )


def _flaw(
    code: str,
    name: str,
    problem: str,
    *,
    severity: str = "error",
    refused: bool = True,
    predicted: str = "raises",
    raised: str = "",
    remedy: str = "",
    found: str = "",
) -> Flaw:
    return Flaw(
        code,
        f"{show(name)} {problem}",
        where=name,
        found=found,
        severity=severity,
        refused=refused,
        predicted=predicted,
        raised=raised,
        remedy=remedy,
    )
