"""The only gate for untrusted text: everything that came out of a file leaves through `show`."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

#: Characters that take no room, or look like a space, although Python calls them printable: fillers and selectors.
_HIDDEN = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u2800\u3164\uffa0") | frozenset(
    map(chr, (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)))
)
#: Combining marks in a row beyond this are a flood, not writing.
_MARKS = 4


def _escape(char: str) -> str:
    code = ord(char)
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def show(text: object, limit: int | None = 200) -> str:
    """Untrusted text as one inert line: whatever cannot be seen, moves text or hides in it is escaped.

    That is control, bidirectional, zero-width, private and unassigned characters, lone surrogates, spaces other than
    the plain one, and floods of combining marks. The result has at most `limit` characters: what is longer is cut,
    with its length said. Showing twice changes nothing.
    """
    raw = text if isinstance(text, str) else str(text)
    head = raw if limit is None else raw[:limit]
    shown = head if head.isascii() and head.isprintable() else _shown(head)
    if limit is None or (len(head) == len(raw) and len(shown) <= limit):
        return shown
    length = f"… ({len(raw)} characters)"
    return shown[: max(0, limit - len(length))] + length


def _shown(head: str) -> str:
    out = []
    marks = 0
    for char in unicodedata.normalize("NFC", head):
        marks = marks + 1 if unicodedata.category(char).startswith("M") else 0
        bad = not char.isprintable() or char in _HIDDEN or marks > _MARKS
        out.append(_escape(char) if bad else char)
    return "".join(out)


def quote(text: object, limit: int | None = 200) -> str:
    """`show`, in double quotes."""
    return f'"{show(text, limit)}"'


def shorten(names: Iterable[str], keep: int = 3) -> str:
    """The first few names, shown, and how many more there are."""
    listed = list(names)
    head = ", ".join(show(name, 120) for name in listed[:keep])
    return head if len(listed) <= keep else f"{head} and {len(listed) - keep} more"
