"""Lines as they were written: without what a log writer put before them, and joined where a terminal's edge cut them.

A text was cut at an edge where two lines or more have the length of the longest one, with their prefixes. Such a line goes on in
the next, unless that one begins as lines of a traceback or of a list do. Prefixes may stand before each piece or before the first.
"""

from __future__ import annotations

import re
from collections import Counter

from adapterfit import limits

#: What log writers put before a line: boxes, ranks, processes, times. Taken off one after the other.
_PREFIX = re.compile(
    r"\s{0,200}(?:[│┃┆|❱❯╭╰╮╯─━┌└├┐┘]{1,200}(?=\s|$)"
    r"|\[?rank\s?\d{1,5}\]?:"
    r"|\(\w{1,40} (?:pid|rank|ip)=[^()\n]{1,80}\)"
    r"|\[?\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z|[+-]\d\d:?\d\d)?\]?"
    r"|\[?\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d{1,6})?\]?"
    r"|\[?\d\d:\d\d:\d\d(?:[.,]\d{1,6})?\]?(?=\s))"
)
_PREFIXES = 8
_BOX = "│┃┆|"
_FRAME = " │┃|"
#: Terminals are so wide: two lines of the same length, and none longer, were cut by their edge.
_NARROW, _WIDE = 60, 400
#: Widths of terminals that cut a single line, in a text of so few.
_USUAL, _SHORT = (80, 100, 120), 4
#: Pieces of one line that are joined.
_PIECES = limits.LOG_LINE_CHARS // _WIDE
#: Lines that are shorter by so much, or less: where there are as many of them, the text was broken at words, not at an edge.
_NEAR = 12
#: How a line begins that goes on with none: lines of code, frames and heads of a traceback, errors, log levels, rules.
_BEGINS = re.compile(
    r" {2}|Traceback \(|File \"|During handling|The above exception|(?:[a-z_]\w{0,60}\.){0,8}[A-Z]\w{1,60}(?:Error|Exception|Warning)\b"
    r"|(?:DEBUG|INFO|WARN|WARNING|ERROR)\b|size mismatch|lora key not|[-=─━~^]{4}"
)
#: Lines of a list or a log begin alike: so many characters.
_ALIKE = 12


def without_prefix(line: str) -> str:
    """The line behind its prefixes; of a box also without its right side."""
    at = prefix_ends(line)
    return line[at:].rstrip(_FRAME) if at else line


def prefix_ends(line: str) -> int:
    """Where the text of a line begins."""
    at = 0
    for _ in range(_PREFIXES):
        found = _PREFIX.match(line, at)
        if found is None:
            break
        at = found.end()
    if at and line[at - 1] in _BOX and line[at : at + 1] == " ":
        at += 1  # the box's own margin
    return at


def unwrapped(lines: list[str]) -> list[str]:
    """The lines, those that were cut joined to what they were."""
    bare = [_inside(line) for line in lines]
    edge = _side(lines) or _edge(bare)
    if not edge:
        return lines
    whole: list[str] = []
    parts: list[str] = []
    for number, line in enumerate(bare):
        parts.append(_rest(line, parts[0]) if parts else lines[number] if len(line) < edge else line)
        after = bare[number + 1] if number + 1 < len(bare) else ""
        if len(line) == edge and len(parts) < _PIECES and _goes_on(line, after):
            continue
        whole.append("".join(parts))
        parts = []
    return whole


def _inside(line: str) -> str:
    """A line without the right side of its box."""
    return line.rstrip()[:-1].rstrip() if _is_boxed(line) else line


def _is_boxed(line: str) -> bool:
    """Whether a line stands between the sides of a box."""
    right = line.rstrip()
    return len(right) > 1 and right[-1] in _BOX and right.lstrip()[0] in _BOX


def _side(lines: list[str]) -> int:
    """The length at which a box ends that most of the lines stand in, without its margin; 0 where there is none."""
    boxed = Counter(len(line.rstrip()) for line in lines if _is_boxed(line))
    length, number = max(boxed.items(), key=lambda found: found[1], default=(0, 0))
    return length - 2 if _NARROW <= length <= _WIDE and number * 2 > len(lines) else 0


def _edge(lines: list[str]) -> int:
    """The length at which lines were cut; 0 where none were."""
    lengths = Counter(map(len, lines))
    longest = max(lengths, default=0)
    if len(lines) <= _SHORT and longest in _USUAL:  # a line or two that somebody pastes
        return longest
    near = sum(lengths[length] for length in range(longest - _NEAR, longest))  # broken at words
    return longest if _NARROW <= longest <= _WIDE and lengths[longest] > max(1, near) else 0


def _goes_on(line: str, after: str) -> bool:
    """Whether a full line goes on in the next one."""
    text, following = (
        line[prefix_ends(line) :].lstrip(),
        after[prefix_ends(after) :] if _prefixed(line, after) else after,
    )
    following = following[1:] if _spaced(line, after) else following
    if not following.strip() or _BEGINS.match(following):
        return False
    return text[:_ALIKE] != following.lstrip()[:_ALIKE]


def _rest(line: str, first: str) -> str:
    """A piece of a line without the prefix that the first piece has, too."""
    if not _prefixed(first, line):
        return line
    at = prefix_ends(line)
    return line[at + 1 :] if _spaced(first, line) else line[at:]


def _prefixed(line: str, after: str) -> bool:
    """Whether both lines have a prefix."""
    return bool(prefix_ends(line) and prefix_ends(after))


def _spaced(line: str, after: str) -> bool:
    """Whether one space belongs to the prefix of both lines."""
    return _prefixed(line, after) and all(
        one[at : at + 1] == " " and one[at - 1 : at] not in _BOX + " "
        for one in (line, after)
        for at in [prefix_ends(one)]
    )
