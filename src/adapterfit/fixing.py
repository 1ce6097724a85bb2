"""The last three stages composed: plan ──► repair ──► verify. Beside the pipeline, as a plain check needs none of it but the plan."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Callable

from adapterfit.edits import OF_CONFIG, Edit
from adapterfit.errors import BadEdit, CannotCheck, NotProven
from adapterfit.plan.choice import apart, cures, readings
from adapterfit.plans import Plan, Proof, Receipt, Shown, Step, chained
from adapterfit.text import shorten, show

if TYPE_CHECKING:
    import os

    from adapterfit.read.source import Source
    from adapterfit.records import Base, Report

#: A cure may bring to light what it hid; more turns than this mean that cures undo each other.
_ROUNDS = 5
Retried = Callable[["Report", tuple[Edit, ...]], "Report"]


def planned(report: Report, cured: Retried, *, unsafe: bool = False) -> tuple[Plan, Report]:
    """The smallest list of cures after which nothing more can be done; and the report on the adapter after them.

    Args:
        report: The check that is to be mended.
        cured: Gives the report on an adapter as it would be after edits.
        unsafe: Whether to take cures too that are not provably without effect.
    """
    steps: list[Step] = []
    left_out: dict[str, Step] = {}
    impossible: list[str] = []
    now = report
    for _ in range(_ROUNDS):
        offered = cures(now)
        left_out.update({step.cause: step for step in offered if step.safety != "safe" and not unsafe})
        fresh = []
        for step in apart(step for step in offered if step.safety == "safe" or unsafe):
            try:
                after = cured(report, chained([*steps, *fresh, step]))
            except BadEdit as bad:
                impossible.append(f"{step.cause}: {bad}")
                continue
            if step.cause not in {found.id for found in after.findings if found.severity == "error"}:
                fresh.append(step)
        if not fresh:
            break
        steps += fresh
        now = cured(report, chained(steps))
    plan = Plan(
        adapter=report.case.adapter.label,
        steps=tuple(steps),
        left_out=tuple(step for cause, step in left_out.items() if cause not in {one.cause for one in steps}),
        refused=(*readings(now), *dict.fromkeys(impossible)),
        before=report.verdict,
        after=now.verdict,
        remaining=tuple(f"{found.id}: {found.message}" for found in now.findings if found.severity == "error"),
    )
    return plan, now
