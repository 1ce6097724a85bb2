"""Strict JSON: what Python's own `json` lets through and no other reader would, is refused here by name.

Closed traps: duplicate keys (Python keeps the last), `NaN`/`Infinity`/`1e400`, lone surrogates, numbers of
thousands of digits (a plain `ValueError`), thousands of brackets (`RecursionError`), a byte order mark.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from adapterfit import limits
from adapterfit.errors import BadInput
from adapterfit.records import Flaw
from adapterfit.text import quote

_SURROGATE = re.compile("[\ud800-\udfff]")
#: Only where one occurs does every number go through `_int`: a call per number is a third of the whole cost.
_LONG_NUMBER = re.compile(rb"[0-9]{%d}" % (limits.JSON_DIGITS + 1))
_STRING = re.compile(rb'"[^"]*"?')
_BRACKETS = bytes.maketrans(b"[]{}", b"()()")
_NOT_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")


class DuplicateKeyError(ValueError):
    """One key twice in one object: readers differ on which they keep."""

    def __init__(self, key: str, values: tuple[Any, ...]) -> None:
        super().__init__(key)
        self.key = key
        self.values = values


class Pairs(dict):  # type: ignore[type-arg]
    """A JSON object that remembers which keys stood in it more than once, and with which values."""

    twice: tuple[tuple[str, tuple[Any, ...]], ...] = ()


def loads(
    data: bytes,
    *,
    limit_depth: int = limits.JSON_DEPTH,
    what: str,
    code: str = "header-not-json",
    duplicates: str = "refuse",
) -> object:
    """Parse `data` as UTF-8 JSON; the result holds dict, list, str, int, float, bool and None only.

    Args:
        data: All bytes of the document.
        limit_depth: Deepest nesting of brackets that is accepted.
        what: What is being read, for the message (`adapter_config.json`), already safe to print.
        code: The flaw's code.
        duplicates: `refuse`, or `keep`: then every object is a `Pairs` whose `twice` lists the repeated keys.

    Raises:
        BadInput: For anything that strict JSON readers refuse, with the place in the file.
    """
    text = _decoded(data, what, code)
    if nesting(data, limit_depth) > limit_depth:
        raise _bad(code, what, f"is nested more than {limit_depth} levels deep")
    hook = _unique if duplicates == "refuse" else _pairs
    try:
        parsed: object = json.loads(
            text,
            object_pairs_hook=hook,
            parse_constant=_constant,
            parse_float=_float,
            parse_int=_int if _LONG_NUMBER.search(data) else None,
        )
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise _bad(code, what, f"is not JSON: {_reason(error, text)} ({place})") from None
    except DuplicateKeyError as error:
        raise _bad("duplicate-key", what, f"has the key {quote(error.key)} twice in one object") from None
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deep" if isinstance(error, RecursionError) else str(error)
        raise _bad(code, what, f"is not JSON: {reason}") from None
    if "\\u" in text and has_surrogate(parsed):
        raise _bad(code, what, "is not JSON: it holds half of a character (a lone surrogate)")
    return parsed


def _decoded(data: bytes, what: str, code: str) -> str:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        kind = "UTF-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else f"no UTF-8 at byte {error.start}"
        raise _bad(code, what, f"is not JSON: it is {kind}") from None
    if text.startswith("\ufeff"):
        raise _bad(code, what, "is not JSON: it starts with a byte order mark (byte 0)")
    return text


def nesting(data: bytes, stop: int) -> int:
    """How deep the brackets of `data` go, those in strings left out; exact only where it may exceed `stop`.

    In passes of C code that each take away the innermost brackets, so that no stack is needed.
    """
    if data.count(b"{") + data.count(b"[") <= stop:
        return 0
    bare = _STRING.sub(b"", data.replace(b"\\\\", b"").replace(b'\\"', b"")).translate(_BRACKETS, _NOT_BRACKETS)
    depth = 0
    while bare and depth <= stop:
        inner = bare.replace(b"()", b"")
        if len(inner) == len(bare):  # brackets that never close
            return stop + 1 if bare.count(b"(") > stop else depth
        bare, depth = inner, depth + 1
    return depth


def has_surrogate(value: object) -> bool:
    """Whether any string in a parsed document holds a lone surrogate."""
    return any(_SURROGATE.search(text) for text in strings(value))


def strings(value: object) -> Iterator[str]:
    """All strings of a parsed document, keys too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise DuplicateKeyError(key, tuple(value for name, value in pairs if name == key))
            seen.add(key)
    return found


def _pairs(pairs: list[tuple[str, Any]]) -> Pairs:
    found = Pairs(pairs)
    if len(found) != len(pairs):
        values: dict[str, list[Any]] = {}
        for key, value in pairs:
            values.setdefault(key, []).append(value)
        found.twice = tuple((key, tuple(each)) for key, each in values.items() if len(each) > 1)
    return found


def _constant(name: str) -> float:
    raise ValueError(f"{name} is not a number in JSON")


def _float(digits: str) -> float:
    value = float(digits[:400])
    if value in (float("inf"), float("-inf")) or len(digits) > 400:
        raise ValueError("a number is too large")
    return value


def _int(digits: str) -> int:
    if len(digits.lstrip("-")) > limits.JSON_DIGITS:
        raise ValueError(f"a number has {len(digits)} digits")
    return int(digits)


def _reason(error: json.JSONDecodeError, text: str) -> str:
    if error.pos >= len(text.rstrip()):
        return "it ends too early"
    if error.msg == "Extra data":
        return "something follows its end"
    return error.msg[:1].lower() + error.msg[1:]


def _bad(code: str, what: str, problem: str) -> BadInput:
    return BadInput(Flaw(code=code, message=f"{what} {problem}", where=what))
