"""What the words of a report mean, where its pages lie, and what is left out of a report that would never end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adapterfit import limits
from adapterfit.text import show

if TYPE_CHECKING:
    from adapterfit.records import Finding, Raised, Report

#: Where the page of a cause lies, seen from the root of the project's documentation.
PAGES = "docs/causes/"

#: Verdict → what it means.
VERDICTS = {
    "fits": "every tensor lands where it belongs",
    "fits-after-fix": "a repair makes every tensor land where it belongs",
    "does-not-fit": "it does not work on this base, and no repair is known to be right",
    "cannot-tell": "what was read does not settle it",
}

#: `predicted` of a report → what the loader does by itself.
PREDICTIONS = {
    "loads": "loads, and applies every tensor",
    "loads-partly": "loads without an error, but only part of it is applied",
    "loads-differently": "loads without an error, but the model computes something else than where it was trained",
    "loads-without-effect": "loads without an error, and changes nothing",
    "raises": "raises",
    "cannot-tell": "unknown",
}


def page(cause: str) -> str:
    """Where the page of a cause lies."""
    return f"{PAGES}{cause}.md"


def kept(report: Report) -> tuple[tuple[Finding, ...], int, int]:
    """The findings a report shows, how many it leaves out, and how many names each of them may list."""
    findings = report.findings[: limits.REPORT_FINDINGS]
    names = limits.REPORT_NAMES // max(1, len(findings))
    return findings, len(report.findings) - len(findings), min(names, limits.REPORT_NAMES_EACH)


def raised_lines(raised: Raised | None, keep: int) -> list[str]:
    """What the loader would raise, line by line, with a word on how much of it is left out."""
    if raised is None:
        return []
    lines = raised.text.replace("\t", "    ").split("\n")
    shown = [show(line, limits.REPORT_MESSAGE_CHARS) for line in lines[:keep]]
    return shown if len(lines) <= keep else [*shown, f"… and {len(lines) - keep:,} more lines"]
