"""Traceback or log text → Symptoms. What is cut, coloured, wrapped or marked up is normal here.

Everything that is taken out stays data: a name, a number, the line it was read from.
"""

from __future__ import annotations

import codecs

from adapterfit.read import log_facts, log_keys, log_shapes, log_statements, log_trace
from adapterfit.read.log_text import plain
from adapterfit.symptoms import Symptoms


def read_log(raw: str) -> Symptoms:
    """Everything a pasted text tells about an adapter that does not load."""
    text = plain(raw)
    folded = text.flat.lower()
    if len(folded) != len(text.flat):  # a few letters fold into two: positions would move
        folded = "".join(char.lower() if len(char.lower()) == 1 else char for char in text.flat)
    frames = log_trace.frames(text)
    errors, warnings = log_trace.errors(text, frames)
    missing, unexpected, said = log_keys.keys(text, folded)
    return Symptoms(
        lines=text.lines,
        text=text.flat,
        folded=folded,
        starts=text.starts,
        errors=errors,
        warnings=warnings,
        frames=frames,
        missing=missing,
        unexpected=unexpected,
        keys=said,
        misshapen=log_shapes.shapes(text),
        targets=log_facts.targets(text),
        arguments=log_facts.arguments(text),
        files=log_facts.files(text),
        urls=log_facts.urls(text),
        statements=log_statements.statements(text, folded),
        versions=log_facts.versions(text),
        left_out=text.left_out,
    )


def decode(data: bytes) -> str:
    """Bytes of a text file as text: UTF-8, or UTF-16 where a mark says so; what is neither is replaced."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", errors="replace")
    return data.decode("utf-8", errors="replace")
