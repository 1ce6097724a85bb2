"""Stage 5 of 7: plan. The cures of a report as one list of edits, conflicts left out."""

from __future__ import annotations

from adapterfit.edits import Drop, Edit, Rename
from adapterfit.records import Report


def safe_edits(report: Report) -> tuple[Edit, ...]:
    """The edits of every safe cure; of two that touch one tensor, the first."""
    chosen: list[Edit] = []
    touched: set[str] = set()
    for found in report.findings:
        if found.fix is None or found.fix.safety != "safe":
            continue
        for edit in found.fix.edits:
            name = (
                edit.old if isinstance(edit, Rename) else edit.name if isinstance(edit, Drop) else f"config:{edit.key}"
            )
            if name not in touched:
                touched.add(name)
                chosen.append(edit)
    return tuple(chosen)
