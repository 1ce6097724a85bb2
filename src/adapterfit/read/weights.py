"""One weights file → Weights: its format decided by content, never by its name."""

from __future__ import annotations

from adapterfit.discover import members
from adapterfit.read.source import Source
from adapterfit.records import Flaw, Weights
from adapterfit.text import show

#: How much of a file a format sees to say whether it is one of its own.
HEAD_BYTES = 512
_FORMATS = "adapterfit.read.formats"
#: The format PEFT's loader takes a file for, by its name alone.
_EXPECTED = {"safetensors": "safetensors", "bin": "torch", "pt": "torch", "pth": "torch", "npz": "npz"}
_FAMILY = {"torch_zip": "torch", "torch_legacy": "torch", "safetensors": "safetensors", "npz": "npz"}


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
    return found


def _extension(name: str) -> str:
    return name.rpartition(".")[2].lower()


def _refused(name: str, form: str, size: int, flaw: Flaw) -> Weights:
    return Weights(file=name, format=form, size=size, flaws=(flaw,))


def _ambiguous(name: str, claimed: list[str]) -> Flaw:
    return Flaw(
        code="ambiguous-format",
        message=f"{show(name)} can be read as {' and as '.join(claimed)}: which one is meant cannot be told",
        where=name,
    )
