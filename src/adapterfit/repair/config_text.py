"""adapter_config.json written again: its key order, indentation and every field that no edit names stay as they were."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

_INDENT = re.compile(r"\A\s*\{[ \t]*\r?\n([ \t]+)\S")
#: How PEFT writes its configs.
_USUAL = "  "


def rewritten(original: bytes | None, fields: Mapping[str, Any]) -> bytes:
    """The config with these fields, laid out as the original was; as PEFT does where there was none.

    Characters beyond ASCII are escaped unless the original had some as they are.
    """
    text = original.decode("utf-8", "replace") if original is not None else "{\n  \n}"
    found = _INDENT.match(text)
    indent = found[1] if found else _USUAL if original is None else None
    plain = text.isascii() or any("\ud800" <= char <= "\udfff" for char in json.dumps(fields, ensure_ascii=False))
    separators = (",", ":") if indent is None and '": ' not in text else None
    body = json.dumps(fields, indent=indent, ensure_ascii=plain, separators=separators)
    if "\r\n" in text:
        body = body.replace("\n", "\r\n")
    ending = text[len(text.rstrip()) :] if original is not None else ""
    return (body + ending).encode("utf-8")
