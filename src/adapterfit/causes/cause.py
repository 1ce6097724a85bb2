"""What a cause is: one file that holds the whole truth about one bad thing.

A cause file has a docstring with the headings of a page (*What this means · Why it happens · Detection · Fix ·
Workaround · Prevention*, then the code: *Setup · Broken · Fixed*, or *Not run* with the reason), optionally
`check(case, diff)` and `examples(make)`, and `CAUSE`. Its id is the file
name with hyphens; its family is the folder. A cause that only names what a reader already saw lists the
readers' `codes` and needs no `check`.
"""

from __future__ import annotations

from collections.abc import Iterable

from adapterfit.record import dataclass
from adapterfit.records import Finding, Fix, TensorInfo

#: Facts a cause may need; where one is unknown the cause is reported as not checked.
FACTS = ("config", "weights", "base", "diff", "values")


@dataclass(frozen=True)
class Cause:
    """The head of a cause's page. `messages` are error lines that users really see; `minutes` to mend it.

    `served`: it matters to a server only, and is reported only where an engine is asked for.
    """

    severity: str = "error"
    level: str = "beginner"
    minutes: int = 5
    messages: tuple[str, ...] = ()
    versions: str = "peft >= 0.3"
    needs: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()
    served: bool = False


def finding(
    message: str,
    *,
    at: Iterable[str | TensorInfo] = (),
    predicted: str = "silent",
    severity: str = "error",
    confidence: str = "high",
    expected: str = "",
    found: str = "",
    fix: Fix | None = None,
    explains: Iterable[str] | None = None,
    code: str = "",
    differs: bool = False,
    undecided: bool = False,
    idle: bool = False,
    settles: str = "",
) -> Finding:
    """A finding of the cause that calls this; diagnose fills in the id. `explains` defaults to `at`."""
    names = tuple(item.name if isinstance(item, TensorInfo) else item for item in at)
    return Finding(
        id="",
        severity=severity,
        message=message,
        predicted=predicted,
        confidence=confidence,
        at=names,
        expected=expected,
        found=found,
        fix=fix,
        code=code,
        explains=frozenset(names if explains is None else explains),
        differs=differs,
        undecided=undecided,
        idle=idle,
        settles=settles,
    )
