"""Text under the name of weights: an error message, JSON, a script, a placeholder."""

from __future__ import annotations

from adapterfit.read.formats import html, lfs_pointer, raw_pickle
from adapterfit.read.formats._flaws import impostor
from adapterfit.read.source import Source
from adapterfit.records import Weights
from adapterfit.text import quote

_PRINTABLE = frozenset(range(0x20, 0x7F)) | frozenset(b"\t\r\n\f") | frozenset(range(0x80, 0x100))


def claims(head: bytes, size: int) -> bool:
    """Whether all of it is readable UTF-8, and no other member knows what kind of text it is."""
    if not head or not _PRINTABLE.issuperset(head) or not _is_utf8(head, size):
        return False
    return not any(other.claims(head, size) for other in (html, lfs_pointer, raw_pickle))


def _is_utf8(head: bytes, size: int) -> bool:
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start > 0 and size > len(head) and error.start >= len(head) - 3  # a character cut by the window
    return True


def read(source: Source, name: str) -> Weights:
    """Refused, with its first words."""
    size = source.size(name)
    words = source.read(name, 0, min(size, 80)).decode("utf-8", "replace").strip()
    kind = "JSON" if words[:1] in ("{", "[") else "text"
    problem = f"is {kind} ({size:,} bytes), not weights. It says: {quote(words)}"
    return impostor(source, name, "text", problem, "download it again")
