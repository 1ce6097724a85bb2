"""`adapterfit.json` → `Stamp`: strictly, as any other input, and complete with what the adapter's file holds today."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping
from typing import Any

from adapterfit import limits
from adapterfit.errors import BadInput
from adapterfit.read import samples, strictjson
from adapterfit.read.config import parse_config
from adapterfit.read.source import Source
from adapterfit.records import Flaw, Shape, Stamp, Weights, WeightSample
from adapterfit.text import quote

FILE = "adapterfit.json"
SCHEMA = "adapterfit/stamp/v1"
_FAMILY = "adapterfit/stamp/"
_HEX = re.compile(r"(?:[0-9a-f]{8})*")
_DIGEST = re.compile(r"[0-9a-f]{32}")
_DTYPES = ("F64", "F32", "F16", "BF16")


def read_stamp(source: Source, weights: Weights | None) -> tuple[Stamp | None, tuple[Flaw, ...]]:
    """The stamp beside an adapter, if there is one; and what is wrong with it.

    Raises:
        CannotCheck: A file changed while it was read.
    """
    if FILE not in source.names():
        return None, ()
    if source.size(FILE) > limits.STAMP_BYTES:
        return None, (_flaw(f"has {source.size(FILE):,} bytes; a stamp has at most {limits.STAMP_BYTES:,}"),)
    try:
        found = parse_stamp(source.read(FILE, 0, source.size(FILE)))
    except BadInput as bad:
        return None, (bad.flaw,)
    return _with_today(found, source, weights), ()


def parse_stamp(data: bytes) -> Stamp:
    """The stamp in these bytes.

    Raises:
        BadInput: It is not JSON, of another version, or of another form than this version writes.
    """
    try:
        found = strictjson.loads(data, what=FILE)
    except BadInput as bad:
        raise BadInput(_flaw(bad.flaw.message.removeprefix(f"{FILE} "))) from None
    whole = _Reader(found, FILE)
    schema = whole.text("schema")
    if schema != SCHEMA:
        known = f"is of version {quote(schema)}; this adapterfit reads {SCHEMA}" if schema.startswith(_FAMILY) else ""
        raise BadInput(_flaw(known or f"is no stamp: its schema is {quote(schema)}"))
    base, adapter = whole.part("base"), whole.part("adapter")
    vocabulary = base.part("vocabulary")
    return Stamp(
        file=FILE,
        libraries={name: whole.part("libraries").text(name) for name in whole.part("libraries").held},
        base_name=base.text("name"),
        commit=base.text("commit"),
        config=base.plain("config"),
        class_name=base.text("class"),
        inventory={name: base.part("inventory").shapes(name) for name in base.part("inventory").held},
        content=base.part("content").samples(limits.STAMP_WEIGHTS),
        touched=base.number("touched") or 0,
        rows=vocabulary.number("rows"),
        tokens=vocabulary.number("tokens"),
        tokenizer=vocabulary.digest("tokenizer"),
        adapter_config=parse_config(json.dumps(adapter.part("config").held).encode(), FILE),
        adapter_content=adapter.part("content").samples(limits.STAMP_TENSORS),
    )


def _with_today(stamp: Stamp, source: Source, weights: Weights | None) -> Stamp:
    import dataclasses

    if weights is None or weights.refused:
        return stamp
    wanted = {tensor.name: tensor for tensor in weights.tensors if tensor.name in stamp.adapter_content}
    return dataclasses.replace(stamp, adapter_now=samples.of_files(source, wanted))


def as_json(stamp: Stamp) -> dict[str, Any]:
    """What `parse_stamp` reads."""
    return {
        "schema": SCHEMA,
        "libraries": dict(stamp.libraries),
        "base": {
            "name": stamp.base_name,
            "commit": stamp.commit,
            "class": stamp.class_name,
            "config": dict(stamp.config),
            "inventory": {name: [list(shape) for shape in shapes] for name, shapes in stamp.inventory.items()},
            "touched": stamp.touched,
            "content": {name: _sample(each) for name, each in stamp.content.items()},
            "vocabulary": {"rows": stamp.rows, "tokens": stamp.tokens, "tokenizer": stamp.tokenizer},
        },
        "adapter": {
            "config": dict(stamp.adapter_config.raw) if stamp.adapter_config is not None else {},
            "content": {name: _sample(each) for name, each in stamp.adapter_content.items()},
        },
    }


def _sample(found: WeightSample) -> dict[str, Any]:
    values = struct.pack(f">{len(found.values)}f", *found.values).hex()
    digest = {"digest": found.digest} if found.digest else {}
    return {"dtype": found.dtype, "shape": list(found.shape), "values": values, **digest}


# ------------------------------------------------------------------------------------------------ strictness


class _Reader:
    """One object of the file; every access says what is due and where."""

    def __init__(self, held: object, *where: str) -> None:
        self._where = where
        if not isinstance(held, dict):
            raise self._bad("", "an object")
        self.held: Mapping[str, Any] = held

    def part(self, key: str) -> _Reader:
        return _Reader(self.held.get(key), *self._where, key)

    def text(self, key: str) -> str:
        value = self.held.get(key)
        if not isinstance(value, str) or len(value) > limits.NAME_CHARS:
            raise self._bad(key, "a text")
        return value

    def digest(self, key: str) -> str:
        value = self.held.get(key, "")
        if value != "" and not (isinstance(value, str) and _DIGEST.fullmatch(value)):
            raise self._bad(key, "32 hexadecimal digits")
        return str(value)

    def number(self, key: str) -> int | None:
        value = self.held.get(key)
        if value is not None and not _is_count(value):
            raise self._bad(key, "a count, or null")
        return value

    def plain(self, key: str) -> Mapping[str, Any]:
        """Names with plain values: the fields of a base's config."""
        found = self.part(key).held
        if not all(value is None or isinstance(value, (str, int, float, bool)) for value in found.values()):
            raise self._bad(key, "plain values")
        return found

    def shape(self, key: str) -> Shape:
        return self._shape(key, self.held.get(key))

    def shapes(self, key: str) -> tuple[Shape, ...]:
        value = self.held.get(key)
        if not isinstance(value, list):
            raise self._bad(key, "a list of shapes")
        return tuple(self._shape(key, each) for each in value)

    def _shape(self, key: str, value: object) -> Shape:
        if not isinstance(value, list) or len(value) > limits.DIMS or not all(map(_is_count, value)):
            raise self._bad(key, "a shape")
        return tuple(value)

    def samples(self, most: int) -> dict[str, WeightSample]:
        if len(self.held) > most:
            raise self._bad("", f"at most {most} weights")
        return {name: self.part(name).sample() for name in self.held}

    def sample(self) -> WeightSample:
        dtype, shape, values = self.text("dtype"), self.shape("shape"), self.text("values")
        wanted = sum(count for _, count in samples.places(shape))
        if dtype not in _DTYPES:
            raise self._bad("dtype", f"one of {', '.join(_DTYPES)}")
        if len(values) != 8 * wanted or not _HEX.fullmatch(values):
            raise self._bad("values", f"{8 * wanted} hexadecimal digits")
        numbers = struct.unpack(f">{wanted}f", bytes.fromhex(values))
        return WeightSample(shape, dtype, numbers, self.digest("digest"))

    def _bad(self, key: str, due: str) -> BadInput:
        where = ": ".join([self._where[0], *map(quote, self._where[1:]), *([quote(key)] if key else [])])
        return BadInput(_flaw(f"is not as adapterfit writes it: {due} is due at {where}"))


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _flaw(problem: str) -> Flaw:
    return Flaw(
        code="stamp-unreadable",
        message=f"{FILE} {problem}",
        where=FILE,
        severity="warning",
        refused=False,
        predicted="none",
        remedy="adapterfit stamp writes a new one, once it is certain which base the adapter belongs to",
    )
