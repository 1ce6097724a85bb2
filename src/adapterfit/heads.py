"""Heads that a PEFT neither trained nor saved: the base's own are put into the file, where its loader looks for one.

PEFT 0.15 and 0.16 trained prompts for a classifier beside the base's own head, and later ones ask the file for a head.
Measured with 0.15.2: with the base's own head the logits are the saver's. Beside the pipeline, and imported by `fix` alone.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from adapterfit.causes.dates import written_before
from adapterfit.edits import Edit, Extend, Fill
from adapterfit.embeddings import weights_of
from adapterfit.plans import Step
from adapterfit.text import quote, shorten

if TYPE_CHECKING:
    from adapterfit.read.source import Source
    from adapterfit.records import Report, Slot, TensorInfo

_CAUSE = "head-not-restored"
_PROMPTS = ("PROMPT_TUNING", "PREFIX_TUNING", "P_TUNING", "MULTITASK_PROMPT_TUNING")
_SINCE = "0.17.0"
_FLOATS = ("F64", "F32", "F16", "BF16")
_FAR = (
    "nothing in the file shows that its head was not trained and lost; PEFT 0.15 and 0.16 trained none beside a prompt"
)


def steps(now: Report) -> Iterator[Step]:
    """The step that puts the base's head into the file; unsafe, as a head that was lost would look the same.

    Args:
        now: The report on the adapter after the cures, on the records.

    Raises:
        CannotCheck: A file changed while it was read.
    """
    base, diff, method = now.case.base, now.diff, _method(now)
    if base is None or base.opened is None or diff is None or method not in _PROMPTS:
        return
    named = {name for found in now.findings if found.id == _CAUSE for name in found.at}
    lacking = [slot for slot in diff.missing if slot.key in named and not slot.optional]
    if not lacking or not written_before(now.case, _SINCE):
        return
    theirs = weights_of(base, diff.expectation.tree.class_name, diff.expectation.tree.tied)
    with contextlib.closing(base.opened):
        made = [_taken(base.opened, slot, theirs) for slot in lacking]
    if all(made):
        names = shorten(quote(slot.key) for slot in lacking)
        yield Step(
            _CAUSE,
            f"the file has no {names}: PEFT 0.15 and 0.16 left the base's own head as it was, and saved none",
            "put the base's own head into the file",
            "unsafe",
            tuple(edit for edits in made for edit in edits),
            _FAR,
        )


def _method(now: Report) -> str:
    config = now.case.adapter.config
    return config.peft_type if config is not None else ""


def _taken(base: Source, slot: Slot, theirs: Mapping[str, TensorInfo]) -> tuple[Edit, ...]:
    """A tensor without rows, and the base's rows behind them; nothing where the base has no such weight."""
    own = theirs.get(f"{slot.module}.{slot.key.rpartition('.')[2]}")
    if own is None or own.span is None or own.dtype not in _FLOATS or own.shape != slot.shape or not own.shape:
        return ()
    start, end = own.span
    digest = hashlib.sha256(base.read(own.file, start, end - start)).hexdigest()
    empty = Fill(slot.key, (0, *own.shape[1:]), own.dtype, 0.0)
    return empty, Extend(slot.key, own.file, start, end, own.shape[0], own.dtype, digest)
