"""What a base holds today where a stamp says what it held: read only for an adapter that has a stamp."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapterfit.read import samples
from adapterfit.read.source import Source
from adapterfit.read.vocabulary import vocabulary_digest
from adapterfit.records import Seen, Stamp, TensorInfo


def in_files(source: Source, places: Mapping[str, TensorInfo], stamp: Stamp, *, full: bool = False) -> Seen:
    """Of a base on disk. `places`: name of a parameter at runtime → its tensor in the files.

    Raises:
        CannotCheck: A file changed while it was read.
    """
    wanted = {name: places[name] for name in stamp.content if name in places}
    found = samples.of_files(source, wanted, full=full)
    return Seen(found, vocabulary_digest(source) if stamp.tokenizer else "", _why_not(stamp, found))


def in_module(model: Any, stamp: Stamp, *, full: bool = False) -> Seen:
    """Of a live model, which has no tokenizer."""
    own = dict(model.named_parameters(remove_duplicate=False)) if stamp.content else {}
    found = {}
    for name in stamp.content:
        sample = samples.of_live(own[name], full=full) if name in own else None
        if sample is not None:
            found[name] = sample
    return Seen(found, "", _why_not(stamp, found))


def _why_not(stamp: Stamp, found: Mapping[str, object]) -> str:
    lacking = len(stamp.content) - len(found)
    if not lacking:
        return ""
    which = "none" if not found else f"{len(found)}"
    return (
        f"{which} of the {len(stamp.content)} weights that {stamp.file} knows can be read from this base: they are packed "
        "(quantised), joined or split on the way, or not there"
    )
