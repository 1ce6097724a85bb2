"""When a report is a reason not to go on, and how that is said in one line."""

from __future__ import annotations

from collections.abc import Collection

from adapterfit.errors import AdapterMisfit
from adapterfit.records import Finding, Report
from adapterfit.report._words import PREDICTIONS
from adapterfit.text import shorten, show

#: Predictions under which every tensor is applied, so that the findings alone decide.
_APPLIED = ("loads", "loads-differently")
#: One line, however long the names in it are.
_CHARS = 2_000


def refuse_misfit(report: Report, allow: Collection[str] = ()) -> None:
    """Raise unless the report says *fits*, or `allow` names what it says instead.

    Args:
        report: Of the adapter on the model it is loaded into.
        allow: Predictions (`loads-partly`) and ids of findings (`base-changed`) that are accepted.

    Raises:
        AdapterMisfit: The adapter does not fit.
    """
    if report.predicted in allow:
        return
    wrong = [
        found for found in report.findings if (found.severity == "error" or found.differs) and found.id not in allow
    ]
    if wrong or report.predicted not in _APPLIED:
        raise AdapterMisfit(show(_said(report, wrong), _CHARS), report, wrong[0].at if wrong else ())


def _said(report: Report, wrong: list[Finding]) -> str:
    label = show(report.case.adapter.label)
    base = show(report.case.base.label) if report.case.base is not None else "no base"
    line = f"{label} does not fit {base}: PEFT alone {PREDICTIONS[report.predicted]}"
    if report.predicted == "cannot-tell":
        why = shorten((entry.why for entry in report.not_checked), 2)
        line = (
            f'{label} cannot be checked against {base} ({why}); allow=("cannot-tell",) loads it and relies on the proof'
        )
    if not wrong:
        return line
    first = wrong[0]
    more = f" (and {len(wrong) - 1} more findings)" if len(wrong) > 1 else ""
    fix = f" Fix: {first.fix.summary}." if first.fix is not None else ""
    return f"{line}. {first.id}: {first.message}{more}.{fix} See: adapterfit explain {first.id}"
