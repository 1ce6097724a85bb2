"""The next command to type."""

from __future__ import annotations

import re

from adapterfit.records import Report
from adapterfit.text import quote, show


def next_step(report: Report) -> str:
    """One line: what to do now."""
    if report.verdict == "fits":
        return f"nothing to do: load it with {report.case.consumer.loader or 'PeftModel.from_pretrained'}"
    if report.case.base is None and report.verdict == "cannot-tell":
        return f"adapterfit check {show(report.case.adapter.label)} --base BASE"
    if report.verdict == "fits-after-fix":
        return _fix(report)
    cured = next((found for found in report.findings if found.fix is not None and found.severity == "error"), None)
    if cured is not None and cured.fix is not None:
        return cured.fix.summary
    first = next((found for found in report.findings if found.severity == "error"), None)
    if first is not None:
        return f"adapterfit explain {first.id}"
    if report.verdict == "cannot-tell":
        return "see under Not checked what is missing for an answer"
    return f"load it on the base it was made for{_recorded(report)}"


def _fix(report: Report) -> str:
    """The command that mends it, to be copied into a shell."""
    import shlex

    adapter, base = report.case.adapter.label, report.case.base
    last = re.split(r"[/\\@]", adapter.rstrip("/\\"))[-1].rpartition(".safetensors")
    named = "BASE" if base is None or base.tree is not None else shlex.quote(show(base.label))
    who = report.case.consumer
    asked = f" --for peft=={show(who.peft)},transformers=={show(who.transformers)}" if who.given else ""
    asked += f" --loader {who.loader}" if who.loader else ""
    return f"adapterfit fix {shlex.quote(show(adapter))} --base {named} --out {shlex.quote(show(last[0] or last[2]) + '-fixed')}{asked}"


def _recorded(report: Report) -> str:
    config = report.case.adapter.config
    named = config.raw.get("base_model_name_or_path") if config is not None else None
    return f": {quote(named)}" if isinstance(named, str) and named else ""
