"""Strings and paths: what is known of them when they are put together."""

from __future__ import annotations

import re
from collections.abc import Sequence

from adapterfit.lint.values import Text, Value

#: Weights as PEFT names them, with what browsers, copies and steps add: `adapter_model (5).bin`, `adapter_model-100.pt`.
_ADAPTER_FILE = re.compile(r"adapter_model( ?\(\d{1,4}\)|[._-][\w.-]{1,80})?\.(bin|safetensors|pt|pth)")


def concatenate(parts: Sequence[Value]) -> Value:
    """`a + b + …`, or an f-string of these parts."""
    texts = [part if isinstance(part, Text) else Text() for part in parts]
    if all(text.exact is not None for text in texts):
        whole = "".join(text.exact or "" for text in texts)
        return Text(whole, whole)
    tail = ""
    for text in reversed(texts):
        tail = (text.exact if text.exact is not None else text.tail) + tail
        if text.exact is None:
            break
    return Text(None, tail)


def join_path(parts: Sequence[Value]) -> Value:
    """`os.path.join(a, b, …)`, or `Path(a) / b`."""
    between: list[Value] = []
    for part in parts:
        between += [Text("/", "/"), part] if between else [part]
    return concatenate(between)


#: Places that `%` and `str.format` fill in.
PERCENT = re.compile(r"%(?:\(\w{1,99}\))?[-#0 +]{0,5}\d{0,5}(?:\.\d{1,5})?[a-zA-Z%]")
BRACES = re.compile(r"\{[^{}]{0,99}\}")


def filled(text: Value, places: re.Pattern[str]) -> Value:
    """A text in which something is filled in: known behind the last place."""
    parts = places.split(text.exact) if isinstance(text, Text) and text.exact is not None else []
    return Text(None, parts[-1]) if len(parts) > 1 else Value()


def file_name(text: Value) -> str:
    """The last part of a path, as far as it is known."""
    return text.tail.replace("\\", "/").rsplit("/", 1)[-1] if isinstance(text, Text) else ""


def is_adapter_file(text: Value) -> bool:
    """Whether a path ends in the name that PEFT gives an adapter's weights."""
    return _ADAPTER_FILE.fullmatch(file_name(text)) is not None
