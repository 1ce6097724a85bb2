"""The worst case among versions, for `check --for 'peft>=0.18'`: one report per pair of libraries, and the worst of them."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable

from adapterfit.consumers.ranges import pairs
from adapterfit.records import Case, Report

#: From good to bad. Where nothing is known the load may be anything: only what is known to go wrong is worse.
_BEST_FIRST = ("loads", "cannot-tell", "loads-differently", "loads-partly", "loads-without-effect", "raises")


def worst(case: Case, text: str, ask: Callable[[Case], Report], loader: str | None = None) -> Report:
    """The report for the versions in a range that do worst, the newest of them. The consumer's text says what all do.

    Raises:
        CannotCheck: The text is no range, or no known version lies in it.
    """
    reports = [ask(dataclasses.replace(case, consumer=who)) for who in pairs(text, loader)]
    chosen = max(reversed(reports), key=lambda report: _BEST_FIRST.index(report.predicted))
    counts = Counter(report.predicted for report in reports)
    said = ", ".join(f"{counts[word]} {word}" for word in reversed(_BEST_FIRST) if counts[word])
    who = dataclasses.replace(chosen.case.consumer, text=f"{text}: of {len(reports)} versions {said}")
    return dataclasses.replace(chosen, case=dataclasses.replace(chosen.case, consumer=who))
