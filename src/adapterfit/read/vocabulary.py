"""A tokenizer's words and their numbers as one digest, whatever library version wrote the file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from adapterfit import limits
from adapterfit.errors import BadInput
from adapterfit.read import strictjson
from adapterfit.read.source import Source

_TOKENIZER = "tokenizer.json"


def vocabulary_digest(source: Source) -> str:
    """SHA-256 over every token and its id; empty where there is no `tokenizer.json`, or none that can be read.

    Raises:
        CannotCheck: The file changed while it was read.
    """
    if _TOKENIZER not in source.names() or source.size(_TOKENIZER) > limits.TOKENIZER_BYTES:
        return ""
    try:
        found = strictjson.loads(source.read(_TOKENIZER, 0, source.size(_TOKENIZER)), what=_TOKENIZER)
    except BadInput:
        return ""
    words = dict(_words(found)) if isinstance(found, dict) else {}
    return _digest(words) if words else ""


def _words(found: dict[str, Any]) -> Iterator[tuple[str, int]]:
    model = found.get("model")
    table = model.get("vocab") if isinstance(model, dict) else None
    if isinstance(table, dict):
        yield from ((word, at) for word, at in table.items() if _is_id(at))
    elif isinstance(table, list):  # unigram: [piece, score], the id is the place
        yield from ((piece[0], at) for at, piece in enumerate(table) if _is_piece(piece))
    for each in found.get("added_tokens") or ():
        if isinstance(each, dict) and isinstance(each.get("content"), str) and _is_id(each.get("id")):
            yield each["content"], each["id"]


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_piece(value: object) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], str)


def _digest(words: dict[str, int]) -> str:
    import hashlib

    found = hashlib.sha256()
    for word, at in sorted(words.items()):
        found.update(f"{at} {len(word)} {word}\n".encode("utf-8", "surrogatepass"))
    return found.hexdigest()[:32]
