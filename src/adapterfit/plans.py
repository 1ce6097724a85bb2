"""The frozen records of a repair: what a tensor is made of, the plan, the receipt. Beside `records.py`, for the last three stages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field

from adapterfit.edits import Edit, Rename, SetFormat
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
    """One cure of a plan: the cause it is for, why, and its edits.

    `safety`: `safe` is provably without effect on what the adapter computes; `told` is as right as what the user said, which
    nothing in the files shows; `unsafe` may change it. `far` says of the last two how far, or why.
    """

    cause: str
    why: str
    summary: str
    safety: str
    edits: tuple[Edit, ...] = ()
    far: str = ""


@dataclass(frozen=True)
class FileHash:
    """A file as it was or is: bytes, and sha256 of them in hexadecimal."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Plan:
    """What a repair will do, in order.

    `sources`: the adapter's files that the plan is about. `left_out` are cures that were not
    taken, as they are unsafe; `refused` are repairs with more than one reading, and what each would be. `before` and `after` are verdicts of a check,
    `after` on the records alone; `remaining` says what would still be wrong, `unknown` why it cannot be told whether it fits.
    """

    adapter: str
    steps: tuple[Step, ...] = ()
    left_out: tuple[Step, ...] = ()
    refused: tuple[str, ...] = ()
    before: str = ""
    after: str = ""
    remaining: tuple[str, ...] = ()
    sources: Mapping[str, FileHash] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()

    @property
    def edits(self) -> tuple[Edit, ...]:
        """All edits in order."""
        return chained(self.steps)


def chained(steps: Iterable[Step]) -> tuple[Edit, ...]:
    """The edits of one step after the other. Renames of two steps do not happen at once: the new file stands between them."""
    edits: list[Edit] = []
    for step in steps:
        if edits and step.edits and isinstance(edits[-1], Rename) and isinstance(step.edits[0], Rename):
            edits.append(SetFormat())
        edits.extend(step.edits)
    return tuple(edits)


@dataclass(frozen=True)
class Shown:
    """One thing that was looked at to prove a repair.

    `outcome`: `proven`, `failed` or `not-checked`; `detail` says what was compared, with figures, or why it was not.
    """

    what: str
    outcome: str
    detail: str


@dataclass(frozen=True)
class Proof:
    """Everything that was looked at, by other means than those that wrote."""

    shown: tuple[Shown, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether nothing failed, and something was proven."""
        outcomes = {one.outcome for one in self.shown}
        return "failed" not in outcomes and "proven" in outcomes


@dataclass(frozen=True)
class Receipt:
    """What a repair did. `out` is empty where nothing was written: there was nothing to do, or nothing that may be done.

    `files`: what became of each file of the adapter, and of each new one: `copied`, `rewritten`, `new` or
    `left out: WHY`. `before` and `after` are the adapter's and the copy's files (without receipt.json itself). `swept` are
    staging folders of earlier processes that were found beside it and removed.
    """

    plan: Plan
    out: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    before: Mapping[str, FileHash] = field(default_factory=dict)
    after: Mapping[str, FileHash] = field(default_factory=dict)
    proof: Proof = Proof()
    versions: Mapping[str, str] = field(default_factory=dict)
    swept: tuple[str, ...] = ()
