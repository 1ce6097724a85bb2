"""Numbers that Python's own JSON accepts and strict JSON does not, taken out before parsing.

Real base configs hold `Infinity` (Mamba's `time_step_limit`), and a real shard index holds a `total_size` of 72
digits; transformers reads both without a word. We read the rest of such a file and say what was set aside.
"""

from __future__ import annotations

import re

from adapterfit import limits

_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*"|-?Infinity|NaN|-?[0-9]{%d,}' % (limits.JSON_DIGITS + 1), re.DOTALL)
_HINT = re.compile(rb"Infinity|NaN|[0-9]{%d}" % (limits.JSON_DIGITS + 1))


def set_aside(data: bytes) -> tuple[bytes, tuple[str, ...]]:
    """`data` with every such number outside a string as `null`, and the numbers (their first 40 characters)."""
    if not _HINT.search(data):
        return data, ()
    odd: list[str] = []

    def null(match: re.Match[bytes]) -> bytes:
        token = match.group()
        if token.startswith(b'"'):
            return token
        odd.append(token[:40].decode("ascii"))
        return b"null"

    return _TOKENS.sub(null, data), tuple(odd)
