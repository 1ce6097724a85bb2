"""Stage 5 of 7: plan. The cures of a report as one list of edits, conflicts left out."""

from __future__ import annotations

from adapterfit.edits import OF_CONFIG, Edit, makes, uses
from adapterfit.records import Report


def safe_edits(report: Report) -> tuple[Edit, ...]:
    """The edits of every safe cure, each cure whole; of two that touch one tensor or field, the first."""
    chosen: list[Edit] = []
    touched: set[str] = set()
    for found in report.findings:
        if found.fix is None or found.fix.safety != "safe":
            continue
        names = {name for edit in found.fix.edits for name in touches(edit)}
        if not names & touched:
            touched |= names
            chosen.extend(found.fix.edits)
    return tuple(chosen)


def touches(edit: Edit) -> tuple[str, ...]:
    """What two cures must not both have: the names of tensors before and after, and the fields of the config."""
    if isinstance(edit, OF_CONFIG):
        return (f"config:{edit.key}",)
    return tuple(f"tensor:{name}" for name in (*uses(edit), *makes(edit)))
