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
#: What torch says to anything that is neither its archive nor a pickle it understands.
PICKLE_SAYS = "_pickle.UnpicklingError: Weights only load failed."
_TORCH_SAYS = (
    (b"PK\x03\x04", "RuntimeError"),
    (b"\x80\x02}", "RuntimeError: Invalid magic number; corrupt file?"),
)
#: First bytes that torch takes for an instruction of a pickle, and then raises one thing or another.
_INSTRUCTIONS = b"\x80(t\x85\x86\x87)]}N\x88\x89JKM\x8aGXUqrhjcRQaesub.\x81\x8f"
#: Flaws to which loaders react in one way or another, or not at all: no prediction without a reason.
_UNSAID = frozenset(("over-limit", "archive-ambiguous", "malformed", "unsupported", "pickle-not-plain"))


def refuse(code: str, name: str, problem: str, **more: Any) -> BadInput:
    """The file is not read; `problem` continues the sentence that begins with its name."""
    more.setdefault("predicted", "none" if code in _UNSAID and not more.get("raised") else "raises")
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
        return _torch_says(head, size)
    if size < 8:
        return header_says("header too small")
    length = int.from_bytes(head[:8], "little")
    if length > _CRATE_HEADER_BYTES:
        return header_says("header too large")
    return header_says("invalid header length" if length > size - 8 else "invalid JSON in header")


def _torch_says(head: bytes, size: int) -> str:
    if size == 0:
        return "EOFError"
    known = next((said for mark, said in _TORCH_SAYS if head.startswith(mark)), "")
    return known or ("" if head[:1] in _INSTRUCTIONS else PICKLE_SAYS)


def impostor(
    source: Source,
    name: str,
    form: str,
    problem: str,
    remedy: str = "",
    *,
    code: str = "not-this-format",
    expected: str = "",
    raised: str = "",
) -> Weights:
    """A file that is something else than weights."""
    size = source.size(name)
    said = raised or loader_says(name, source.read(name, 0, min(size, 8)), size)
    bad = refuse(code, name, problem, remedy=remedy, expected=expected, raised=said, predicted="raises")
    return refused(source, name, form, bad.flaw)
