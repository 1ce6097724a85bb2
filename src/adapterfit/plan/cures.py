"""Stage 5 of 7: plan. Which cures of a report go into a plan, conflicts left out."""

from __future__ import annotations

from collections.abc import Iterable

from adapterfit.edits import OF_CONFIG, Edit, Gather, makes, uses
from adapterfit.plans import Step, chained
from adapterfit.records import Finding, Report

#: A note is no reason to write anything.
_WORTH = ("error", "warning")


def cures(report: Report) -> tuple[Step, ...]:
    """Every cure of the report that consists of edits, those of the gravest findings first."""
    found = [finding for finding in report.findings if finding.severity in _WORTH]
    return tuple(_step(finding) for finding in found if finding.fix is not None and finding.fix.edits)


def safe_edits(report: Report) -> tuple[Edit, ...]:
    """The edits of every safe cure of the report, those of notes too, as one turn of mending takes them."""
    found = [finding for finding in report.findings if finding.fix is not None and finding.fix.safety == "safe"]
    return chained(apart(map(_step, found)))


def apart(steps: Iterable[Step], *, unsafe: bool = False) -> tuple[Step, ...]:
    """Safe steps that touch different tensors and fields; of two that touch one, the first. Each is taken whole.

    With `unsafe` the others too, after the safe ones.
    """
    chosen: list[Step] = []
    touched: set[str] = set()
    wanted = [step for step in steps if step.safety != "unsafe" or unsafe]
    for step in sorted(wanted, key=lambda step: step.safety != "safe"):
        names = {name for edit in step.edits for name in touches(edit)}
        if not names & touched:
            touched |= names
            chosen.append(step)
    return tuple(chosen)


def readings(report: Report) -> tuple[str, ...]:
    """Repairs that can be read in more than one way, and what each reading would be: none of them is carried out."""
    found = [finding for finding in report.findings if finding.fix is not None and finding.fix.readings]
    return tuple(
        f"{finding.id}: {' — or: '.join(finding.fix.readings)}" for finding in found if finding.fix is not None
    )


def stays(finding: Finding) -> bool:
    """Whether no cure of another cause can take this away: it is in how the adapter was made, not in names or shapes."""
    return (finding.differs or finding.undecided) and (finding.fix is None or finding.fix.safety != "safe")


def touches(edit: Edit) -> tuple[str, ...]:
    """What two cures must not both have: the names of tensors before and after, and the fields of the config."""
    if isinstance(edit, OF_CONFIG):
        return (f"config:{edit.key}",)
    if isinstance(edit, Gather):
        return ("weights",)
    return tuple(f"tensor:{name}" for name in (*uses(edit), *makes(edit)))


def _step(finding: Finding) -> Step:
    if finding.fix is None:
        raise ValueError("a step needs a cure")
    fix = finding.fix
    return Step(finding.id, finding.message, fix.summary, fix.safety, fix.edits, fix.far)
