"""How formats report: a refused file, a note, and what PEFT's own loader says to the same bytes."""

from __future__ import annotations

from typing import Any

from adapterfit.errors import BadInput
from adapterfit.read.source import Source
from adapterfit.records import Flaw, Weights
from adapterfit.text import show

#: What `safetensors` 0.8 puts before every complaint about a header.
_HEADER = "SafetensorError: Error while deserializing header: "
#: The crate's own cap of a header.
_CRATE_HEADER_BYTES = 100_000_000
_TORCH_SAYS = (
    (b"PK\x03\x04", "RuntimeError: [enforce fail at inline_container.cc"),
    (b"\x80\x02}", "RuntimeError: Invalid magic number; corrupt file?"),
)
_PICKLE = "_pickle.UnpicklingError: Weights only load failed."


def refuse(code: str, name: str, problem: str, **more: Any) -> BadInput:
    """The file is not read; `problem` continues the sentence that begins with its name."""
    return BadInput(Flaw(code=code, message=f"{show(name)} {problem}", where=name, **more))


def note(code: str, name: str, problem: str, severity: str = "warning", **more: Any) -> Flaw:
    """Something seen, the file is read all the same; by default PEFT says nothing about it."""
    more.setdefault("predicted", "silent")
    return Flaw(code=code, message=f"{show(name)} {problem}", where=name, severity=severity, refused=False, **more)


def refused(source: Source, name: str, form: str, flaw: Flaw, *others: Flaw) -> Weights:
    """A file that was not read, and why."""
    return Weights(file=name, format=form, size=source.size(name), flaws=(flaw, *others))


def header_says(problem: str) -> str:
    """The line that safetensors raises for a bad header."""
    return _HEADER + problem


def loader_says(name: str, head: bytes, size: int) -> str:
    """What PEFT's loader, which it chooses by the file's name alone, raises for bytes that are not its own."""
    if not name.lower().endswith(".safetensors"):
        return "EOFError" if size == 0 else next((said for mark, said in _TORCH_SAYS if head.startswith(mark)), _PICKLE)
    if size < 8:
        return header_says("header too small")
    length = int.from_bytes(head[:8], "little")
    if length > _CRATE_HEADER_BYTES:
        return header_says("header too large")
    return header_says("invalid header length" if length > size - 8 else "invalid JSON in header")


def impostor(
    source: Source,
    name: str,
    form: str,
    problem: str,
    remedy: str = "",
    *,
    code: str = "not-this-format",
    expected: str = "",
) -> Weights:
    """A file that is something else than weights."""
    size = source.size(name)
    said = loader_says(name, source.read(name, 0, min(size, 8)), size)
    bad = refuse(code, name, problem, remedy=remedy, expected=expected, raised=said)
    return refused(source, name, form, bad.flaw)
