"""What engines do with a checked adapter: beside the pipeline, and imported only when an engine is asked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from adapterfit.consumers import engines
from adapterfit.consumers.sight import look, sort_tensors
from adapterfit.diagnose.registry import all_causes
from adapterfit.discover import members
from adapterfit.errors import BadInput
from adapterfit.expect.candidates import candidates
from adapterfit.expect.scales import scalings
from adapterfit.records import Finding, Fix, NotChecked, Report

if TYPE_CHECKING:
    from adapterfit.answers import Answer, Sight
    from adapterfit.records import ModuleTree

#: What an engine does → what the finding about it says that it does by itself, and the page that explains it.
_FAULTS = {
    "raises": ("raises", "weights-refused-by-engine"),
    "loads-partly": ("silent", "applied-in-part"),
    "loads-without-effect": ("silent", "served-without-effect"),
    "loads-differently": ("silent", "served-differently"),
}


def served(report: Report, asked: Sequence[str]) -> Report:
    """The report with an answer for each engine asked for, and a finding for each that does not apply it as trained.

    Raises:
        CannotCheck: A text names no engine.
    """
    errors = _errors(report)
    found = tuple(_sober(answer, errors) for answer in engines.answers(asked, sight(report)))
    faults = tuple(_finding(answer) for answer in found if answer.asked and answer.predicted in _FAULTS)
    step = _next_step(report, found)
    return dataclasses.replace(report, consumers=found, findings=(*report.findings, *faults), next_step=step)


def _errors(report: Report) -> list[str]:
    """What is wrong with the adapter or the base whoever loads it; what the names of tensors do, each engine's facts decide."""
    families = {entry.id: entry.family for entry in all_causes()}
    wrong = [found.id for found in report.findings if found.severity == "error"]
    if not wrong and report.predicted == "raises":
        return [report.raised.text if report.raised is not None else "it raises"]
    return [cause for cause in wrong if families.get(cause) != "names" or cause == "moe-layout-changed"]


def _sober(answer: Answer, errors: list[str]) -> Answer:
    """An engine that has nothing against it does not make a damaged or misplaced adapter a good one."""
    if answer.predicted != "loads" or not errors:
        return answer
    why = f"with PEFT it is not fine: {', '.join(_once(errors))}"
    gaps = (*answer.not_checked, NotChecked(f"{answer.title}: what it makes of that", why))
    return dataclasses.replace(answer, predicted="cannot-tell", accepted="unknown", applied=None, not_checked=gaps)


def _next_step(report: Report, found: Iterable[Answer]) -> str:
    """Where the adapter fits its base, what the first engine asked for needs: a cure, else the line that loads it."""
    asked = [answer for answer in found if answer.asked and answer.predicted != "cannot-tell"]
    if report.verdict != "fits" or not asked:
        return report.next_step
    cures = [cure for one in asked for cure in (one.cure, *(effect.cure for effect in one.effects)) if cure]
    return next(iter(cures or asked[0].launch), report.next_step)


def sight(report: Report) -> Sight:
    """The report's adapter and base as an engine sees them."""
    case = report.case
    config = case.adapter.config.values if case.adapter.config is not None else {}
    pairs, _ = sort_tensors(case.adapter.tensors, config)
    factors = scalings(config, (pair.module for pair in pairs))
    return look(case, _tree(report), factors, _dialect([tensor.name for tensor in case.adapter.tensors]))


def _tree(report: Report) -> ModuleTree | None:
    """The base's own modules: those of the class that the report is about."""
    base, config = report.case.base, report.case.adapter.config
    if base is None or config is None:
        return None
    wanted = report.diff.expectation.tree.class_name if report.diff is not None else None
    try:
        return candidates(base, config, wanted or None)[0]
    except BadInput:
        return None


def _dialect(names: list[str]) -> str:
    """Whose names these are; empty where nobody claims them."""
    found = [name for name, member in members("adapterfit.read.dialects").items() if names and member.claims(names)]
    return "peft" if "peft" in found else found[0] if found else ""


def _finding(answer: Answer) -> Finding:
    predicted, page = _FAULTS[answer.predicted]
    reasons = answer.deciding
    return Finding(
        id=next((effect.page for effect in reasons if effect.page), page),
        severity="error",
        message=f"{answer.title} {answer.version}: {'; '.join(_once(effect.message for effect in reasons))}",
        predicted=predicted,
        code=answer.name,
        at=tuple(_once(name for effect in reasons for name in effect.at)),
        found="; ".join(_once(effect.says for effect in reasons if effect.says)),
        fix=Fix("unsafe", answer.cure) if answer.cure else None,
    )


def _once(items: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(items))
