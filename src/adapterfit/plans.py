"""The frozen records of a repair: what a tensor is made of, the plan, the receipt. Beside `records.py`, for the last three stages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from adapterfit.edits import Edit
from adapterfit.record import dataclass
from adapterfit.records import TensorInfo


@dataclass(frozen=True)
class Made:
    """A tensor as edits make it: `info` is its name, dtype and shape then.

    `source` is set where its bytes are those of one tensor of the file, as they are (a Rename, a Copy and a Reshape keep
    them). Else `by` is the edit that made it out of the tensors `of`, in the order the edit names them; `part` is its place
    among the pieces of a Split.
    """

    info: TensorInfo
    source: TensorInfo | None = None
    by: Edit | None = None
    of: tuple[Made, ...] = ()
    part: int = 0


@dataclass(frozen=True)
class Step:
    """One cure of a plan: the cause it is for, why, and its edits. `far` says of an unsafe one how far it goes, or why."""

    cause: str
    why: str
    summary: str
    safety: str
    edits: tuple[Edit, ...] = ()
    far: str = ""


@dataclass(frozen=True)
class Plan:
    """What a repair will do, in order.

    `sources`: the adapter's files, name → sha256 of the bytes that the plan is about. `left_out` are cures that were not
    taken, as they are unsafe; `refused` are repairs with more than one reading, and what each would be. `before` and `after` are verdicts of a check,
    `after` on the records alone; `remaining` says what would still be wrong.
    """

    adapter: str
    steps: tuple[Step, ...] = ()
    left_out: tuple[Step, ...] = ()
    refused: tuple[str, ...] = ()
    before: str = ""
    after: str = ""
    remaining: tuple[str, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)

    @property
    def edits(self) -> tuple[Edit, ...]:
        """All edits in order."""
        return tuple(edit for step in self.steps for edit in step.edits)
