"""One weights file → Weights: its format decided by content, never by its name."""

from __future__ import annotations

from dataclasses import replace

from adapterfit.discover import members
from adapterfit.read.formats import _names
from adapterfit.read.formats._flaws import loader_says, note
from adapterfit.read.source import Source
from adapterfit.records import Flaw, Weights
from adapterfit.text import show

#: How much of a file a format sees to say whether it is one of its own.
HEAD_BYTES = 512
_FORMATS = "adapterfit.read.formats"
#: The loader PEFT chooses by a file's name, and the one its content needs.
_BY_NAME = {"safetensors": "safetensors", "bin": "torch", "pt": "torch", "pth": "torch"}
_BY_CONTENT = {"torch_zip": "torch", "torch_legacy": "torch", "safetensors": "safetensors", "npz": "npz"}


def read_weights(source: Source, name: str) -> Weights:
    """Read the header of one weights file.

    Anything the file does wrong is a flaw of the result.

    Raises:
        CannotCheck: The file is not there, must not be read, or changed meanwhile.
    """
    size = source.size(name)
    head = source.read(name, 0, min(size, HEAD_BYTES))
    formats = members(_FORMATS)
    claimed = [each for each, module in formats.items() if module.claims(head, size)]
    if len(claimed) > 1:
        return _refused(name, "ambiguous", size, _ambiguous(name, claimed))
    if not claimed:
        claimed = ["safetensors"] if _extension(name) == "safetensors" else ["unknown"]
    found: Weights = formats[claimed[0]].read(source, name)
    source.size(name)  # raises if another file has taken its place meanwhile
    if found.refused:
        return found
    remarks = [*_wrong_extension(found, head), *_names.remarks(name, found.tensors)]
    return replace(found, flaws=(*found.flaws, *remarks)) if remarks else found


def _extension(name: str) -> str:
    return name.rpartition(".")[2].lower()


def _wrong_extension(found: Weights, head: bytes) -> list[Flaw]:
    loader = _BY_NAME.get(_extension(found.file))
    content = _BY_CONTENT.get(found.format)
    if loader is None or loader == content:
        return []
    said = loader_says(found.file, head, found.size)
    problem = f"is a {content} file by its content; PEFT goes by the name and fails on it. Rename it to what it is"
    return [
        note("wrong-extension", found.file, problem, "error", predicted="raises", raised=said, remedy="rename the file")
    ]


def _refused(name: str, form: str, size: int, flaw: Flaw) -> Weights:
    return Weights(file=name, format=form, size=size, flaws=(flaw,))


def _ambiguous(name: str, claimed: list[str]) -> Flaw:
    return Flaw(
        code="ambiguous-format",
        message=f"{show(name)} can be read as {' and as '.join(claimed)}: which one is meant cannot be told",
        where=name,
    )
