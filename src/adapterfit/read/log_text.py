"""A pasted text made plain: escape codes, markup and prefixes gone, wrapped lines joined, nothing read twice.

Every regular expression here is bounded: no repetition inside a repetition, and none without a limit.
"""

from __future__ import annotations

import html
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from adapterfit import limits
from adapterfit.read.log_packed import unpacked
from adapterfit.read.log_wrapped import unwrapped, without_prefix

_ESCAPES = re.compile(
    r"\x1b\[[0-?]{0,32}[ -/]{0,8}[@-~]"
    r"|\x1b\][^\x07\x1b]{0,2000}(?:\x07|\x1b\\)"
    r"|\x1b[@-_]"
    r"|\\(?:u001b|x1b|033)\[[0-9;]{0,32}m"
    r"|\[\d{1,3}(?:;\d{1,3}){0,4}m",
)
_INVISIBLE = re.compile("[\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\x00-\x08\x0e-\x1f\x7f]")
_BREAKING = re.compile(r"<(?:br|/p|/div|/pre|/tr|/li)\b[^<>]{0,200}>", re.IGNORECASE)
_TAG = re.compile(
    r"</?(?:span|pre|div|p|code|font|b|i|em|strong|details|summary|table|tbody|td|tr|ul|li|a|h[1-6])(?:\s[^<>]{0,500})?>",
    re.IGNORECASE,
)
_ENTITY = re.compile(r"&(?:lt|gt|amp|quot|apos|nbsp|#x?[0-9a-fA-F]{1,6});")
_PLAIN = str.maketrans(
    {"‘": "'", "’": "'", "“": '"', "”": '"', "´": "'", "\xa0": " ", "\u3000": " ", "\t": " ", "\v": " ", "\f": " "}
)
#: A JSON string on a line of its own, as notebooks store their outputs.
_JSON_LINE = re.compile(r'\s{0,80}"(?P<text>.*?)(?:\\n)?",?\s{0,80}$')
#: What an error's lines hold, and few others of a long log do.
_TELLING = (
    "Traceback (most recent call",
    "size mismatch for ",
    "Error: ",
    "missing adapter keys",
    "not loaded: ",
    "unexpected keys",
)
#: What stands in a line of an error that a progress bar is then written over.
_TOLD = ("Error", "Warning", "Exception", "Traceback", "mismatch", "keys", 'File "')
#: How often a text is escaped as HTML, at most.
_ESCAPED = 3


class Text(NamedTuple):
    """`lines` as people know them, `flat` the same on one line; line `n` starts at `starts[n]`."""

    lines: tuple[str, ...]
    flat: str
    starts: tuple[int, ...]
    left_out: int

    def line_at(self, position: int) -> int:
        """The line in which a position of `flat` lies."""
        return max(0, bisect_right(self.starts, position) - 1)


def plain(raw: str) -> Text:
    """The text without what only a screen needs."""
    kept, left_out = _shortened(raw)
    told = unpacked(kept)
    lines = _without_gaps(without_prefix(line).rstrip() for line in unwrapped(list(_lines(_unmarked(told)))))
    joined, starts = _joined(lines)
    return Text(tuple(lines), joined, tuple(starts), left_out)


def _shortened(raw: str) -> tuple[str, int]:
    """The first and the last part: errors stand at the end, versions at the beginning; of the middle, what speaks of errors."""
    most = limits.LOG_HEAD_CHARS + limits.LOG_TAIL_CHARS
    if len(raw) <= most:
        return raw, 0
    begin, end = limits.LOG_HEAD_CHARS, len(raw) - limits.LOG_TAIL_CHARS
    middle = [raw[one:other] for one, other in _telling(raw, begin, end)]
    left_out = end - begin - sum(map(len, middle))
    return "\n".join((raw[:begin], *middle, raw[end:])), left_out


def _telling(raw: str, begin: int, end: int) -> Iterator[tuple[int, int]]:
    """Stretches of the middle around its first errors, in order and apart from one another."""
    places = sorted(at for mark in _TELLING for at in _places(raw, mark, begin, end))
    read = begin
    for at in places:
        if at < read:
            continue
        stop = min(end, at + limits.LOG_STRETCH_CHARS)
        yield max(read, at - limits.LOG_STRETCH_CHARS // 8), stop
        read = stop


def _places(raw: str, mark: str, begin: int, end: int) -> Iterator[int]:
    """The first places of a mark that are a stretch apart."""
    at = raw.find(mark, begin, end)
    for _ in range(limits.LOG_STRETCHES):
        if at < 0:
            return
        yield at
        at = raw.find(mark, at + limits.LOG_STRETCH_CHARS, end)


def _unmarked(text: str) -> str:
    """Without escape codes, HTML and characters that cannot be seen; escaped line ends become real ones."""
    text = _ESCAPES.sub("", text)
    text = text.replace("\r\n", "\n")
    escaped = text.count("\\n") > 2 and text.count("\\n") > 3 * text.count("\n")
    text = text.replace("\\n\\t", "\n").replace("\\'", "'")
    if escaped:
        text = text.replace("\\n", "\n").replace("\\t", " ").replace('\\"', '"')
    if "<" in text:
        text = _TAG.sub("", _BREAKING.sub("\n", text))
    for _ in range(_ESCAPED if "&" in text else 0):
        text, number = _ENTITY.subn(lambda found: html.unescape(found.group()), text)
        if not number:
            break
    return _INVISIBLE.sub("", text.translate(_PLAIN))


def _lines(text: str) -> Iterator[str]:
    """Lines, a progress bar's last state for all of it, very long ones in pieces."""
    quoted = text.count('\\n",') > 2
    for line in text.split("\n"):
        for shown in _states(line.rstrip("\r")):
            found = _JSON_LINE.fullmatch(shown[: limits.LOG_LINE_CHARS]) if quoted else None
            told = found["text"].replace('\\"', '"').replace("\\u2502", "│") if found else shown
            for at in range(0, max(1, len(told)), limits.LOG_LINE_CHARS):
                yield told[at : at + limits.LOG_LINE_CHARS]


def _states(line: str) -> Iterator[str]:
    """What a line that was written over and over said: its last state, and before it whatever was no bar."""
    *before, last = line.split("\r")
    yield from (state for state in before if "%|" not in state and any(mark in state for mark in _TOLD))
    yield last


def _without_gaps(lines: Iterable[str]) -> list[str]:
    """One empty line for many."""
    kept: list[str] = []
    for line in lines:
        if line or (kept and kept[-1]):
            kept.append(line)
    return kept


def _joined(lines: list[str]) -> tuple[str, list[int]]:
    """All lines on one, with one space between them."""
    pieces: list[str] = []
    starts: list[int] = []
    length = 0
    for line in lines:
        words = " ".join(line.split())
        gap = " " if length else ""
        starts.append(length + len(gap))
        pieces += [gap, words]
        length += len(gap) + len(words)
    return "".join(pieces), starts
