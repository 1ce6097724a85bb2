"""How many tokens the tokenizer beside an adapter or a base has: cheap and unambiguous, or not at all."""

from __future__ import annotations

import json
import re
from typing import Any

from adapterfit import limits
from adapterfit.errors import BadInput
from adapterfit.read import strictjson
from adapterfit.read.source import Source

_TOKENIZER = "tokenizer.json"
_ADDED = "added_tokens.json"
_VOCABULARY = re.compile(r'"vocab"\s*:\s*(?=[\[{])')
_ADDED_TABLE = re.compile(r'"added_tokens"\s*:\s*(?=\[)')


def counted(source: Source) -> int | None:
    """`tokenizer_rows`, with nothing left open afterwards: it is asked long after the rest was read."""
    try:
        return tokenizer_rows(source)
    finally:
        source.close()


def tokenizer_rows(source: Source) -> int | None:
    """The number of tokens, `len(tokenizer)`; None where it is unknown, too large to look at, or the files disagree.

    Raises:
        CannotCheck: A file must not be read, or changed meanwhile.
    """
    names = set(source.names())
    counted = _from_tokenizer(source) if _TOKENIZER in names else None
    added = _from_added(source) if _ADDED in names else None
    if _TOKENIZER not in names:
        return added
    # A tokenizer.json older than the tokens added since is a known trap: then neither number is the answer.
    return None if counted is None or (added is not None and added > counted) else counted


def _from_tokenizer(source: Source) -> int | None:
    size = source.size(_TOKENIZER)
    if size > limits.TOKENIZER_BYTES:
        return None
    text = source.read(_TOKENIZER, 0, size).decode("utf-8", errors="replace")
    words, added = _part(text, _VOCABULARY), _part(text, _ADDED_TABLE)
    ids = [*_vocabulary(words), *(each.get("id") for each in added or () if isinstance(each, dict))]
    highest = _highest(ids)
    return highest if highest is not None and len(set(ids)) == highest else None


def _vocabulary(words: object) -> list[Any]:
    """The ids of a table of word → id, or of a list of pieces."""
    if isinstance(words, dict):
        return list(words.values())
    return list(range(len(words))) if isinstance(words, list) else []


def _highest(ids: list[Any]) -> int | None:
    """One more than the highest id; None where there are none, or some are no ids."""
    if not ids or not all(isinstance(each, int) and not isinstance(each, bool) and each >= 0 for each in ids):
        return None
    return int(max(ids)) + 1


def _part(text: str, start: re.Pattern[str]) -> Any:
    """One value of the document, without parsing the rest of it; None where it is not there or is not JSON."""
    found = start.search(text)
    if found is None:
        return None
    try:
        return json.JSONDecoder().raw_decode(text, found.end())[0]
    except (ValueError, RecursionError):
        return None


def _from_added(source: Source) -> int | None:
    """Added tokens stand behind the vocabulary, so the highest id is the last row."""
    size = source.size(_ADDED)
    if not size or size > limits.CONFIG_BYTES:
        return None
    try:
        table = strictjson.loads(source.read(_ADDED, 0, size), what=_ADDED)
    except BadInput:
        return None
    return _highest(list(table.values())) if isinstance(table, dict) else None
