"""The only gate for untrusted text: everything that came out of a file leaves through `show`."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

#: Characters that move, hide or reorder text although Unicode calls some of them printable.
_HIDDEN = frozenset("\u061c\u200b\u200c\u200d\u200e\u200f\u2028\u2029\u2060\ufeff\u00ad") | frozenset(
    chr(c) for c in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))
)
_BAD_CATEGORIES = frozenset(("Cc", "Cs", "Co", "Cn"))
#: Combining marks in a row beyond this are a flood, not writing.
_MARKS = 4


def _escape(char: str) -> str:
    code = ord(char)
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def show(text: object, limit: int | None = 200) -> str:
    """Untrusted text as one inert line: control, bidi, zero-width, private and unassigned characters escaped.

    Longer than `limit` characters is cut, with the length said. Showing twice changes nothing.
    """
    raw = text if isinstance(text, str) else str(text)
    cut = limit is not None and len(raw) > limit
    head = raw[:limit] if cut else raw
    if head.isascii() and head.isprintable():
        shown = head
    else:
        shown = _shown(head)
    return f"{shown}… ({len(raw)} characters)" if cut else shown


def _shown(head: str) -> str:
    out = []
    marks = 0
    for char in unicodedata.normalize("NFC", head):
        category = unicodedata.category(char)
        marks = marks + 1 if category.startswith("M") else 0
        bad = category in _BAD_CATEGORIES or char in _HIDDEN or marks > _MARKS
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
