"""`--format github`: workflow commands, which a GitHub Actions run shows as annotations.

Source: https://docs.github.com/actions/reference/workflow-commands-for-github-actions
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from adapterfit.report import _engines
from adapterfit.report._words import VERDICTS
from adapterfit.report.json import document

if TYPE_CHECKING:
    from adapterfit.records import Report

_LEVELS = {"error": "error", "warning": "warning", "note": "notice"}


def render(report: Report, *, width: int = 80, colour: bool = False, quiet: bool = False) -> str:  # noqa: ARG001 - a format's signature
    """The verdict, then one command for each finding; one for each engine of a table, as a notice."""
    found = document(report)
    lines = [_command("notice" if report.verdict == "fits" else "warning", "adapterfit", _verdict(found))]
    for finding in () if quiet else found["findings"]:
        fix = finding["fix"]
        cure = f"\nfix ({fix['safety']}): {fix['summary']}" if fix is not None else ""
        message = f"{finding['message']}{cure}\nby itself: {finding['predicted']}; see {finding['url']}"
        lines.append(_command(_LEVELS[finding["severity"]], finding["id"], message))
    if not quiet:
        lines += [_command("notice", name, said) for name, _, said, asked in _engines.told(report) if not asked]
        lines += [_command("notice", f"not checked: {gap['what']}", gap["why"]) for gap in found["not_checked"]]
    return "\n".join(lines) + "\n"


def _verdict(found: dict[str, object]) -> str:
    said = f"{str(found['verdict']).replace('-', ' ')}: {VERDICTS[str(found['verdict'])]}"
    return f"{said}\n{found['raised']}" if found["raised"] else said


def _command(level: str, title: str, message: str) -> str:
    return f"::{level} title={_escaped(title).replace(':', '%3A').replace(',', '%2C')}::{_escaped(message)}"


def _escaped(text: str) -> str:
    """What ends a command, as its percent code."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
