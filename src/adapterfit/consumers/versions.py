"""Versions of libraries and engines: their order, and ranges of them such as `>=0.14,<0.19.1`."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import NamedTuple

_NUMBER = re.compile(r"\d{1,9}")
_EARLY = re.compile(r"\d[._-]?(?:dev|a|alpha|b|beta|rc)\.?\d*", re.IGNORECASE)
_PART = re.compile(r"\s*(?P<sign>[<>]=?|==|!=)\s*(?P<version>[A-Za-z]{0,3}[0-9][0-9A-Za-z.+_-]{0,40})\s*")
_SIGNS: Mapping[str, Callable[[Version, Version], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}


class Version(NamedTuple):
    """Comparable: `0.14` equals `0.14.0`, `0.14.0.dev0` comes before it, `b6500` is the number 6500."""

    numbers: tuple[int, ...]
    final: bool


@cache
def version(text: str) -> Version:
    """A version by the numbers in it; what stands behind a `+` or `@` counts for nothing.

    Raises:
        ValueError: There is no number in it.
    """
    plain = re.split(r"[+@]", text, maxsplit=1)[0]
    early = _EARLY.search(plain)
    numbers = [int(found) for found in _NUMBER.findall(plain[: early.start() + 1] if early else plain)]
    if not numbers:
        raise ValueError(f"no version: {text!r}")
    while len(numbers) > 1 and numbers[-1] == 0:
        numbers.pop()
    return Version(tuple(numbers), early is None)


class Range(NamedTuple):
    """All versions that satisfy every part; no part means every version."""

    text: str
    parts: tuple[tuple[str, Version], ...]

    def __contains__(self, given: object) -> bool:
        """Whether a version lies in the range; `given` is its text."""
        return all(_SIGNS[sign](version(str(given)), bound) for sign, bound in self.parts)


@cache
def version_range(text: str) -> Range:
    """`>=0.14,<0.19.1` as a range; an empty text is every version.

    Raises:
        ValueError: A part is not a sign and a version.
    """
    parts = []
    for part in text.split(",") if text.strip() else []:
        match = _PART.fullmatch(part)
        if match is None:
            raise ValueError(f"no version range: {text!r}")
        parts.append((match["sign"], version(match["version"])))
    return Range(text, tuple(parts))
