"""`--format json`: the report for machines, as `schema/v1.json` describes it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from adapterfit import __version__, limits
from adapterfit.report._words import kept, page, raised_lines
from adapterfit.text import show

if TYPE_CHECKING:
    from adapterfit.answers import Answer, Effect
    from adapterfit.records import Adapter, AdapterConfig, Base, Consumer, Exact, Finding, NotChecked, Report

SCHEMA = "adapterfit/report/v1"


def render(report: Report, *, width: int = 80, colour: bool = False, quiet: bool = False) -> str:  # noqa: ARG001 - a format's signature
    """The report as ASCII JSON, two spaces deep, keys in the schema's order."""
    return json.dumps(document(report), indent=2, ensure_ascii=True) + "\n"


def document(report: Report) -> dict[str, Any]:
    """The report as plain JSON values."""
    findings, left_out, names = kept(report)
    counts = report.counts
    return {
        "schema": SCHEMA,
        "tool": {"name": "adapterfit", "version": __version__},
        "adapter": _adapter(report.case.adapter),
        "base": _base(report.case.base, report) if report.case.base is not None else None,
        "consumer": _consumer(report.case.consumer),
        "verdict": report.verdict,
        "predicted": report.predicted,
        "raised": "\n".join(raised_lines(report.raised, 20)) if report.raised is not None else None,
        "counts": {
            "matched": counts.matched,
            "missing": counts.missing,
            "extra": counts.extra,
            "misshapen": counts.misshapen,
        },
        "findings": [_finding(finding, names) for finding in findings],
        "findings_left_out": left_out,
        "not_checked": [_not_checked(item) for item in report.not_checked[: limits.REPORT_FINDINGS]],
        "next_step": _line(report.next_step),
        "consumers": [_engine(answer, _share(report)) for answer in report.consumers],
        "exact": _exact(report.exact, report) if report.exact is not None else None,
    }


def _share(report: Report) -> int:
    """How many names each list of an engine may hold, so that a document about all of them stays small."""
    return max(10, limits.REPORT_NAMES_EACH // (2 * len(report.consumers)))


def _engine(answer: Answer, names: int) -> dict[str, Any]:
    values = [ratio.value for ratio in answer.ratios]
    known = [value for value in values if value is not None]
    return {
        "name": show(answer.name),
        "title": show(answer.title),
        "version": show(answer.version),
        "asked": answer.asked,
        "known": answer.known,
        "predicted": answer.predicted,
        "accepted": answer.accepted,
        "applied": answer.applied,
        "tensors": answer.tensors,
        "scale": {"lowest": min(known), "highest": max(known)} if known and len(known) == len(values) else None,
        "modules": len(answer.ratios),
        "scales": [
            {"module": show(ratio.module, limits.REPORT_NAME_CHARS), "trained": ratio.trained, "served": ratio.served}
            for ratio in answer.ratios[:names]
        ],
        "effects": [_effect(effect, names) for effect in answer.effects],
        "cure": _line(answer.cure),
        "launch": [_line(line) for line in answer.launch],
        "not_checked": [_not_checked(item) for item in answer.not_checked],
    }


def _effect(effect: Effect, names: int) -> dict[str, Any]:
    return {
        "kind": effect.kind,
        "message": _line(effect.message),
        "says": _line(effect.says),
        "at": [show(name, limits.REPORT_NAME_CHARS) for name in effect.at[:names]],
        "count": len(effect.at),
        "cure": _line(effect.cure),
        "page": page(effect.page) if effect.page else "",
        "claim": effect.claim,
        "mark": effect.mark,
        "source": effect.source,
        "date": effect.date,
    }


def _exact(exact: Exact, report: Report) -> dict[str, Any]:
    from adapterfit.judging import beside

    place = beside(report)
    return {
        "cannot": _line(exact.cannot),
        "outcome": _line(exact.outcome),
        "agrees": place != "different",
        "beside": place,
        "raised": _line(exact.raised),
        "missing": [show(name, limits.REPORT_NAME_CHARS) for name in exact.missing[: limits.REPORT_NAMES_EACH]],
        "unexpected": [show(name, limits.REPORT_NAME_CHARS) for name in exact.unexpected[: limits.REPORT_NAMES_EACH]],
        "warnings": [_line(line) for line in exact.warnings[: limits.REPORT_NAMES_EACH]],
        "versions": {show(name): show(version) for name, version in exact.versions.items()},
    }


def _adapter(adapter: Adapter) -> dict[str, Any]:
    config, weights = adapter.config, adapter.weights
    return {
        "label": show(adapter.label),
        "layout": adapter.layout,
        "method": show(config.peft_type) if config is not None else None,
        "config_file": show(config.file) if config is not None else None,
        "weights_file": show(weights.file) if weights is not None else None,
        "weights_format": weights.format if weights is not None else None,
        "tensors": len(weights.tensors) if weights is not None else None,
        **_dates(config),
    }


def _dates(config: AdapterConfig | None) -> dict[str, Any]:
    """The PEFT releases that can have written the config, and those that read it without losing a setting."""
    if config is None or not config.oldest:
        return {"written_by": None, "read_by": None}
    from adapterfit.report._dates import readers

    return {"written_by": {"oldest": config.oldest, "newest": config.newest}, "read_by": readers(config)}


def _base(base: Base, report: Report) -> dict[str, Any]:
    tree = report.diff.expectation.tree if report.diff is not None else base.tree
    return {
        "label": show(base.label),
        "model_type": show(base.model_type or (tree.model_type if tree is not None else "")),
        "class": show(tree.class_name if tree is not None else base.architecture),
        "revision": show(base.revision),
        "tensors": len(base.tensors),
        "complete": base.complete,
    }


def _consumer(consumer: Consumer) -> dict[str, Any]:
    return {
        "peft": show(consumer.peft),
        "transformers": show(consumer.transformers),
        "loader": consumer.loader or "PeftModel.from_pretrained",
        "given": consumer.given,
        "range": _line(consumer.text) if ": of " in consumer.text else None,
    }


def _finding(finding: Finding, names: int) -> dict[str, Any]:
    fix = finding.fix
    return {
        "id": finding.id,
        "code": finding.code,
        "severity": finding.severity,
        "confidence": finding.confidence,
        "predicted": finding.predicted,
        "message": _line(finding.message),
        "at": [show(name, limits.REPORT_NAME_CHARS) for name in finding.at[:names]],
        "count": len(finding.at),
        "expected": _line(finding.expected),
        "found": _line(finding.found),
        "fix": {"safety": fix.safety, "summary": _line(fix.summary)} if fix is not None else None,
        "url": page(finding.id),
    }


def _not_checked(item: NotChecked) -> dict[str, str]:
    return {"what": _line(item.what), "why": _line(item.why)}


def _line(text: str) -> str:
    return show(text, limits.REPORT_MESSAGE_CHARS)
