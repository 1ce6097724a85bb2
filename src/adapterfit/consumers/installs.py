"""Install lines that bring libraries which go together: `pip install 'peft>=0.9'` alone takes the newest of all."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

from adapterfit.consumers import facts, model_types
from adapterfit.consumers.choice import consumer
from adapterfit.consumers.versions import version
from adapterfit.records import Consumer, Finding, Report

_LINE = re.compile(r"pip install '(?P<name>peft|transformers)>=(?P<least>[0-9][0-9.]*)'")


def together(report: Report) -> Report:
    """The report with install lines that work beside the other library that was asked about."""
    who = report.case.consumer
    if who.unknown or "import" in who.rules:
        return report
    findings = tuple(_settled(found, who) for found in report.findings)
    return report if findings == report.findings else dataclasses.replace(report, findings=findings)


def _settled(found: Finding, who: Consumer) -> Finding:
    if found.fix is None or "pip install '" not in found.fix.summary:
        return found
    summary = _LINE.sub(lambda line: _beside(line["name"], line["least"], who) or line.group(), found.fix.summary)
    return dataclasses.replace(found, fix=dataclasses.replace(found.fix, summary=summary))


def _beside(name: str, least: str, who: Consumer) -> str:
    """The line for one library beside the other; empty where its newest release goes with that."""
    releases: Sequence[str] = facts.load("peft").releases if name == "peft" else model_types.releases()

    def clash(release: str) -> bool:
        pair = consumer(release, who.transformers) if name == "peft" else consumer(who.peft, release)
        return "import" in pair.rules

    if not clash(releases[-1]):
        return ""
    fitting = [each for each in releases if version(each) >= version(least) and not clash(each)]
    if fitting:
        return f"pip install '{name}>={least},<{releases[releases.index(fitting[-1]) + 1]}'"
    other = consumer(releases[-1], who.transformers).rules.get("import-needs") if name == "peft" else None
    return f"pip install '{name}>={least}' 'transformers{other}'" if other else f"pip install -U '{name}>={least}' peft"
