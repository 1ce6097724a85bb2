"""`# noqa: adapterfit` and `# noqa: adapterfit[rule-id, rule-id]`: what somebody has looked at and found right."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterable, Mapping

_COMMENT = re.compile(r"#\s*noqa\s*:\s*(?P<codes>[^#]*)", re.IGNORECASE)
_OURS = re.compile(r"(?<![\w-])adapterfit(?:\[(?P<ids>[^\]]*)\])?(?![\w-])")
#: Stands for every rule.
EVERY = "*"


def suppressions(text: str) -> Mapping[int, frozenset[str]]:
    """Line → the ids of the rules that are silenced on it; `*` for all."""
    if "noqa" not in text.lower():
        return {}
    found: dict[int, frozenset[str]] = {}
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.COMMENT:
                ids = _ids(token.string)
                if ids:
                    found[token.start[0]] = ids
    except (tokenize.TokenError, SyntaxError):
        pass  # what was read up to there still counts
    return found


def _ids(comment: str) -> frozenset[str]:
    directive = _COMMENT.search(comment)
    if directive is None:
        return frozenset()
    ids: set[str] = set()
    for ours in _OURS.finditer(directive.group("codes")):
        listed = ours.group("ids")
        ids |= {EVERY} if listed is None else {part.strip() for part in listed.split(",") if part.strip()}
    return frozenset(ids)


def silenced(rule: str, lines: Iterable[int], found: Mapping[int, frozenset[str]]) -> bool:
    """Whether a hit of `rule` on these lines is silenced."""
    return any({rule, EVERY} & found.get(line, frozenset()) for line in lines)
